//! Answers that are not taken yet: how much memory large ones may take. Small ones are bounded by how many calls a caller may have open.

use std::num::NonZeroUsize;
use std::sync::Arc;

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};

use super::call::Call;
use super::fault::ApiError;
use crate::access::Rooms;

/// What is counted together, in bytes.
const UNIT: usize = 1024;
/// What is not counted, in bytes.
const SMALL: usize = 16 * 1024;
/// What all of them may take, in bytes.
const MOST: usize = 48 << 20;
/// What those of one caller may take. A single one that is larger has room if there is no other.
const MOST_OF_ONE: usize = 24 << 20;
const UNITS_OF_ONE: NonZeroUsize = NonZeroUsize::new(MOST_OF_ONE / UNIT).expect("it is not 0");

/// The room for them.
pub(super) struct Unread {
    all: Arc<Semaphore>,
    own: Rooms,
}

/// Room for an answer, which lasts as long as its body: it goes along with it, among its extensions.
#[derive(Clone)]
pub(crate) struct RoomForAnswer {
    _places: Arc<[OwnedSemaphorePermit; 2]>,
}

impl Unread {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MOST / UNIT)),
            own: Rooms::new(UNITS_OF_ONE),
        }
    }

    /// Ends a call whose answer may be large; it is refused if too much waits to be taken.
    pub(super) async fn end<T: Message>(
        &self,
        call: Call,
        outcome: Result<T, ApiError>,
    ) -> Result<Response<T>, Status> {
        let outcome = outcome.and_then(|answer| {
            let room = self.room_for(&call, answer.encoded_len())?;
            Ok((answer, room))
        });
        let (answer, room) = call.end(outcome).await?.into_inner();
        let mut answer = Response::new(answer);
        if let Some(room) = room {
            answer.extensions_mut().insert(room);
        }
        Ok(answer)
    }

    fn room_for(&self, call: &Call, length: usize) -> Result<Option<RoomForAnswer>, ApiError> {
        if length <= SMALL {
            return Ok(None);
        }
        let units = length.div_ceil(UNIT).min(UNITS_OF_ONE.get());
        let units = u32::try_from(units).expect("24 MiB have few units");
        let peer = call.live()?;
        let caller = peer.identity().map_err(|why| ApiError::NoIdentity(why.to_owned()))?;
        let own = self.own.of(caller).try_acquire_many_owned(units);
        let own = own.map_err(|_| ApiError::TooManyCalls)?;
        // It is others who take nothing.
        let all = Arc::clone(&self.all).try_acquire_many_owned(units);
        let all = all.map_err(|_| ApiError::Overloaded)?;
        Ok(Some(RoomForAnswer::of([own, all])))
    }
}

impl RoomForAnswer {
    pub(crate) fn of(places: [OwnedSemaphorePermit; 2]) -> Self {
        Self {
            _places: Arc::new(places),
        }
    }
}
