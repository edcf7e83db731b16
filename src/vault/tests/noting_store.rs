//! A store that notes which records are read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::support::{TestVault, settings};
use crate::store::over::{Below, Over};
use crate::store::{Key, Record, Scan, Store, StoreError};
use crate::vault::catalogue::Catalogue;

pub(crate) struct NotingStore {
    below: Below,
    read: Mutex<Vec<String>>,
    most_at_once: AtomicUsize,
}

impl NotingStore {
    /// An empty vault over such a store.
    pub(crate) async fn vault() -> (TestVault, Arc<Self>) {
        let store = Arc::new(Self {
            below: Below::new(),
            read: Mutex::default(),
            most_at_once: AtomicUsize::default(),
        });
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let vault = TestVault::over(shared, Catalogue::built_in(), settings()).await;
        (vault.unwrap(), store)
    }

    /// What was read since this was last asked for.
    pub(crate) fn take_read(&self) -> Vec<String> {
        std::mem::take(&mut *self.read.lock().unwrap())
    }

    /// How many records one scan had at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::Relaxed)
    }

    fn note(&self, key: &Key) {
        self.read.lock().unwrap().push(key.to_string());
    }
}

/// How many jobs wait, as it says.
pub(crate) const WAITING: usize = 37;

#[async_trait]
impl Over for NotingStore {
    fn below(&self) -> &Below {
        &self.below
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.note(key);
        self.below.store().get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        let records = self.below.store().scan(scan).await?;
        self.most_at_once.fetch_max(records.len(), Ordering::Relaxed);
        for record in &records {
            self.note(&record.key);
        }
        Ok(records)
    }

    fn waiting(&self) -> usize {
        WAITING
    }
}
