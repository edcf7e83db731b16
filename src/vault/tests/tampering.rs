//! Records that somebody changed or moved in the store: they are named, and nothing of them is served.

use std::fmt::Debug;

use super::builders::{Credential, OrderBuilder, dat, office, order, tenant, wom};
use super::support::{EVERYTHING, TestVault, password, reach, with_fallback};
use crate::store::Key;
use crate::vault::assignment::Mode;
use crate::vault::credential::Version;
use crate::vault::ids::ProviderId;
use crate::vault::record::{Corrupt, assignment_key, head_key, version_key};
use crate::vault::scope::CredentialRef;
use crate::vault::{Ask, Lack, VaultError};

fn leipzig() -> Credential {
    wom().office("leipzig")
}

fn in_leipzig() -> OrderBuilder {
    order().office("leipzig")
}

/// A vault with two versions of Leipzig's credential, one of Dresden's and a general one, chosen per office.
async fn vault() -> TestVault {
    let vault = TestVault::new().await;
    vault.save(leipzig().password("first")).await;
    vault.save(leipzig().password("second")).await;
    vault.save(wom().office("dresden").password("dresden")).await;
    vault.save(wom().password("general")).await;
    vault.save(dat().office("leipzig").password("dat")).await;
    vault.save(leipzig().tenant("other").password("other")).await;
    for provider in ["wom", "dat"] {
        vault.choose(provider, with_fallback(Mode::PerOffice)).await;
    }
    vault
}

/// Insists that it was noticed, and which record was named.
fn assert_corrupt<T>(outcome: Result<T, VaultError>, named: &Key, what: impl Debug) {
    match outcome {
        Err(VaultError::Corrupt(corrupt)) => assert_eq!(&corrupt.0, named, "{what:?}"),
        Err(other) => panic!("{what:?}: {other}"),
        Ok(_) => panic!("{what:?}: it was served"),
    }
}

#[tokio::test]
async fn a_head_in_anothers_place_does_not_open() {
    let vault = vault().await;
    let stolen = vault.record(&head_key(&leipzig().name())).await.value;
    let places = [
        wom().office("dresden"),
        wom().office("gera"),
        wom().appraiser("leipzig"),
        wom(),
        dat().office("leipzig"),
        leipzig().tenant("other"),
        leipzig().tenant("new"),
    ];
    for place in places {
        let name = place.name();
        vault.overwrite(&head_key(&name), &stolen).await;
        assert_corrupt(vault.get(&name), &head_key(&name), &name);
        assert_corrupt(resolve_for(&vault, &name), &head_key(&name), &name);
    }
    assert_eq!(password(&vault.resolve("wom", in_leipzig()).unwrap()), "second");
}

/// Resolves so that exactly this credential is looked for.
fn resolve_for(vault: &TestVault, name: &CredentialRef) -> Result<(), VaultError> {
    use crate::vault::scope::Scope;

    let order = match &name.scope {
        Scope::Office(id) => order().office(id.as_str()),
        _ => order().office("without"),
    };
    let ask = Ask {
        tenant: &name.tenant,
        provider: &name.provider,
        order: &order.into(),
    };
    // The other tenants have chosen nothing, and appraisers are not looked at.
    let is_looked_for = name.tenant == tenant("demo") && !matches!(name.scope, Scope::Appraiser(_));
    if !is_looked_for {
        return vault.get(name).map(drop);
    }
    vault.vault.resolve(&vault.vault.ask(&ask)?, EVERYTHING, None).map(drop)
}

#[tokio::test]
async fn an_old_version_in_the_heads_place_does_not_open() {
    let vault = vault().await;
    let head = head_key(&leipzig().name());
    let old = vault.record(&version_key(&leipzig().name(), Version(1))).await.value;
    vault.overwrite(&head, &old).await;
    assert_corrupt(vault.resolve("wom", in_leipzig()), &head, "an old version as head");
    assert_corrupt(vault.get(&leipzig().name()), &head, "an old version as head");
}

#[tokio::test]
async fn a_version_in_anothers_place_does_not_open() {
    let vault = vault().await;
    let name = leipzig().name();
    let second = version_key(&name, Version(2));
    for source in [
        version_key(&name, Version(1)),
        head_key(&name),
        version_key(&wom().name(), Version(1)),
        version_key(&leipzig().tenant("other").name(), Version(1)),
    ] {
        let right = vault.record(&second).await.value;
        let stolen = vault.record(&source).await.value;
        vault.overwrite(&second, &stolen).await;
        assert_corrupt(vault.versions(&name).await, &second, &source);
        assert_corrupt(vault.rollback(leipzig().rollback(2)).await, &second, &source);
        vault.overwrite(&second, &right).await;
    }
    vault.rollback(leipzig().rollback(2)).await.unwrap();
}

#[tokio::test]
async fn an_assignment_in_anothers_place_does_not_open() {
    let vault = vault().await;
    let chosen = assignment_key(&tenant("demo"), &ProviderId::parse("wom").unwrap());
    let stolen = vault.record(&chosen).await.value;
    for (firm, provider) in [("demo", "dat"), ("demo", "cartv"), ("other", "wom"), ("new", "wom")] {
        let (firm, provider) = (tenant(firm), ProviderId::parse(provider).unwrap());
        let place = assignment_key(&firm, &provider);
        vault.overwrite(&place, &stolen).await;
        assert_corrupt(vault.choice(&firm, &provider), &place, &place);
        let ask = Ask {
            tenant: &firm,
            provider: &provider,
            order: &in_leipzig().into(),
        };
        let asked = vault.vault.ask(&ask);
        assert_corrupt(asked, &place, &place);
    }
    let head = vault.record(&head_key(&leipzig().name())).await.value;
    vault.overwrite(&chosen, &head).await;
    assert_corrupt(vault.resolve("wom", in_leipzig()), &chosen, "a head as assignment");
}

