//! Until when an identity holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::watch as signal;

use crate::time::{Clock as _, SystemClock, Timestamp};

/// Until when the identity of a connection's client holds. Asked for several times a call, so it costs a load and a look at the
/// clock.
#[derive(Debug)]
pub struct Standing {
    /// In Unix milliseconds.
    until: AtomicI64,
    /// Turns true at the end, for what is under way.
    has_ended: signal::Sender<bool>,
}

impl Standing {
    /// A standing until then.
    #[must_use]
    pub fn new(until: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            until: AtomicI64::new(until.unix_ms()),
            has_ended: signal::Sender::new(false),
        })
    }

    /// One that has no end of its own.
    #[must_use]
    pub fn for_good() -> Arc<Self> {
        Self::new(Timestamp::from_unix_ms(i64::MAX))
    }

    /// Whether the identity holds now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds_at(SystemClock.now())
    }

    /// Until when.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.until.load(Ordering::Acquire))
    }

    /// Tells of the end.
    #[must_use]
    pub fn end(&self) -> signal::Receiver<bool> {
        self.has_ended.subscribe()
    }

    /// It holds until then.
    pub fn hold_until(&self, until: Timestamp) {
        self.until.store(until.unix_ms(), Ordering::Release);
    }

    /// It holds no longer.
    pub fn end_now(&self) {
        self.until.store(i64::MIN, Ordering::Release);
        self.has_ended.send_replace(true);
    }

    fn holds_at(&self, now: Timestamp) -> bool {
        now < self.until()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_identity_holds_until_its_end_and_no_longer() {
        let later = Duration::from_mins(1);
        let until = Timestamp::EPOCH.after(later);
        let standing = Standing::new(until);
        let end = standing.end();
        assert!(standing.holds_at(Timestamp::from_unix_ms(until.unix_ms() - 1)));
        assert!(!standing.holds_at(until), "although no timer has told of it yet");
        assert!(!*end.borrow());
        standing.hold_until(until.after(later));
        assert!(standing.holds_at(until));
        standing.end_now();
        assert!(!standing.holds_at(Timestamp::EPOCH));
        assert!(*end.borrow());
        assert!(Standing::for_good().holds());
    }
}
