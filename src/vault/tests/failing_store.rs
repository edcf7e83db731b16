//! A store that fails on demand: what needs it is refused, what is in memory goes on, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::builders::{TENANT, order, tenant, wom};
use super::support::{TestVault, assigned, password, reach, set, settings};
use crate::keyring::KeyringError;
use crate::store::over::{Below, Over};
use crate::store::{Committed, Key, Record, Revision, Scan, Store, StoreError, Transaction};
use crate::vault::assignment::Mode;
use crate::vault::catalogue::Catalogue;
use crate::vault::{ListQuery, OpenError, VaultError};

/// A store on a disk that can be pulled out.
struct FailingStore {
    below: Below,
    refuses_commits: AtomicBool,
    refuses_reads: AtomicBool,
}

impl FailingStore {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            below: Below::new(),
            refuses_commits: AtomicBool::new(false),
            refuses_reads: AtomicBool::new(false),
        })
    }

    fn refuse(&self, commits: bool, reads: bool) {
        self.refuses_commits.store(commits, Ordering::Relaxed);
        self.refuses_reads.store(reads, Ordering::Relaxed);
    }

    fn check(&self, refuses: &AtomicBool) -> Result<(), StoreError> {
        let trouble = StoreError::Io {
            path: self.below.path().into(),
            detail: "No space left on device".into(),
        };
        if refuses.load(Ordering::Relaxed) {
            Err(trouble)
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Over for FailingStore {
    fn below(&self) -> &Below {
        &self.below
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.check(&self.refuses_reads)?;
        self.below.store().get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        self.check(&self.refuses_reads)?;
        self.below.store().scan(scan).await
    }

    async fn commit(&self, transaction: Transaction) -> Committed {
        self.check(&self.refuses_commits)?;
        self.below.store().commit(transaction).await
    }
}

async fn over(store: &Arc<FailingStore>) -> Result<TestVault, OpenError> {
    let store = Arc::clone(store) as Arc<dyn Store>;
    TestVault::over(store, Catalogue::built_in(), settings()).await
}

#[tokio::test]
async fn a_change_that_the_store_refuses_is_refused_and_changes_nothing() {
    let store = FailingStore::new();
    let vault = over(&store).await.unwrap();
    vault.save(wom().password("old")).await;
    let before = vault.revision();
    store.refuse(true, false);
    let name = wom().name();
    for refused in [
        vault.try_save(wom().password("new")).await.err(),
        vault.rollback(wom().rollback(1)).await.err(),
        vault.set_enabled(name.clone(), false, None).await.err(),
        vault.delete(name.clone(), None).await.err(),
        vault.purge(&name).await.err(),
        vault.set_assignment(set("wom", assigned(Mode::PerOffice))).await.err(),
    ] {
        assert!(
            matches!(&refused, Some(VaultError::Store(StoreError::Io { .. }))),
            "{refused:?}"
        );
    }
    assert_eq!(vault.revision(), before);
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "old");
    assert_eq!(vault.info(&wom()).header.version.0, 1);
    assert!(vault.choice(&tenant(TENANT), &name.provider).unwrap().is_none());
}

#[tokio::test]
async fn resolves_go_on_without_the_store_and_saves_when_it_is_back() {
    let store = FailingStore::new();
    let vault = over(&store).await.unwrap();
    vault.save(wom().password("old")).await;
    for attempt in 0..3 {
        store.refuse(true, true);
        vault.try_save(wom().password("lost")).await.unwrap_err();
        assert!(vault.resolve("wom", order()).is_ok());
        store.refuse(false, false);
        let saved = vault.save(wom().password(&format!("attempt {attempt}"))).await;
        assert_eq!(saved.credential.header.version.0, attempt + 2);
        assert_eq!(
            password(&vault.resolve("wom", order()).unwrap()),
            format!("attempt {attempt}")
        );
    }
    assert_eq!(vault.versions(&wom().name()).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_tenant_whose_first_key_cannot_be_kept_gets_one_later() {
    let store = FailingStore::new();
    let vault = over(&store).await.unwrap();
    store.refuse(true, false);
    let refused = vault.try_save(wom()).await.unwrap_err();
    assert!(
        matches!(refused, VaultError::Keyring(KeyringError::Store(_))),
        "{refused}"
    );
    assert_eq!(vault.status().tenants, 0);
    store.refuse(false, false);
    vault.save(wom()).await;
    assert_eq!(vault.status().tenants, 1);
}

#[tokio::test]
async fn what_is_read_from_the_store_fails_with_it_and_what_is_in_memory_does_not() {
    let store = FailingStore::new();
    let vault = over(&store).await.unwrap();
    vault.save(wom()).await;
    store.refuse(false, true);
    let name = wom().name();
    let query = ListQuery {
        tenant: name.tenant.clone(),
        providers: vec![name.provider.clone()],
        scope_kinds: vec![],
        states: vec![],
        expires_before: None,
        limit: 10,
        after: None,
        readable: reach(&["*"], &["*"]),
    };
    for refused in [
        vault.versions(&name).await.err(),
        vault.rollback(wom().rollback(1)).await.err(),
        vault.purge(&name).await.err(),
    ] {
        assert!(matches!(&refused, Some(VaultError::Store(_))), "{refused:?}");
    }
    assert!(vault.get(&name).is_ok() && vault.resolve("wom", order()).is_ok());
    assert_eq!(vault.list(&query).unwrap().credentials.len(), 1);
    assert_eq!(vault.save(wom().password("new")).await.credential.header.version.0, 2);
}

#[tokio::test]
async fn a_vault_does_not_open_over_a_store_that_cannot_be_read_or_take_its_first_key() {
    let store = FailingStore::new();
    for (commits, reads) in [(false, true), (true, false)] {
        store.refuse(commits, reads);
        let refused = over(&store).await.err().unwrap();
        assert!(
            matches!(refused, OpenError::Keyring(KeyringError::Store(_))),
            "{refused}"
        );
        assert_eq!(store.revision(), Revision(0));
    }
    store.refuse(false, false);
    assert!(over(&store).await.is_ok());
}

#[tokio::test]
async fn a_choice_that_is_kept_is_not_said_to_have_failed() {
    let store = FailingStore::new();
    let vault = over(&store).await.unwrap();
    vault.save(wom().office("leipzig")).await;
    let before = vault.revision();
    store.refuse(false, true);
    let answer = vault.set_assignment(set("wom", assigned(Mode::PerOffice))).await;
    let is_kept = vault.revision() > before;
    assert_eq!(answer.is_ok(), is_kept, "{:?}", answer.err());
}
