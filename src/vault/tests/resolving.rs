//! Which credential an order gets, end to end. The decision by itself has its table in `resolve_tests`.

use std::time::Duration;

use super::builders::{OrderBuilder, dat, mail, order, wom};
use super::support::{CACHE_FOR, TestVault, assigned, password, settings, start, with_fallback};
use crate::access::Reveal;
use crate::store::Revision;
use crate::vault::assignment::Mode;
use crate::vault::catalogue::Catalogue;
use crate::vault::resolve::Refusal;
use crate::vault::scope::ScopeKind;
use crate::vault::{Resolution, Settings, VaultError};

/// A vault in which each DAT credential's password says whose it is.
async fn with_dat_for_everybody() -> TestVault {
    let vault = TestVault::new().await;
    vault.save(dat().password("general")).await;
    for id in ["leipzig", "dresden"] {
        vault.save(dat().office(id).password(id)).await;
    }
    vault.save(dat().appraiser("richter").password("richter")).await;
    vault
}

#[tokio::test]
async fn the_mode_chooses_whose_credential_it_is() {
    let vault = with_dat_for_everybody().await;
    let everybody = || {
        order()
            .office("leipzig")
            .created_in("dresden")
            .appraiser("richter")
            .user("lang")
    };
    for (mode, whose) in [
        (Mode::General, "general"),
        (Mode::PerOffice, "leipzig"),
        (Mode::PerAppraiser, "richter"),
    ] {
        vault.assign("dat", mode).await;
        let hand_out = vault.resolve("dat", everybody()).unwrap();
        assert_eq!(password(&hand_out), whose);
        let Resolution {
            mode: told,
            fell_back,
            rule,
            scope,
        } = hand_out.resolution;
        assert_eq!((told, fell_back, rule), (mode, false, 3));
        assert_eq!(scope, hand_out.credential.scope);
    }
}

#[tokio::test]
async fn without_a_choice_it_is_the_general_one() {
    let vault = with_dat_for_everybody().await;
    assert_eq!(
        password(&vault.resolve("dat", order().office("leipzig")).unwrap()),
        "general"
    );
}

#[tokio::test]
async fn an_order_that_moves_uses_the_new_offices_login_but_mail_still_leaves_from_the_old_one() {
    let vault = with_dat_for_everybody().await;
    for id in ["leipzig", "dresden"] {
        vault.save(mail().office(id).password(id)).await;
    }
    vault.assign("dat", Mode::PerOffice).await;
    vault.assign("email", Mode::PerOffice).await;
    let moved = order().created_in("leipzig").office("dresden");
    assert_eq!(password(&vault.resolve("dat", moved.clone()).unwrap()), "dresden");
    assert_eq!(password(&vault.resolve("email", moved).unwrap()), "leipzig");
    assert_eq!(
        password(&vault.resolve("email", order().office("dresden")).unwrap()),
        "dresden"
    );
    assert_eq!(vault.refusal("dat", order().created_in("leipzig")).rule, 2);
}

#[tokio::test]
async fn mail_of_the_active_user_leaves_from_their_account() {
    let vault = TestVault::new().await;
    vault.save(mail().user("lang").password("lang")).await;
    vault.assign("email", Mode::PerUser).await;
    assert_eq!(password(&vault.resolve("email", order().user("lang")).unwrap()), "lang");
    assert_eq!(vault.refusal("email", order().user("kurz")).rule, 7);
    let refused = vault.refusal("email", order().office("leipzig"));
    assert_eq!(
        (refused.refusal, refused.rule),
        (Refusal::OrderLacks(ScopeKind::User), 2)
    );
}

#[tokio::test]
async fn every_refusal_names_its_rule() {
    let vault = with_dat_for_everybody().await;
    vault.choose("dat", with_fallback(Mode::PerOffice)).await;
    vault
        .set_enabled(dat().office("leipzig").name(), false, None)
        .await
        .unwrap();
    vault.save(dat().office("dresden").valid_until(start())).await;
    vault.choose("wom", with_fallback(Mode::PerOffice)).await;
    let told = |provider: &str, order: OrderBuilder| {
        let refused = vault.refusal(provider, order);
        (refused.rule, refused.refusal, refused.scope.to_string())
    };
    assert_eq!(told("nobody", order()), (1, Refusal::UnknownProvider, "general".into()));
    assert_eq!(
        told("dat", order()),
        (2, Refusal::OrderLacks(ScopeKind::Office), "general".into())
    );
    assert_eq!(
        told("dat", order().office("leipzig")),
        (4, Refusal::Disabled, "office/leipzig".into())
    );
    assert_eq!(
        told("dat", order().office("dresden")),
        (5, Refusal::Expired, "office/dresden".into())
    );
    assert_eq!(
        told("wom", order().office("leipzig")),
        (7, Refusal::NotConfigured, "office/leipzig".into())
    );
}

