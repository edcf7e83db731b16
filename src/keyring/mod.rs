//! Keys: the key-encryption key (KEK) wraps a data key per tenant and the signing keys; data keys seal records.
//!
//! Wrapped keys come from the store, unwrapped ones stay here. What leaves this room: an opened record, a sealed record, a
//! signature, a public key.

mod data_key;
mod kek;
mod signing;

use std::sync::Arc;

use dashmap::DashMap;
use prost::Message as _;
use tokio::sync::{Mutex, watch};
use zeroize::{Zeroize as _, Zeroizing};

pub use self::data_key::{DataKey, DataKeyId, OpenError, SealError, Sealed};
pub use self::kek::{KekError, KekId, KekSource, KeyFile};
pub use self::signing::{CHECKPOINT_TYPE, Signature, SigningKey, TokenKind, detached};
use crate::pb::storage;
use crate::store::{CommitError, Expectation, Key, Record, Scan, Store, StoreError, Transaction};
use crate::time::{Clock, Timestamp};
use crate::vault::ids::TenantId;

/// Where wrapped data keys stand in the store: `data-key/{tenant}/{id}`.
pub const DATA_KEY_PREFIX: &str = "data-key/";
/// Where wrapped signing keys stand: `signing-key/{kid}`.
pub const SIGNING_KEY_PREFIX: &str = "signing-key/";

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
        configured: KekId,
    },
    /// The wrapped key is damaged or stands in another's place.
    #[error("record {0} does not hold the key that belongs there; restore the store from a backup")]
    Corrupt(Key),
    /// The store is in trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no random bytes, or a key could not be made of them.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// Every key that this process has unwrapped.
pub struct Keyring {
    kek: Arc<dyn KekSource>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    data_keys: DashMap<(TenantId, DataKeyId), Arc<DataKey>>,
    /// The key that seals a tenant's new records: the one with the greatest id.
    sealing: DashMap<TenantId, Arc<DataKey>>,
    /// Held while a data key is made or its seals are set aside, so that one process does each once.
    making: Mutex<()>,
    signing: watch::Sender<Arc<Vec<Arc<SigningKey>>>>,
}

