//! Whether whoever asked still waits. Work on a thread of its own goes on when the call is dropped that it was begun for, because
//! its deadline has passed or its caller has gone; so whatever goes over many records looks now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whoever waits for what is being worked out. Looking costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    has_gone: Arc<AtomicBool>,
}

/// Is kept by whoever waits: with it the asker goes.
#[must_use = "the asker goes with it"]
#[derive(Debug)]
pub struct Waits(Asker);

/// Nobody waits for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits for it any more")]
pub struct Gone;

impl Asker {
    /// Whoever keeps what is returned waits, until it drops that.
    pub fn waits(&self) -> Waits {
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
    use super::*;

    #[test]
    fn an_asker_waits_for_as_long_as_it_is_kept() {
        let asker = Asker::default();
        let waits = asker.waits();
        let at_work = asker.clone();
        assert_eq!(at_work.still_waits(), Ok(()));
        drop(waits);
        assert_eq!(at_work.still_waits(), Err(Gone));
    }
}
