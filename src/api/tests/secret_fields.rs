//! Every rule for the fields of a login and of a mail account: what breaks it is told with the field's exact path, and with
//! no part of what was sent.

use super::caller::{Api, check_login, check_mail, general, login, mail_account, oauth2, violations, wrong};
use crate::pb::v1::credential_admin_server::CredentialAdmin as _;
use crate::pb::v1::mail_account::Auth;
use crate::pb::v1::{self};

/// A field: its path, and where it is in a message.
pub(super) type Field<M> = (&'static str, fn(&mut M) -> &mut String);

const LOGIN_TEXTS: [Field<v1::Login>; 3] = [
    ("login.customer_number", |login| &mut login.customer_number),
    ("login.username", |login| &mut login.username),
    ("login.interface_partner_number", |login| {
        &mut login.interface_partner_number
    }),
];
const LOGIN_SECRETS: [Field<v1::Login>; 3] = [
    ("login.password", |login| &mut login.password),
    ("login.customer_signature", |login| &mut login.customer_signature),
    ("login.interface_partner_signature", |login| {
        &mut login.interface_partner_signature
    }),
];
pub(super) const MAIL_TEXTS: [Field<v1::MailAccount>; 5] = [
    ("mail_account.host", |account| &mut account.host),
    ("mail_account.username", |account| &mut account.username),
    ("mail_account.from_address", |account| &mut account.from_address),
    ("mail_account.from_name", |account| &mut account.from_name),
    ("mail_account.reply_to", |account| &mut account.reply_to),
];
pub(super) const OAUTH2_TEXTS: [Field<v1::OAuth2Client>; 3] = [
    ("mail_account.oauth2.token_url", |client| &mut client.token_url),
    ("mail_account.oauth2.client_id", |client| &mut client.client_id),
    ("mail_account.oauth2.scopes[0]", |client| &mut client.scopes[0]),
];
const OAUTH2_SECRETS: [Field<v1::OAuth2Client>; 2] = [
    ("mail_account.oauth2.client_secret", |client| &mut client.client_secret),
    ("mail_account.oauth2.refresh_token", |client| &mut client.refresh_token),
];

/// Texts that no field takes.
fn bad_texts() -> Vec<String> {
    let unprintable = [
        "a\0b",
        "a\nb",
        "a\u{7f}b",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\u{85}b",
        "a\u{feff}b",
    ];
    let too_long = ["x".repeat(257), "ü".repeat(257)];
    unprintable.map(str::to_owned).into_iter().chain(too_long).collect()
}

pub(super) fn with_client(client: v1::OAuth2Client) -> v1::PutCredentialRequest {
    check_mail(v1::MailAccount {
        auth: Some(Auth::Oauth2(client)),
        ..mail_account()
    })
}

/// Insists that putting each value into each field is refused, for that field alone.
pub(super) async fn assert_refused<M: Clone>(
    fields: &[Field<M>],
    values: &[String],
    good: &M,
    request: impl Fn(M) -> v1::PutCredentialRequest,
) {
    let api = Api::new().await;
    assert!(
        api.admin
            .put_credential(api.request(request(good.clone())))
            .await
            .is_ok()
    );
    for (path, place) in fields {
        for value in values {
            let mut message = good.clone();
            value.clone_into(place(&mut message));
            let told = violations(api.admin.put_credential(api.request(request(message))).await);
            assert_eq!(told.keys().collect::<Vec<_>>(), [path], "{value:?}");
            let is_repeated = value.len() > 2 && told.values().any(|text| text.contains(value.as_str()));
            assert!(!is_repeated, "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_text_that_hides_something_or_is_too_long_is_refused() {
    let of_dat = |login| check_login("dat", login);
    assert_refused(&LOGIN_TEXTS, &bad_texts(), &login(), of_dat).await;
    assert_refused(&MAIL_TEXTS, &bad_texts(), &mail_account(), check_mail).await;
    assert_refused(&OAUTH2_TEXTS, &bad_texts(), &oauth2(), with_client).await;
}

#[tokio::test]
async fn a_secret_of_more_than_4_kib_is_refused() {
    let too_long = ["x".repeat(4097), "ü".repeat(2049)];
    let of_dat = |login| check_login("dat", login);
    assert_refused(&LOGIN_SECRETS, &too_long, &login(), of_dat).await;
    assert_refused(&OAUTH2_SECRETS, &too_long, &oauth2(), with_client).await;
    let api = Api::new().await;
    for password in too_long {
        let auth = Some(Auth::Password(password));
        let request = check_mail(v1::MailAccount { auth, ..mail_account() });
        assert_eq!(
            wrong(api.admin.put_credential(api.request(request)).await),
            ["mail_account.password"]
        );
    }
}

#[tokio::test]
async fn what_is_required_must_be_there() {
    let nothing = [String::new()];
    let of_dat = |login| check_login("dat", login);
    let required = [LOGIN_TEXTS[0], LOGIN_TEXTS[1], LOGIN_SECRETS[0]];
    assert_refused(&required, &nothing, &login(), of_dat).await;
    assert_refused(&MAIL_TEXTS[..4], &nothing, &mail_account(), check_mail).await;
    assert_refused(&OAUTH2_TEXTS, &nothing, &oauth2(), with_client).await;
    assert_refused(&OAUTH2_SECRETS[..1], &nothing, &oauth2(), with_client).await;
    let blank = ["  ".into(), "\t\n".into()];
    assert_refused(&LOGIN_TEXTS[..2], &blank, &login(), of_dat).await;
}

#[tokio::test]
async fn the_longest_that_is_allowed_is_taken() {
    let api = Api::new().await;
    let text = "ü".repeat(256);
    let secret = "x".repeat(4096);
    let request = v1::PutCredentialRequest {
        note: text.clone(),
        ..check_login(
            "dat",
            v1::Login {
                customer_number: " 1234567\n".into(),
                username: format!("  {text}\t"),
                password: secret.clone(),
                customer_signature: secret.clone(),
                interface_partner_number: text,
                interface_partner_signature: secret,
            },
        )
    };
    let saved = api
        .admin
        .put_credential(api.request(request))
        .await
        .unwrap()
        .into_inner()
        .credential
        .unwrap();
    assert_eq!(
        (saved.customer_number.as_str(), saved.username.chars().count()),
        ("1234567", 256),
        "trimmed"
    );
}

#[tokio::test]
async fn dats_customer_number_has_exactly_seven_digits() {
    let bad = ["123456", "12345678", "123456a", "１２３４５６７", "12 4567", "-123456"].map(str::to_owned);
    assert_refused(&LOGIN_TEXTS[..1], &bad, &login(), |login| check_login("dat", login)).await;
}

#[tokio::test]
async fn what_is_dats_alone_is_not_taken_by_others() {
    let given = ["something".to_owned()];
    let of_wom = |login| check_login("wom", login);
    let fields = [LOGIN_TEXTS[2], LOGIN_SECRETS[1], LOGIN_SECRETS[2]];
    assert_refused(&fields, &given, &login(), of_wom).await;
}

#[tokio::test]
async fn a_secret_must_be_of_the_providers_kind() {
    let api = Api::new().await;
    let refused = async |request| wrong(api.admin.put_credential(api.request(request)).await);
    assert_eq!(refused(check_login("email", login())).await, ["login"]);
    let of_dat = Some(general("dat"));
    assert_eq!(
        refused(v1::PutCredentialRequest {
            r#ref: of_dat,
            ..check_mail(mail_account())
        })
        .await,
        ["mail_account"]
    );
    for (provider, path) in [("dat", "login"), ("email", "mail_account")] {
        let request = v1::PutCredentialRequest {
            r#ref: Some(general(provider)),
            ..v1::PutCredentialRequest::default()
        };
        assert_eq!(refused(request).await, [path]);
    }
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let api = Api::new().await;
    let bad = || "a\0b".to_owned();
    let login = v1::Login {
        customer_number: bad(),
        username: bad(),
        password: String::new(),
        customer_signature: "x".repeat(5000),
        interface_partner_number: bad(),
        interface_partner_signature: "x".repeat(5000),
    };
    let request = v1::PutCredentialRequest {
        note: bad(),
        valid_until: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        ..check_login("dat", login)
    };
    let mut paths: Vec<&str> = LOGIN_TEXTS
        .iter()
        .chain(&LOGIN_SECRETS)
        .map(|(path, _)| *path)
        .collect();
    paths.extend(["note", "valid_until"]);
    paths.sort_unstable();
    assert_eq!(wrong(api.admin.put_credential(api.request(request)).await), paths);
}
