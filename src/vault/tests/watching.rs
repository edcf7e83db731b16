//! Changes as callers are told of them.

use std::sync::Arc;

use tokio::sync::broadcast::Receiver;

use super::builders::{TENANT, dat, tenant, wom};
use super::support::{TestVault, assigned};
use crate::store::{Key, Revision, Transaction};
use crate::vault::assignment::Mode;
use crate::vault::feed::{Event, EventKind, Subscription};

/// What came after a revision, and what comes; insists that it is known.
fn resumed(vault: &TestVault, from: Option<Revision>) -> (Vec<Arc<Event>>, Receiver<Arc<Event>>) {
    let tenant = tenant(TENANT);
    match vault.subscribe(from.map(|from| (from, &tenant))) {
        Subscription::Resumed { missed, live } => (missed, live),
        Subscription::Resync { .. } => panic!("what came after {from:?} is not known"),
    }
}

/// Insists that what was missed is not known.
fn resync(vault: &TestVault, from: Revision) -> (Revision, Receiver<Arc<Event>>) {
    match vault.subscribe(Some((from, &tenant(TENANT)))) {
        Subscription::Resync { revision, live } => (revision, live),
        Subscription::Resumed { .. } => panic!("what came after {from} is said to be known"),
    }
}

fn told(event: &Event) -> (String, EventKind) {
    let scope = event.scope.as_ref().map_or("assignment".into(), ToString::to_string);
    (format!("{}/{}/{scope}", event.tenant, event.provider), event.kind)
}

/// Every kind of change once, and the events that must tell of it.
async fn live_through_everything(vault: &TestVault) -> Vec<(String, EventKind)> {
    let credential = wom().office("leipzig");
    let name = credential.name();
    vault.save(credential.clone()).await;
    vault.save(credential.clone().password("new")).await;
    vault.rollback(credential.clone().rollback(1)).await.unwrap();
    vault.set_enabled(name.clone(), false, None).await.unwrap();
    vault.set_enabled(name.clone(), true, None).await.unwrap();
    vault.delete(name.clone(), None).await.unwrap();
    vault.undelete(name.clone(), None).await.unwrap();
    vault.delete(name.clone(), None).await.unwrap();
    vault.save(credential).await;
    vault.choose("wom", assigned(Mode::PerOffice)).await;
    vault.purge(&name).await.unwrap();
    vault.save(dat().tenant("other")).await;
    let of = |kind| ("demo/wom/office/leipzig".to_owned(), kind);
    vec![
        of(EventKind::Saved),
        of(EventKind::Saved),
        of(EventKind::Saved),
        of(EventKind::StateChanged),
        of(EventKind::StateChanged),
        of(EventKind::Deleted),
        of(EventKind::StateChanged),
        of(EventKind::Deleted),
        of(EventKind::Saved),
        ("demo/wom/assignment".into(), EventKind::AssignmentChanged),
        of(EventKind::Deleted),
        ("other/dat/general".into(), EventKind::Saved),
    ]
}

#[tokio::test]
async fn every_change_is_told_once_in_order_to_whoever_listens() {
    let vault = TestVault::new().await;
    let (missed, mut live) = resumed(&vault, None);
    assert!(missed.is_empty());
    let expected = live_through_everything(&vault).await;
    let mut revision = Revision(0);
    for expected in &expected {
        let event = live.recv().await.unwrap();
        assert_eq!(&told(&event), expected);
        assert!(event.revision > revision);
        revision = event.revision;
    }
    assert_eq!(revision, vault.revision());
    assert!(live.is_empty());
}

#[tokio::test]
async fn whoever_comes_back_gets_exactly_what_it_missed() {
    let vault = TestVault::new().await;
    let before = vault.revision();
    let expected = live_through_everything(&vault).await;
    let (all, _) = resumed(&vault, Some(before));
    assert_eq!(all.iter().map(|event| told(event)).collect::<Vec<_>>(), expected);
    for (index, event) in all.iter().enumerate() {
        let (missed, live) = resumed(&vault, Some(event.revision));
        assert_eq!(missed, all[index + 1..]);
        assert!(live.is_empty(), "nothing comes twice");
    }
}