impl Keyring {
    /// Unwraps every key in the store; makes the first signing key if there is none.
    ///
    /// # Errors
    /// [`KeyringError`]: above all, that another KEK wrapped the keys. Nothing is written then.
    pub async fn open(
        kek: Arc<dyn KekSource>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyringError> {
        let keyring = Self {
            kek,
            store,
            clock,
            data_keys: DashMap::new(),
            sealing: DashMap::new(),
            making: Mutex::new(()),
            signing: watch::Sender::new(Arc::default()),
        };
        for prefix in [SIGNING_KEY_PREFIX, DATA_KEY_PREFIX] {
            keyring.load(prefix).await?;
        }
        if keyring.signing.borrow().is_empty() {
            keyring.make_signing_key().await?;
        }
        Ok(keyring)
    }

    /// Which KEK is at hand.
    #[must_use]
    pub fn kek_id(&self) -> &KekId {
        self.kek.id()
    }

    /// The data key that sealed a record; none if this process has not seen it.
    #[must_use]
    pub fn data_key(&self, tenant: &TenantId, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.data_keys.get(&(tenant.clone(), id)).map(|key| Arc::clone(&key))
    }

    /// The data key for a tenant's next record, with a seal set aside for it. Makes the tenant's first key if need be, and
    /// another one when the last is used up.
    pub async fn sealing_key(&self, tenant: &TenantId) -> Result<Arc<DataKey>, KeyringError> {
        loop {
            let current = self.sealing.get(tenant).map(|key| Arc::clone(&key));
            if let Some(key) = current.filter(|key| key.take_seal()) {
                return Ok(key);
            }
            let _guard = self.making.lock().await;
            let newest = self.sealing.get(tenant).map(|key| Arc::clone(&key));
            match newest {
                None => self.make_data_key(tenant, DataKeyId(1)).await?,
                // Somebody else was faster.
                Some(newest) if newest.has_seals() => {}
                Some(newest) => self.reserve_seals(tenant, &newest).await?,
            }
        }
    }

    /// The key that signs.
    #[must_use]
    pub fn signing_key(&self) -> Arc<SigningKey> {
        let keys = self.signing.borrow();
        Arc::clone(keys.last().expect("open makes a signing key when there is none"))
    }

    /// The key with this id; none if this process has not seen it.
    #[must_use]
    pub fn signing_key_by_id(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.signing
            .borrow()
            .iter()
            .find(|key| key.kid() == kid)
            .map(Arc::clone)
    }

    /// Signs a checkpoint of the audit log; the payload stands beside the signature, not in it.
    #[must_use]
    pub fn sign_checkpoint(&self, payload: &[u8]) -> String {
        let key = self.signing_key();
        let signature = key.sign(TokenKind::Checkpoint, Zeroizing::new(payload.to_vec()));
        detached(&key.compact(TokenKind::Checkpoint, &signature))
    }

    /// The public keys as a JSON Web Key Set (RFC 7517), the newest first.
    #[must_use]
    pub fn jwks(&self) -> String {
        let keys: Vec<_> = self.signing.borrow().iter().rev().map(|key| key.public_jwk()).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    /// When each data key was made.
    #[must_use]
    pub fn data_key_times(&self) -> Vec<Timestamp> {
        self.data_keys.iter().map(|key| key.created_at()).collect()
    }

    /// When each signing key was made.
    #[must_use]
    pub fn signing_key_times(&self) -> Vec<Timestamp> {
        self.signing.borrow().iter().map(|key| key.created_at()).collect()
    }

    /// How many tenants have a key.
    #[must_use]
    pub fn tenant_count(&self) -> usize {
        self.sealing.len()
    }

    async fn load(&self, prefix: &str) -> Result<(), KeyringError> {
        let mut after = None;
        loop {
            let scan = Scan {
                prefix: prefix.into(),
                after: after.take(),
                limit: 1000,
            };
            let records = self.store.scan(scan).await?;
            for record in &records {
                self.learn(record).await?;
            }
            match records.into_iter().next_back() {
                Some(last) => after = Some(last.key),
                None => return Ok(()),
            }
        }
    }

    /// Unwraps a key that was read from the store.
    async fn learn(&self, record: &Record) -> Result<(), KeyringError> {
        let corrupt = || KeyringError::Corrupt(record.key.clone());
        let wrapped = storage::WrappedKey::decode(&*record.value).map_err(|_| corrupt())?;
        let key = self.unwrap(&record.key, &wrapped).await?;
        let created_at = Timestamp::from_unix_ms(wrapped.created_at_ms);
        if record.key.as_str().starts_with(SIGNING_KEY_PREFIX) {
            let key = SigningKey::from_seed(&key, created_at).ok_or_else(corrupt)?;
            self.add_signing_key(key);
            return Ok(());
        }
        let (tenant, id) = parse_data_key(record.key.as_str()).ok_or_else(corrupt)?;
        let key = DataKey::new(id, &key, created_at, wrapped.seals_reserved).ok_or_else(corrupt)?;
        self.add_data_key(tenant, key);
        Ok(())
    }

    async fn make_signing_key(&self) -> Result<(), KeyringError> {
        let seed = random_key()?;
        let now = self.clock.now();
        let key = SigningKey::from_seed(&seed, now).ok_or(KeyringError::NoRandomness)?;
        let name = Key::new(&format!("{SIGNING_KEY_PREFIX}{}", key.kid()));
        let wrapped = self.wrap(&name, &seed, now, 0).await?;
        let transaction = Transaction::new()
            .only_if(name.clone(), Expectation::Absent)
            .put(name, wrapped);
        match self.store.commit(transaction).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => self.add_signing_key(key),
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
        Ok(())
    }

    fn add_signing_key(&self, key: SigningKey) {
        self.signing.send_modify(|keys| {
            let mut all = Vec::clone(keys);
            all.retain(|known| known.kid() != key.kid());
            all.push(Arc::new(key));
            all.sort_by(|a, b| (a.created_at(), a.kid()).cmp(&(b.created_at(), b.kid())));
            *keys = Arc::new(all);
        });
    }

    async fn make_data_key(&self, tenant: &TenantId, id: DataKeyId) -> Result<(), KeyringError> {
        let bytes = random_key()?;
        let now = self.clock.now();
        let name = data_key_name(tenant, id);
        let wrapped = self.wrap(&name, &bytes, now, data_key::SEALS_AT_ONCE).await?;
        let transaction = Transaction::new()
            .only_if(name.clone(), Expectation::Absent)
            .put(name.clone(), wrapped);
        match self.store.commit(transaction).await {
            Ok(_) => {
                let key = DataKey::new(id, &bytes, now, 0).ok_or(KeyringError::NoRandomness)?;
                key.add_seals(data_key::SEALS_AT_ONCE);
                self.add_data_key(tenant.clone(), key);
                Ok(())
            }
            // Another replica made it: take that one.
            Err(CommitError::Conflict { .. }) => self.learn_by_name(&name).await,
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Sets the next block of seals aside, or makes the next key if this one has none left.
    async fn reserve_seals(&self, tenant: &TenantId, key: &DataKey) -> Result<(), KeyringError> {
        let name = data_key_name(tenant, key.id());
        let Some(record) = self.store.get(&name).await? else {
            return Err(KeyringError::Corrupt(name));
        };
        let corrupt = |_| KeyringError::Corrupt(name.clone());
        let mut wrapped = storage::WrappedKey::decode(&*record.value).map_err(corrupt)?;
        if wrapped.seals_reserved + data_key::SEALS_AT_ONCE > data_key::MAX_SEALS {
            return self.make_data_key(tenant, key.id().next()).await;
        }
        wrapped.seals_reserved += data_key::SEALS_AT_ONCE;
        let transaction = Transaction::new()
            .only_if(name.clone(), Expectation::WrittenAt(record.revision))
            .put(name.clone(), wrapped.encode_to_vec());
        match self.store.commit(transaction).await {
            Ok(_) => key.add_seals(data_key::SEALS_AT_ONCE),
            // Another replica was faster; the caller tries again.
            Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
        Ok(())
    }

    async fn learn_by_name(&self, name: &Key) -> Result<(), KeyringError> {
        match self.store.get(name).await? {
            Some(record) => self.learn(&record).await,
            None => Err(KeyringError::Corrupt(name.clone())),
        }
    }

    fn add_data_key(&self, tenant: TenantId, key: DataKey) {
        let key = Arc::new(key);
        self.data_keys.insert((tenant.clone(), key.id()), Arc::clone(&key));
        let newest = self.sealing.entry(tenant).or_insert_with(|| Arc::clone(&key));
        if newest.id() < key.id() {
            let mut newest = newest;
            *newest = key;
        }
    }

    async fn wrap(
        &self,
        name: &Key,
        key: &[u8; 32],
        created_at: Timestamp,
        seals_reserved: u64,
    ) -> Result<Vec<u8>, KeyringError> {
        // A KMS binds no associated data, so the key's place travels inside.
        let mut plaintext = storage::WrappedKeyPlaintext {
            purpose: name.to_string(),
            key: key.to_vec(),
        };
        let encoded = Zeroizing::new(plaintext.encode_to_vec());
        plaintext.key.zeroize();
        let wrapped = storage::WrappedKey {
            kek_id: self.kek.id().to_string(),
            ciphertext: self.kek.wrap(&encoded).await?,
            created_at_ms: created_at.unix_ms(),
            seals_reserved,
        };
        Ok(wrapped.encode_to_vec())
    }

    async fn unwrap(&self, name: &Key, wrapped: &storage::WrappedKey) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
        if wrapped.kek_id != self.kek.id().as_str() {
            return Err(KeyringError::OtherKek {
                record: name.clone(),
                wrapped_by: wrapped.kek_id.clone(),
                configured: self.kek.id().clone(),
            });
        }
        let corrupt = || KeyringError::Corrupt(name.clone());
        let encoded = match self.kek.unwrap(&wrapped.ciphertext).await {
            Ok(encoded) => encoded,
            Err(KekError::NotAuthentic) => return Err(corrupt()),
            Err(error) => return Err(error.into()),
        };
        let mut plaintext = storage::WrappedKeyPlaintext::decode(&encoded[..]).map_err(|_| corrupt())?;
        let key = <[u8; 32]>::try_from(&plaintext.key[..]).map(Zeroizing::new);
        plaintext.key.zeroize();
        if plaintext.purpose != name.as_str() {
            return Err(corrupt());
        }
        key.map_err(|_| corrupt())
    }
}

fn data_key_name(tenant: &TenantId, id: DataKeyId) -> Key {
    Key::new(&format!("{DATA_KEY_PREFIX}{tenant}/{:010}", id.0))
}

fn parse_data_key(name: &str) -> Option<(TenantId, DataKeyId)> {
    let (tenant, id) = name.strip_prefix(DATA_KEY_PREFIX)?.split_once('/')?;
    Some((TenantId::parse(tenant).ok()?, DataKeyId(id.parse().ok()?)))
}

fn random_key() -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut key[..]).map_err(|_| KeyringError::NoRandomness)?;
    Ok(key)
}

#[cfg(test)]
mod tests;
