//! Reading the keys at start, and those that another process has made since.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::signing::{PublicKey, SigningKey};
use super::wrapped::{self, Unwrapped};
use super::{DATA_KEY_PREFIX, DataKey, DataKeyId, ERASE_PREFIX, Erased, Keyring, KeyringError, SIGNING_KEY_PREFIX};
use crate::store::{CommitError, Expectation, Key, Record, Scan, StoreError, Transaction};
use crate::vault::ids::TenantId;

/// How many keys are unwrapped beside each other: a KMS may be far away.
const AT_ONCE: usize = 16;
/// How many records are written anew in one transaction.
const BATCH: usize = 256;

/// A key whose record is to be written anew.
struct Due {
    record: Record,
    unwrapped: Unwrapped,
}

impl Keyring {
    /// Unwraps every key, then writes those anew that are not wrapped as they should be.
    pub(super) async fn load(&self) -> Result<(), KeyringError> {
        let mut due = Vec::new();
        for prefix in [SIGNING_KEY_PREFIX, DATA_KEY_PREFIX] {
            let mut after = None;
            while let Some(page) = self.page(prefix, after.take()).await? {
                for records in page.chunks(AT_ONCE) {
                    self.load_some(records, &mut due).await?;
                }
                after = page.into_iter().next_back().map(|record| record.key);
            }
        }
        let mut after = None;
        while let Some(page) = self.page(ERASE_PREFIX, after.take()).await? {
            for record in &page {
                self.note_erasing(&record.key);
            }
            after = page.into_iter().next_back().map(|record| record.key);
        }
        // Only now: a store whose keys do not all open is left as it is.
        for batch in due.chunks(BATCH) {
            self.write_anew(batch).await?;
        }
        Ok(())
    }

    /// Some records after one; none if there are no more.
    pub(super) async fn page(&self, prefix: &str, after: Option<Key>) -> Result<Option<Vec<Record>>, StoreError> {
        let scan = Scan {
            prefix: prefix.into(),
            after,
            limit: 1000,
        };
        let records = self.store.scan(scan).await?;
        Ok((!records.is_empty()).then_some(records))
    }

    async fn load_some(&self, records: &[Record], due: &mut Vec<Due>) -> Result<(), KeyringError> {
        let mut unwrapping = JoinSet::new();
        for record in records {
            let (kek, record) = (Arc::clone(&self.kek), record.clone());
            unwrapping.spawn(async move {
                let unwrapped = wrapped::unwrap(&*kek, &record.key, &record.value).await;
                (record, unwrapped)
            });
        }
        while let Some(done) = unwrapping.join_next().await {
            let (record, unwrapped) = done.map_err(|_| StoreError::Closed)?;
            let unwrapped = unwrapped?;
            self.add(&record.key, &unwrapped)?;
            if unwrapped.is_unproven || self.lacks_recovery(&unwrapped) {
                due.push(Due { record, unwrapped });
            }
        }
        Ok(())
    }

    fn lacks_recovery(&self, unwrapped: &Unwrapped) -> bool {
        let recipient = self.recovery.as_ref().map(ToString::to_string);
        recipient.is_some() && unwrapped.wrapping.recipient != recipient
    }

    async fn write_anew(&self, batch: &[Due]) -> Result<(), KeyringError> {
        let recovery = self.recovery.as_ref();
        let mut transaction = Transaction::new();
        let mut wrappings = Vec::with_capacity(batch.len());
        for Due { record, unwrapped } in batch {
            let name = &record.key;
            let (bytes, wrapping) = if unwrapped.is_unproven {
                wrapped::wrap(&*self.kek, recovery, name, &unwrapped.key, &unwrapped.facts).await?
            } else {
                wrapped::with_recovery(recovery, name, &record.value, &unwrapped.key)?
            };
            wrappings.push((name.clone(), wrapping));
            transaction = transaction
                .only_if(name.clone(), Expectation::WrittenAt(record.revision))
                .put(name.clone(), bytes);
        }
        match self.store.commit(transaction).await {
            Ok(_) => {
                tracing::info!(
                    keys = wrappings.len(),
                    "keys were written anew, proven or wrapped for the recovery key"
                );
                for (name, wrapping) in wrappings {
                    self.wrappings.insert(name, wrapping);
                }
                Ok(())
            }
            // Another process does the same.
            Err(CommitError::Conflict { .. }) => Ok(()),
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    /// Takes a key in that was unwrapped.
    pub(super) fn add(&self, name: &Key, unwrapped: &Unwrapped) -> Result<(), KeyringError> {
        let corrupt = || KeyringError::Corrupt(name.clone());
        let Unwrapped { key, facts, .. } = unwrapped;
        if let Some(kid) = name.as_str().strip_prefix(SIGNING_KEY_PREFIX) {
            if let Some(public) = facts.public_key {
                let public = PublicKey::new(public, facts.created_at);
                if public.kid() != kid {
                    return Err(corrupt());
                }
                self.add_public_key(public);
            } else {
                let pair = SigningKey::from_seed(key, facts.created_at, facts.use_from).ok_or_else(corrupt)?;
                if pair.public().kid() != kid {
                    return Err(corrupt());
                }
                self.add_signing_key(pair);
            }
        } else {
            let (tenant, id) = parse_data_key(name.as_str()).ok_or_else(corrupt)?;
            let key = DataKey::new(id, key, facts.created_at, facts.seals_reserved).ok_or_else(corrupt)?;
            self.add_data_key(tenant, key);
        }
        self.wrappings.insert(name.clone(), unwrapped.wrapping.clone());
        Ok(())
    }

    /// Takes in what the store has under a name; nothing if it has nothing.
    pub(super) async fn learn(&self, name: &Key) -> Result<(), KeyringError> {
        if let Some(record) = self.store.get(name).await? {
            let unwrapped = wrapped::unwrap(&*self.kek, name, &record.value).await?;
            self.add(name, &unwrapped)?;
        }
        Ok(())
    }

    fn note_erasing(&self, name: &Key) {
        let tenant = name.as_str().strip_prefix(ERASE_PREFIX);
        if let Some(tenant) = tenant.and_then(|tenant| TenantId::parse(tenant).ok()) {
            let erased = Erased {
                is_under_way: true,
                last: DataKeyId(0),
            };
            self.erased.insert(tenant, erased);
        }
    }

    pub(super) fn add_data_key(&self, tenant: TenantId, key: DataKey) {
        let key = Arc::new(key);
        self.data_keys.insert((tenant.clone(), key.id()), Arc::clone(&key));
        let newest = self.sealing.entry(tenant).or_insert_with(|| Arc::clone(&key));
        if newest.id() < key.id() {
            let mut newest = newest;
            *newest = key;
        }
    }
}

pub(super) fn data_key_name(tenant: &TenantId, id: DataKeyId) -> Key {
    Key::new(&format!("{DATA_KEY_PREFIX}{tenant}/{:010}", id.0))
}

pub(super) fn parse_data_key(name: &str) -> Option<(TenantId, DataKeyId)> {
    let (tenant, id) = name.strip_prefix(DATA_KEY_PREFIX)?.split_once('/')?;
    Some((TenantId::parse(tenant).ok()?, DataKeyId(id.parse().ok()?)))
}
