//! The history of a credential, and the way back in it.

use std::time::Duration;

use super::builders::{dat, mail, order, wom};
use super::jws::{Token, verified};
use super::noting_store::NotingStore;
use super::support::{ADMIN, TestVault, password, signature, start};
use crate::vault::VaultError;
use crate::vault::credential::{State, Version};
use crate::vault::warning::Warning;

#[tokio::test]
async fn the_history_names_who_saved_what_when_the_newest_first() {
    let vault = TestVault::new().await;
    let end = start().after(Duration::from_hours(1));
    vault.save(dat().note("the contract")).await;
    vault.clock.advance(Duration::from_mins(1));
    vault
        .save(dat().password("new").valid_until(end).by("spiffe://test/other"))
        .await;
    vault.clock.advance(Duration::from_mins(1));
    vault.save(dat().password("new").username("someone")).await;

    let versions = vault.versions(&dat().name()).await.unwrap();
    let told: Vec<_> = versions
        .iter()
        .map(|version| {
            (
                version.version.0,
                version.saved_by.as_str(),
                version.note.as_str(),
                version.valid_until,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (3, ADMIN, "", None),
            (2, "spiffe://test/other", "", Some(end)),
            (1, ADMIN, "the contract", None)
        ]
    );
    assert_eq!(versions[0].saved_at, start().after(Duration::from_mins(2)));
    let changes: Vec<_> = versions
        .iter()
        .map(|version| version.changed_fields.join(" "))
        .collect();
    assert_eq!(
        changes,
        [
            "username valid_until",
            "note password valid_until",
            "customer_number note password username"
        ]
    );
}

#[tokio::test]
async fn a_change_of_how_mail_logs_in_is_told_by_its_fields() {
    let vault = TestVault::new().await;
    vault.save(mail()).await;
    vault.save(mail().oauth2()).await;
    let versions = vault.versions(&mail().name()).await.unwrap();
    assert_eq!(
        versions[0].changed_fields,
        [
            "oauth2.client_id",
            "oauth2.client_secret",
            "oauth2.refresh_token",
            "oauth2.scopes",
            "oauth2.token_url",
            "password",
            "reply_to"
        ]
    );
}

#[tokio::test]
async fn a_change_of_state_is_no_version() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.set_enabled(wom().name(), false, None).await.unwrap();
    vault.delete(wom().name(), None).await.unwrap();
    vault.undelete(wom().name(), None).await.unwrap();
    assert_eq!(vault.versions(&wom().name()).await.unwrap().len(), 1);
    assert_eq!(vault.info(&wom()).header.version, Version(1));
}

#[tokio::test]
async fn a_rollback_is_a_new_version_with_the_old_content() {
    let vault = TestVault::new().await;
    let end = start().after(Duration::from_hours(1));
    vault
        .save(dat().password("old").note("the old one").valid_until(end))
        .await;
    vault
        .save(dat().password("new").username("someone").note("the new one"))
        .await;
    vault.clock.advance(Duration::from_mins(5));
    let back = vault
        .rollback(dat().by("spiffe://test/other").rollback(1))
        .await
        .unwrap();

    assert_eq!(back.credential.header.version, Version(3));
    assert_eq!(back.credential.header.saved_at, start().after(Duration::from_mins(5)));
    assert_eq!(back.credential.header.valid_until, Some(end));
    assert_eq!(
        (back.credential.note.as_str(), back.credential.saved_by.as_str()),
        ("the old one", "spiffe://test/other")
    );
    assert_eq!(back.revision, Some(vault.revision()));
    let versions = vault.versions(&dat().name()).await.unwrap();
    assert_eq!(versions.len(), 3);
    assert_eq!(
        versions[0].changed_fields,
        ["note", "password", "username", "valid_until"]
    );
    assert_eq!(password(&vault.resolve("dat", order()).unwrap()), "old");
}

#[tokio::test]
async fn a_rollback_is_signed_anew() {
    let vault = TestVault::new().await;
    vault.save(dat().password("old")).await;
    vault.save(dat().password("new")).await;
    vault.clock.advance(Duration::from_mins(5));
    vault.rollback(dat().rollback(1)).await.unwrap();
    let hand_out = vault.resolve("dat", order()).unwrap();
    let Token { payload, .. } = verified(&vault, hand_out.signed.as_deref().unwrap());
    assert_eq!(payload["version"], 3);
    assert_eq!(payload["saved_at"], start().after(Duration::from_mins(5)).to_string());
    assert_eq!(payload["login"]["password"], "old");
    assert_eq!(payload["login"]["customer_signature"], signature(&hand_out));
}

