//! An answer's body until it has been taken: what the call takes up meanwhile, and in what pieces it leaves.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use crate::api::RoomForAnswer;

/// What h2 still copies to the frames before it, so that all of them leave in one write and one TLS record. A larger piece leaves
/// by itself, and costs a write and a record more than most answers cost otherwise (h2's `CHAIN_THRESHOLD_WITHOUT_VECTORED_IO`).
const COPIED: usize = 1023;
/// Up to which size an answer leaves in such pieces, in bytes. Copying a larger one costs as much as it saves.
const SMALL: usize = 8 * 1024;
/// In what pieces a larger one leaves, in bytes. What is given to h2 is out of our sight, however long its client takes nothing; it takes
/// no more pieces then.
const PIECE: usize = 64 * 1024;

/// A body that gives its caller's place free when it has been sent, or when nobody waits for it any more.
pub(super) struct HeldBody {
    body: Body,
    /// What is left of a frame of which pieces have been taken.
    rest: Bytes,
    piece: usize,
    _place: Option<OwnedSemaphorePermit>,
    _room: Option<RoomForAnswer>,
}

/// Keeps the place, if there is one, for as long as there is something to send, and so the room that the answer came with.
pub(super) fn hold(mut answer: Response<Body>, place: Option<OwnedSemaphorePermit>) -> Response<HeldBody> {
    let place = place.filter(|_| !answer.body().is_end_stream());
    let room = answer.extensions_mut().remove();
    answer.map(|body| HeldBody {
        body,
        rest: Bytes::new(),
        piece: PIECE,
        _place: place,
        _room: room,
    })
}

impl HeldBody {
    fn next_piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(self.piece);
        Frame::data(self.rest.split_to(length))
    }
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.next_piece())));
        }
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = frame else {
            return frame;
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) if data.len() > COPIED => {
                self.piece = if data.len() > SMALL { PIECE } else { COPIED };
                self.rest = data;
                self.next_piece()
            }
            Ok(data) => Frame::data(data),
            Err(other) => other,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// None: a `content-length` would be made of it, which says nothing of a message that its own length does not say.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::{BodyExt as _, Full};
    use tokio::sync::Semaphore;

    use super::*;

    /// The sizes of the pieces in which a body of so many bytes leaves.
    async fn pieces(length: usize) -> Vec<usize> {
        let sent: Vec<u8> = (0..=250).cycle().take(length).collect();
        let whole = Body::new(Full::new(Bytes::from(sent.clone())).map_err(|never| match never {}));
        let mut body = hold(Response::new(whole), None).into_body();
        let (mut sizes, mut taken) = (Vec::new(), Vec::new());
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), None);
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            sizes.push(piece.len());
            taken.extend_from_slice(&piece);
        }
        assert_eq!(taken, sent);
        sizes
    }

    #[tokio::test]
    async fn an_answer_leaves_in_pieces_that_are_copied_to_those_before_them() {
        assert_eq!(pieces(0).await, Vec::<usize>::new());
        assert_eq!(pieces(1).await, [1]);
        assert_eq!(pieces(1023).await, [1023]);
        assert_eq!(pieces(1024).await, [1023, 1]);
        assert_eq!(pieces(2500).await, [1023, 1023, 454]);
        assert_eq!(pieces(8 * 1024 + 1).await, [8 * 1024 + 1], "a large one is not copied");
        assert_eq!(pieces(3 * 64 * 1024 + 1).await, [65_536, 65_536, 65_536, 1]);
    }

    #[test]
    fn an_answers_room_lasts_as_long_as_its_body() {
        let semaphore = Arc::new(Semaphore::new(2));
        let places = [Arc::clone(&semaphore), Arc::clone(&semaphore)].map(|room| room.try_acquire_owned().unwrap());
        let mut answer = Response::new(Body::empty());
        answer.extensions_mut().insert(RoomForAnswer::of(places));
        let held = hold(answer, None);
        assert_eq!(semaphore.available_permits(), 0);
        let (parts, body) = held.into_parts();
        drop(parts);
        assert_eq!(semaphore.available_permits(), 0);
        drop(body);
        assert_eq!(semaphore.available_permits(), 2);
    }
}
