//! A credential's life: disabled, enabled, deleted, brought back, purged.

use std::time::Duration;

use super::builders::{dat, order, wom};
use super::support::{TestVault, assigned, password, reach, start};
use crate::vault::assignment::Mode;
use crate::vault::credential::{State, Version};
use crate::vault::resolve::Refusal;
use crate::vault::warning::Warning;
use crate::vault::{ListQuery, VaultError};

#[tokio::test]
async fn a_disabled_credential_is_refused_until_it_is_enabled() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let (info, revision) = vault.set_enabled(wom().name(), false, None).await.unwrap();
    assert_eq!((info.header.state, revision), (State::Disabled, vault.revision()));
    assert_eq!(vault.refusal("wom", order()).refusal, Refusal::Disabled);
    let (info, _) = vault.set_enabled(wom().name(), true, None).await.unwrap();
    assert_eq!(info.header.state, State::Enabled);
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "password");
}

#[tokio::test]
async fn what_is_so_already_stays_so_without_a_change() {
    let vault = TestVault::new().await;
    let saved = vault.save(wom()).await;
    let (_, revision) = vault.set_enabled(wom().name(), true, None).await.unwrap();
    assert_eq!(Some(revision), saved.revision);
    let (_, disabled) = vault.set_enabled(wom().name(), false, None).await.unwrap();
    let (info, again) = vault.set_enabled(wom().name(), false, None).await.unwrap();
    assert_eq!((again, info.header.state), (disabled, State::Disabled));
    assert_eq!(vault.revision(), disabled);
}

#[tokio::test]
async fn a_deleted_credential_comes_back_as_it_was() {
    let vault = TestVault::new().await;
    for enabled in [true, false] {
        let credential = dat().office(&enabled.to_string()).password("kept");
        vault.save(credential.clone()).await;
        vault.set_enabled(credential.name(), enabled, None).await.unwrap();
        let before = vault.info(&credential);

        vault.clock.advance(Duration::from_mins(1));
        let (deleted, _) = vault.delete(credential.name(), None).await.unwrap();
        let since = vault.now();
        let was_enabled = enabled;
        assert_eq!(deleted.header.state, State::Deleted { since, was_enabled });
        assert_eq!(vault.info(&credential), deleted);

        let (back, revision) = vault.undelete(credential.name(), None).await.unwrap();
        assert_eq!((&back, revision), (&before, vault.revision()));
    }
    vault.assign("dat", Mode::PerOffice).await;
    assert_eq!(password(&vault.resolve("dat", order().office("true")).unwrap()), "kept");
    assert_eq!(vault.refusal("dat", order().office("false")).refusal, Refusal::Disabled);
}

#[tokio::test]
async fn to_a_decision_a_deleted_credential_is_none() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.delete(wom().name(), None).await.unwrap();
    let refused = vault.refusal("wom", order());
    assert_eq!((refused.refusal, refused.rule), (Refusal::NotConfigured, 7));
}

#[tokio::test]
async fn a_deleted_credential_is_only_brought_back_saved_or_purged() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.delete(wom().name(), None).await.unwrap();
    let before = vault.revision();
    for refused in [
        vault.set_enabled(wom().name(), true, None).await.unwrap_err(),
        vault.set_enabled(wom().name(), false, None).await.unwrap_err(),
        vault.delete(wom().name(), None).await.unwrap_err(),
    ] {
        assert!(matches!(refused, VaultError::Deleted(_)), "{refused}");
    }
    assert_eq!(vault.revision(), before);
    vault.undelete(wom().name(), None).await.unwrap();
    let refused = vault.undelete(wom().name(), None).await.unwrap_err();
    assert!(matches!(refused, VaultError::NotDeleted(_)));
}

#[tokio::test]
async fn what_was_never_saved_is_not_found() {
    let vault = TestVault::new().await;
    let name = wom().name();
    let before = vault.revision();
    for refused in [
        vault.get(&name).err(),
        vault.versions(&name).await.err(),
        vault.set_enabled(name.clone(), false, None).await.err(),
        vault.delete(name.clone(), None).await.err(),
        vault.undelete(name.clone(), None).await.err(),
        vault.purge(&name).await.err(),
    ] {
        assert!(matches!(refused, Some(VaultError::NotFound(missing)) if missing == name));
    }
    assert_eq!(vault.revision(), before);
}

