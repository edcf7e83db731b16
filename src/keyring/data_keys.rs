//! Making, replacing and destroying data keys.
//!
//! A key seals only while it is the tenant's newest: whatever is sealed by it is written with [`Keyring::while_newest`]. So once
//! a newer key is in the store, no further record can appear under the older one, and once that is removed, none is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use super::data_key::{self, DataKey, DataKeyId};
use super::loading::{data_key_name, parse_data_key};
use super::wrapped::{self, Facts};
use super::{DATA_KEY_PREFIX, ERASE_PREFIX, Erased, Keyring, KeyringError};
use crate::store::{CommitError, Expectation, Key, Revision, StoreError, Transaction};
use crate::time::Timestamp;
use crate::vault::ids::TenantId;

/// From how many seals on a key is due to be replaced, while there are plenty left.
const MANY_SEALS: u64 = data_key::MAX_SEALS / 2;
/// How often a change starts over because somebody else was faster.
const TRIES: usize = 32;

impl Keyring {
    /// Lets a transaction happen only if `key`, which has sealed what it writes, is still the tenant's newest.
    #[must_use]
    pub fn while_newest(&self, transaction: Transaction, tenant: &TenantId, key: &DataKey) -> Transaction {
        transaction
            .only_if(data_key_name(tenant, key.id()), Expectation::Present)
            .only_if(data_key_name(tenant, key.id().next()), Expectation::Absent)
    }

    /// Takes in a data key that another process has made, if `conflict`, which kept a transaction from happening, is one.
    pub async fn catch_up(&self, conflict: &Key) -> Result<(), KeyringError> {
        match parse_data_key(conflict.as_str()) {
            Some(known) if self.data_keys.contains_key(&known) => Ok(()),
            Some(_) => self.learn(conflict).await,
            None => Ok(()),
        }
    }

    /// Makes the tenant's next data key, in one transaction with what the caller adds for its id; that one says whether it
    /// still wants it. None if it does not, or if the tenant has no key.
    pub async fn replace_data_key(
        &self,
        tenant: &TenantId,
        with: impl Fn(DataKeyId) -> Transaction,
    ) -> Result<Option<DataKeyId>, KeyringError> {
        let _guard = self.turn_of(tenant).await;
        let Some(newest) = self.newest_data_key(tenant) else {
            return Ok(None);
        };
        let id = newest.id().next();
        self.make_data_key(tenant, id, with(id)).await?;
        Ok(self
            .newest_data_key(tenant)
            .map(|key| key.id())
            .filter(|newest| *newest >= id))
    }

    /// Removes the tenant's data keys before `kept` from the store, in one transaction with the caller's. They go on opening
    /// until they are [forgotten](Self::forget_data_keys).
    ///
    /// # Errors
    /// [`CommitError::Conflict`] as the caller's transaction has it.
    pub async fn retire_data_keys(
        &self,
        tenant: &TenantId,
        kept: DataKeyId,
        transaction: Transaction,
    ) -> Result<Revision, CommitError> {
        let _guard = self.turn_of(tenant).await;
        let retired: Vec<_> = self
            .keys_in_store(tenant)
            .await?
            .into_iter()
            .filter(|(id, ..)| *id < kept)
            .collect();
        let transaction = retired
            .iter()
            .fold(transaction, |rest, (_, name, _)| rest.remove(name.clone()));
        let revision = self.store.commit(transaction).await?;
        for (_, name, _) in &retired {
            self.wrappings.remove(name);
        }
        Ok(revision)
    }

    /// Forgets the tenant's data keys before `kept`. Whoever has read a record before they were retired may still want to open
    /// it, so this comes later.
    pub fn forget_data_keys(&self, tenant: &TenantId, kept: DataKeyId) {
        self.data_keys.retain(|(owner, id), _| owner != tenant || *id >= kept);
    }

    /// Destroys the tenant's data keys: removes all of them from the store, in one transaction with `mark`, which keeps new
    /// ones from being made. In memory they stay until [`Self::forget_tenant`].
    pub async fn destroy_data_keys(&self, tenant: &TenantId, mark: Vec<u8>) -> Result<Revision, KeyringError> {
        let _guard = self.turn_of(tenant).await;
        let last = self.newest_data_key(tenant).map(|key| key.id());
        let erased = Erased {
            is_under_way: true,
            last: last.unwrap_or_else(|| DataKeyId(self.first_id(tenant).0 - 1)),
        };
        let before = self.erased.insert(tenant.clone(), erased);
        let destroyed = self.try_to_destroy(tenant, &mark).await;
        if destroyed.is_err()
            && let Some(mut erased) = self.erased.get_mut(tenant)
        {
            // The keys may be gone all the same, so their numbers stay used.
            erased.is_under_way = before.is_some_and(|before| before.is_under_way);
        }
        destroyed
    }

    /// Whether the tenant is being erased for good: not before whoever is destroying its keys has done so, which may fail.
    pub async fn erasure_is_durable(&self, tenant: &TenantId) -> bool {
        let _guard = self.turn_of(tenant).await;
        self.is_erasing(tenant.as_str())
    }

