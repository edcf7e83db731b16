//! Whether whoever asked still waits. Work on a thread of its own goes on when the call is dropped that it was begun for, because
//! its deadline has passed or its caller has gone; so whatever goes over many records looks now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinError;

/// Whoever waits for what is being worked out. Looking costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    has_gone: Arc<AtomicBool>,
}

/// Is kept by whoever waits: with it the asker goes.
#[must_use = "the asker goes with it"]
#[derive(Debug)]
pub(super) struct Waits(Asker);

/// Nobody waits for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits for it any more")]
pub struct Gone;

/// Works something out on a thread of its own, for whoever waits for what this returns. Once that is dropped, the asker has gone.
///
/// # Errors
/// That the process is ending, or that the work panicked.
pub async fn work_out<T: Send + 'static>(work: impl FnOnce(&Asker) -> T + Send + 'static) -> Result<T, JoinError> {
    let asker = Asker::default();
    let _waits = asker.waits();
    tokio::task::spawn_blocking(move || work(&asker)).await
}

impl Asker {
    /// Whoever keeps what is returned waits, until it drops that.
    pub(super) fn waits(&self) -> Waits {
        Waits(self.clone())
    }

    /// Whether there is nobody to work for.
    ///
    /// # Errors
    /// [`Gone`]: what was worked out so far interests nobody.
    pub fn still_waits(&self) -> Result<(), Gone> {
        if self.has_gone.load(Ordering::Relaxed) {
            Err(Gone)
        } else {
            Ok(())
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.has_gone.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// What has begun does not go on for longer, whatever is wrong.
    const PATIENCE: Duration = Duration::from_mins(1);

    #[test]
    fn an_asker_waits_for_as_long_as_it_is_kept() {
        let asker = Asker::default();
        let waits = asker.waits();
        let at_work = asker.clone();
        assert_eq!(at_work.still_waits(), Ok(()));
        drop(waits);
        assert_eq!(at_work.still_waits(), Err(Gone));
    }

    #[tokio::test]
    async fn whoever_waits_for_what_is_worked_out_has_gone_when_it_is_dropped() {
        let (began, is_at_work) = tokio::sync::oneshot::channel();
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = work_out(move |asker| {
            let _ = began.send(());
            let until = Instant::now() + PATIENCE;
            while asker.still_waits().is_ok() && Instant::now() < until {
                std::thread::yield_now();
            }
            let _ = tell.send(asker.still_waits());
        });
        tokio::select! {
            _ = work => unreachable!("it ends when nobody waits for it"),
            began = is_at_work => began.unwrap(),
        }
        assert_eq!(told.await, Ok(Err(Gone)));
        assert_eq!(work_out(Asker::still_waits).await.unwrap(), Ok(()));
    }
}
