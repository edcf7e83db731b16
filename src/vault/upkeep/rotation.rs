//! Rotating a tenant's data key: a new one is made, every record is sealed by it, then the old ones are removed.
//!
//! As soon as the new key is in the store nothing can be written under an older one ([`Keyring::while_newest`]); so what a pass
//! over all records has sealed anew stays so, and when a pass finds nothing more, no record needs an older key.
//!
//! [`Keyring::while_newest`]: crate::keyring::Keyring::while_newest

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;
use tokio::time::Instant;

use super::erasure::prefixes;
use super::{Deed, GRACE, LATER, PAGE, ROTATE_PREFIX, Rotation, SOON};
use crate::keyring::DataKeyId;
use crate::pb::storage;
use crate::store::{CommitError, Expectation, Key, Record, StoreError, Transaction};
use crate::time::Timestamp;
use crate::vault::ids::TenantId;
use crate::vault::record::{Corrupt, ResealError, reseal, sealed_by};
use crate::vault::{Vault, VaultError};

/// How many records are sealed anew in one transaction.
const BATCH: u16 = 64;
/// How often a request starts over because somebody else has asked for the same.
const TRIES: usize = 32;

/// What became of some records.
#[derive(Default)]
struct Pass {
    resealed: u64,
    /// Those that were written by somebody else meanwhile: they are looked at once more.
    missed: u64,
    damaged: u64,
    first_damaged: Option<Key>,
}

impl Vault {
    /// Begins to rotate a tenant's data key, unless that is under way.
    ///
    /// # Errors
    /// [`VaultError::NoSuchTenant`], or the store's.
    pub async fn rotate_data_key(&self, tenant: &TenantId) -> Result<(), VaultError> {
        if self.keyring.newest_data_key(tenant).is_none() || self.keyring.is_erasing(tenant.as_str()) {
            return Err(VaultError::NoSuchTenant(tenant.clone()));
        }
        self.request_rotations(std::slice::from_ref(tenant)).await?;
        self.upkeep.nudge();
        Ok(())
    }

