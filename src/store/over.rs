//! Stores of tests, which do something else than the one below them: each says what, and the rest is that one's.

use std::path::Path;

use async_trait::async_trait;
use tempfile::TempDir;

use super::{Changes, Committed, Key, Record, Revision, Scan, SledStore, Store, StoreError, Transaction};

/// A new store in a folder that goes with it.
pub(crate) struct Below {
    store: SledStore,
    folder: TempDir,
}

impl Below {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open(folder.path()).unwrap();
        Self { store, folder }
    }

    pub(crate) fn store(&self) -> &SledStore {
        &self.store
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Is a store with that.
#[async_trait]
pub(crate) trait Over: Send + Sync + 'static {
    fn below(&self) -> &Below;

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.below().store.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        self.below().store.scan(scan).await
    }

    async fn commit(&self, transaction: Transaction) -> Committed {
        self.below().store.commit(transaction).await
    }

    fn waiting(&self) -> usize {
        self.below().store.waiting()
    }
}

#[async_trait]
impl<S: Over> Store for S {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn revision(&self) -> Revision {
        self.below().store.revision()
    }

    async fn applied(&self) -> Result<Revision, StoreError> {
        self.below().store.applied().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        Over::get(self, key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        Over::scan(self, scan).await
    }

    async fn commit(&self, transaction: Transaction) -> Committed {
        Over::commit(self, transaction).await
    }

    fn waiting(&self) -> usize {
        Over::waiting(self)
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        self.below().store.watch().await
    }
}