#[tokio::test]
async fn a_damaged_own_head_never_leads_to_the_general_credential() {
    let vault = vault().await;
    let head = head_key(&leipzig().name());
    for bytes in [&b""[..], b"garbage", &[0xff; 600]] {
        vault.overwrite(&head, bytes).await;
        assert_corrupt(vault.resolve("wom", in_leipzig()), &head, bytes);
    }
    assert_eq!(
        password(&vault.resolve("wom", order().office("gera")).unwrap()),
        "general"
    );
}

#[tokio::test]
async fn any_flipped_byte_of_a_head_is_noticed_by_whoever_resolves() {
    let vault = vault().await;
    let head = head_key(&leipzig().name());
    let right = vault.record(&head).await.value;
    for at in 0..right.len() {
        let mut wrong = right.to_vec();
        wrong[at] ^= 1 << (at % 8);
        vault.overwrite(&head, &wrong).await;
        assert_corrupt(vault.resolve("wom", in_leipzig()), &head, at);
        assert_corrupt(vault.get(&leipzig().name()), &head, at);
    }
    vault.overwrite(&head, &right).await;
    assert_eq!(password(&vault.resolve("wom", in_leipzig()).unwrap()), "second");
}

#[tokio::test]
async fn any_flipped_byte_of_an_assignment_is_noticed_by_whoever_resolves() {
    let vault = vault().await;
    let chosen = assignment_key(&tenant("demo"), &ProviderId::parse("wom").unwrap());
    let right = vault.record(&chosen).await.value;
    for at in 0..right.len() {
        for flip in [1, 0x80, 0xff] {
            let mut wrong = right.to_vec();
            wrong[at] ^= flip;
            vault.overwrite(&chosen, &wrong).await;
            assert_corrupt(vault.resolve("wom", in_leipzig()), &chosen, (at, flip));
        }
    }
}

#[tokio::test]
async fn any_flipped_byte_of_a_version_is_noticed_by_whoever_goes_back_to_it() {
    let vault = vault().await;
    let name = leipzig().name();
    let first = version_key(&name, Version(1));
    let right = vault.record(&first).await.value;
    for at in 0..right.len() {
        let mut wrong = right.to_vec();
        wrong[at] ^= 1 << (at % 8);
        vault.overwrite(&first, &wrong).await;
        assert_corrupt(vault.rollback(leipzig().rollback(1)).await, &first, at);
    }
    assert_corrupt(vault.versions(&name).await, &first, "the history");
    assert_eq!(password(&vault.resolve("wom", in_leipzig()).unwrap()), "second");
}

#[tokio::test]
async fn a_record_that_was_cut_short_is_noticed_and_a_longer_one_tells_nothing_else() {
    let vault = vault().await;
    let head = head_key(&leipzig().name());
    let right = vault.record(&head).await.value;
    for length in (0..right.len()).step_by(7) {
        vault.overwrite(&head, &right[..length]).await;
        assert_corrupt(vault.resolve("wom", in_leipzig()), &head, length);
    }
    // The last one is a field that the record's format does not know yet.
    for more in [&b"\0"[..], b"\x12\x00", b"\x22\x01x", b"\x78\x01"] {
        vault.overwrite(&head, &[&right, more].concat()).await;
        match vault.resolve("wom", in_leipzig()) {
            Ok(hand_out) => assert_eq!(password(&hand_out), "second", "{more:?}"),
            refused => assert_corrupt(refused, &head, more),
        }
    }
}

#[tokio::test]
async fn a_damaged_credential_can_be_purged_and_saved_again() {
    let vault = vault().await;
    let name = leipzig().name();
    vault.overwrite(&head_key(&name), b"garbage").await;
    assert_corrupt(vault.delete(name.clone(), None).await, &head_key(&name), "a delete");
    vault.purge(&name).await.unwrap();
    assert!(
        !vault
            .keys()
            .await
            .iter()
            .any(|key| key.contains("demo/wom/office/leipzig"))
    );
    vault.save(leipzig().password("new")).await;
    assert_eq!(password(&vault.resolve("wom", in_leipzig()).unwrap()), "new");
}

#[tokio::test]
async fn damage_to_one_record_leaves_the_others_alone_and_is_there_after_a_restart() {
    let vault = vault().await;
    let head = head_key(&leipzig().name());
    vault.overwrite(&head, b"garbage").await;
    let restarted = vault.reopened().await;
    for vault in [&vault, &restarted] {
        assert_corrupt(vault.resolve("wom", in_leipzig()), &head, "its own");
        assert_eq!(
            password(&vault.resolve("wom", order().office("dresden")).unwrap()),
            "dresden"
        );
        let gap = vault.lack_of(
            &tenant("demo"),
            vault.catalogue().get("wom").unwrap(),
            with_fallback(Mode::PerOffice),
            &office("leipzig"),
            &reach(&["*"], &["*"]),
        );
        assert_eq!(gap, Some(Lack::Damaged(Corrupt(head.clone()))));
    }
}