#[tokio::test]
async fn a_save_over_a_deleted_credential_brings_it_back_with_a_new_version() {
    let vault = TestVault::new().await;
    vault.save(wom().password("old")).await;
    vault.delete(wom().name(), None).await.unwrap();
    let saved = vault.save(wom().password("new")).await;
    assert_eq!(
        (saved.credential.header.state, saved.credential.header.version),
        (State::Enabled, Version(2))
    );
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "new");
    assert_eq!(vault.versions(&wom().name()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_save_over_a_disabled_credential_leaves_it_disabled_and_warns() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.set_enabled(wom().name(), false, None).await.unwrap();
    let saved = vault.save(wom().password("new")).await;
    assert_eq!(saved.credential.header.state, State::Disabled);
    assert_eq!(saved.warnings, [Warning::StaysDisabled]);
    assert_eq!(vault.refusal("wom", order()).refusal, Refusal::Disabled);
}

#[tokio::test]
async fn a_purge_leaves_nothing_of_the_credential_and_everything_of_its_neighbours() {
    let vault = TestVault::new().await;
    let neighbours = [
        dat(),
        dat().office("leipzig2"),
        dat().office("leipzig-2"),
        dat().appraiser("leipzig"),
    ];
    for neighbour in &neighbours {
        vault.save(neighbour.clone()).await;
    }
    let before = vault.keys().await;
    let purged = dat().office("leipzig");
    for password in ["one", "two", "three"] {
        vault.save(purged.clone().password(password)).await;
    }
    vault.set_enabled(purged.name(), false, None).await.unwrap();
    assert_eq!(vault.keys().await.len(), before.len() + 4);

    let revision = vault.purge(&purged.name()).await.unwrap();
    assert_eq!(revision, vault.revision());
    assert_eq!(vault.keys().await, before);
    assert!(matches!(vault.get(&purged.name()), Err(VaultError::NotFound(_))));
    for neighbour in &neighbours {
        assert_eq!(vault.versions(&neighbour.name()).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn after_a_purge_a_new_credential_begins_at_version_1() {
    let vault = TestVault::new().await;
    vault.save(wom().password("old")).await;
    vault.save(wom().password("older")).await;
    vault.delete(wom().name(), None).await.unwrap();
    vault.purge(&wom().name()).await.unwrap();
    let saved = vault.save(wom().password("new").expecting(0)).await;
    assert_eq!((saved.credential.header.version, saved.warnings), (Version(1), vec![]));
    assert_eq!(vault.versions(&wom().name()).await.unwrap().len(), 1);
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "new");
}

#[tokio::test]
async fn the_status_counts_what_there_is() {
    let vault = TestVault::new().await;
    for credential in [
        wom(),
        wom().office("leipzig"),
        wom().office("dresden"),
        wom().tenant("other"),
    ] {
        vault.save(credential).await;
    }
    vault.set_enabled(wom().name(), false, None).await.unwrap();
    vault.delete(wom().office("leipzig").name(), None).await.unwrap();
    vault.choose("wom", assigned(Mode::PerOffice)).await;
    vault.clock.advance(Duration::from_mins(3));
    let status = vault.status();
    let counts = status.counts;
    assert_eq!(
        (counts.enabled, counts.disabled, counts.deleted, counts.assignments),
        (2, 1, 1, 1)
    );
    assert_eq!(
        (
            status.tenants,
            status.data_key_ages.len(),
            status.signing_key_ages.len()
        ),
        (2, 2, 1)
    );
    assert!(
        status
            .signing_key_ages
            .iter()
            .chain(&status.data_key_ages)
            .all(|age| *age == Duration::from_mins(3))
    );
    assert_eq!(
        (status.opened_at, status.revision, status.replica_revision),
        (start(), vault.revision(), vault.revision())
    );
    let no_filter = ListQuery {
        tenant: wom().name().tenant,
        providers: vec![wom().name().provider],
        scope_kinds: vec![],
        states: vec![],
        expires_before: None,
        limit: 10,
        after: None,
        readable: reach(&["*"], &["*"]),
    };
    assert_eq!(vault.list(&no_filter).unwrap().credentials.len(), 2);
}
