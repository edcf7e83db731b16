//! Whether the identity of an open connection still holds. A connection may live for weeks; what its client was when it
//! came must not be what it is taken for ever after.

use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch as signal;

use super::tls::LiveTls;
use crate::access::Standing;
use crate::time::{Clock as _, SystemClock};

/// How often the clock is looked at: it can be set, and timers do not notice.
const LOOK: Duration = Duration::from_mins(1);

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
        self.standing.until().since(SystemClock.now())
    }
}
