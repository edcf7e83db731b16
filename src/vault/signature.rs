//! The two signatures: DAT's `customerSignature` over a login, and the payload that the vault signs over a credential.

use std::fmt::Write as _;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::credential::{CustomerSignature, Login, MailAccount, MailAuth, MailSecurity, OAuth2Client, Secret};
use super::ids::SubjectId;
use super::record::VersionHeader;
use super::scope::CredentialRef;
use crate::json::{push_text, text_length};
use crate::time::Timestamp;

/// A time-limited signature holds in the 10-minute frame in which it was made, and in the one before and after.
const FRAME: Duration = Duration::from_mins(10);

/// DAT's `customerSignature`: SHA-256 over `customerNumber:customerLogin:customerPassword`, in upper-case hex
/// (DATGROUP/SignatureGenerator).
#[must_use]
pub fn customer_signature(customer_number: &str, login: &str, password: &SecretString) -> SecretString {
    finish(credentials(customer_number, login, password))
}

/// The same, time-limited: `:` and the number of the current 10-minute frame are appended to what is hashed.
#[must_use]
pub fn time_limited_customer_signature(
    customer_number: &str,
    login: &str,
    password: &SecretString,
    now: Timestamp,
) -> SecretString {
    let mut hash = credentials(customer_number, login, password);
    hash.update(format!(":{}", frame(now)));
    finish(hash)
}

/// How long a time-limited signature that is made now still holds, at least.
#[must_use]
pub fn time_limited_validity(now: Timestamp) -> Duration {
    let end = (frame(now) + 2) * i64::try_from(FRAME.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_ms(end).since(now)
}

fn frame(now: Timestamp) -> i64 {
    now.unix_ms()
        .div_euclid(i64::try_from(FRAME.as_millis()).unwrap_or(i64::MAX))
}

fn credentials(customer_number: &str, login: &str, password: &SecretString) -> Sha256 {
    let mut hash = Sha256::new();
    for part in [customer_number, ":", login, ":", password.expose_secret()] {
        hash.update(part);
    }
    hash
}

fn finish(hash: Sha256) -> SecretString {
    hex::encode_upper(hash.finalize()).into()
}

/// A credential's name as its signature has it.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    tenant: &'a str,
    provider: &'a str,
    scope: &'a str,
    subject: Option<&'a str>,
}

impl<'a> From<&'a CredentialRef> for Named<'a> {
    fn from(credential: &'a CredentialRef) -> Self {
        Self {
            tenant: credential.tenant.as_str(),
            provider: credential.provider.as_str(),
            scope: credential.scope.kind().as_str(),
            subject: credential.scope.subject().map(SubjectId::as_str),
        }
    }
}

/// What the vault signs: the whole credential as JSON, with the names of the wire contract (as protobuf's JSON mapping has
/// them with original field names). Times are RFC 3339; fields that are not set are left out.
///
/// The store keeps no copy of it but puts it together again from the record that holds the credential. So not a byte of it may
/// ever change: signatures that were made before would not hold any more.
#[must_use]
pub fn payload(issuer: &str, named: Named<'_>, dates: &VersionHeader, secret: &Secret) -> Zeroizing<String> {
    let Named {
        tenant,
        provider,
        scope,
        subject,
    } = named;
    let mut claims = Claims::new();
    claims.text("iss", issuer);
    claims.text("tenant", tenant);
    claims.text("provider", provider);
    claims.text("scope", scope);
    claims.optional("subject", subject);
    claims.plain("version", dates.version.0);
    claims.time("saved_at", dates.saved_at);
    if let Some(valid_until) = dates.valid_until {
        claims.time("valid_until", valid_until);
    }
    match secret {
        Secret::Login(login) => claims.object("login", |claims| claims.login(login)),
        Secret::MailAccount(account) => claims.object("mail_account", |claims| claims.mail_account(account)),
    }
    claims.finish()
}

/// How long most payloads are at most, in bytes.
const USUAL_PAYLOAD: usize = 512;

/// A JSON object that is being written. Its memory leaves no copy behind when it grows.
struct Claims(Zeroizing<String>);

impl Claims {
    fn new() -> Self {
        let mut json = Zeroizing::new(String::with_capacity(USUAL_PAYLOAD));
        json.push('{');
        Self(json)
    }

