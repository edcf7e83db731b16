//! Who has no usable credential.

use std::time::Duration;

use super::builders::{TENANT, dat, mail, order, subject, tenant, wom};
use super::support::{TestVault, assigned, reach, start, with_fallback};
use crate::vault::assignment::Mode;
use crate::vault::ids::{ProviderId, SubjectId};
use crate::vault::record::head_key;
use crate::vault::resolve::Refusal;
use crate::vault::{Asker, CoverageQuery, Gone, Lack, VaultError};

fn ids(ids: &[&str]) -> Vec<SubjectId> {
    ids.iter().map(|id| subject(id)).collect()
}

/// The gaps of a firm with these offices, two appraisers and a user, as `provider scope why`.
fn gaps(vault: &TestVault, offices: &[&str], providers: &[&str]) -> Vec<String> {
    let query = CoverageQuery {
        tenant: tenant(TENANT),
        offices: ids(offices),
        appraisers: ids(&["richter", "kern"]),
        users: ids(&["lang"]),
        providers: providers.iter().map(|id| ProviderId::parse(id).unwrap()).collect(),
        readable: reach(&["*"], &["*"]),
    };
    let gaps = vault.coverage(&query).unwrap();
    gaps.iter()
        .map(|gap| {
            let why = match &gap.lack {
                Lack::Refused(refusal) => format!("{refusal:?}"),
                Lack::Damaged(corrupt) => format!("damaged: {}", corrupt.0),
            };
            format!("{} {} {why}", gap.provider, gap.scope)
        })
        .collect()
}

#[tokio::test]
async fn a_gap_is_whoever_would_be_refused_in_the_order_of_the_question() {
    let vault = TestVault::new().await;
    for id in ["leipzig", "halle", "gera"] {
        vault.save(dat().office(id)).await;
    }
    vault
        .save(dat().office("gera").valid_until(start().after(Duration::from_secs(1))))
        .await;
    vault
        .set_enabled(dat().office("halle").name(), false, None)
        .await
        .unwrap();
    vault.save(mail().user("lang")).await;
    vault.assign("dat", Mode::PerOffice).await;
    vault.assign("cartv", Mode::PerAppraiser).await;
    vault.assign("email", Mode::PerUser).await;
    vault.clock.advance(Duration::from_secs(1));
    let offices = ["gera", "leipzig", "dresden", "halle"];
    assert_eq!(
        gaps(&vault, &offices, &["wom", "cartv", "dat", "email"]),
        [
            "wom general NotConfigured",
            "cartv appraiser/richter NotConfigured",
            "cartv appraiser/kern NotConfigured",
            "dat office/gera Expired",
            "dat office/dresden NotConfigured",
            "dat office/halle Disabled"
        ]
    );
}

#[tokio::test]
async fn the_general_credential_closes_the_gaps_of_those_who_have_none() {
    let vault = TestVault::new().await;
    vault.save(dat().office("leipzig")).await;
    vault
        .set_enabled(dat().office("leipzig").name(), false, None)
        .await
        .unwrap();
    vault.choose("dat", with_fallback(Mode::PerOffice)).await;
    let offices = ["leipzig", "dresden"];
    assert_eq!(gaps(&vault, &offices, &["dat"]).len(), 2);
    vault.save(dat()).await;
    assert_eq!(gaps(&vault, &offices, &["dat"]), ["dat office/leipzig Disabled"]);
    vault.choose("dat", assigned(Mode::General)).await;
    assert_eq!(gaps(&vault, &offices, &["dat"]), [""; 0]);
}

#[tokio::test]
async fn nobody_asked_for_has_no_gap_and_an_unknown_provider_has_none() {
    let vault = TestVault::new().await;
    vault.assign("wom", Mode::PerOffice).await;
    assert_eq!(gaps(&vault, &[], &["wom", "nobody"]), [""; 0]);
    assert_eq!(gaps(&vault, &["leipzig"], &[]), [""; 0]);
}

#[tokio::test]
async fn a_gap_is_exactly_what_a_resolve_would_refuse() {
    let vault = TestVault::new().await;
    vault.save(wom().office("leipzig")).await;
    vault.save(wom().office("halle")).await;
    vault
        .set_enabled(wom().office("halle").name(), false, None)
        .await
        .unwrap();
    for assignment in [assigned(Mode::PerOffice), with_fallback(Mode::PerOffice)] {
        vault.choose("wom", assignment).await;
        for id in ["leipzig", "halle", "dresden"] {
            let refused = vault.resolve("wom", order().office(id)).is_err();
            assert_eq!(!gaps(&vault, &[id], &["wom"]).is_empty(), refused, "{id}");
        }
    }
    assert_eq!(vault.refusal("wom", order().office("halle")).refusal, Refusal::Disabled);
}

/// The general credential takes the place of one that is not there, never of one that cannot be read.
#[tokio::test]
async fn a_damaged_credential_is_a_gap_although_the_general_one_could_take_its_place() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.save(wom().office("leipzig")).await;
    vault.save(wom().office("halle")).await;
    vault.save(wom().office("gera")).await;
    vault.choose("wom", with_fallback(Mode::PerOffice)).await;
    let head = |id: &str| head_key(&wom().office(id).name());
    vault.overwrite(&head("leipzig"), b"garbage").await;
    // This one is whole, and opens nowhere but in its own place.
    let elsewhere = vault.record(&head("gera")).await.value;
    vault.overwrite(&head("halle"), &elsewhere).await;
    let offices = ["leipzig", "halle", "gera", "nowhere"];
    assert_eq!(
        gaps(&vault, &offices, &["wom"]),
        ["leipzig", "halle"].map(|id| format!("wom office/{id} damaged: {}", head(id)))
    );
    for id in offices {
        let is_refused = vault.resolve("wom", order().office(id)).is_err();
        assert_eq!(is_refused, !gaps(&vault, &[id], &["wom"]).is_empty(), "{id}");
    }

    let general = head_key(&wom().name());
    vault.overwrite(&general, b"garbage").await;
    assert_eq!(
        gaps(&vault, &["nowhere", "gera"], &["wom"]),
        [format!("wom office/nowhere damaged: {general}")]
    );
}

#[tokio::test]
async fn a_choice_warns_of_whoever_has_a_damaged_credential() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    vault.save(wom().office("leipzig")).await;
    vault.save(wom().office("halle")).await;
    vault
        .overwrite(&head_key(&wom().office("leipzig").name()), b"garbage")
        .await;
    let warnings = vault.choose("wom", with_fallback(Mode::PerOffice)).await;
    assert_eq!(warnings, ["office/leipzig has no usable credential"]);
}

#[tokio::test]
async fn a_check_that_nobody_waits_for_goes_no_further() {
    let vault = TestVault::new().await;
    let query = CoverageQuery {
        tenant: tenant(TENANT),
        offices: vec![],
        appraisers: vec![],
        users: vec![],
        providers: vec![wom().name().provider],
        readable: reach(&["*"], &["*"]),
    };
    assert_eq!(vault.coverage(&query).unwrap().len(), 1);
    let asker = Asker::default();
    drop(asker.waits());
    let checked = vault.vault.coverage(&query, &asker);
    assert!(matches!(checked, Err(VaultError::Gone(Gone))), "{checked:?}");
}
