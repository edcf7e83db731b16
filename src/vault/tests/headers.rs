//! A head's header can be read without a key, and whoever can write to the disk can change it. It is believed only once the
//! content has been opened with it.

use std::time::Duration;

use prost::Message as _;

use super::builders::{Credential, order, wom};
use super::support::{TestVault, start, with_fallback};
use crate::pb::storage;
use crate::vault::VaultError;
use crate::vault::assignment::Mode;
use crate::vault::record::head_key;

fn leipzig() -> Credential {
    wom().office("leipzig")
}

/// Changes what can be read without a key, and leaves what is sealed as it is.
async fn forge(vault: &TestVault, change: impl FnOnce(&mut storage::HeadHeader)) {
    let key = head_key(&leipzig().name());
    let record = vault.record(&key).await;
    let mut envelope = storage::Envelope::decode(&*record.value).unwrap();
    let mut header = storage::HeadHeader::decode(&*envelope.header).unwrap();
    change(&mut header);
    envelope.header = header.encode_to_vec();
    vault.overwrite(&key, &envelope.encode_to_vec()).await;
}

/// A vault with Leipzig's credential and a general one that may take its place.
async fn vault() -> TestVault {
    let vault = TestVault::new().await;
    vault.save(wom().password("general")).await;
    vault
        .save(leipzig().valid_until(start().after(Duration::from_mins(1))))
        .await;
    vault.choose("wom", with_fallback(Mode::PerOffice)).await;
    vault
}

fn assert_noticed(vault: &TestVault) {
    let resolved = vault.resolve("wom", order().office("leipzig"));
    assert!(matches!(resolved, Err(VaultError::Corrupt(key)) if key.0 == head_key(&leipzig().name())));
    assert!(matches!(vault.get(&leipzig().name()), Err(VaultError::Corrupt(_))));
    let explained = vault.explain("wom", order().office("leipzig"));
    assert!(matches!(explained.outcome, Err(VaultError::Corrupt(_))));
}

#[tokio::test]
async fn a_disabled_credential_cannot_be_enabled_on_the_disk() {
    let vault = vault().await;
    vault.set_enabled(leipzig().name(), false, None).await.unwrap();
    forge(&vault, |header| header.state = storage::State::Enabled.into()).await;
    assert_noticed(&vault);
}

#[tokio::test]
async fn an_enabled_credential_cannot_be_disabled_on_the_disk() {
    let vault = vault().await;
    forge(&vault, |header| header.state = storage::State::Disabled.into()).await;
    assert_noticed(&vault);
}

#[tokio::test]
async fn a_credential_cannot_be_deleted_on_the_disk_so_that_the_general_one_takes_its_place() {
    let vault = vault().await;
    forge(&vault, |header| header.deleted_at_ms = Some(1)).await;
    assert_noticed(&vault);
}

#[tokio::test]
async fn a_deleted_credential_cannot_be_brought_back_on_the_disk() {
    let vault = vault().await;
    vault.delete(leipzig().name(), None).await.unwrap();
    forge(&vault, |header| header.deleted_at_ms = Some(0)).await;
    assert_noticed(&vault);
}

#[tokio::test]
async fn an_expired_credential_cannot_be_prolonged_on_the_disk_nor_a_valid_one_ended() {
    let end = start().after(Duration::from_mins(1)).unix_ms();
    for (forged, now) in [(Some(end + 1), end), (None, end), (Some(end - 1), end - 1)] {
        let vault = vault().await;
        vault.clock.set(crate::time::Timestamp::from_unix_ms(now));
        forge(&vault, |header| header.valid_until_ms = forged).await;
        assert_noticed(&vault);
    }
}

#[tokio::test]
async fn a_version_cannot_be_renumbered_or_redated_on_the_disk() {
    let vault = vault().await;
    forge(&vault, |header| header.version += 1).await;
    assert_noticed(&vault);
    forge(&vault, |header| {
        header.version -= 1;
        header.saved_at_ms += 1;
    })
    .await;
    assert_noticed(&vault);
    forge(&vault, |header| header.saved_at_ms -= 1).await;
    assert!(
        vault.resolve("wom", order().office("leipzig")).is_ok(),
        "it is as it was"
    );
}
