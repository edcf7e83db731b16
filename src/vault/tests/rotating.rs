//! Data keys that are replaced while the vault is used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::builders::{TENANT, dat, mail, order, tenant, wom};
use super::doubtful_store::Doubtful;
use super::dying_store::Dying;
use super::support::{TestVault, YEAR, assigned, password, set};
use crate::keyring::DataKeyId;
use crate::store::Scan;
use crate::vault::assignment::Mode;
use crate::vault::feed::{EventKind, Subscription};
use crate::vault::record::{head_key, sealed_by};
use crate::vault::{SetAssignment, VaultError};

/// Which data keys the tenant's records are sealed by, and which of them are in the store.
async fn keys(vault: &TestVault, tenant: &str) -> (Vec<u32>, Vec<u32>) {
    let all = Scan {
        prefix: String::new(),
        after: None,
        limit: usize::MAX,
    };
    let (mut sealing, mut stored) = (Vec::new(), Vec::new());
    for record in vault.store.scan(all).await.unwrap() {
        let parts: Vec<_> = record.key.as_str().split('/').collect();
        match parts[..] {
            ["head" | "version" | "assignment", owner, ..] if owner == tenant => {
                sealing.push(sealed_by(&record).unwrap().0);
            }
            ["data-key", owner, id] if owner == tenant => stored.push(id.parse().unwrap()),
            _ => {}
        }
    }
    sealing.sort_unstable();
    sealing.dedup();
    (sealing, stored)
}

async fn filled() -> TestVault {
    let vault = TestVault::new().await;
    for version in 1..=3 {
        vault
            .save(wom().office("leipzig").password(&format!("version {version}")))
            .await;
    }
    for number in 0..150 {
        vault.save(dat().office(&format!("office-{number}"))).await;
    }
    vault.save(mail().oauth2()).await;
    vault.delete(mail().name(), None).await.unwrap();
    vault.save(wom().tenant("other").password("untouched")).await;
    vault.assign("wom", Mode::PerOffice).await;
    vault
}

fn password_of(vault: &TestVault) -> String {
    password(&vault.resolve("wom", order().office("leipzig")).unwrap()).to_owned()
}

#[tokio::test]
async fn a_rotation_seals_every_record_anew_and_then_removes_the_old_key() {
    let vault = filled().await;
    assert_eq!(keys(&vault, TENANT).await, (vec![1], vec![1]));
    vault.rotate_data_key(&tenant(TENANT)).await.unwrap();
    assert_eq!(vault.tasks().rotations.len(), 1);
    vault.settle().await;
    assert_eq!(keys(&vault, TENANT).await, (vec![2], vec![2]));
    assert_eq!(keys(&vault, "other").await, (vec![1], vec![1]));
    assert!(vault.tasks().rotations.is_empty());
    can_be_changed(&vault, 3).await;
    // Only now: it does not wait for what others save meanwhile.
    can_be_changed(&vault.reopened().await, 5).await;
}

/// Insists on so many versions, of which the newest is handed out, and that there can be more; leaves it as it was.
async fn can_be_changed(vault: &TestVault, versions: usize) {
    assert_eq!(password_of(vault), "version 3");
    assert_eq!(
        vault.versions(&wom().office("leipzig").name()).await.unwrap().len(),
        versions
    );
    vault.undelete(mail().name(), None).await.unwrap();
    vault.delete(mail().name(), None).await.unwrap();
    let back = vault.rollback(wom().office("leipzig").rollback(1)).await.unwrap();
    assert_eq!(password_of(vault), "version 1");
    vault.save(wom().office("leipzig").password("version 3")).await;
    assert!(back.credential.header.version.0 > 3);
}

