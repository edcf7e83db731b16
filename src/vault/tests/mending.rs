//! What the operator can rely on when something has gone wrong: damage shows, and it can be mended.

use prost::Message as _;

use super::builders::{TENANT, order, subject, tenant, wom};
use super::support::{TestVault, assigned, password, reach, set};
use crate::pb::storage;
use crate::time::Timestamp;
use crate::vault::assignment::Mode;
use crate::vault::credential::State;
use crate::vault::record::{assignment_key, head_key};
use crate::vault::{CoverageQuery, ListQuery, VaultError};

fn everything() -> ListQuery {
    ListQuery {
        tenant: tenant(TENANT),
        providers: vec![wom().name().provider],
        scope_kinds: vec![],
        states: vec![],
        expires_before: None,
        limit: 10,
        after: None,
        readable: reach(&["*"], &["*"]),
    }
}

/// Changes what can be read of Leipzig's head without a key.
async fn forge(vault: &TestVault, change: impl FnOnce(&mut storage::HeadHeader)) {
    let key = head_key(&wom().office("leipzig").name());
    let mut envelope = storage::Envelope::decode(&*vault.record(&key).await.value).unwrap();
    let mut header = storage::HeadHeader::decode(&*envelope.header).unwrap();
    change(&mut header);
    envelope.header = header.encode_to_vec();
    vault.overwrite(&key, &envelope.encode_to_vec()).await;
}

#[tokio::test]
async fn a_damaged_assignment_can_be_chosen_anew() {
    let vault = TestVault::new().await;
    vault.save(wom().password("kept")).await;
    vault.assign("wom", Mode::PerOffice).await;
    let key = assignment_key(&tenant(TENANT), &wom().name().provider);
    vault.overwrite(&key, b"garbage").await;
    assert!(matches!(vault.resolve("wom", order()), Err(VaultError::Corrupt(_))));
    vault.set_assignment(set("wom", assigned(Mode::General))).await.unwrap();
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "kept");
}

#[tokio::test]
async fn a_credential_cannot_be_hidden_from_a_list_on_the_disk() {
    let vault = TestVault::new().await;
    vault.save(wom().office("leipzig")).await;
    forge(&vault, |header| header.deleted_at_ms = Some(1)).await;
    let listed = vault.list(&everything());
    assert!(matches!(listed, Err(VaultError::Corrupt(_))), "{listed:?}");
}

#[tokio::test]
async fn a_disabled_credential_cannot_be_made_to_close_a_gap_on_the_disk() {
    let vault = TestVault::new().await;
    vault.save(wom().office("leipzig")).await;
    vault
        .set_enabled(wom().office("leipzig").name(), false, None)
        .await
        .unwrap();
    vault.assign("wom", Mode::PerOffice).await;
    forge(&vault, |header| header.state = storage::State::Enabled.into()).await;
    let query = CoverageQuery {
        tenant: tenant(TENANT),
        offices: vec![subject("leipzig")],
        appraisers: vec![],
        users: vec![],
        providers: vec![wom().name().provider],
        readable: reach(&["*"], &["*"]),
    };
    assert!(vault.resolve("wom", order().office("leipzig")).is_err());
    assert_eq!(vault.coverage(&query).unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_deleted_while_the_clock_stands_at_the_epoch_is_deleted() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    // So does the clock of a machine that has lost its time.
    vault.clock.set(Timestamp::EPOCH);
    vault.delete(wom().name(), None).await.unwrap();
    assert!(matches!(vault.info(&wom()).header.state, State::Deleted { .. }));
    assert_eq!(vault.refusal("wom", order()).rule, 7);
}
