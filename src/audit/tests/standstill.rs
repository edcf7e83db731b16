//! The primitives of the models: locks whose order loom chooses, and a time that stands still, so that nothing can rely on
//! somebody's looking around by themselves after a while.

use std::ops::Add;
use std::time::Duration;

pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};

/// The only point in time.
#[derive(Clone, Copy)]
pub(super) struct Instant;

#[expect(clippy::unused_self, reason = "it is asked like the one of the standard library")]
impl Instant {
    pub(super) fn now() -> Self {
        Self
    }

    pub(super) fn elapsed(self) -> Duration {
        Duration::ZERO
    }

    /// To any later time it is as long as can be.
    pub(super) fn saturating_duration_since(self, _: Self) -> Duration {
        Duration::MAX
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, _: Duration) -> Self {
        self
    }
}

/// Tries the steps of `work` in every order in which no thread is interrupted more often than that by another that could as well
/// have waited. What loom has found, it finds with two or three ("Iterative context bounding", PLDI 2007).
pub(super) fn in_every_order(interruptions: usize, work: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(interruptions);
    model.check(work);
}