#[tokio::test]
async fn callers_are_not_told_of_a_rotation_since_nothing_changes_for_them() {
    let vault = filled().await;
    let Subscription::Resumed { mut live, .. } = vault.subscribe(None) else {
        panic!("nothing was missed");
    };
    let chosen = vault.choice(&tenant(TENANT), &wom().name().provider).unwrap().unwrap();
    vault.rotate_data_key(&tenant(TENANT)).await.unwrap();
    vault.settle().await;
    let after = vault.choice(&tenant(TENANT), &wom().name().provider).unwrap().unwrap();
    assert_eq!((after.revision, after.set_at), (chosen.revision, chosen.set_at));
    assert!(after.written_at > chosen.written_at);
    // Whoever has seen the choice before may change it now.
    let choice = SetAssignment {
        expected_revision: Some(chosen.revision),
        ..set("wom", assigned(Mode::PerUser))
    };
    vault.set_assignment(choice).await.unwrap();
    assert_eq!(
        live.recv().await.unwrap().kind,
        EventKind::AssignmentChanged,
        "nothing came before"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nobody_is_refused_while_keys_are_rotated_under_load() {
    let vault = Arc::new(filled().await);
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (vault, is_over) = (Arc::clone(&vault), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut acknowledged = BTreeMap::new();
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let office = format!("{writer}-{}", number % 5);
                    let word = format!("{writer}/{number}");
                    vault.save(wom().office(&office).password(&word)).await;
                    acknowledged.insert(office, word);
                }
                acknowledged
            })
        })
        .collect();
    let reader = tokio::spawn({
        let (vault, is_over) = (Arc::clone(&vault), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(password_of(&vault), "version 3");
                assert_eq!(vault.versions(&wom().office("leipzig").name()).await.unwrap().len(), 3);
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..3 {
        vault.rotate_all_data_keys().await.unwrap();
        vault.settle().await;
    }
    is_over.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert_eq!(keys(&vault, TENANT).await, (vec![4], vec![4]));
    let reopened = vault.reopened().await;
    for (office, word) in acknowledged {
        let found = reopened.resolve("wom", order().office(&office)).unwrap();
        assert_eq!(password(&found), word);
    }
}

#[tokio::test]
async fn a_rotation_that_is_cut_off_anywhere_goes_on_after_the_next_start() {
    let store = Dying::new();
    let vault = store.open().await;
    for number in 0..200 {
        vault.save(wom().office(&format!("{number}"))).await;
    }
    drop(vault);
    let mut cut_off = 0;
    for transactions in 0..12 {
        let life = store.open().await;
        life.rotate_data_key(&tenant(TENANT)).await.unwrap();
        let before = keys(&life, TENANT).await.1;
        store.die_after(transactions);
        life.work_off().await;
        store.live();

        let next_life = store.open().await;
        for number in 0..200 {
            next_life.get(&wom().office(&format!("{number}")).name()).unwrap();
        }
        cut_off += usize::from(!next_life.all_tasks().await.is_empty());
        next_life.settle().await;
        let (sealing, stored) = keys(&next_life, TENANT).await;
        assert_eq!(
            (&sealing, stored.len()),
            (&stored, 1),
            "after {transactions} transactions"
        );
        assert_eq!(stored[0], before[0] + 1);
    }
    assert!(cut_off > 5, "some were cut off: {cut_off}");
}

#[tokio::test]
async fn a_damaged_record_keeps_the_old_key_and_is_told_until_it_is_mended() {
    let vault = filled().await;
    let damaged = wom().office("damaged");
    vault.save(damaged.clone()).await;
    let name = head_key(&damaged.name());
    let mut bytes = vault.record(&name).await.value.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    vault.overwrite(&name, &bytes).await;

    vault.rotate_data_key(&tenant(TENANT)).await.unwrap();
    vault.work_off().await;
    assert_eq!(keys(&vault, TENANT).await, (vec![1, 2], vec![1, 2]));
    let trouble = vault.tasks().rotations[0].trouble.clone().unwrap();
    assert!(trouble.contains(name.as_str()), "{trouble}");
    assert_eq!(password_of(&vault), "version 3");

    vault.purge(&damaged.name()).await.unwrap();
    vault.rotate_data_key(&tenant(TENANT)).await.unwrap();
    vault.work_off().await;
    assert_eq!(keys(&vault, TENANT).await, (vec![2], vec![2]));
}

#[tokio::test]
async fn a_data_key_that_has_become_old_is_replaced_without_anybody_asking() {
    let vault = filled().await;
    vault.settle().await;
    assert_eq!(keys(&vault, TENANT).await, (vec![1], vec![1]));
    vault.clock.advance(YEAR + Duration::from_secs(1));
    vault.save(wom().tenant("young")).await;
    vault.settle().await;
    assert_eq!(keys(&vault, TENANT).await, (vec![2], vec![2]));
    assert_eq!(keys(&vault, "other").await, (vec![2], vec![2]));
    assert_eq!(keys(&vault, "young").await, (vec![1], vec![1]));
    assert!(vault.status().next_signing_key.is_some(), "the signing key is old too");
}

#[tokio::test]
async fn a_tenant_that_is_not_there_is_not_rotated() {
    let vault = TestVault::new().await;
    let refused = vault.rotate_data_key(&tenant("nobody")).await.unwrap_err();
    assert!(matches!(refused, VaultError::NoSuchTenant(_)), "{refused}");
    assert_eq!(vault.rotate_all_data_keys().await.unwrap(), 0);
    assert!(vault.keyring.data_key(&tenant("nobody"), DataKeyId(1)).is_none());
}

#[tokio::test]
async fn a_rotation_comes_to_its_end_also_if_its_key_seems_not_to_have_been_made() {
    let store = Doubtful::new();
    let vault = store.open().await;
    vault.save(wom().office("leipzig").password("kept")).await;
    vault.assign("wom", Mode::PerOffice).await;
    for noted_only_in_the_store in [0, 1] {
        vault.rotate_data_key(&tenant(TENANT)).await.unwrap();
        store.doubt_after(noted_only_in_the_store);
        vault.work_off().await;
        // It is asked for again, so that it is not waited for.
        vault.rotate_data_key(&tenant(TENANT)).await.unwrap();
        let settled = tokio::time::timeout(Duration::from_secs(30), vault.settle()).await;
        settled.expect("it goes round in circles");
    }
    let (sealing, stored) = keys(&vault, TENANT).await;
    assert_eq!((sealing.len(), &stored), (1, &sealing));
    assert_eq!(password_of(&vault), "kept");
}

/// After the next start it would sign, and nobody who verifies would know it.
#[tokio::test]
async fn a_signing_key_that_seems_not_to_have_been_made_is_published_all_the_same() {
    let store = Doubtful::new();
    let vault = store.open().await;
    let published = |vault: &TestVault| vault.jwks().matches("\"kid\"").count();
    assert_eq!(published(&vault), 1);
    store.doubt_after(0);
    vault.rotate_signing_key(false).await.unwrap_err();
    vault.work_off().await;
    assert_eq!(published(&vault), 2);
    // One that was not made is not.
    store.fail_next();
    vault.rotate_signing_key(true).await.unwrap_err();
    vault.work_off().await;
    assert_eq!(published(&vault), 2);
}
