//! A store that dies after some transactions, as a process does that is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;

use super::support::{TestVault, settings};
use crate::store::over::{Below, Over};
use crate::store::{Committed, Store, StoreError, Transaction};
use crate::vault::catalogue::Catalogue;

pub(super) struct Dying {
    below: Below,
    left: AtomicI64,
}

impl Dying {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            below: Below::new(),
            left: AtomicI64::new(i64::MAX),
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
impl Over for Dying {
    fn below(&self) -> &Below {
        &self.below
    }

    async fn commit(&self, transaction: Transaction) -> Committed {
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(StoreError::Closed.into());
        }
        self.below.store().commit(transaction).await
    }
}
