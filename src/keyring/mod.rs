//! Keys: the key-encryption key (KEK) wraps a data key per tenant and the signing keys; data keys seal records.
//!
//! Wrapped keys come from the store, unwrapped ones stay here. What leaves this room: an opened record, a sealed record, a
//! signature, a public key. `loading` reads the keys at start, `data_keys` makes, replaces and destroys those that seal,
//! `signing_keys` those that sign, `rewrap` wraps them anew.

mod data_key;
mod data_keys;
mod kek;
mod loading;
mod opened;
mod recovery;
mod rewrap;
mod seals;
mod signing;
mod signing_keys;
mod wrapped;

use std::sync::Arc;

use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;
use tokio::sync::{Mutex, watch};

pub use self::data_key::{DataKey, DataKeyId, OpenError, SealError, Sealed};
pub use self::kek::{KekError, KekId, KekSource, KeyFile, KmsPlugin, Replacing};
pub use self::opened::{OpenedKeys, is_key};
pub use self::recovery::{NotARecoveryKey, RecoveryKey, RecoverySecret};
pub use self::rewrap::{Recovered, recover};
pub use self::seals::Seals;
pub use self::signing::{CHECKPOINT_TYPE, PublicKey, Signature, SigningKey, TokenKind, detached};
pub use self::signing_keys::NewSigningKey;
use self::signing_keys::SigningKeys;
use self::wrapped::Wrapping;
use crate::store::{Key, Store, StoreError};
use crate::time::{Clock, Timestamp};
use crate::vault::ids::TenantId;

/// Where wrapped data keys stand in the store: `data-key/{tenant}/{id}`.
pub const DATA_KEY_PREFIX: &str = "data-key/";
/// Where wrapped signing keys stand: `signing-key/{kid}`.
pub const SIGNING_KEY_PREFIX: &str = "signing-key/";
/// Where a tenant is marked that is being erased: `task/erase/{tenant}`. It gets no key meanwhile.
pub const ERASE_PREFIX: &str = "task/erase/";

/// Why a key is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The KEK cannot be used.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// Another KEK wrapped it.
    #[error(
        "{record} was wrapped by the key-encryption key {wrapped_by}, but {configured} is configured; \
         this is another store's key, or this store's key was replaced"
    )]
    OtherKek {
        /// The wrapped key's record.
        record: Key,
        /// Who wrapped it.
        wrapped_by: String,
        /// Who is at hand.
        configured: String,
    },
    /// The wrapped key is damaged or stands in another's place.
    #[error("record {0} does not hold the key that belongs there; restore the store from a backup")]
    Corrupt(Key),
    /// The tenant is being erased.
    #[error("the tenant {0} is being erased; try again when that is done")]
    Erasing(TenantId),
    /// The store is in trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no random bytes, or a key could not be made of them.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

impl KeyringError {
    /// Whether it may be otherwise later, without anybody changing anything here.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Kek(error) if error.is_passing())
    }
}

/// Every key that this process has unwrapped.
pub struct Keyring {
    kek: Arc<dyn KekSource>,
    recovery: Option<RecoveryKey>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// Looked up by every resolve.
    data_keys: DashMap<(TenantId, DataKeyId), Arc<DataKey>, DefaultHashBuilder>,
    /// The key that seals a tenant's new records: the one with the greatest id.
    sealing: DashMap<TenantId, Arc<DataKey>>,
    /// How each key in the store is wrapped.
    wrappings: DashMap<Key, Wrapping>,
    /// Tenants whose keys were destroyed by this process, or that are being erased.
    erased: DashMap<TenantId, Erased>,
    /// Held while a tenant's key is made, replaced or destroyed, or seals are set aside, so that one process does each once. Each
    /// takes a wait for the disk, and some one for a KMS, which is nothing to other tenants.
    making: DashMap<TenantId, Arc<Mutex<()>>>,
    /// The same of signing keys.
    making_signing: Mutex<()>,
    signing: watch::Sender<Arc<SigningKeys>>,
    /// The names of signing keys of which nobody knows whether the store has them.
    doubtful_signing: std::sync::Mutex<Vec<Key>>,
}

/// What is remembered of a tenant's destroyed keys.
struct Erased {
    /// Whether its records are still being removed.
    is_under_way: bool,
    /// The last id that was used: none is used twice, so that no write that was under way passes for one with a later key.
    last: DataKeyId,
}

/// How many keys there are, and how they are wrapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrappingStatus {
    /// Which key-encryption key wraps now; none if its source has not been able to tell yet.
    pub kek_id: Option<String>,
    /// What keeps it from wrapping and unwrapping now.
    pub trouble: Option<String>,
    /// Keys in the store.
    pub keys: u64,
    /// Keys that another key-encryption key has wrapped.
    pub wrapped_by_another: u64,
    /// The recovery key; none if none is configured.
    pub recovery_key: Option<String>,
    /// Keys that are not wrapped for the recovery key that is configured.
    pub lacking_recovery: u64,
}