    async fn try_to_destroy(&self, tenant: &TenantId, mark: &[u8]) -> Result<Revision, KeyringError> {
        let name = erase_name(tenant);
        for _ in 0..TRIES {
            let keys = self.keys_in_store(tenant).await?;
            let next = keys.last().map_or(DataKeyId(1), |(id, ..)| id.next());
            // No other process may have made another one since.
            let transaction = Transaction::new()
                .only_if(data_key_name(tenant, next), Expectation::Absent)
                .put(name.clone(), mark.to_vec());
            let transaction = keys.into_iter().fold(transaction, |rest, (_, name, revision)| {
                rest.only_if(name.clone(), Expectation::WrittenAt(revision))
                    .remove(name)
            });
            match self.store.commit(transaction).await {
                Ok(revision) => return Ok(revision),
                Err(CommitError::Conflict { .. }) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        Err(KeyringError::Erasing(tenant.clone()))
    }

    /// Forgets a tenant whose keys are destroyed.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        self.sealing.remove(tenant);
        // Unless somebody is at it, or waits for that.
        self.making
            .remove_if(tenant, |_, making| Arc::strong_count(making) == 1);
        self.data_keys.retain(|(owner, _), _| owner != tenant);
        let prefix = format!("{DATA_KEY_PREFIX}{tenant}/");
        self.wrappings.retain(|name, _| !name.as_str().starts_with(&prefix));
    }

    /// Lets the tenant begin anew: nothing is left of it.
    pub fn end_erasure(&self, tenant: &TenantId) {
        if let Some(mut erased) = self.erased.get_mut(tenant) {
            erased.is_under_way = false;
        }
    }

    /// Lets those begin anew that are not marked any more: the commit that has removed the mark seemed to fail, and did not.
    pub async fn end_erasures_without_mark(&self) -> Result<(), StoreError> {
        let under_way = self.erased.iter().filter(|entry| entry.is_under_way);
        let under_way: Vec<_> = under_way.map(|entry| entry.key().clone()).collect();
        for tenant in under_way {
            // Whoever is destroying its keys has not marked it yet.
            let _guard = self.turn_of(&tenant).await;
            if self.is_erasing(tenant.as_str()) && self.store.get(&erase_name(&tenant)).await?.is_none() {
                self.end_erasure(&tenant);
            }
        }
        Ok(())
    }

    /// The tenants whose data key is older than `max_age` or has sealed very often.
    #[must_use]
    pub fn overdue(&self, max_age: Duration) -> Vec<TenantId> {
        let now = self.clock.now();
        let is_due = |key: &DataKey| now.since(key.created_at()) > max_age || key.seals_reserved() > MANY_SEALS;
        let due = self.sealing.iter().filter(|entry| is_due(entry.value()));
        due.map(|entry| entry.key().clone()).collect()
    }

    pub(super) async fn turn_of(&self, tenant: &TenantId) -> OwnedMutexGuard<()> {
        let making = Arc::clone(&self.making.entry(tenant.clone()).or_default());
        making.lock_owned().await
    }

    pub(crate) fn first_id(&self, tenant: &TenantId) -> DataKeyId {
        self.erased
            .get(tenant)
            .map_or(DataKeyId(1), |erased| erased.last.next())
    }

    async fn keys_in_store(&self, tenant: &TenantId) -> Result<Vec<(DataKeyId, Key, Revision)>, StoreError> {
        let mut keys = Vec::new();
        let mut after = None;
        while let Some(page) = self.page(&format!("{DATA_KEY_PREFIX}{tenant}/"), after.take()).await? {
            keys.extend(page.iter().filter_map(|record| {
                let (_, id) = parse_data_key(record.key.as_str())?;
                Some((id, record.key.clone(), record.revision))
            }));
            after = page.into_iter().next_back().map(|record| record.key);
        }
        Ok(keys)
    }

    pub(super) async fn make_data_key(
        &self,
        tenant: &TenantId,
        id: DataKeyId,
        transaction: Transaction,
    ) -> Result<(), KeyringError> {
        let bytes = random_key()?;
        let now = self.clock.now();
        let name = data_key_name(tenant, id);
        let facts = Facts {
            created_at: now,
            seals_reserved: data_key::SEALS_AT_ONCE,
            use_from: Timestamp::EPOCH,
            public_key: None,
        };
        let (record, wrapping) = wrapped::wrap(&*self.kek, self.recovery.as_ref(), &name, &bytes, &facts).await?;
        let transaction = transaction
            .only_if(name.clone(), Expectation::Absent)
            .only_if(erase_name(tenant), Expectation::Absent)
            .put(name.clone(), record);
        match self.store.commit(transaction).await {
            Ok(_) => {
                let key = DataKey::new(id, &bytes, now, 0).ok_or(KeyringError::NoRandomness)?;
                key.add_seals(data_key::SEALS_AT_ONCE, data_key::SEALS_AT_ONCE);
                self.wrappings.insert(name, wrapping);
                self.add_data_key(tenant.clone(), key);
                Ok(())
            }
            Err(CommitError::Conflict { key, .. }) if key == erase_name(tenant) => {
                Err(KeyringError::Erasing(tenant.clone()))
            }
            // Another process made it: take that one.
            Err(CommitError::Conflict { .. }) => self.learn(&name).await,
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }
}

/// Where it is marked that a tenant is being erased.
pub(super) fn erase_name(tenant: &TenantId) -> Key {
    Key::new(&format!("{ERASE_PREFIX}{tenant}"))
}

pub(super) fn random_key() -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut key[..]).map_err(|_| KeyringError::NoRandomness)?;
    Ok(key)
}
