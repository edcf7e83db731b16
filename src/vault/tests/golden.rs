//! What is signed, to the byte. The store keeps no copy of it, so whoever changes a byte here breaks every signature that was
//! ever made: these texts are written out and must never be made by the code that they judge.

use std::num::NonZeroU16;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::builders::{TENANT, dat, order, tenant};
use super::jws::verified;
use super::support::{TestVault, settings};
use crate::keyring::{Plugin, Signature};
use crate::store::SledStore;
use crate::time::Timestamp;
use crate::vault::Settings;
use crate::vault::catalogue::Catalogue;
use crate::vault::content::Part;
use crate::vault::credential::{
    CustomerSignature, Login, MailAccount, MailAuth, MailSecurity, OAuth2Client, Secret, Version,
};
use crate::vault::record::{Content, Payload, VersionHeader};
use crate::vault::scope::CredentialRef;
use crate::vault::signature::payload;

/// A credential and what is signed of it.
struct Golden {
    issuer: &'static str,
    path: &'static str,
    dates: VersionHeader,
    secret: Secret,
    signed: &'static str,
}

fn dates(version: u64, saved_at_ms: i64, valid_until_ms: Option<i64>) -> VersionHeader {
    VersionHeader {
        version: Version(version),
        saved_at: Timestamp::from_unix_ms(saved_at_ms),
        valid_until: valid_until_ms.map(Timestamp::from_unix_ms),
    }
}

fn bare_login(username: &str) -> Login {
    Login {
        customer_number: None,
        username: username.into(),
        password: None,
        customer_signature: None,
        interface_partner_number: None,
        interface_partner_signature: None,
    }
}

fn login_with_everything() -> Golden {
    Golden {
        issuer: "tresor.example.com",
        path: "demo/dat/appraiser/m.mustermann@example.com",
        dates: dates(42, 1_782_000_000_120, Some(1_790_000_000_000)),
        secret: Secret::Login(Login {
            customer_number: Some("1234567".into()),
            username: "myuser".into(),
            password: Some("password".into()),
            customer_signature: Some(CustomerSignature::Made("B6760E7D".into())),
            interface_partner_number: Some("7654321".into()),
            interface_partner_signature: Some("C0FFEE".into()),
        }),
        signed: r#"{"iss":"tresor.example.com","tenant":"demo","provider":"dat","scope":"appraiser","subject":"m.mustermann@example.com","version":42,"saved_at":"2026-06-21T00:00:00.120Z","valid_until":"2026-09-21T14:13:20Z","login":{"customer_number":"1234567","username":"myuser","password":"password","customer_signature":"B6760E7D","interface_partner_number":"7654321","interface_partner_signature":"C0FFEE"}}"#,
    }
}

fn login_with_nothing() -> Golden {
    Golden {
        issuer: "",
        path: "a/wom/general",
        dates: dates(1, 0, None),
        secret: Secret::Login(bare_login("u")),
        signed: r#"{"iss":"","tenant":"a","provider":"wom","scope":"general","version":1,"saved_at":"1970-01-01T00:00:00Z","login":{"username":"u"}}"#,
    }
}

fn odd_characters() -> Golden {
    let odd = "\u{1}\u{7f}ü€😀 \" \\ / \u{8}\t\n\u{c}\r\u{0}\u{1f}\u{2028}<&>'";
    Golden {
        issuer: "https://tresor/\"ü\"",
        path: "A.b_c@d+e-f/cartv/office/0._@+-",
        dates: dates(u64::MAX, -1, Some(253_402_300_799_999)),
        secret: Secret::Login(Login {
            password: Some(odd.into()),
            customer_signature: Some(CustomerSignature::Given("jA0E/+=".into())),
            ..bare_login(odd)
        }),
        signed: concat!(
            r#"{"iss":"https://tresor/\"ü\"","tenant":"A.b_c@d+e-f","provider":"cartv","scope":"office","subject":"0._@+-","#,
            r#""version":18446744073709551615,"saved_at":"1969-12-31T23:59:59.999Z","valid_until":"9999-12-31T23:59:59.999Z","#,
            r#""login":{"username":"\u0001"#,
            "\u{7f}",
            r#"ü€😀 \" \\ / \b\t\n\f\r\u0000\u001f"#,
            "\u{2028}",
            r#"<&>'","password":"\u0001"#,
            "\u{7f}",
            r#"ü€😀 \" \\ / \b\t\n\f\r\u0000\u001f"#,
            "\u{2028}",
            r#"<&>'","customer_signature":"jA0E/+="}}"#,
        ),
    }
}

