//! What a caller sees of a credential, that the signature covers exactly that, and what a receipt proves.

use std::time::Duration;

use serde_json::{Value, json};

use super::builders::{dat, mail, order, wom};
use super::jws::{Token, verified, verify};
use super::support::{ISSUER, RECEIPT_LIFETIME, TestVault, account, assigned, login, signature, start};
use crate::access::Reveal;
use crate::vault::HandOut;
use crate::vault::assignment::Mode;

const SERVICE: &str = "spiffe://test/order-service";
const PUBLISHED: &str = "B6760E7D6FAA2C88E9535C8609F97A059E121F14B3F3C1BD3B2262A2E0760675";

fn revealed(vault: &TestVault, provider: &str, reveal: Reveal) -> (HandOut, Value) {
    let hand_out = vault
        .resolve_as(provider, order().office("leipzig"), reveal, None)
        .unwrap();
    let Token { typ, payload } = verified(vault, hand_out.signed.as_deref().unwrap());
    assert_eq!(typ, "dynarex-credential+jws");
    (hand_out, payload)
}

/// What is in a payload beside the credential's content.
fn about(provider: &str, secret: (&str, Value)) -> Value {
    let mut payload = json!({
        "iss": ISSUER, "tenant": "demo", "provider": provider, "scope": "general",
        "version": 1, "saved_at": start().to_string(),
    });
    payload[secret.0] = secret.1;
    payload
}

#[tokio::test]
async fn full_shows_everything_and_the_signature_covers_everything() {
    let vault = TestVault::new().await;
    vault.save(dat().partner("99", "partner signature")).await;
    let (hand_out, payload) = revealed(&vault, "dat", Reveal::Full);
    let content = json!({
        "customer_number": "1234567", "username": "myuser", "password": "password", "customer_signature": PUBLISHED,
        "interface_partner_number": "99", "interface_partner_signature": "partner signature",
    });
    assert_eq!(payload, about("dat", ("login", content)));
    assert_eq!(signature(&hand_out), PUBLISHED);
}

#[tokio::test]
async fn the_signature_names_subject_version_and_end() {
    let vault = TestVault::new().await;
    let end = start().after(Duration::from_hours(1));
    vault.save(wom().office("leipzig")).await;
    vault.clock.advance(Duration::from_millis(1_234));
    vault.save(wom().office("leipzig").valid_until(end)).await;
    vault.assign("wom", Mode::PerOffice).await;
    let (_, payload) = revealed(&vault, "wom", Reveal::Full);
    let saved_at = start().after(Duration::from_millis(1_234)).to_string();
    assert_eq!(
        payload,
        json!({
            "iss": ISSUER, "tenant": "demo", "provider": "wom", "scope": "office", "subject": "leipzig", "version": 2,
            "saved_at": saved_at, "valid_until": end.to_string(),
            "login": { "username": "myuser", "password": "password" },
        })
    );
}

#[tokio::test]
async fn a_mail_account_is_covered_with_its_oauth_client() {
    let vault = TestVault::new().await;
    vault.save(mail().oauth2()).await;
    let (_, payload) = revealed(&vault, "email", Reveal::Full);
    let content = json!({
        "host": "smtp.example.com", "port": 587, "security": "MAIL_SECURITY_STARTTLS",
        "username": "office@example.com",
        "oauth2": {
            "token_url": "https://login.example.com/token", "client_id": "client", "client_secret": "client secret",
            "refresh_token": "refresh token", "scopes": ["smtp", "offline"],
        },
        "from_address": "office@example.com", "from_name": "Büro", "reply_to": "answers@example.com",
    });
    assert_eq!(payload, about("email", ("mail_account", content)));
}

#[tokio::test]
async fn signature_shows_the_login_without_the_password_and_covers_that() {
    let vault = TestVault::new().await;
    vault.save(dat().partner("99", "partner signature")).await;
    let (hand_out, payload) = revealed(&vault, "dat", Reveal::Signature);
    assert!(login(&hand_out).password.is_none());
    assert_eq!(signature(&hand_out), PUBLISHED);
    let content = json!({
        "customer_number": "1234567", "username": "myuser", "customer_signature": PUBLISHED,
        "interface_partner_number": "99", "interface_partner_signature": "partner signature",
    });
    assert_eq!(payload, about("dat", ("login", content)));
}

