//! Saving: what goes in comes out, versions count up, and nobody overwrites what they have not seen.

use std::sync::Arc;

use super::builders::{dat, mail, order, wom};
use super::support::{ADMIN, TestVault, account, login, password, start};
use crate::vault::credential::{MailAuth, State, Version};
use crate::vault::{Saved, VaultError};

#[tokio::test]
async fn a_login_comes_out_as_it_was_saved() {
    let vault = TestVault::new().await;
    let saved = dat().password(" Pä$$wört€ ").partner("99", "partner signature");
    vault.save(saved.clone()).await;
    let hand_out = vault.resolve("dat", order()).unwrap();
    assert_eq!(hand_out.credential, saved.name());
    assert_eq!((hand_out.version, hand_out.saved_at), (Version(1), start()));
    assert_eq!(password(&hand_out), " Pä$$wört€ ");
    let login = login(&hand_out);
    assert_eq!(
        (login.customer_number.as_deref(), login.username.as_str()),
        (Some("1234567"), "myuser")
    );
    assert_eq!(login.interface_partner_number.as_deref(), Some("99"));
    assert!(saved.secret().changed_fields(hand_out.secret.as_ref()).is_empty());
}

#[tokio::test]
async fn a_mail_account_comes_out_as_it_was_saved() {
    let vault = TestVault::new().await;
    for saved in [mail(), mail().oauth2()] {
        vault.save(saved.clone()).await;
        let hand_out = vault.resolve("email", order()).unwrap();
        assert!(saved.secret().changed_fields(hand_out.secret.as_ref()).is_empty());
    }
    let hand_out = vault.resolve("email", order()).unwrap();
    assert!(matches!(&account(&hand_out).auth, Some(MailAuth::OAuth2(client)) if client.scopes == ["smtp", "offline"]));
}

#[tokio::test]
async fn a_save_tells_what_is_stored_now() {
    let vault = TestVault::new().await;
    let credential = dat().office("leipzig").note("of the Leipzig office");
    let saved = vault.save(credential.clone()).await;
    let info = vault.info(&credential);
    assert_eq!(info, saved.credential);
    assert_eq!((info.header.state, info.header.version), (State::Enabled, Version(1)));
    assert_eq!(
        (info.note.as_str(), info.saved_by.as_str()),
        ("of the Leipzig office", ADMIN)
    );
    assert_eq!(info.username.in_full(), "myuser");
    assert_eq!(info.customer_number.unwrap().in_full(), "1234567");
    assert_eq!(saved.revision, Some(vault.revision()));
}

#[tokio::test]
async fn a_credential_of_one_tenant_is_none_of_another() {
    let vault = TestVault::new().await;
    vault.save(dat().tenant("other").password("other's")).await;
    assert_eq!(vault.refusal("dat", order()).rule, 7);
    vault.save(dat().password("own")).await;
    assert_eq!(password(&vault.resolve("dat", order()).unwrap()), "own");
}

/// What `expected_version` meets, and what comes of it: the new version, or the one that a mismatch names.
async fn expecting(vault: &TestVault, expected: u64) -> Result<u64, Option<u64>> {
    match vault.try_save(wom().expecting(expected)).await {
        Ok(Saved { credential, .. }) => Ok(credential.header.version.0),
        Err(VaultError::VersionMismatch { current, .. }) => Err(current.map(|version| version.0)),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_expected_version_must_be_the_current_one() {
    let vault = TestVault::new().await;
    assert_eq!(expecting(&vault, 1).await, Err(None));
    assert_eq!(expecting(&vault, 0).await, Ok(1));
    assert_eq!(expecting(&vault, 0).await, Err(Some(1)));
    assert_eq!(expecting(&vault, 2).await, Err(Some(1)));
    assert_eq!(expecting(&vault, 1).await, Ok(2));
    assert_eq!(expecting(&vault, 1).await, Err(Some(2)));
}

#[tokio::test]
async fn to_whoever_expects_none_a_deleted_one_is_none() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.delete(wom().name(), None).await.unwrap();
    assert_eq!(expecting(&vault, 2).await, Err(Some(1)));
    assert_eq!(expecting(&vault, 0).await, Ok(2));
    vault.delete(wom().name(), None).await.unwrap();
    assert_eq!(expecting(&vault, 2).await, Ok(3));
}

#[tokio::test]
async fn a_mismatch_changes_nothing_and_names_both_versions() {
    let vault = TestVault::new().await;
    vault.save(wom().password("first")).await;
    let before = (vault.revision(), vault.keys().await);
    let error = vault.try_save(wom().password("second").expecting(7)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "credential demo/wom/general is at version 1, not 7; read it again and repeat what you want to change"
    );
    assert_eq!((vault.revision(), vault.keys().await), before);
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "first");
}

