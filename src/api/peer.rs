//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::ApiError;
use crate::access::{Caller, LivePermissions, Permissions, Quotas, Usage};

/// Who is at the other end of a connection, worked out once for all of its calls.
#[derive(Clone)]
pub struct Peer(Arc<PeerInfo>);

struct PeerInfo {
    address: SocketAddr,
    /// The same as each line of the audit log has it.
    address_text: String,
    identity: Result<LivePermissions, String>,
    /// One place for each call that the caller may have open; none if it may have any number.
    room: Option<Arc<Semaphore>>,
    /// What its holder has used of its quotas, over all of its connections. Looked up with the first call.
    usage: OnceLock<Arc<Usage>>,
    /// How many calls it has made without an identity.
    strange_calls: AtomicU32,
}

/// How many calls a connection may make without an identity. Each is refused; nobody needs more of them to see that, and quotas are of
/// identities.
pub(crate) const MOST_STRANGE_CALLS: u32 = 64;

impl Peer {
    /// The peer at `address`: its permissions, or why it has no identity.
    #[must_use]
    pub fn new(address: SocketAddr, identity: Result<LivePermissions, String>) -> Self {
        Self(Arc::new(PeerInfo {
            address,
            address_text: address.to_string(),
            identity,
            room: None,
            usage: OnceLock::new(),
            strange_calls: AtomicU32::new(0),
        }))
    }

    /// The caller at `address`, with room for so many calls.
    #[must_use]
    pub fn with_room(address: SocketAddr, identity: LivePermissions, room: Arc<Semaphore>) -> Self {
        Self(Arc::new(PeerInfo {
            address,
            address_text: address.to_string(),
            identity: Ok(identity),
            room: Some(room),
            usage: OnceLock::new(),
            strange_calls: AtomicU32::new(0),
        }))
    }

    /// A place for one more call; it is free again when it is dropped.
    pub(crate) fn place(&self) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let place = self.0.room.as_ref().map(|room| Arc::clone(room).try_acquire_owned());
        place.transpose().map_err(|_| ApiError::TooManyCalls)
    }

    /// Counts a call without an identity.
    pub(crate) fn count_strange_call(&self) {
        self.0.strange_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it has made more than a connection may.
    pub(crate) fn is_worn_out(&self) -> bool {
        self.0.strange_calls.load(Ordering::Relaxed) > MOST_STRANGE_CALLS
    }

    /// Where it calls from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The same in text.
    #[must_use]
    pub fn address_text(&self) -> &str {
        &self.0.address_text
    }

    /// Who it is, and what it may do.
    ///
    /// # Errors
    /// Why it has no identity.
    pub fn identity(&self) -> Result<&LivePermissions, &str> {
        self.0.identity.as_ref().map_err(String::as_str)
    }

    /// What it may do now, if it still is who it was when it came.
    pub(super) fn permissions(&self) -> Result<Permissions, Nobody> {
        let identity = self.identity().map_err(|why| Nobody::Unknown(why.to_owned()))?;
        if identity.standing().holds() {
            Ok(identity.now())
        } else {
            Err(Nobody::Ended)
        }
    }

    /// What its holder has used, which is looked up with the first call.
    pub(super) fn usage(&self, quotas: &Quotas, caller: &Caller) -> &Usage {
        self.0.usage.get_or_init(|| quotas.of(caller))
    }

    /// The same, if there was a first call.
    pub(super) fn known_usage(&self) -> Option<&Usage> {
        self.0.usage.get().map(Arc::as_ref)
    }
}

/// Why somebody has no permissions.
#[derive(Clone, Debug)]
pub(super) enum Nobody {
    /// It has never had an identity.
    Unknown(String),
    /// Its identity has ended.
    Ended,
}

impl From<Nobody> for ApiError {
    fn from(nobody: Nobody) -> Self {
        match nobody {
            Nobody::Unknown(why) => Self::NoIdentity(why),
            Nobody::Ended => Self::IdentityEnded,
        }
    }
}
