//! A store whose answer to a transaction is late, or is a failure although it is done: as one whose sync failed, and which turned out
//! to have it when it was mended.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::{Mutex, MutexGuard};

use super::support::{TestVault, settings};
use crate::store::over::{Below, Over};
use crate::store::{Committed, Store, StoreError, Transaction};
use crate::vault::catalogue::Catalogue;

pub(crate) struct Doubtful {
    below: Below,
    /// Whoever holds it keeps every transaction waiting.
    gate: Mutex<()>,
    /// How many transactions have come to it.
    come: AtomicUsize,
    /// How many transactions come before the one that is done and seems to have failed; less than 0: there is none.
    before_doubt: AtomicI64,
    /// The same for one that fails.
    before_failure: AtomicI64,
}

impl Doubtful {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            below: Below::new(),
            gate: Mutex::default(),
            come: AtomicUsize::new(0),
            before_doubt: AtomicI64::new(-1),
            before_failure: AtomicI64::new(-1),
        })
    }

    pub(crate) async fn open(self: &Arc<Self>) -> TestVault {
        let store = Arc::clone(self) as Arc<dyn Store>;
        TestVault::over(store, Catalogue::built_in(), settings()).await.unwrap()
    }

    /// After so many more transactions one is done and seems to have failed.
    pub(crate) fn doubt_after(&self, transactions: i64) {
        self.before_doubt.store(transactions, Ordering::Relaxed);
    }

    /// The next one fails.
    pub(crate) fn fail_next(&self) {
        self.before_failure.store(0, Ordering::Relaxed);
    }

    /// How many transactions have come so far, whatever became of them.
    pub(crate) fn come(&self) -> usize {
        self.come.load(Ordering::Relaxed)
    }

    /// Transactions wait for as long as this is held.
    pub(crate) async fn hold_up(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().await
    }
}

#[async_trait]
impl Over for Doubtful {
    fn below(&self) -> &Below {
        &self.below
    }

    async fn commit(&self, transaction: Transaction) -> Committed {
        self.come.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.lock().await);
        let is_now = |before: &AtomicI64| before.fetch_sub(1, Ordering::Relaxed) == 0;
        if is_now(&self.before_failure) {
            return Err(StoreError::Closed.into());
        }
        let done = self.below.store().commit(transaction).await;
        if is_now(&self.before_doubt) {
            return Err(StoreError::Closed.into());
        }
        done
    }
}
