//! A store that notes which records are read.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tempfile::TempDir;

use super::support::{TestVault, settings};
use crate::store::{Changes, CommitError, Key, Record, Revision, Scan, SledStore, Store, StoreError, Transaction};
use crate::vault::catalogue::Catalogue;

pub(crate) struct NotingStore {
    inner: SledStore,
    read: Mutex<Vec<String>>,
    _dir: TempDir,
}

impl NotingStore {
    /// An empty vault over such a store.
    pub(crate) async fn vault() -> (TestVault, Arc<Self>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Self {
            inner: SledStore::open(dir.path()).unwrap(),
            read: Mutex::default(),
            _dir: dir,
        });
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let vault = TestVault::over(shared, Catalogue::built_in(), settings()).await;
        (vault.unwrap(), store)
    }

    /// What was read since this was last asked for.
    pub(crate) fn take_read(&self) -> Vec<String> {
        std::mem::take(&mut *self.read.lock().unwrap())
    }

    fn note(&self, key: &Key) {
        self.read.lock().unwrap().push(key.to_string());
    }
}

/// How many jobs wait, as it says.
pub(crate) const WAITING: usize = 37;

#[async_trait]
impl Store for NotingStore {
    fn waiting(&self) -> usize {
        WAITING
    }

    fn kind(&self) -> &'static str {
        "noting"
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn applied(&self) -> Result<Revision, StoreError> {
        self.inner.applied().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.note(key);
        self.inner.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        let records = self.inner.scan(scan).await?;
        for record in &records {
            self.note(&record.key);
        }
        Ok(records)
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        self.inner.commit(transaction).await
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        self.inner.watch().await
    }
}