fn mail(auth: Option<MailAuth>, security: MailSecurity, reply_to: Option<&str>) -> Secret {
    Secret::MailAccount(MailAccount {
        host: "smtp.example.com".into(),
        port: NonZeroU16::new(587).unwrap(),
        security,
        username: "büro@example.com".into(),
        auth,
        from_address: "office@example.com".into(),
        from_name: "Büro \"Leipzig\"".into(),
        reply_to: reply_to.map(str::to_owned),
    })
}

fn mail_with_oauth2() -> Golden {
    let client = OAuth2Client {
        token_url: "https://login.example.com/token?a=1&b=2".into(),
        client_id: "client".into(),
        client_secret: "client secret".into(),
        refresh_token: Some("refresh token".into()),
        scopes: vec!["smtp".into(), "offline access".into()],
    };
    Golden {
        issuer: "tresor",
        path: "demo/email/user/anna",
        dates: dates(7, 1_782_000_000_007, None),
        secret: mail(
            Some(MailAuth::OAuth2(client)),
            MailSecurity::StartTls,
            Some("answers@example.com"),
        ),
        signed: r#"{"iss":"tresor","tenant":"demo","provider":"email","scope":"user","subject":"anna","version":7,"saved_at":"2026-06-21T00:00:00.007Z","mail_account":{"host":"smtp.example.com","port":587,"security":"MAIL_SECURITY_STARTTLS","username":"büro@example.com","oauth2":{"token_url":"https://login.example.com/token?a=1&b=2","client_id":"client","client_secret":"client secret","refresh_token":"refresh token","scopes":["smtp","offline access"]},"from_address":"office@example.com","from_name":"Büro \"Leipzig\"","reply_to":"answers@example.com"}}"#,
    }
}

fn mail_with_bare_oauth2() -> Golden {
    let client = OAuth2Client {
        token_url: "https://login.example.com/token".into(),
        client_id: "client".into(),
        client_secret: "client secret".into(),
        refresh_token: None,
        scopes: Vec::new(),
    };
    Golden {
        issuer: "tresor",
        path: "demo/email/general",
        dates: dates(10, -62_135_596_800_000, None),
        secret: mail(Some(MailAuth::OAuth2(client)), MailSecurity::ImplicitTls, None),
        signed: r#"{"iss":"tresor","tenant":"demo","provider":"email","scope":"general","version":10,"saved_at":"0001-01-01T00:00:00Z","mail_account":{"host":"smtp.example.com","port":587,"security":"MAIL_SECURITY_IMPLICIT_TLS","username":"büro@example.com","oauth2":{"token_url":"https://login.example.com/token","client_id":"client","client_secret":"client secret"},"from_address":"office@example.com","from_name":"Büro \"Leipzig\""}}"#,
    }
}

fn mail_with_password() -> Golden {
    Golden {
        issuer: "tresor",
        path: "demo/email/office/leipzig",
        dates: dates(2, 951_782_400_100, Some(1_709_164_800_010)),
        secret: mail(
            Some(MailAuth::Password(" geheim ".into())),
            MailSecurity::Plaintext,
            None,
        ),
        signed: r#"{"iss":"tresor","tenant":"demo","provider":"email","scope":"office","subject":"leipzig","version":2,"saved_at":"2000-02-29T00:00:00.100Z","valid_until":"2024-02-29T00:00:00.010Z","mail_account":{"host":"smtp.example.com","port":587,"security":"MAIL_SECURITY_PLAINTEXT","username":"büro@example.com","password":" geheim ","from_address":"office@example.com","from_name":"Büro \"Leipzig\""}}"#,
    }
}

fn mail_with_nothing() -> Golden {
    Golden {
        issuer: "tresor",
        path: "demo/email/general",
        dates: dates(3, 1_709_164_799_999, None),
        secret: mail(None, MailSecurity::StartTls, None),
        signed: r#"{"iss":"tresor","tenant":"demo","provider":"email","scope":"general","version":3,"saved_at":"2024-02-28T23:59:59.999Z","mail_account":{"host":"smtp.example.com","port":587,"security":"MAIL_SECURITY_STARTTLS","username":"büro@example.com","from_address":"office@example.com","from_name":"Büro \"Leipzig\""}}"#,
    }
}

fn all() -> [Golden; 7] {
    [
        login_with_everything(),
        login_with_nothing(),
        odd_characters(),
        mail_with_oauth2(),
        mail_with_bare_oauth2(),
        mail_with_password(),
        mail_with_nothing(),
    ]
}

