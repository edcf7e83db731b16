//! The certificates that hold now. They can be replaced while connections are open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch as signal;
use tokio_rustls::TlsAcceptor;

use super::trust::Trust;
use super::{Shown, Tls};

/// A SHA-256.
type Digest = [u8; 32];

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

    /// From now on the server shows this, once it is announced by its digest. False if that changes nothing.
    ///
    /// # Errors
    /// That of the announcement; then nothing is changed.
    pub(crate) fn replace_shown<E>(
        &self,
        shown: Shown,
        announce: impl FnOnce(Digest) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.shown_digest() == shown.digest {
            return Ok(false);
        }
        announce(shown.digest)?;
        let shown = Arc::new(shown);
        self.current
            .rcu(|current| Tls::new(Arc::clone(&shown), Arc::clone(&current.trust)));
        Ok(true)
    }

    /// From now on these clients are let in, once that is announced by its digest: the certificates of all open connections are verified
    /// anew, and the connections of those that are not good any more end. False if it changes nothing.
    ///
    /// # Errors
    /// That of the announcement; then nothing is changed.
    pub(crate) fn replace_trust<E>(
        &self,
        trust: Trust,
        announce: impl FnOnce(Digest) -> Result<(), E>,
    ) -> Result<bool, E> {
        let digest = *trust.digest();
        if self.trust_digest() == digest {
            return Ok(false);
        }
        announce(digest)?;
        let trust = Arc::new(trust);
        // First, so that whoever sees the count change sees what has changed it.
        self.current
            .rcu(|current| Tls::new(Arc::clone(&current.shown), Arc::clone(&trust)));
        self.judgements.send_modify(|count| *count += 1);
        Ok(true)
    }

    /// What holds now.
    #[must_use]
    pub fn now(&self) -> Arc<Tls> {
        self.current.load_full()
    }

    /// The SHA-256 of the certificates that the server shows, one behind the other (DER).
    pub(crate) fn shown_digest(&self) -> Digest {
        self.current.load().shown.digest
    }

    /// The SHA-256 of the authorities and then of their revocation lists, one behind the other (DER).
    pub(crate) fn trust_digest(&self) -> Digest {
        *self.current.load().trust.digest()
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
