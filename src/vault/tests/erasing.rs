//! Tenants that are erased by destroying their keys.

use std::cell::Cell;
use std::sync::Arc;

use super::builders::{TENANT, dat, order, tenant, wom};
use super::doubtful_store::Doubtful;
use super::dying_store::Dying;
use super::support::{TestVault, password, reach};
use crate::keyring::{DataKeyId, KeyringError};
use crate::store::over::Over as _;
use crate::store::{Store as _, Transaction};
use crate::vault::assignment::Mode;
use crate::vault::feed::{EventKind, Subscription};
use crate::vault::record::head_key;
use crate::vault::resolve::Refusal;
use crate::vault::{ListQuery, VaultError};

async fn filled(vault: &TestVault) {
    vault.save(wom().password("old")).await;
    vault.save(wom().office("leipzig")).await;
    vault.save(dat()).await;
    vault.assign("dat", Mode::PerOffice).await;
    vault.save(wom().tenant("other").password("untouched")).await;
}

/// Insists that the tenant is as one that never was.
async fn is_as_if_it_never_was(vault: &TestVault) {
    assert_eq!(vault.refusal("wom", order()).refusal, Refusal::NotConfigured);
    assert!(matches!(vault.get(&wom().name()), Err(VaultError::NotFound(_))));
    assert!(matches!(
        vault.versions(&wom().name()).await,
        Err(VaultError::NotFound(_))
    ));
    assert!(vault.choice(&tenant(TENANT), &dat().name().provider).unwrap().is_none());
    let query = ListQuery {
        tenant: tenant(TENANT),
        providers: vec![wom().name().provider, dat().name().provider],
        readable: reach(&["*"], &["*"]),
        scope_kinds: vec![],
        states: vec![],
        expires_before: None,
        limit: 10,
        after: None,
    };
    assert!(vault.list(&query).unwrap().credentials.is_empty());
}

#[tokio::test]
async fn an_erased_tenant_is_gone_at_once_and_its_records_soon_after() {
    let vault = TestVault::new().await;
    filled(&vault).await;
    let Subscription::Resumed { mut live, .. } = vault.subscribe(None) else {
        panic!("nothing was missed");
    };
    vault.erase_tenant(&tenant(TENANT)).await.unwrap();
    is_as_if_it_never_was(&vault).await;
    let left = vault.keys().await;
    assert!(!left.iter().any(|key| key.starts_with("data-key/demo/")), "{left:?}");
    let refused = vault.try_save(wom()).await.unwrap_err();
    assert!(
        matches!(refused, VaultError::Keyring(KeyringError::Erasing(_))),
        "{refused}"
    );
    let refused = vault.rotate_data_key(&tenant(TENANT)).await.unwrap_err();
    assert!(matches!(refused, VaultError::NoSuchTenant(_)), "{refused}");

    vault.settle().await;
    let left = vault.keys().await;
    assert!(!left.iter().any(|key| key.contains("/demo")), "{left:?}");
    is_as_if_it_never_was(&vault).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let event = live.recv().await.unwrap();
        assert_eq!(event.tenant, tenant(TENANT));
        told.push(event.kind);
    }
    told.sort_by_key(|kind| *kind == EventKind::AssignmentChanged);
    assert_eq!(told[..3], [EventKind::Deleted; 3]);
    assert_eq!(told[3], EventKind::AssignmentChanged);
    assert!(live.is_empty(), "each is told once");
    assert_eq!(vault.get(&wom().tenant("other").name()).unwrap().header.version.0, 1);
    let gone = vault.erase_tenant(&tenant(TENANT)).await.unwrap_err();
    assert!(matches!(gone, VaultError::NoSuchTenant(_)), "{gone}");
}

#[tokio::test]
async fn an_erased_tenant_begins_anew_and_what_it_had_does_not_open_again() {
    let vault = TestVault::new().await;
    filled(&vault).await;
    let name = head_key(&wom().name());
    let old = vault.record(&name).await.value;
    vault.erase_tenant(&tenant(TENANT)).await.unwrap();
    vault.settle().await;

    let saved = vault.save(wom().password("new")).await;
    assert_eq!(saved.credential.header.version.0, 1);
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "new");
    assert!(vault.keyring.data_key(&tenant(TENANT), DataKeyId(1)).is_none());
    // Somebody puts a record back that was copied before.
    vault.overwrite(&name, &old).await;
    assert!(matches!(vault.resolve("wom", order()), Err(VaultError::Corrupt(_))));
    let reopened = vault.reopened().await;
    assert!(matches!(reopened.resolve("wom", order()), Err(VaultError::Corrupt(_))));
}

#[tokio::test]
async fn an_erasure_that_is_cut_off_anywhere_goes_on_after_the_next_start() {
    for transactions in 0..4 {
        let store = Dying::new();
        let vault = store.open().await;
        filled(&vault).await;
        // The first one destroys the keys.
        store.die_after(transactions + 1);
        vault.erase_tenant(&tenant(TENANT)).await.unwrap();
        vault.work_off().await;
        store.live();
        let next_life = store.open().await;
        is_as_if_it_never_was(&next_life).await;
        assert_eq!(next_life.all_tasks().await, ["task/erase/demo"], "it was cut off");
        next_life.settle().await;
        let left = next_life.keys().await;
        assert!(!left.iter().any(|key| key.contains("/demo")), "{left:?}");
        next_life.save(wom().password("new")).await;
    }
}