#[tokio::test]
async fn the_general_one_takes_a_missing_ones_place_only_where_the_tenant_wants_it() {
    let vault = with_dat_for_everybody().await;
    let elsewhere = || order().office("gera");
    vault.choose("dat", assigned(Mode::PerOffice)).await;
    assert_eq!(vault.refusal("dat", elsewhere()).rule, 7);
    vault.choose("dat", with_fallback(Mode::PerOffice)).await;
    let hand_out = vault.resolve("dat", elsewhere()).unwrap();
    assert_eq!(password(&hand_out), "general");
    assert_eq!((hand_out.resolution.rule, hand_out.resolution.fell_back), (6, true));
    assert_eq!(hand_out.credential, dat().name());

    vault.delete(dat().office("leipzig").name(), None).await.unwrap();
    assert_eq!(
        password(&vault.resolve("dat", order().office("leipzig")).unwrap()),
        "general"
    );
    vault.set_enabled(dat().name(), false, None).await.unwrap();
    assert_eq!(vault.refusal("dat", elsewhere()).rule, 7);
}

#[tokio::test]
async fn an_explanation_is_the_same_decision() {
    let vault = with_dat_for_everybody().await;
    vault.choose("dat", with_fallback(Mode::PerOffice)).await;
    vault
        .set_enabled(dat().office("leipzig").name(), false, None)
        .await
        .unwrap();
    for (provider, order) in [
        ("nobody", order()),
        ("dat", order()),
        ("dat", order().office("leipzig")),
        ("dat", order().office("dresden")),
        ("dat", order().office("gera")),
        ("wom", order()),
    ] {
        let explanation = vault.explain(provider, order.clone());
        match (vault.resolve(provider, order), explanation.outcome) {
            (Ok(hand_out), Ok(info)) => {
                assert_eq!(hand_out.resolution, explanation.resolution);
                assert_eq!(
                    (hand_out.credential, hand_out.version),
                    (info.credential, info.header.version)
                );
            }
            (Err(refused), Err(explained)) => assert_eq!(refused.to_string(), explained.to_string()),
            _ => panic!("{provider}: the explanation differs"),
        }
    }
}

#[tokio::test]
async fn the_end_of_a_credential_is_checked_when_it_is_used() {
    let vault = TestVault::new().await;
    let end = start().after(Duration::from_secs(30));
    vault.save(wom().valid_until(end)).await;
    vault.clock.advance(Duration::from_millis(29_999));
    assert_eq!(vault.resolve("wom", order()).unwrap().valid_until, Some(end));
    for late in [
        Duration::from_millis(1),
        Duration::from_millis(1),
        Duration::from_hours(24 * 365),
    ] {
        vault.clock.advance(late);
        assert_eq!(vault.refusal("wom", order()).refusal, Refusal::Expired);
    }
    vault.clock.set(start());
    assert!(vault.resolve("wom", order()).is_ok());
}

#[tokio::test]
async fn nobody_may_keep_a_credential_past_its_end() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let cache_for = |vault: &TestVault| vault.resolve("wom", order()).unwrap().cache_for;
    assert_eq!(cache_for(&vault), CACHE_FOR);
    vault
        .save(wom().valid_until(start().after(Duration::from_secs(90))))
        .await;
    for (passed, rest) in [(0, 60), (29, 60), (31, 59), (89, 1)] {
        vault.clock.set(start().after(Duration::from_secs(passed)));
        assert_eq!(cache_for(&vault), Duration::from_secs(rest), "{passed} s later");
    }
}

#[tokio::test]
async fn an_answer_is_as_new_as_it_says() {
    let vault = TestVault::new().await;
    let saved = vault.save(wom().password("first")).await;
    vault.at_least(saved.revision.unwrap()).await.unwrap();
    assert!(vault.resolve("wom", order()).unwrap().revision >= saved.revision.unwrap());
    let hand_out = vault.resolve_as("wom", order(), Reveal::None, None).unwrap();
    assert_eq!(hand_out.revision, vault.revision());
}

#[tokio::test]
async fn whoever_asks_for_a_revision_that_does_not_come_is_told_after_a_while() {
    let impatient = Settings {
        stale_wait: Duration::from_millis(10),
        ..settings()
    };
    let vault = TestVault::with(Catalogue::built_in(), impatient).await;
    let (seen, wanted) = (vault.revision(), Revision(vault.revision().0 + 1));
    let error = vault.at_least(wanted).await.unwrap_err();
    assert!(matches!(error, VaultError::Stale { seen: told, wanted: asked } if (told, asked) == (seen, wanted)));
}