    /// Begins to rotate every tenant's data key; says how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn rotate_all_data_keys(&self) -> Result<u64, VaultError> {
        let tenants = self.keyring.tenants();
        self.request_rotations(&tenants).await?;
        self.upkeep.nudge();
        Ok(tenants.len() as u64)
    }

    /// Notes in one transaction that the tenants' data keys are to be rotated, for those where that is not under way.
    pub(super) async fn request_rotations(&self, tenants: &[TenantId]) -> Result<(), VaultError> {
        let now = self.clock.now();
        let task = storage::RotateTask {
            requested_at_ms: now.unix_ms(),
            data_key_id: 0,
        };
        let task: Arc<[u8]> = task.encode_to_vec().into();
        let mut contended = Key::new(ROTATE_PREFIX);
        for _ in 0..TRIES {
            let noted: BTreeSet<Key> = self
                .all(ROTATE_PREFIX)
                .await?
                .into_iter()
                .map(|record| record.key)
                .collect();
            let new = tenants.iter().map(task_name).filter(|name| !noted.contains(name));
            let transaction = new.fold(Transaction::new(), |rest, name| {
                rest.only_if(name.clone(), Expectation::Absent)
                    .put(name, Arc::clone(&task))
            });
            match self.store.commit(transaction).await {
                Ok(_) => {
                    self.note_requested(tenants, now);
                    return Ok(());
                }
                // Somebody else has asked for one of them.
                Err(CommitError::Conflict { key, .. }) => contended = key,
                Err(error) => return Err(VaultError::from_commit(error)),
            }
        }
        Err(VaultError::Contended(contended))
    }

    fn note_requested(&self, tenants: &[TenantId], now: Timestamp) {
        let mut state = self.upkeep.state();
        for tenant in tenants {
            state.note_rotation(tenant.clone(), now);
            if let Some(rotation) = state.rotations.get_mut(tenant) {
                rotation.due = None;
            }
        }
    }

    /// Goes on with a rotation.
    pub(super) async fn rotate(&self, tenant: &TenantId) -> Result<(), VaultError> {
        let is_due = |rotation: &Rotation| rotation.due.is_none_or(|due| due <= Instant::now());
        if self.keyring.is_erasing(tenant.as_str()) || !self.upkeep.state().rotations.get(tenant).is_some_and(is_due) {
            return Ok(());
        }
        let rotated = self.try_to_rotate(tenant).await;
        if let Err(error) = &rotated {
            // Damage is for people to mend; everything else may pass.
            let pause = if matches!(error, VaultError::Corrupt(_)) {
                LATER
            } else {
                SOON
            };
            self.note(tenant, |rotation| {
                rotation.status.trouble = Some(error.to_string());
                rotation.due = Some(Instant::now() + pause);
            });
        }
        rotated
    }

    async fn try_to_rotate(&self, tenant: &TenantId) -> Result<(), VaultError> {
        self.announce(Deed::RotateDataKey, Some(tenant)).await?;
        let Some(kept) = self.new_key(tenant).await? else {
            return Ok(());
        };
        self.note(tenant, |rotation| rotation.status.data_key_id = Some(kept));
        let stale = self.count_stale(tenant, kept).await?;
        self.note(tenant, |rotation| {
            rotation.status.trouble = None;
            rotation.status.records = Some(rotation.status.records_done + stale);
        });
        loop {
            let pass = self.reseal_all(tenant, kept).await?;
            if let Some(first) = pass.first_damaged {
                tracing::error!(%tenant, damaged = pass.damaged, %first, "damaged records keep an old data key");
                return Err(Corrupt(first).into());
            }
            if self.keyring.is_erasing(tenant.as_str()) {
                return Ok(());
            }
            // The pass that finds nothing is the proof.
            if pass.resealed + pass.missed == 0 {
                return self.retire(tenant, kept).await;
            }
        }
    }

    /// The key that the rotation is for, made if need be; none if there is nothing to rotate any more.
    async fn new_key(&self, tenant: &TenantId) -> Result<Option<DataKeyId>, VaultError> {
        let name = task_name(tenant);
        let Some((record, task)) = self.task(&name).await? else {
            return Ok(None);
        };
        if task.data_key_id != 0 {
            return Ok(Some(DataKeyId(task.data_key_id)));
        }
        let with = |id: DataKeyId| {
            let task = storage::RotateTask {
                data_key_id: id.0,
                ..task
            };
            Transaction::new()
                .only_if(name.clone(), Expectation::WrittenAt(record.revision))
                .put(name.clone(), task.encode_to_vec())
        };
        let made = self.keyring.replace_data_key(tenant, with).await?;
        if made.is_none() && self.keyring.newest_data_key(tenant).is_none() {
            let transaction = Transaction::new().remove(name);
            self.store.commit(transaction).await.map_err(VaultError::from_commit)?;
        }
        Ok(made)
    }

    async fn task(&self, name: &Key) -> Result<Option<(Record, storage::RotateTask)>, VaultError> {
        let Some(record) = self.store.get(name).await? else {
            return Ok(None);
        };
        let task = storage::RotateTask::decode(&*record.value).map_err(|_| Corrupt(name.clone()))?;
        Ok(Some((record, task)))
    }

    async fn count_stale(&self, tenant: &TenantId, kept: DataKeyId) -> Result<u64, VaultError> {
        let mut stale = 0;
        for prefix in prefixes(tenant) {
            let mut pages = self.pages(&prefix, PAGE);
            loop {
                let started = Instant::now();
                let Some(page) = pages.next().await? else { break };
                stale += page.iter().filter(|record| is_stale(record, kept)).count() as u64;
                Self::rest(started).await;
            }
        }
        Ok(stale)
    }

    async fn reseal_all(&self, tenant: &TenantId, kept: DataKeyId) -> Result<Pass, VaultError> {
        let mut all = Pass::default();
        for prefix in prefixes(tenant) {
            let mut pages = self.pages(&prefix, BATCH.into());
            loop {
                let started = Instant::now();
                let Some(mut page) = pages.next().await? else { break };
                page.retain(|record| is_stale(record, kept));
                if !page.is_empty() {
                    let pass = self.reseal_some(tenant, page).await?;
                    self.note(tenant, |rotation| rotation.status.records_done += pass.resealed);
                    all.add(pass);
                }
                Self::rest(started).await;
            }
        }
        Ok(all)
    }

    /// Seals some records anew: together, and one by one if somebody else has written one of them meanwhile.
    async fn reseal_some(&self, tenant: &TenantId, records: Vec<Record>) -> Result<Pass, VaultError> {
        let mut pass = Pass::default();
        let (transaction, resealed) = self.resealing(tenant, records.clone(), &mut pass).await?;
        match self.store.commit(transaction).await {
            Ok(_) => pass.resealed = resealed,
            Err(CommitError::Conflict { key, .. }) => {
                // It may be a newer key, whose commit seemed to have failed.
                self.keyring.catch_up(&key).await?;
                for record in records {
                    let (transaction, resealed) = self.resealing(tenant, vec![record], &mut Pass::default()).await?;
                    match self.store.commit(transaction).await {
                        Ok(_) => pass.resealed += resealed,
                        Err(CommitError::Conflict { .. }) => pass.missed += 1,
                        Err(error) => return Err(VaultError::from_commit(error)),
                    }
                }
            }
            Err(error) => return Err(VaultError::from_commit(error)),
        }
        Ok(pass)
    }

    /// The transaction that seals the records anew, and how many it does; damaged ones are left out and noted.
    async fn resealing(
        &self,
        tenant: &TenantId,
        records: Vec<Record>,
        pass: &mut Pass,
    ) -> Result<(Transaction, u64), VaultError> {
        let seals = u16::try_from(records.len()).unwrap_or(BATCH);
        let new = self.keyring.sealing_key(tenant, seals).await?;
        let keyring = Arc::clone(&self.keyring);
        let (owner, key) = (tenant.clone(), Arc::clone(&new));
        let resealed = tokio::task::spawn_blocking(move || {
            let one = |record: Record| {
                let old = sealed_by(&record).map(|id| keyring.data_key(&owner, id));
                let resealed = match old {
                    Ok(Some(old)) => reseal(&record, &old, &key),
                    Ok(None) | Err(_) => Err(Corrupt(record.key.clone()).into()),
                };
                (record, resealed)
            };
            records.into_iter().map(one).collect::<Vec<_>>()
        });
        let mut transaction = self.keyring.while_newest(Transaction::new(), tenant, &new);
        let mut count = 0;
        for (record, resealed) in resealed.await.map_err(|_| StoreError::Closed)? {
            match resealed {
                Ok(bytes) => {
                    transaction = transaction
                        .only_if(record.key.clone(), Expectation::WrittenAt(record.revision))
                        .put(record.key, bytes);
                    count += 1;
                }
                Err(ResealError::Corrupt(corrupt)) => {
                    pass.damaged += 1;
                    pass.first_damaged.get_or_insert(corrupt.0);
                }
                Err(ResealError::Seal(error)) => return Err(error.into()),
            }
        }
        Ok((transaction, count))
    }

    async fn retire(&self, tenant: &TenantId, kept: DataKeyId) -> Result<(), VaultError> {
        let name = task_name(tenant);
        let Some((record, _)) = self.task(&name).await? else {
            return Ok(());
        };
        let transaction = Transaction::new()
            .only_if(name.clone(), Expectation::WrittenAt(record.revision))
            .remove(name);
        match self.keyring.retire_data_keys(tenant, kept, transaction).await {
            Ok(_) => {
                let mut state = self.upkeep.state();
                state.rotations.remove(tenant);
                state.retired.push((Instant::now() + GRACE, tenant.clone(), kept));
                tracing::info!(%tenant, data_key = kept.0, "every record is sealed by the new data key; older ones are removed");
                Ok(())
            }
            Err(CommitError::Conflict { .. }) => Ok(()),
            Err(error) => Err(VaultError::from_commit(error)),
        }
    }

    fn note(&self, tenant: &TenantId, change: impl FnOnce(&mut Rotation)) {
        if let Some(rotation) = self.upkeep.state().rotations.get_mut(tenant) {
            change(rotation);
        }
    }
}

impl Pass {
    fn add(&mut self, other: Self) {
        self.resealed += other.resealed;
        self.missed += other.missed;
        self.damaged += other.damaged;
        self.first_damaged = self.first_damaged.take().or(other.first_damaged);
    }
}

fn task_name(tenant: &TenantId) -> Key {
    Key::new(&format!("{ROTATE_PREFIX}{tenant}"))
}

/// Whether an older key sealed it. A damaged one counts as such: it keeps the older keys.
fn is_stale(record: &Record, kept: DataKeyId) -> bool {
    sealed_by(record).map_or(true, |id| id < kept)
}

pub(super) fn requested_at(record: &Record) -> Timestamp {
    let task = storage::RotateTask::decode(&*record.value).unwrap_or_default();
    Timestamp::from_unix_ms(task.requested_at_ms)
}