#[test]
fn what_is_signed_is_what_was_always_signed_to_the_byte() {
    for golden in all() {
        let credential = CredentialRef::from_path(golden.path).unwrap();
        let made = payload(golden.issuer, (&credential).into(), &golden.dates, &golden.secret);
        assert_eq!(made.as_str(), golden.signed);
    }
}

#[test]
fn what_was_signed_comes_back_from_a_record_to_the_byte() {
    for golden in all() {
        let credential = CredentialRef::from_path(golden.path).unwrap();
        let content = Content {
            secret: golden.secret,
            note: "note".into(),
            saved_by: "somebody".into(),
            changed_fields: Vec::new(),
            signature: Signature {
                kid: "kid".into(),
                bytes: [7; 64],
            },
            payload: Payload::Of {
                issuer: golden.issuer.into(),
            },
        };
        for part in [Part::Head, Part::Version] {
            let decoded = Content::decode(content.encode(part)).unwrap();
            let Payload::Of { issuer } = &decoded.payload else {
                panic!("it was not kept")
            };
            let rebuilt = payload(issuer, (&credential).into(), &golden.dates, &decoded.secret);
            assert_eq!(rebuilt.as_str(), golden.signed);
            // As records have it that were written by older versions.
            let kept = Content {
                payload: Payload::Kept(Bytes::from_static(golden.signed.as_bytes())),
                ..decoded
            };
            let Payload::Kept(kept) = Content::decode(kept.encode(part)).unwrap().payload else {
                panic!("it was kept")
            };
            assert_eq!(std::str::from_utf8(&kept).unwrap(), golden.signed);
        }
    }
}

/// The bytes over which a token's signature was made.
fn signed_text(token: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_signature_outlives_its_issuer_every_key_and_every_change_of_state() {
    const SIGNED: &str = r#"{"iss":"issuer A","tenant":"demo","provider":"dat","scope":"general","version":1,"saved_at":"2026-06-21T00:00:00.120Z","valid_until":"2026-09-21T14:13:20Z","login":{"customer_number":"1234567","username":"myuser","password":"\u0001ü€😀 \" \\ /","customer_signature":"C14E734AC99EFD47BAFD34A52560D886A327CE05665DB997ABBDD11D5759ED46"}}"#;
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(SledStore::open(dir.path()).unwrap());
    let plugin = Plugin::start().await;
    let open = async |issuer: &str| {
        let settings = Settings {
            issuer: issuer.into(),
            ..settings()
        };
        let vault = TestVault::with_kek(store.clone(), plugin.source(), Catalogue::built_in(), settings);
        let vault = vault.await.unwrap();
        vault.clock.set(Timestamp::from_unix_ms(1_782_000_000_120));
        vault
    };
    let token = |vault: &TestVault| vault.resolve("dat", order()).unwrap().signed.unwrap();

    let vault = open("issuer A").await;
    let end = Timestamp::from_unix_ms(1_790_000_000_000);
    vault.save(dat().password("\u{1}ü€😀 \" \\ /").valid_until(end)).await;
    let first = token(&vault);
    assert_eq!(signed_text(&first), SIGNED);
    drop(vault);

    let vault = open("issuer B").await;
    assert_eq!(token(&vault), first);
    let is_unchanged = |vault: &TestVault, after: &str| {
        assert_eq!(token(vault), first, "after {after}");
        assert_eq!(verified(vault, &first).payload["iss"], "issuer A", "after {after}");
    };
    for is_enabled in [false, true] {
        vault.set_enabled(dat().name(), is_enabled, None).await.unwrap();
    }
    is_unchanged(&vault, "disabling and enabling");
    vault.delete(dat().name(), None).await.unwrap();
    vault.undelete(dat().name(), None).await.unwrap();
    is_unchanged(&vault, "deleting and undeleting");
    vault.rotate_data_key(&tenant(TENANT)).await.unwrap();
    vault.settle().await;
    is_unchanged(&vault, "replacing the data key");
    *plugin.kms.key.lock().unwrap() = 1;
    assert_ne!(vault.request_rewrap().await.unwrap(), 0);
    vault.settle().await;
    is_unchanged(&vault, "replacing the key-encryption key");
    vault.rotate_signing_key(true).await.unwrap();
    vault.settle().await;
    is_unchanged(&vault, "replacing the signing key");
    drop(vault);

    let vault = open("issuer C").await;
    is_unchanged(&vault, "another restart");
    // Only what is saved anew is signed anew: by the issuer of its own time.
    vault.rollback(dat().rollback(1)).await.unwrap();
    let anew = verified(&vault, &token(&vault));
    assert_eq!(
        (&anew.payload["iss"], &anew.payload["version"]),
        (&"issuer C".into(), &2.into())
    );
}
