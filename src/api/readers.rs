//! Who reads the audit log at the moment: few at once, and nobody twice.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::fault::ApiError;
use crate::access::Caller;

/// How many read at once; each takes a thread.
const AT_ONCE: usize = 4;
/// How long a caller's next reading waits for the end of the one before, which notices a moment later that nobody takes its lines.
const MOMENT: Duration = Duration::from_secs(2);

/// Those who read.
pub(super) struct Readers {
    room: Arc<Semaphore>,
    callers: Arc<Callers>,
}

#[derive(Default)]
struct Callers {
    present: Mutex<HashSet<Caller>>,
    has_left: Notify,
}

/// A place among those who read, for as long as it is kept.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _caller: Present,
}

struct Present {
    caller: Caller,
    callers: Arc<Callers>,
}

impl Readers {
    pub(super) fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(AT_ONCE)),
            callers: Arc::default(),
        }
    }

    /// A place for a caller, once one is free.
    ///
    /// # Errors
    /// [`ApiError::AlreadyReading`] if it has one already: whoever does not take its lines must not keep others out.
    pub(super) async fn place(&self, caller: &Caller) -> Result<Place, ApiError> {
        let present = tokio::time::timeout(MOMENT, Present::wait(caller, &self.callers)).await;
        let present = present.map_err(|_| ApiError::AlreadyReading)?;
        let permit = Arc::clone(&self.room).acquire_owned().await;
        Ok(Place {
            _permit: permit.map_err(|_| ApiError::ShuttingDown)?,
            _caller: present,
        })
    }
}

impl Present {
    async fn wait(caller: &Caller, callers: &Arc<Callers>) -> Self {
        loop {
            let has_left = callers.has_left.notified();
            if callers.all().insert(caller.clone()) {
                return Self {
                    caller: caller.clone(),
                    callers: Arc::clone(callers),
                };
            }
            has_left.await;
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.callers.all().remove(&self.caller);
        self.callers.has_left.notify_waiters();
    }
}

impl Callers {
    fn all(&self) -> MutexGuard<'_, HashSet<Caller>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_reads_twice_at_once_and_a_place_is_free_when_it_is_left() {
        let readers = Readers::new();
        let (one, two) = (Caller::parse("one").unwrap(), Caller::parse("two").unwrap());
        let place = readers.place(&one).await.unwrap();
        assert!(matches!(readers.place(&one).await, Err(ApiError::AlreadyReading)));
        assert!(readers.place(&two).await.is_ok());
        drop(place);
        assert!(readers.place(&one).await.is_ok());
    }
}
