//! Who has no usable credential.

use std::time::Duration;

use super::builders::{TENANT, dat, mail, order, subject, tenant, wom};
use super::support::{TestVault, assigned, reach, start, with_fallback};
use crate::vault::CoverageQuery;
use crate::vault::assignment::Mode;
use crate::vault::ids::{ProviderId, SubjectId};
use crate::vault::resolve::Refusal;

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
        .map(|gap| format!("{} {} {:?}", gap.provider, gap.scope, gap.refusal))
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
