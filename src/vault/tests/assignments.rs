//! Choosing which kind of credential a tenant uses.

use std::sync::Arc;
use std::time::Duration;

use super::builders::{TENANT, order, tenant, wom};
use super::support::{ADMIN, TestVault, assigned, password, reach, set, start, with_fallback};
use crate::store::Revision;
use crate::vault::assignment::{Assignment, Mode};
use crate::vault::catalogue::SignatureVariant;
use crate::vault::ids::ProviderId;
use crate::vault::{SetAssignment, VaultError};

fn provider(id: &str) -> ProviderId {
    ProviderId::parse(id).unwrap()
}

fn expecting(revision: u64, mode: Mode) -> SetAssignment {
    SetAssignment {
        expected_revision: Some(Revision(revision)),
        ..set("wom", assigned(mode))
    }
}

#[tokio::test]
async fn a_choice_holds_from_its_answer_on_and_says_who_made_it_when() {
    let vault = TestVault::new().await;
    assert!(vault.choice(&tenant(TENANT), &provider("dat")).unwrap().is_none());
    vault.clock.advance(Duration::from_mins(1));
    let chosen = Assignment {
        signature_variant: Some(SignatureVariant::TimeLimited),
        ..with_fallback(Mode::PerAppraiser)
    };
    let (choice, _) = vault.set_assignment(set("dat", chosen)).await.unwrap();
    assert_eq!((choice.assignment, choice.revision), (chosen, vault.revision()));
    assert_eq!(
        (choice.set_at, choice.set_by.as_str()),
        (start().after(Duration::from_mins(1)), ADMIN)
    );
    assert_eq!(vault.choice(&tenant(TENANT), &provider("dat")).unwrap(), Some(choice));
    for (other, id) in [("other", "dat"), (TENANT, "wom")] {
        assert!(vault.choice(&tenant(other), &provider(id)).unwrap().is_none());
    }
}

#[tokio::test]
async fn an_expected_revision_must_be_that_of_the_current_choice() {
    let vault = TestVault::new().await;
    let refused = vault.set_assignment(expecting(5, Mode::PerOffice)).await.unwrap_err();
    assert!(matches!(
        refused,
        VaultError::RevisionMismatch {
            expected: Revision(5),
            current: Revision(0),
            ..
        }
    ));
    let (first, _) = vault.set_assignment(expecting(0, Mode::PerOffice)).await.unwrap();
    vault.save(wom()).await;
    let before = vault.revision();
    for stale in [0, first.revision.0 + 1, before.0] {
        let refused = vault.set_assignment(expecting(stale, Mode::General)).await.unwrap_err();
        assert!(matches!(refused, VaultError::RevisionMismatch { current, .. } if current == first.revision));
    }
    assert_eq!(vault.revision(), before);
    vault
        .set_assignment(expecting(first.revision.0, Mode::General))
        .await
        .unwrap();
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "password");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_have_seen_the_same_choice_one_may_choose() {
    let vault = Arc::new(TestVault::new().await);
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let vault = Arc::clone(&vault);
            tokio::spawn(async move { vault.set_assignment(expecting(0, Mode::PerOffice)).await })
        })
        .collect();
    let mut done = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert!(matches!(error, VaultError::RevisionMismatch { .. }), "{error}"),
        }
    }
    assert_eq!(done, 1);
}

#[tokio::test]
async fn warnings_speak_only_of_credentials_that_the_caller_may_read() {
    let vault = TestVault::new().await;
    vault.save(wom().office("leipzig")).await;
    let warned_of = async |providers: &[&str], scopes: &[&str]| {
        let readable = reach(providers, scopes);
        let set = SetAssignment {
            readable,
            ..set("cartv", assigned(Mode::PerOffice))
        };
        vault.set_assignment(set).await.unwrap().1.len()
    };
    assert_eq!(warned_of(&["cartv", "wom"], &["*"]).await, 1);
    // Leipzig is known from a credential for `wom` alone.
    assert_eq!(warned_of(&["cartv"], &["*"]).await, 0);
    // Whether it has one for `cartv` is not the caller's to know.
    assert_eq!(warned_of(&["wom"], &["*"]).await, 0);
    assert_eq!(warned_of(&["*"], &["office/leipzig"]).await, 1);
    assert_eq!(warned_of(&["*"], &["office/dresden", "appraiser"]).await, 0);
}

#[tokio::test]
async fn a_choice_with_a_stale_revision_costs_no_look_at_the_tenants_credentials() {
    let vault = TestVault::new().await;
    vault.save(wom().office("leipzig")).await;
    // Each decision asks the clock.
    vault.set_assignment(expecting(7, Mode::PerOffice)).await.unwrap_err();
    assert!(!vault.clock.was_asked_on_another_thread());
    vault.set_assignment(expecting(0, Mode::PerOffice)).await.unwrap();
    assert!(vault.clock.was_asked_on_another_thread());
}

#[tokio::test]
async fn the_decisions_behind_a_warning_are_made_on_no_thread_that_serves_calls() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    assert!(!vault.clock.was_asked_on_another_thread());
    vault.assign("wom", Mode::General).await;
    assert!(vault.clock.was_asked_on_another_thread());
}

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) {
    let comes = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), comes).await.unwrap();
}

#[tokio::test]
async fn whoever_goes_before_the_warnings_are_worked_out_chooses_nothing_and_they_are_worked_out_no_further() {
    let vault = TestVault::new().await;
    for office in ["dresden", "halle", "leipzig"] {
        vault.save(wom().office(office)).await;
    }
    // Each decision asks the clock, and whoever works has the vault.
    let (clock, idle) = (&vault.clock, Arc::strong_count(&vault.vault));
    let held = clock.hold_other_threads();
    tokio::select! {
        _ = vault.set_assignment(set("cartv", assigned(Mode::PerOffice))) => unreachable!("its warnings are held up"),
        () = until(|| clock.asked_on_other_threads() == 1) => {}
    }
    drop(held);
    until(|| Arc::strong_count(&vault.vault) == idle).await;
    assert_eq!(clock.asked_on_other_threads(), 1);
    assert!(vault.choice(&tenant(TENANT), &provider("cartv")).unwrap().is_none());
}