    fn finish(mut self) -> Zeroizing<String> {
        self.room_for(1);
        self.0.push('}');
        self.0
    }

    fn text(&mut self, name: &'static str, value: &str) {
        self.name(name, text_length(value));
        push_text(&mut self.0, value);
    }

    fn optional(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    // Secrets get into text here and nowhere else.
    fn secret(&mut self, name: &'static str, value: Option<&SecretString>) {
        self.optional(name, value.map(SecretString::expose_secret));
    }

    fn plain(&mut self, name: &'static str, number: u64) {
        self.name(name, 20);
        write!(self.0, "{number}").expect(IN_MEMORY);
    }

    fn time(&mut self, name: &'static str, time: Timestamp) {
        self.name(name, "\"2026-01-01T00:00:00.000Z\"".len());
        write!(self.0, "\"{time}\"").expect(IN_MEMORY);
    }

    fn object(&mut self, name: &'static str, fields: impl FnOnce(&mut Self)) {
        self.name(name, 2);
        self.0.push('{');
        fields(self);
        self.room_for(1);
        self.0.push('}');
    }

    fn login(&mut self, login: &Login) {
        self.optional("customer_number", login.customer_number.as_deref());
        self.text("username", &login.username);
        self.secret("password", login.password.as_ref());
        let signature = login.customer_signature.as_ref().map(CustomerSignature::value);
        self.secret("customer_signature", signature);
        self.optional("interface_partner_number", login.interface_partner_number.as_deref());
        self.secret(
            "interface_partner_signature",
            login.interface_partner_signature.as_ref(),
        );
    }

    fn mail_account(&mut self, account: &MailAccount) {
        self.text("host", &account.host);
        self.plain("port", account.port.get().into());
        let security = match account.security {
            MailSecurity::StartTls => "MAIL_SECURITY_STARTTLS",
            MailSecurity::ImplicitTls => "MAIL_SECURITY_IMPLICIT_TLS",
            MailSecurity::Plaintext => "MAIL_SECURITY_PLAINTEXT",
        };
        self.text("security", security);
        self.text("username", &account.username);
        match &account.auth {
            Some(MailAuth::Password(password)) => self.secret("password", Some(password)),
            Some(MailAuth::OAuth2(client)) => self.object("oauth2", |claims| claims.oauth2(client)),
            None => {}
        }
        self.text("from_address", &account.from_address);
        self.text("from_name", &account.from_name);
        self.optional("reply_to", account.reply_to.as_deref());
    }

    fn oauth2(&mut self, client: &OAuth2Client) {
        self.text("token_url", &client.token_url);
        self.text("client_id", &client.client_id);
        self.secret("client_secret", Some(&client.client_secret));
        self.secret("refresh_token", client.refresh_token.as_ref());
        if !client.scopes.is_empty() {
            self.texts("scopes", &client.scopes);
        }
    }

    fn texts(&mut self, name: &'static str, values: &[String]) {
        let length = values.iter().map(|value| text_length(value) + 1).sum::<usize>();
        self.name(name, length + 1);
        for (number, value) in values.iter().enumerate() {
            self.0.push(if number == 0 { '[' } else { ',' });
            push_text(&mut self.0, value);
        }
        self.0.push(']');
    }

    /// Begins a field whose value takes at most so many bytes.
    fn name(&mut self, name: &'static str, value: usize) {
        self.room_for(name.len() + 4 + value);
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn room_for(&mut self, more: usize) {
        let needed = self.0.len() + more;
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(String::with_capacity(2 * needed));
            larger.push_str(&self.0);
            self.0 = larger;
        }
    }
}

const IN_MEMORY: &str = "writing to memory cannot fail";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vault::credential::Version;

    #[test]
    fn the_plain_signature_is_that_of_the_published_formula() {
        for (number, login, password, expected) in [
            (
                "1234567",
                "myuser",
                "password",
                "B6760E7D6FAA2C88E9535C8609F97A059E121F14B3F3C1BD3B2262A2E0760675",
            ),
            (
                "1234567",
                "müller",
                "Pä$$wört€",
                "71137F42E1F5C90AE8B2D316190C60196294EC07C3B4A54FC2D332A4F24AD1A3",
            ),
        ] {
            assert_eq!(
                customer_signature(number, login, &password.into()).expose_secret(),
                expected
            );
        }
    }

