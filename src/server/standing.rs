//! Whether the identity of an open connection still holds. A connection may live for weeks; what its client was when it
//! came must not be what it is taken for ever after.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch as signal;

use super::tls::LiveTls;
use crate::time::{Clock as _, SystemClock, Timestamp};

/// How often the clock is looked at: it can be set, and timers do not notice.
const LOOK: Duration = Duration::from_mins(1);

/// Until when an identity holds. Asked for every call, so it costs a load and a look at the clock.
#[derive(Debug)]
pub(super) struct Standing {
    /// In Unix milliseconds.
    until: AtomicI64,
    /// Turns true at the end, for what is under way.
    has_ended: signal::Sender<bool>,
}

impl Standing {
    fn new(until: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            until: AtomicI64::new(until.unix_ms()),
            has_ended: signal::Sender::new(false),
        })
    }

    /// Whether the identity holds.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        now.unix_ms() < self.until.load(Ordering::Acquire)
    }

    /// Tells of the end.
    pub(super) fn end(&self) -> signal::Receiver<bool> {
        self.has_ended.subscribe()
    }

    fn hold_until(&self, until: Timestamp) {
        self.until.store(until.unix_ms(), Ordering::Release);
    }

    fn end_now(&self) {
        self.until.store(i64::MIN, Ordering::Release);
        self.has_ended.send_replace(true);
    }
}

/// Watches over the standing of one connection.
pub(super) struct Watch {
    standing: Arc<Standing>,
    chain: Vec<CertificateDer<'static>>,
    tls: Arc<LiveTls>,
    judgements: signal::Receiver<u64>,
}

impl Watch {
    /// Verifies a chain whose handshake is done. `judgements` was taken before the handshake.
    ///
    /// # Errors
    /// Why it is not good any more.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        tls: &Arc<LiveTls>,
        judgements: signal::Receiver<u64>,
    ) -> Result<Self, CertificateError> {
        let until = tls.trust().verify(&chain, SystemClock.now())?;
        Ok(Self {
            standing: Standing::new(until),
            chain,
            tls: Arc::clone(tls),
            judgements,
        })
    }

    pub(super) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Waits until the identity ends, and says why.
    pub(super) async fn end(&mut self) -> CertificateError {
        loop {
            let left = self.left();
            if !left.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(left.min(LOOK)) => continue,
                    _ = self.judgements.changed() => {}
                }
            }
            // At the end of one certificate too: another path may lead to an authority.
            match self.tls.trust().verify(&self.chain, SystemClock.now()) {
                Ok(until) => self.standing.hold_until(until),
                Err(error) => {
                    self.standing.end_now();
                    return error;
                }
            }
        }
    }

    fn left(&self) -> Duration {
        let until = Timestamp::from_unix_ms(self.standing.until.load(Ordering::Acquire));
        until.since(SystemClock.now())
    }
}

#[cfg(test)]
impl Standing {
    /// One that ended long ago.
    pub(super) fn over() -> Arc<Self> {
        Self::new(Timestamp::EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_holds_until_its_end_and_no_longer() {
        let until = Timestamp::EPOCH.after(LOOK);
        let standing = Standing::new(until);
        let end = standing.end();
        assert!(standing.holds(Timestamp::from_unix_ms(until.unix_ms() - 1)));
        assert!(!standing.holds(until), "although no timer has told of it yet");
        assert!(!*end.borrow());
        standing.hold_until(until.after(LOOK));
        assert!(standing.holds(until));
        standing.end_now();
        assert!(!standing.holds(Timestamp::EPOCH));
        assert!(*end.borrow());
    }
}
