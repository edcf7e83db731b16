//! The keys' own keys: a KMS that goes away and changes, a recovery key, signing keys that follow one another.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::builders::{dat, order, wom};
use super::support::{TestVault, password, settings, with_fallback};
use crate::keyring::Plugin;
use crate::keyring::{KeyringError, RecoverySecret};
use crate::store::{SledStore, Store};
use crate::vault::assignment::Mode;
use crate::vault::catalogue::Catalogue;
use crate::vault::{OpenError, Settings, VaultError};

fn store() -> (TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SledStore::open(dir.path()).unwrap());
    (dir, store)
}

async fn open(store: &Arc<dyn Store>, plugin: &Plugin) -> Result<TestVault, OpenError> {
    let catalogue = Catalogue::built_in();
    TestVault::with_kek(Arc::clone(store), plugin.source(), catalogue, settings()).await
}

#[tokio::test]
async fn a_kms_that_is_away_keeps_the_vault_sealed_until_it_is_back() {
    let (_dir, store) = store();
    let mut plugin = Plugin::absent();
    let refused = open(&store, &plugin).await.err().unwrap();
    assert!(refused.is_passing(), "{refused}");
    plugin.restart().await;
    open(&store, &plugin).await.unwrap().save(wom().password("kept")).await;
    plugin.stop().await;
    let refused = open(&store, &plugin).await.err().unwrap();
    assert!(refused.is_passing(), "{refused}");
    plugin.restart().await;
    let vault = open(&store, &plugin).await.unwrap();
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "kept");
}

#[tokio::test]
async fn without_the_kms_everything_goes_on_that_has_its_keys() {
    let (_dir, store) = store();
    let mut plugin = Plugin::start().await;
    let vault = open(&store, &plugin).await.unwrap();
    vault.save(wom().password("old")).await;
    plugin.stop().await;
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "old");
    vault.save(wom().password("new")).await;
    let new_tenant = || vault.try_save(wom().tenant("new"));
    let refused = new_tenant().await.unwrap_err();
    let VaultError::Keyring(refused) = refused else {
        panic!("{refused}")
    };
    assert!(refused.is_passing(), "{refused}");
    vault.rotate_all_data_keys().await.unwrap();
    vault.work_off().await;
    assert!(vault.tasks().rotations[0].trouble.is_some());
    assert!(matches!(
        vault.request_rewrap().await,
        Err(VaultError::Keyring(KeyringError::Kek(_)))
    ));
    assert!(vault.status().wrapping.trouble.is_some());

    plugin.restart().await;
    new_tenant().await.unwrap();
    vault.rotate_all_data_keys().await.unwrap();
    vault.settle().await;
    assert_eq!(vault.status().wrapping.trouble, None);
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "new");
}

#[tokio::test]
async fn a_new_key_of_the_kms_is_noticed_and_every_key_moves_to_it_when_asked() {
    let (_dir, store) = store();
    let plugin = Plugin::start().await;
    let vault = open(&store, &plugin).await.unwrap();
    vault.save(wom()).await;
    vault.save(wom().tenant("other")).await;
    *plugin.kms.key.lock().unwrap() = 1;
    assert_eq!(vault.request_rewrap().await.unwrap(), 3);
    let status = vault.status().wrapping;
    assert_eq!(
        (status.kek_id.as_deref(), status.wrapped_by_another),
        (Some("kms:key-1"), 3)
    );
    vault.settle().await;
    assert_eq!(vault.status().wrapping.wrapped_by_another, 0);
    assert_eq!(vault.tasks().rewrap, None);
    assert_eq!(vault.request_rewrap().await.unwrap(), 0, "nothing is due any more");
    assert!(open(&store, &plugin).await.is_ok());
}

#[tokio::test]
async fn a_kms_with_other_keys_opens_nothing_and_is_no_reason_to_write() {
    let (_dir, store) = store();
    let plugin = Plugin::start().await;
    *plugin.kms.key.lock().unwrap() = 5;
    open(&store, &plugin).await.unwrap().save(wom()).await;
    let revision = store.revision();
    let stranger = Plugin::start().await;
    *stranger.kms.is_stranger.lock().unwrap() = true;
    let refused = open(&store, &stranger).await.err().unwrap();
    assert!(
        refused.to_string().contains("Decrypt of what key-5 has wrapped fails"),
        "{refused}"
    );
    assert_eq!(store.revision(), revision);
}

#[tokio::test]
async fn a_store_of_a_key_file_is_refused_by_a_kms_for_good() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let plugin = Plugin::start().await;
    let refused = open(&vault.store, &plugin).await.err().unwrap();
    assert!(
        matches!(refused, OpenError::Keyring(KeyringError::OtherKek { .. })),
        "{refused}"
    );
    assert!(!refused.is_passing());
}

#[tokio::test]
async fn what_an_old_signing_key_signed_verifies_after_it_was_replaced() {
    let vault = TestVault::new().await;
    vault.choose("dat", with_fallback(Mode::PerOffice)).await;
    vault.save(dat()).await;
    let before = vault.resolve("dat", order().office("halle")).unwrap().signed.unwrap();
    let next = vault.rotate_signing_key(false).await.unwrap();
    assert!(vault.jwks().contains(&next.kid));
    vault.save(dat().office("leipzig")).await;
    assert_ne!(kid(&signed(&vault)), next.kid, "it does not sign yet");

    vault.clock.advance(Duration::from_hours(1));
    vault.settle().await;
    assert_eq!(
        vault.status().signing_key_ages.len(),
        1,
        "the old one's private half is gone"
    );
    assert_eq!(vault.status().published_keys, 2);
    vault.save(dat().office("leipzig")).await;
    assert_eq!(kid(&signed(&vault)), next.kid);
    for vault in [&vault, &vault.reopened().await] {
        // It was signed when it was saved, and is handed out as it was.
        assert_eq!(
            vault.resolve("dat", order().office("halle")).unwrap().signed.unwrap(),
            before
        );
        assert!(vault.jwks().contains(&kid(&before)));
    }
}

/// The token over the office's credential.
fn signed(vault: &TestVault) -> String {
    vault.resolve("dat", order().office("leipzig")).unwrap().signed.unwrap()
}

/// The key that a token names.
fn kid(token: &str) -> String {
    let header = jsonwebtoken::decode_header(token).unwrap();
    header.kid.unwrap()
}

#[tokio::test]
async fn a_recovery_key_in_the_settings_covers_every_key() {
    let secret = RecoverySecret::generate().unwrap();
    let settings = Settings {
        recovery_key: secret.public(),
        ..settings()
    };
    let vault = TestVault::with(Catalogue::built_in(), settings).await;
    vault.save(wom()).await;
    let status = vault.status().wrapping;
    assert_eq!((status.keys, status.lacking_recovery), (2, 0));
    assert_eq!(status.recovery_key, secret.public().map(|public| public.to_string()));
}
