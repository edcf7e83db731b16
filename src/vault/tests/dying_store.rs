//! A store that dies after some transactions, as a process does that is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use tempfile::TempDir;

use super::support::{TestVault, settings};
use crate::store::{Changes, CommitError, Key, Record, Revision, Scan, SledStore, Store, StoreError, Transaction};
use crate::vault::catalogue::Catalogue;

pub(super) struct Dying {
    inner: SledStore,
    left: AtomicI64,
    _dir: TempDir,
}

impl Dying {
    pub(super) fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(Self {
            inner: SledStore::open(dir.path()).unwrap(),
            left: AtomicI64::new(i64::MAX),
            _dir: dir,
        })
    }

    /// Another life of the process.
    pub(super) async fn open(self: &Arc<Self>) -> TestVault {
        let store = Arc::clone(self) as Arc<dyn Store>;
        TestVault::over(store, Catalogue::built_in(), settings()).await.unwrap()
    }

    /// Takes so many more transactions and then none.
    pub(super) fn die_after(&self, transactions: i64) {
        self.left.store(transactions, Ordering::Relaxed);
    }

    pub(super) fn live(&self) {
        self.die_after(i64::MAX);
    }
}

#[async_trait]
impl Store for Dying {
    fn kind(&self) -> &'static str {
        "dying"
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn applied(&self) -> Result<Revision, StoreError> {
        self.inner.applied().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        self.inner.scan(scan).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(StoreError::Closed.into());
        }
        self.inner.commit(transaction).await
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        self.inner.watch().await
    }
}
