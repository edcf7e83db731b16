//! Strategies for what can come over the wire: half of it well-formed, so that all of the code is reached.

use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use crate::pb::v1::{self, mail_account::Auth, put_credential_request::Secret, scope::Kind};

/// A message, printed as its bytes: some of them must not print themselves.
#[derive(Clone)]
pub(super) struct Wire<M>(pub(super) M);

impl<M: Message> fmt::Debug for Wire<M> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0.encode_to_vec()))
    }
}

pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[A-Za-z0-9][A-Za-z0-9._@+-]{0,12}",
        1 => prop_oneof!["dat", "email", "wom", "1234567", "https://a.example/token", "a@example.com", "general"],
        1 => Just(String::new()),
        2 => any::<String>(),
        1 => "\\PC{250,300}",
    ]
}

pub(super) fn provider() -> impl Strategy<Value = String> {
    prop_oneof![3 => prop_oneof!["dat", "email", "wom", "cartv"], 1 => text()]
}

pub(super) fn number() -> impl Strategy<Value = i32> {
    prop_oneof![0..6, any::<i32>()]
}

pub(super) fn timestamp() -> impl Strategy<Value = Option<prost_types::Timestamp>> {
    let near = (-5..5_i64, -5..5_i32);
    let at = prop_oneof![near, any::<(i64, i32)>()];
    option::of(at.prop_map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }))
}

pub(super) fn name() -> impl Strategy<Value = Option<v1::CredentialRef>> {
    let kind = prop_oneof![
        2 => Just(Some(Kind::General(()))),
        1 => text().prop_map(|id| Some(Kind::OfficeId(id))),
        1 => text().prop_map(|id| Some(Kind::AppraiserId(id))),
        1 => text().prop_map(|id| Some(Kind::UserId(id))),
        1 => Just(None),
    ];
    let scope = option::weighted(0.9, kind.prop_map(|kind| v1::Scope { kind }));
    let fields = (text(), provider(), scope);
    option::weighted(
        0.9,
        fields.prop_map(|(tenant, provider, scope)| v1::CredentialRef {
            tenant,
            provider,
            scope,
        }),
    )
}

fn secret() -> impl Strategy<Value = Option<Wire<v1::PutCredentialRequest>>> {
    let texts = || vec(text(), 8);
    let login = texts().prop_map(|texts| {
        let [
            customer_number,
            username,
            password,
            customer_signature,
            partner,
            signature,
            ..,
        ] = take(texts);
        Secret::Login(v1::Login {
            customer_number,
            username,
            password,
            customer_signature,
            interface_partner_number: partner,
            interface_partner_signature: signature,
        })
        .into()
    });
    let account = (texts(), texts(), any::<u32>(), number(), 0..3, vec(text(), 0..20));
    let account = account.prop_map(|(texts, more, port, security, auth, scopes)| {
        let [host, username, from_address, from_name, reply_to, password, ..] = take(texts);
        let [token_url, client_id, client_secret, refresh_token, ..] = take(more);
        let client = v1::OAuth2Client {
            token_url,
            client_id,
            client_secret,
            refresh_token,
            scopes,
        };
        let auth = match auth {
            0 => None,
            1 => Some(Auth::Password(password)),
            _ => Some(Auth::Oauth2(client)),
        };
        Secret::MailAccount(v1::MailAccount {
            host,
            port: port % 70_000,
            security,
            username,
            auth,
            from_address,
            from_name,
            reply_to,
        })
        .into()
    });
    option::weighted(0.9, prop_oneof![login, account])
}

impl From<Secret> for Wire<v1::PutCredentialRequest> {
    fn from(secret: Secret) -> Self {
        Self(v1::PutCredentialRequest {
            secret: Some(secret),
            ..v1::PutCredentialRequest::default()
        })
    }
}

fn take(texts: Vec<String>) -> [String; 8] {
    texts.try_into().expect("there are eight")
}

pub(super) fn put() -> impl Strategy<Value = Wire<v1::PutCredentialRequest>> {
    let fields = (name(), secret(), timestamp(), text(), option::of(0..3_u64));
    fields.prop_map(|(name, secret, valid_until, note, expected_version)| {
        Wire(v1::PutCredentialRequest {
            r#ref: name,
            valid_until,
            note,
            expected_version,
            validate_only: true,
            ..secret.map(|secret| secret.0).unwrap_or_default()
        })
    })
}

pub(super) fn order() -> impl Strategy<Value = Option<v1::Order>> {
    let order = (text(), text(), text(), text(), text()).prop_map(|(order_id, office, created_in, appraiser, user)| {
        v1::Order {
            order_id,
            office_id: office,
            created_in_office_id: created_in,
            appraiser_id: appraiser,
            user_id: user,
        }
    });
    option::weighted(0.9, order)
}
