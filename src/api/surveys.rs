//! Work that goes over many records: few at once, on threads of its own, and not more waiting than will be served.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::ApiError;
use crate::store::StoreError;
use crate::vault::{Asker, VaultError, work_out};

/// How many are at work at once. They share the cores with the workers, whose calls come first.
const AT_ONCE: usize = 2;
/// How many may wait for that; whoever comes on top is refused.
const WAITING: usize = 64;

/// The room for such work.
pub(super) struct Surveys {
    at_work: Arc<Semaphore>,
    known: Arc<Semaphore>,
}

impl Surveys {
    pub(super) fn new() -> Self {
        Self {
            at_work: Arc::new(Semaphore::new(AT_ONCE)),
            known: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
        }
    }

    /// Does it when it is its turn. If the caller has gone by then, it is not begun. What has begun keeps its place to its end,
    /// which it finds soon if it looks whether the asker still waits.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`] if too much waits already.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Asker) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let is_known = Arc::clone(&self.known).try_acquire_owned();
        let is_known = is_known.map_err(|_| ApiError::Overloaded)?;
        let is_at_work = Arc::clone(&self.at_work).acquire_owned().await;
        let places = (is_known, is_at_work.map_err(|_| ApiError::ShuttingDown)?);
        // Dropped with this call: when its caller goes, and when its deadline has passed.
        let done = work_out(move |asker| in_place(places, || work(asker))).await;
        done.map_err(|_| VaultError::Store(StoreError::Closed).into())
    }
}

fn in_place<T>(places: (OwnedSemaphorePermit, OwnedSemaphorePermit), work: impl FnOnce() -> T) -> T {
    let done = work();
    drop(places);
    done
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::Poll;

    use super::*;
    use crate::vault::Gone;

    async fn is_waiting(mut survey: impl Future + Unpin) -> bool {
        std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut survey).poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn few_are_at_work_some_wait_and_the_rest_is_refused() {
        let surveys = Surveys::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let (end, ends) = mpsc::channel::<()>();
        let ends = Arc::new(std::sync::Mutex::new(ends));
        let mut all: Vec<_> = (0..AT_ONCE + WAITING)
            .map(|_| {
                let (begun, ends) = (Arc::clone(&begun), Arc::clone(&ends));
                Box::pin(surveys.run(move |_| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let _ = ends.lock().unwrap().recv();
                }))
            })
            .collect();
        for survey in &mut all {
            assert!(is_waiting(survey).await);
        }
        assert!(matches!(surveys.run(|_| ()).await, Err(ApiError::Overloaded)));
        // Those who wait go away: nothing is begun for them.
        all.truncate(AT_ONCE);
        drop(end);
        for survey in all {
            survey.await.unwrap();
        }
        surveys.run(|_| ()).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), AT_ONCE);
    }

    /// As a list over very many records is: it ends by itself only when nobody waits for it.
    fn endless(asker: &Asker) -> Gone {
        loop {
            match asker.still_waits() {
                Ok(()) => std::thread::yield_now(),
                Err(gone) => return gone,
            }
        }
    }

    #[tokio::test]
    async fn what_has_begun_ends_soon_after_its_caller_has_gone_and_leaves_its_place_to_others() {
        let surveys = Surveys::new();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..AT_ONCE {
            let (began, is_at_work) = tokio::sync::oneshot::channel();
            let tell = tell.clone();
            let survey = surveys.run(move |asker| {
                let _ = began.send(());
                let _ = tell.send(endless(asker));
            });
            // Its caller goes when it is at work.
            tokio::select! {
                _ = survey => unreachable!("it is endless"),
                began = is_at_work => began.unwrap(),
            }
        }
        for _ in 0..AT_ONCE {
            assert_eq!(told.recv().await, Some(Gone));
        }
        surveys.run(|_| ()).await.unwrap();
    }
}