    #[test]
    fn the_time_limited_signature_appends_its_frame() {
        let expected = "BAF859C60FB0A5CAB91C505C47D56A033EE5489AED490B2248ED2AC8BAF62F52";
        for offset in [0, 599_999] {
            let now = Timestamp::from_unix_ms(2_960_000 * 600_000 + offset);
            let made = time_limited_customer_signature("1234567", "myuser", &"password".into(), now);
            assert_eq!(made.expose_secret(), expected);
        }
    }

    #[test]
    fn a_time_limited_signature_holds_to_the_end_of_the_next_frame() {
        let at = |ms| time_limited_validity(Timestamp::from_unix_ms(ms));
        assert_eq!(at(600_000), Duration::from_mins(20));
        assert_eq!(at(1_199_999), Duration::from_mins(10) + Duration::from_millis(1));
    }

    #[test]
    fn the_payload_names_everything_and_leaves_out_what_is_not_set() {
        let secret = Secret::Login(Login {
            customer_number: None,
            username: "a\"b".into(),
            password: Some("geheim".into()),
            customer_signature: None,
            interface_partner_number: None,
            interface_partner_signature: None,
        });
        let credential = CredentialRef::from_path("demo/wom/office/leipzig").unwrap();
        let dates = VersionHeader {
            version: Version(3),
            saved_at: Timestamp::from_unix_ms(0),
            valid_until: None,
        };
        let json = payload("tresor", (&credential).into(), &dates, &secret);
        assert_eq!(
            json.as_str(),
            r#"{"iss":"tresor","tenant":"demo","provider":"wom","scope":"office","subject":"leipzig","version":3,"saved_at":"1970-01-01T00:00:00Z","login":{"username":"a\"b","password":"geheim"}}"#
        );
    }

    proptest! {
        #[test]
        fn whatever_a_credential_holds_its_payload_says_just_that(
            texts in proptest::collection::vec("(\\PC|[\"\\\\\n\t\u{0}-\u{1f}]){1,200}", 6),
            is_mail in any::<bool>(),
        ) {
            let text = |number: usize| texts[number].clone();
            let (secret, expected) = if is_mail {
                let client = OAuth2Client {
                    token_url: text(0),
                    client_id: text(1),
                    client_secret: text(2).into(),
                    refresh_token: None,
                    scopes: vec![text(3), text(4)],
                };
                let account = MailAccount {
                    host: text(5),
                    port: 587.try_into().unwrap(),
                    security: MailSecurity::StartTls,
                    username: text(4),
                    auth: Some(MailAuth::OAuth2(client)),
                    from_address: text(3),
                    from_name: text(2),
                    reply_to: Some(text(1)),
                };
                let expected = serde_json::json!({"mail_account": {
                    "host": text(5), "port": 587, "security": "MAIL_SECURITY_STARTTLS", "username": text(4),
                    "oauth2": {
                        "token_url": text(0), "client_id": text(1), "client_secret": text(2), "scopes": [text(3), text(4)],
                    },
                    "from_address": text(3), "from_name": text(2), "reply_to": text(1),
                }});
                (Secret::MailAccount(account), expected)
            } else {
                let login = Login {
                    customer_number: Some(text(0)),
                    username: text(1),
                    password: Some(text(2).into()),
                    customer_signature: Some(CustomerSignature::Made(text(3).into())),
                    interface_partner_number: Some(text(4)),
                    interface_partner_signature: Some(text(5).into()),
                };
                let expected = serde_json::json!({"login": {
                    "customer_number": text(0), "username": text(1), "password": text(2), "customer_signature": text(3),
                    "interface_partner_number": text(4), "interface_partner_signature": text(5),
                }});
                (Secret::Login(login), expected)
            };
            let credential = CredentialRef::from_path("demo/dat/general").unwrap();
            let dates = VersionHeader { version: Version(1), saved_at: Timestamp::EPOCH, valid_until: None };
            let json = payload("tresor", (&credential).into(), &dates, &secret);
            let mut said: serde_json::Value = serde_json::from_str(&json).unwrap();
            let said = said.as_object_mut().unwrap();
            said.retain(|name, _| name == "login" || name == "mail_account");
            prop_assert_eq!(serde_json::Value::from(said.clone()), expected);
        }
    }
}