#[tokio::test]
async fn nothing_falls_between_what_was_missed_and_what_comes() {
    let vault = TestVault::new().await;
    let before = vault.revision();
    vault.save(wom()).await;
    let (missed, mut live) = resumed(&vault, Some(before));
    let saved = vault.save(wom().password("new")).await;
    assert_eq!(missed.len(), 1);
    assert_eq!(Some(live.recv().await.unwrap().revision), saved.revision);
}

#[tokio::test]
async fn what_changes_nothing_is_not_told() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let (_, live) = resumed(&vault, None);
    vault.save(wom().password("checked").only_checked()).await;
    vault.try_save(wom().expecting(9)).await.unwrap_err();
    vault.set_enabled(wom().name(), true, None).await.unwrap();
    assert!(live.is_empty());
}

#[tokio::test]
async fn whoever_asks_for_the_future_starts_over() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let (revision, mut live) = resync(&vault, Revision(vault.revision().0 + 1));
    assert_eq!(revision, vault.revision());
    let saved = vault.save(wom().password("new")).await;
    assert_eq!(Some(live.recv().await.unwrap().revision), saved.revision);
}

#[tokio::test]
async fn whoever_asks_for_what_was_before_this_process_starts_over() {
    let first = TestVault::new().await;
    let before = first.save(wom()).await.revision.unwrap();
    let second = first.reopened().await;
    let (revision, _) = resync(&second, Revision(before.0 - 1));
    assert_eq!(revision, before);
    assert!(resumed(&second, Some(before)).0.is_empty());
}

#[tokio::test]
async fn of_too_many_changes_the_oldest_are_forgotten_and_whoever_needs_them_starts_over() {
    let vault = TestVault::new().await;
    let saved = vault.save(wom()).await.revision.unwrap();
    // More than are kept, in one go.
    let flood = (0..10_000).fold(Transaction::new(), |flood, n| {
        flood.put(Key::new(&format!("assignment/{TENANT}/{n}")), &b"not an assignment"[..])
    });
    let flooded = vault.store.commit(flood).await.unwrap();
    vault.seen(flooded).await;
    assert_eq!(resumed(&vault, Some(saved)).0.len(), 10_000);
    let (revision, _) = resync(&vault, Revision(saved.0 - 1));
    assert_eq!(revision, flooded);

    let next = vault.save(wom().password("new")).await.revision.unwrap();
    resync(&vault, saved);
    // Whoever was told of a part of the flood, and of which one nobody knows.
    resync(&vault, flooded);
    let last = vault.save(wom().password("newer")).await.revision.unwrap();
    let (missed, _) = resumed(&vault, Some(next));
    assert_eq!(missed.iter().map(|event| event.revision).collect::<Vec<_>>(), [last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_have_been_told_of_a_part_of_an_erasure_starts_over() {
    let vault = TestVault::new().await;
    for credential in [dat(), wom(), wom().office("leipzig")] {
        vault.save(credential).await;
    }
    let before = vault.revision();
    vault.erase_tenant(&dat().name().tenant).await.unwrap();
    let (missed, _) = resumed(&vault, Some(before));
    assert_eq!(missed.len(), 3);
    resync(&vault, missed[0].revision);
    // Who follows another tenant must not learn of it.
    let erased = missed[0].revision;
    let other = vault.subscribe(Some((erased, &tenant("other"))));
    assert!(matches!(other, Subscription::Resumed { .. }));
    // Of a change that is one event there is no part.
    vault.save(wom().tenant("other")).await;
    assert!(resumed(&vault, Some(vault.revision())).0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_no_newer_than_the_choice_that_it_was_decided_on() {
    let vault = TestVault::new().await;
    vault.save(dat()).await;
    let (name, order) = (dat().name(), super::builders::order().into());
    let ask = crate::vault::Ask {
        tenant: &name.tenant,
        provider: &name.provider,
        order: &order,
    };
    let asked = vault.ask(&ask).unwrap();
    vault.choose("dat", assigned(Mode::PerOffice)).await;
    let granted = crate::vault::Granted {
        wanted: Some(crate::access::Reveal::Full),
        general: Some(crate::access::Reveal::Full),
    };
    let hand_out = vault.vault.resolve(&asked, granted, None).unwrap();
    assert_eq!(hand_out.resolution.mode, Mode::General);
    assert!(hand_out.revision < vault.revision());
}