#[tokio::test]
async fn a_given_signature_survives_a_rollback() {
    let vault = TestVault::new().await;
    vault.save(dat().signature("ISSUED BY DAT")).await;
    vault.save(dat()).await;
    assert_ne!(signature(&vault.resolve("dat", order()).unwrap()), "ISSUED BY DAT");
    vault.rollback(dat().rollback(1)).await.unwrap();
    assert_eq!(signature(&vault.resolve("dat", order()).unwrap()), "ISSUED BY DAT");
}

#[tokio::test]
async fn a_rollback_to_a_version_that_is_not_there_changes_nothing() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let before = vault.revision();
    for version in [0, 2, u64::MAX] {
        let refused = vault.rollback(wom().rollback(version)).await.unwrap_err();
        assert!(matches!(refused, VaultError::NoSuchVersion { version: Version(missing), .. } if missing == version));
    }
    let refused = vault.rollback(dat().rollback(1)).await.unwrap_err();
    assert!(matches!(refused, VaultError::NotFound(_)));
    assert_eq!(vault.revision(), before);
}

#[tokio::test]
async fn a_rollback_does_not_bring_a_deleted_one_back_nor_enable_a_disabled_one() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.save(wom().password("new")).await;
    vault.set_enabled(wom().name(), false, None).await.unwrap();
    let back = vault.rollback(wom().rollback(1)).await.unwrap();
    assert_eq!(back.credential.header.state, State::Disabled);
    assert_eq!(back.warnings, [Warning::StaysDisabled]);
    vault.delete(wom().name(), None).await.unwrap();
    let refused = vault.rollback(wom().rollback(1)).await.unwrap_err();
    assert!(matches!(refused, VaultError::Deleted(_)));
}

#[tokio::test]
async fn a_rollback_warns_of_what_a_save_would() {
    let vault = TestVault::new().await;
    let end = start().after(Duration::from_mins(1));
    vault.save(wom().password("old ").valid_until(end)).await;
    vault.save(wom().password("new")).await;
    vault.clock.set(end);
    let back = vault.rollback(wom().rollback(1)).await.unwrap();
    let expired = Warning::AlreadyExpired { valid_until: end };
    assert_eq!(back.warnings, [Warning::PasswordSurroundedByWhiteSpace, expired]);
    vault.save(dat().signature("another")).await;
    vault.save(dat()).await;
    let back = vault.rollback(dat().rollback(1)).await.unwrap();
    assert_eq!(back.warnings, [Warning::CustomerSignatureDiffers]);
}

#[tokio::test]
async fn no_way_back_leads_to_what_is_not_allowed_any_more() {
    // It was allowed when it was saved.
    let vault = TestVault::new().await;
    vault.save(mail().plaintext()).await;
    vault.save(mail()).await;
    let refused = vault.rollback(mail().rollback(1)).await.unwrap_err();
    assert!(matches!(refused, VaultError::PlaintextMail(_)), "{refused}");
}

/// All of them may be more than the memory takes.
#[tokio::test]
async fn a_long_history_is_read_and_purged_some_at_a_time() {
    let (vault, store) = NotingStore::vault().await;
    let name = wom().name();
    for number in 1..=600 {
        vault.save(wom().note(&number.to_string())).await;
    }
    vault.save(wom().office("leipzig")).await;
    let versions = vault.versions(&name).await.unwrap();
    let told: Vec<_> = versions.iter().map(|version| version.version.0).collect();
    assert_eq!(told, (1..=600).rev().collect::<Vec<_>>());
    assert_eq!(versions[0].note, "600");
    vault.purge(&name).await.unwrap();
    assert!(store.most_at_once() <= 256, "{}", store.most_at_once());
    let left = vault.keys().await;
    let of_it = |key: &&String| key.contains("/wom/general");
    assert_eq!(left.iter().filter(of_it).count(), 0, "{left:?}");
    assert_eq!(vault.versions(&wom().office("leipzig").name()).await.unwrap().len(), 1);
    assert!(matches!(vault.versions(&name).await, Err(VaultError::NotFound(_))));
}