#[tokio::test]
async fn changes_of_state_mind_the_expected_version_too() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let name = wom().name();
    let before = vault.revision();
    for refused in [
        vault.set_enabled(name.clone(), false, Some(2)).await.err(),
        vault.delete(name.clone(), Some(0)).await.err(),
        vault.rollback(wom().expecting(2).rollback(1)).await.err(),
    ] {
        assert!(matches!(
            refused,
            Some(VaultError::VersionMismatch {
                current: Some(Version(1)),
                ..
            })
        ));
    }
    assert_eq!(vault.revision(), before);
    vault.delete(name.clone(), Some(1)).await.unwrap();
    assert!(vault.undelete(name.clone(), Some(2)).await.is_err());
    vault.undelete(name, Some(1)).await.unwrap();
}

#[tokio::test]
async fn a_save_that_is_only_checked_changes_nothing() {
    let vault = TestVault::new().await;
    let before = (vault.revision(), vault.keys().await);
    let checked = vault.save(dat().office("leipzig").only_checked()).await;
    assert_eq!(checked.revision, None);
    assert_eq!(checked.credential.header.version, Version(1));
    assert_eq!((vault.revision(), vault.keys().await), before, "not even a data key");
    assert!(matches!(
        vault.get(&dat().office("leipzig").name()),
        Err(VaultError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_save_that_is_only_checked_checks_everything() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let mismatch = vault.try_save(wom().expecting(0).only_checked()).await;
    assert!(matches!(mismatch, Err(VaultError::VersionMismatch { .. })));
    let checked = vault.save(wom().password(" blank").only_checked()).await;
    let saved = vault.save(wom().password(" blank")).await;
    assert_eq!(checked.warnings, saved.warnings);
    assert_eq!(checked.credential, saved.credential);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_save_at_once_none_is_lost() {
    const WRITERS: u64 = 16;
    let vault = Arc::new(TestVault::new().await);
    let writers: Vec<_> = (1..=WRITERS)
        .map(|writer| {
            let vault = Arc::clone(&vault);
            let credential = wom().password(&writer.to_string()).note(&writer.to_string());
            tokio::spawn(async move { vault.save(credential).await.credential.header.version.0 })
        })
        .collect();
    let mut given = Vec::new();
    for writer in writers {
        given.push(writer.await.unwrap());
    }
    given.sort_unstable();
    assert_eq!(given, (1..=WRITERS).collect::<Vec<_>>());
    let versions = vault.versions(&wom().name()).await.unwrap();
    let numbers: Vec<_> = versions.iter().rev().map(|version| version.version.0).collect();
    assert_eq!(numbers, given);
    let mut notes: Vec<u64> = versions.iter().map(|version| version.note.parse().unwrap()).collect();
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), versions[0].note);
    notes.sort_unstable();
    assert_eq!(notes, given);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_have_seen_the_same_version_one_may_save() {
    let vault = Arc::new(TestVault::new().await);
    vault.save(wom()).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let vault = Arc::clone(&vault);
            let credential = wom().password(&writer.to_string()).expecting(1);
            tokio::spawn(async move { vault.try_save(credential).await })
        })
        .collect();
    let mut done = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert!(matches!(
                error,
                VaultError::VersionMismatch {
                    current: Some(Version(2)),
                    ..
                }
            )),
        }
    }
    assert_eq!(done, 1);
}
