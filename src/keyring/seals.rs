//! How often a data key may seal still. Nonces are random, so that is bounded (NIST SP 800-38D, 8.3), and counted in the store ahead of what
//! is sealed: a block of seals is set aside at a time, beside the wrapped key.
//!
//! A block that is due is set aside in the transaction that writes what its first seals have sealed: one wait for the disk, and not one
//! after the other. If that one fails, nobody has seen what was sealed.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::data_key::{DataKey, MAX_SEALS, SEALS_AT_ONCE};
use super::loading::data_key_name;
use super::{Keyring, KeyringError, wrapped};
use crate::store::{CommitError, Committed, Expectation, Key, Revision, Transaction};
use crate::vault::ids::TenantId;

/// Seals of one data key, for records that are written in one transaction.
pub struct Seals {
    key: Arc<DataKey>,
    count: u16,
    /// They are the first of this block.
    block: Option<Block>,
}

/// A block of seals that is still to be set aside.
struct Block {
    name: Key,
    written_at: Revision,
    /// The wrapped key with the new count.
    record: Vec<u8>,
    /// How many seals will have been set aside then.
    reserved: u64,
    /// Whoever needs seals of the tenant meanwhile waits for this block.
    turn: OwnedMutexGuard<()>,
}

impl Keyring {
    /// So many seals for a tenant's next records. Makes the tenant's first key if need be, and another one when the last is used up.
    ///
    /// # Errors
    /// That the tenant is being erased, and whatever keeps a key from being read or made.
    pub async fn seals(&self, tenant: &TenantId, count: u16) -> Result<Seals, KeyringError> {
        let taken = || {
            let key = self.newest_data_key(tenant)?;
            key.take_seals(count.into()).then_some(Seals {
                key,
                count,
                block: None,
            })
        };
        loop {
            self.refuse_erasing(tenant)?;
            if let Some(seals) = taken() {
                return Ok(seals);
            }
            let turn = self.turn_of(tenant).await;
            // Much may have happened meanwhile.
            self.refuse_erasing(tenant)?;
            if let Some(seals) = taken() {
                return Ok(seals);
            }
            let Some(key) = self.newest_data_key(tenant) else {
                let id = self.first_id(tenant);
                self.make_data_key(tenant, id, Transaction::new()).await?;
                continue;
            };
            if let Some(block) = self.next_block(tenant, &key, turn).await? {
                let block = Some(block);
                return Ok(Seals { key, count, block });
            }
        }
    }

    /// The data key for so many of a tenant's next records, with a seal set aside for each.
    ///
    /// # Errors
    /// See [`Self::seals`]; and that the seals cannot be set aside.
    pub async fn sealing_key(&self, tenant: &TenantId, count: u16) -> Result<Arc<DataKey>, KeyringError> {
        loop {
            let seals = self.seals(tenant, count).await?;
            let key = Arc::clone(&seals.key);
            if seals.block.is_none() {
                return Ok(key);
            }
            match self.commit(Transaction::new(), seals).await {
                Ok(_) => return Ok(key),
                // Another process was faster.
                Err(CommitError::Conflict { .. }) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// Commits a transaction that writes what these seals have sealed, and sets them aside with it if that is still to be done.
    ///
    /// # Errors
    /// As [`Store::commit`](crate::store::Store::commit).
    pub async fn commit(&self, transaction: Transaction, seals: Seals) -> Committed {
        let Seals { key, count, block } = seals;
        let Some(block) = block else {
            return self.store.commit(transaction).await;
        };
        let transaction = transaction
            .only_if(block.name.clone(), Expectation::WrittenAt(block.written_at))
            .put(block.name, block.record);
        let revision = self.store.commit(transaction).await?;
        key.add_seals(SEALS_AT_ONCE - u64::from(count), block.reserved);
        // Only now others may look whether there are any.
        drop(block.turn);
        Ok(revision)
    }

    fn refuse_erasing(&self, tenant: &TenantId) -> Result<(), KeyringError> {
        if self.is_erasing(tenant.as_str()) {
            return Err(KeyringError::Erasing(tenant.clone()));
        }
        Ok(())
    }

    /// The next block of a key's seals; none, and the tenant has another key, if this one has none left.
    async fn next_block(
        &self,
        tenant: &TenantId,
        key: &DataKey,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Option<Block>, KeyringError> {
        let name = data_key_name(tenant, key.id());
        let Some(record) = self.store.get(&name).await? else {
            return Err(KeyringError::Corrupt(name));
        };
        let mut wrapped = wrapped::decode(&name, &record.value)?;
        // What is proven anew is what somebody has proven before.
        if !key.proof_key().is_proven(&name, &wrapped) {
            return Err(KeyringError::Corrupt(name));
        }
        if wrapped.seals_reserved + SEALS_AT_ONCE > MAX_SEALS {
            self.make_data_key(tenant, key.id().next(), Transaction::new()).await?;
            return Ok(None);
        }
        wrapped.seals_reserved += SEALS_AT_ONCE;
        Ok(Some(Block {
            reserved: wrapped.seals_reserved,
            record: key.proof_key().prove(&name, wrapped),
            written_at: record.revision,
            name,
            turn,
        }))
    }
}

impl Seals {
    /// The key that they are of.
    #[must_use]
    pub fn key(&self) -> &DataKey {
        &self.key
    }
}
