//! DAT's `customerSignature`: made at the save, kept as given if it is another, or made for the moment.

use std::time::Duration;

use super::builders::{dat, order, wom};
use super::jws::verified;
use super::support::{TestVault, assigned, login, settings, signature, start};
use crate::access::Reveal;
use crate::time::Timestamp;
use crate::vault::Settings;
use crate::vault::assignment::{Assignment, Mode};
use crate::vault::catalogue::{Catalogue, SignatureVariant};
use crate::vault::signature::{customer_signature, time_limited_customer_signature};
use secrecy::ExposeSecret as _;

/// Of `1234567:myuser:password`, as published.
const PUBLISHED: &str = "B6760E7D6FAA2C88E9535C8609F97A059E121F14B3F3C1BD3B2262A2E0760675";
const FRAME: Duration = Duration::from_mins(10);
const INSTANT: Duration = Duration::from_millis(1);

fn in_variant(variant: SignatureVariant) -> Assignment {
    Assignment {
        signature_variant: Some(variant),
        ..assigned(Mode::General)
    }
}

/// The end of the first frame.
fn last_instant() -> Timestamp {
    Timestamp::from_unix_ms(start().after(FRAME).unix_ms() - 1)
}

fn time_limited(password: &str, vault: &TestVault) -> String {
    time_limited_customer_signature("1234567", "myuser", &password.into(), vault.now())
        .expose_secret()
        .to_owned()
}

fn signed(vault: &TestVault, reveal: Reveal) -> (String, serde_json::Value) {
    let hand_out = vault.resolve_as("dat", order(), reveal, None).unwrap();
    let payload = verified(vault, hand_out.signed.as_deref().unwrap()).payload;
    (
        signature(&hand_out).to_owned(),
        payload["login"]["customer_signature"].clone(),
    )
}

#[tokio::test]
async fn a_save_makes_dats_signature_and_no_other_providers() {
    let vault = TestVault::new().await;
    vault.save(dat()).await;
    assert_eq!(signature(&vault.resolve("dat", order()).unwrap()), PUBLISHED);
    vault.save(wom()).await;
    assert!(
        login(&vault.resolve("wom", order()).unwrap())
            .customer_signature
            .is_none()
    );
}

#[tokio::test]
async fn a_new_password_makes_a_new_signature() {
    let vault = TestVault::new().await;
    vault.save(dat()).await;
    vault.save(dat().password("Pä$$wört€").username("müller")).await;
    let expected = customer_signature("1234567", "müller", &"Pä$$wört€".into());
    assert_eq!(
        signature(&vault.resolve("dat", order()).unwrap()),
        expected.expose_secret()
    );
}

#[tokio::test]
async fn a_given_signature_that_is_the_computed_one_is_not_warned_of() {
    let vault = TestVault::new().await;
    for given in [PUBLISHED.to_owned(), PUBLISHED.to_lowercase()] {
        let credential = dat().office(&given[..4]).signature(&given);
        assert_eq!(vault.save(credential).await.warnings, []);
        vault.assign("dat", Mode::PerOffice).await;
        let hand_out = vault.resolve("dat", order().office(&given[..4])).unwrap();
        assert_eq!(signature(&hand_out), PUBLISHED, "in the case that DAT publishes");
    }
}

#[tokio::test]
async fn a_given_signature_that_is_another_is_kept_and_signed() {
    let vault = TestVault::new().await;
    let saved = vault.save(dat().signature("ISSUED BY DAT")).await;
    assert_eq!(saved.warnings[0].reason(), "CUSTOMER_SIGNATURE_DIFFERS");
    assert_eq!(
        signed(&vault, Reveal::Full),
        ("ISSUED BY DAT".into(), "ISSUED BY DAT".into())
    );
    assert_eq!(
        signed(&vault, Reveal::Signature),
        ("ISSUED BY DAT".into(), "ISSUED BY DAT".into())
    );
}

#[tokio::test]
async fn a_time_limited_signature_is_made_for_the_moment_and_the_jws_covers_it() {
    let vault = TestVault::new().await;
    vault.save(dat()).await;
    vault.choose("dat", in_variant(SignatureVariant::TimeLimited)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        for reveal in [Reveal::Full, Reveal::Signature] {
            let (given, covered) = signed(&vault, reveal);
            assert_eq!(given, time_limited("password", &vault));
            assert_eq!(covered, given);
        }
        seen.push(signed(&vault, Reveal::Full).0);
        vault.clock.advance(FRAME);
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "each frame has its own");
    assert!(!seen.iter().any(|signature| signature == PUBLISHED));
}

#[tokio::test]
async fn within_one_frame_the_time_limited_signature_stays() {
    let vault = TestVault::new().await;
    vault.save(dat()).await;
    vault.choose("dat", in_variant(SignatureVariant::TimeLimited)).await;
    let first = signed(&vault, Reveal::Full).0;
    vault.clock.set(last_instant());
    assert_eq!(signed(&vault, Reveal::Full).0, first);
    vault.clock.set(start().after(FRAME));
    assert_ne!(signed(&vault, Reveal::Full).0, first);
}

#[tokio::test]
async fn nobody_may_keep_a_time_limited_signature_past_its_frames() {
    let generous = Settings {
        cache_for: Duration::from_hours(1),
        ..settings()
    };
    let vault = TestVault::with(Catalogue::built_in(), generous).await;
    vault.save(dat()).await;
    let cache_for = || vault.resolve("dat", order()).unwrap().cache_for;
    assert_eq!(cache_for(), Duration::from_hours(1));
    vault.choose("dat", in_variant(SignatureVariant::TimeLimited)).await;
    assert_eq!(cache_for(), FRAME * 2);
    vault.clock.set(last_instant());
    assert_eq!(cache_for(), FRAME + INSTANT);
    let end = vault.now().after(Duration::from_secs(7));
    vault.save(dat().valid_until(end)).await;
    assert_eq!(cache_for(), Duration::from_secs(7));
}

#[tokio::test]
async fn the_catalogue_says_which_form_it_is_and_a_tenant_may_choose_another() {
    let entry = "[[provider]]\nid = \"dat\"\ncustomer_signature = \"time-limited\"\n";
    let catalogue = Catalogue::built_in().with_changes(entry, "test").unwrap();
    let vault = TestVault::with(catalogue, settings()).await;
    vault.save(dat()).await;
    assert_eq!(signed(&vault, Reveal::Full).0, time_limited("password", &vault));
    vault.choose("dat", in_variant(SignatureVariant::Plain)).await;
    assert_eq!(signed(&vault, Reveal::Full).0, PUBLISHED);
    vault.choose("dat", assigned(Mode::General)).await;
    assert_eq!(signed(&vault, Reveal::Full).0, time_limited("password", &vault));
}