#[tokio::test]
async fn signature_shows_no_way_into_what_has_no_signature() {
    let vault = TestVault::new().await;
    for credential in [mail(), mail().oauth2()] {
        vault.save(credential).await;
        let (hand_out, payload) = revealed(&vault, "email", Reveal::Signature);
        assert!(account(&hand_out).auth.is_none());
        assert!(payload["mail_account"]["password"].is_null() && payload["mail_account"]["oauth2"].is_null());
    }
    vault.save(wom()).await;
    let (hand_out, payload) = revealed(&vault, "wom", Reveal::Signature);
    assert!(login(&hand_out).password.is_none());
    assert_eq!(payload, about("wom", ("login", json!({ "username": "myuser" }))));
}

#[tokio::test]
async fn none_shows_only_that_there_is_one_and_which() {
    let vault = TestVault::new().await;
    vault.save(dat()).await;
    let hand_out = vault.resolve_as("dat", order(), Reveal::None, Some(SERVICE)).unwrap();
    assert!(hand_out.secret.is_none() && hand_out.signed.is_none());
    assert_eq!((hand_out.credential, hand_out.version.0), (dat().name(), 1));
    assert!(hand_out.receipt.is_some());
}

#[tokio::test]
async fn a_signature_that_was_changed_does_not_hold() {
    let vault = TestVault::new().await;
    vault.save(dat()).await;
    let token = vault.resolve("dat", order()).unwrap().signed.unwrap();
    assert!(verify(&vault.jwks(), &token).is_some());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verify(&vault.jwks(), &changed).is_none(), "character {at}");
    }
    let stranger = TestVault::new().await;
    assert!(verify(&stranger.jwks(), &token).is_none());
}

#[tokio::test]
async fn a_receipt_proves_which_version_who_got_for_which_order() {
    let vault = TestVault::new().await;
    vault.save(dat().office("leipzig")).await;
    vault.save(dat().office("leipzig").password("second")).await;
    vault.choose("dat", assigned(Mode::PerOffice)).await;
    vault.clock.advance(Duration::from_millis(90_500));
    let receipt = || {
        let order = order().office("leipzig");
        let hand_out = vault.resolve_as("dat", order, Reveal::Full, Some(SERVICE)).unwrap();
        let token = verified(&vault, &hand_out.receipt.unwrap());
        assert_eq!(token.typ, "dynarex-receipt+jwt");
        token.payload
    };
    let mut payload = receipt();
    let id = payload.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 32);
    let now = vault.now().unix_seconds();
    assert_eq!(
        payload,
        json!({
            "iss": ISSUER, "sub": SERVICE, "iat": now, "exp": now + i64::try_from(RECEIPT_LIFETIME.as_secs()).unwrap(),
            "order_id": "2026-0815", "tenant": "demo", "provider": "dat", "scope": "office", "subject": "leipzig",
            "version": 2, "saved_at": start().to_string(), "fell_back": false, "reveal": "full",
        })
    );
    assert_ne!(receipt()["jti"], id, "each receipt has its own id");
}

#[tokio::test]
async fn a_receipt_is_given_only_to_whoever_asks_and_holds_no_secret() {
    let vault = TestVault::new().await;
    vault.save(dat().password("hush").partner("99", "hush too")).await;
    assert!(vault.resolve("dat", order()).unwrap().receipt.is_none());
    let hand_out = vault.resolve_as("dat", order(), Reveal::Full, Some(SERVICE)).unwrap();
    let payload = verified(&vault, hand_out.receipt.as_deref().unwrap())
        .payload
        .to_string();
    for secret in ["hush", signature(&hand_out), "myuser", "1234567"] {
        assert!(!payload.contains(secret), "{payload}");
    }
}
