//! The certificates that hold now. They can be replaced while connections are open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch as signal;
use tokio_rustls::TlsAcceptor;

use super::Tls;
use super::trust::Trust;

/// What new connections are met with, and by what open ones are judged anew when it changes.
pub struct LiveTls {
    current: ArcSwap<Tls>,
    /// Counts how often clients have been judged by something else than before.
    judgements: signal::Sender<u64>,
}

impl LiveTls {
    /// Begins with `tls`.
    #[must_use]
    pub fn new(tls: Tls) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(tls),
            judgements: signal::Sender::new(0),
        })
    }

    /// From now on `tls` holds. If it changes whose certificates are good, those of all open connections are verified anew,
    /// and the connections of those that are not good any more end. False if it changes nothing.
    pub fn replace(&self, tls: Tls) -> bool {
        let before = self.current.load_full();
        if before.digests == tls.digests {
            return false;
        }
        let is_judged_otherwise = before.digests.clients != tls.digests.clients;
        // First, so that whoever sees the count change sees what has changed it.
        self.current.store(Arc::new(tls));
        if is_judged_otherwise {
            self.judgements.send_modify(|count| *count += 1);
        }
        true
    }

    /// What holds now.
    #[must_use]
    pub fn now(&self) -> Arc<Tls> {
        self.current.load_full()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.current.load().trust)
    }

    /// Changes whenever certificates have to be verified anew. Whoever takes this before a handshake misses nothing.
    pub(crate) fn judgements(&self) -> signal::Receiver<u64> {
        self.judgements.subscribe()
    }
}