impl Keyring {
    /// Unwraps every key in the store; makes the first signing key if there is none. Keys that are not wrapped as they should
    /// be (without a proof, or not for the recovery key) are written anew.
    ///
    /// # Errors
    /// [`KeyringError`]: above all, that another KEK wrapped the keys. Nothing is written then.
    pub async fn open(
        kek: Arc<dyn KekSource>,
        recovery: Option<RecoveryKey>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyringError> {
        let keyring = Self {
            kek,
            recovery,
            store,
            clock,
            data_keys: DashMap::default(),
            sealing: DashMap::new(),
            wrappings: DashMap::new(),
            erased: DashMap::new(),
            making: DashMap::new(),
            making_signing: Mutex::new(()),
            signing: watch::Sender::new(Arc::default()),
            doubtful_signing: std::sync::Mutex::default(),
        };
        keyring.load().await?;
        if keyring.signing.borrow().is_empty() {
            keyring.make_signing_key(std::time::Duration::ZERO).await?;
        }
        // Keys are at hand. A source that has trouble with telling which key it has says so in the status.
        let _ = keyring.kek.refresh().await;
        Ok(keyring)
    }

    /// The data key that sealed a record; none if this process has not seen it.
    #[must_use]
    pub fn data_key(&self, tenant: &TenantId, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.data_keys.get(&(tenant.clone(), id)).map(|key| Arc::clone(&key))
    }

    /// The data key that seals the tenant's next records; none if it has no key.
    #[must_use]
    pub fn newest_data_key(&self, tenant: &TenantId) -> Option<Arc<DataKey>> {
        self.sealing.get(tenant).map(|key| Arc::clone(&key))
    }

    /// The key that signs now.
    #[must_use]
    pub fn signing_key(&self) -> Arc<SigningKey> {
        self.signing.borrow().at(self.clock.now())
    }

    /// The public key with this id; none if this process has not seen it.
    #[must_use]
    pub fn public_key(&self, kid: &str) -> Option<Arc<PublicKey>> {
        self.signing.borrow().public_key(kid)
    }

    /// Signs a checkpoint of the audit log; the payload stands beside the signature, not in it.
    #[must_use]
    pub fn sign_checkpoint(&self, payload: &[u8]) -> String {
        self.signing_key().sign_detached(TokenKind::Checkpoint, payload)
    }

    /// The public keys as a JSON Web Key Set (RFC 7517), the newest first.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.signing.borrow().jwks()
    }

    /// When each data key was made.
    #[must_use]
    pub fn data_key_times(&self) -> Vec<Timestamp> {
        self.data_keys.iter().map(|key| key.created_at()).collect()
    }

    /// How many data keys there are.
    #[must_use]
    pub fn data_key_count(&self) -> usize {
        self.data_keys.len()
    }

    /// When the oldest of the data keys that seal was made; none if there is none. Walks over all of them.
    #[must_use]
    pub fn oldest_sealing_key(&self) -> Option<Timestamp> {
        self.sealing.iter().map(|key| key.created_at()).min()
    }

    /// How often the data key that has sealed most may seal still; none if there is none. Walks over all of them.
    #[must_use]
    pub fn fewest_seals_left(&self) -> Option<u64> {
        self.sealing.iter().map(|key| key.seals_left()).min()
    }

    /// When each signing key that may sign was made.
    #[must_use]
    pub fn signing_key_times(&self) -> Vec<Timestamp> {
        self.signing.borrow().times()
    }

    /// How many public keys are published.
    #[must_use]
    pub fn published_keys(&self) -> u64 {
        self.signing.borrow().published() as u64
    }

    /// The tenants that have a key.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.sealing.iter().map(|entry| entry.key().clone()).collect()
    }

    /// How many tenants have a key.
    #[must_use]
    pub fn tenant_count(&self) -> usize {
        self.sealing.len()
    }

    /// Whether the tenant is being erased: as if it had nothing.
    #[must_use]
    pub fn is_erasing(&self, tenant: &str) -> bool {
        self.erased.get(tenant).is_some_and(|erased| erased.is_under_way)
    }

    /// How the keys are wrapped. Walks over all of them.
    #[must_use]
    pub fn wrapping_status(&self) -> WrappingStatus {
        let kek_id = self.kek.id();
        let recovery_key = self.recovery.as_ref().map(ToString::to_string);
        let mut status = WrappingStatus {
            kek_id: kek_id.as_ref().map(ToString::to_string),
            trouble: self.kek.trouble(),
            recovery_key,
            ..WrappingStatus::default()
        };
        for wrapping in &self.wrappings {
            status.keys += 1;
            status.wrapped_by_another += u64::from(kek_id.as_ref().is_some_and(|id| wrapping.kek_id != *id));
            let lacks = status.recovery_key.is_some() && wrapping.recipient != status.recovery_key;
            status.lacking_recovery += u64::from(lacks);
        }
        status
    }
}

#[cfg(test)]
pub(crate) use self::kek::tests::Plugin;
#[cfg(test)]
mod tests;