#[tokio::test]
async fn an_erasure_that_the_store_refuses_erases_nothing() {
    let store = Dying::new();
    let vault = store.open().await;
    filled(&vault).await;
    store.die_after(0);
    vault.erase_tenant(&tenant(TENANT)).await.unwrap_err();
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "old");
    store.live();
    vault.save(wom().password("new")).await;
    assert_eq!(password(&store.open().await.resolve("wom", order()).unwrap()), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saves_that_race_an_erasure_are_refused_or_belong_to_the_new_life() {
    let vault = Arc::new(TestVault::new().await);
    for _ in 0..5 {
        vault.save(wom()).await;
        let savers: Vec<_> = (0..8)
            .map(|number| {
                let vault = Arc::clone(&vault);
                tokio::spawn(async move {
                    for round in 0..10 {
                        let office = format!("{number}-{round}");
                        // Refused while the erasure is under way.
                        let _ = vault.try_save(wom().office(&office)).await;
                    }
                })
            })
            .collect();
        vault.erase_tenant(&tenant(TENANT)).await.unwrap();
        vault.settle().await;
        for saver in savers {
            saver.await.unwrap();
        }
        // Whatever is there opens, here and after a restart.
        for vault in [&*vault, &vault.reopened().await] {
            for key in vault.keys().await {
                let path = key
                    .strip_prefix("head/")
                    .and_then(crate::vault::scope::CredentialRef::from_path);
                if let Some(name) = path {
                    vault.get(&name).unwrap();
                    vault.versions(&name).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn a_rotation_ends_with_its_tenant() {
    let vault = TestVault::new().await;
    filled(&vault).await;
    vault.rotate_data_key(&tenant(TENANT)).await.unwrap();
    vault.erase_tenant(&tenant(TENANT)).await.unwrap();
    vault.settle().await;
    assert!(vault.tasks().rotations.is_empty());
    let left = vault.keys().await;
    assert!(!left.iter().any(|key| key.contains("/demo")), "{left:?}");
}

#[tokio::test]
async fn a_forged_mark_opens_nothing() {
    let vault = TestVault::new().await;
    filled(&vault).await;
    let mark = crate::store::Key::new("task/erase/other");
    let revision = vault
        .store
        .commit(Transaction::new().put(mark, Vec::new()))
        .await
        .unwrap();
    vault.seen(revision).await;
    assert!(vault.get(&wom().tenant("other").name()).is_err());
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "old");
}

#[tokio::test]
async fn an_erasure_is_not_said_to_be_done_while_another_call_may_still_fail_to_do_it() {
    let store = Doubtful::new();
    let vault = store.open().await;
    filled(&vault).await;
    let name = tenant(TENANT);
    let held_up = store.hold_up().await;
    store.fail_next();
    let is_told = Cell::new(false);
    let first = vault.erase_tenant(&name);
    let second = async {
        while !vault.keyring.is_erasing(TENANT) {
            tokio::task::yield_now().await;
        }
        let told = vault.erase_tenant(&name).await;
        is_told.set(true);
        told
    };
    let watch = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(vault.keyring.is_erasing(TENANT) && !is_told.get());
        drop(held_up);
    };
    let (first, second, ()) = tokio::join!(first, second, watch);
    first.unwrap_err();
    // It has found that nothing was done, and has done it.
    second.unwrap();
    assert_eq!(vault.all_tasks().await, ["task/erase/demo"]);
    is_as_if_it_never_was(&vault).await;
    // Now whoever asks again is told so at once.
    vault.erase_tenant(&name).await.unwrap();
}

/// What was under way when the erasure began is acknowledged, and the erasure may fail.
#[tokio::test]
async fn what_arrives_while_an_erasure_is_tried_is_there_if_that_fails() {
    let store = Doubtful::new();
    let vault = store.open().await;
    filled(&vault).await;
    let head = head_key(&wom().name());
    let earlier = vault.store.get(&head).await.unwrap().unwrap().value;
    vault.save(wom().password("later")).await;
    let name = tenant(TENANT);
    let held_up = store.hold_up().await;
    store.fail_next();
    let erasing = vault.erase_tenant(&name);
    let arriving = async {
        while !vault.keyring.is_erasing(TENANT) {
            tokio::task::yield_now().await;
        }
        let arrival = Transaction::new().put(head, earlier.to_vec());
        vault.seen(store.below().store().commit(arrival).await.unwrap()).await;
        drop(held_up);
    };
    let (erased, ()) = tokio::join!(erasing, arriving);
    erased.unwrap_err();
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "old");
    // A key that may have been removed all the same leaves its number used.
    assert_eq!(vault.keyring.first_id(&name), DataKeyId(2));
}

#[tokio::test]
async fn an_erasure_ends_also_if_its_last_transaction_seems_to_have_failed() {
    let store = Doubtful::new();
    let vault = store.open().await;
    filled(&vault).await;
    // The keys, then heads, versions and assignments, and the mark.
    store.doubt_after(4);
    vault.erase_tenant(&tenant(TENANT)).await.unwrap();
    vault.work_off().await;
    assert_eq!(vault.all_tasks().await, [""; 0]);
    vault.work_off().await;
    vault.save(wom().password("new")).await;
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "new");
}
