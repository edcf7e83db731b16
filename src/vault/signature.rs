//! The two signatures: DAT's `customerSignature` over a login, and the payload that the vault signs over a credential.

use std::io;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::credential::{Login, MailAccount, MailAuth, MailSecurity, OAuth2Client, Secret};
use super::ids::SubjectId;
use super::record::VersionHeader;
use super::scope::CredentialRef;
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
pub fn payload(issuer: &str, named: Named<'_>, dates: &VersionHeader, secret: &Secret) -> Zeroizing<Vec<u8>> {
    let Named {
        tenant,
        provider,
        scope,
        subject,
    } = named;
    let (login, mail_account) = match secret {
        Secret::Login(login) => (Some(login.into()), None),
        Secret::MailAccount(account) => (None, Some(account.into())),
    };
    let claims = Claims {
        iss: issuer,
        tenant,
        provider,
        scope,
        subject,
        version: dates.version.0,
        saved_at: Text(dates.saved_at),
        valid_until: dates.valid_until.map(Text),
        login,
        mail_account,
    };
    let mut json = Wiped(Zeroizing::new(Vec::with_capacity(USUAL_PAYLOAD)));
    serde_json::to_writer(&mut json, &claims).expect("writing to memory cannot fail, and all keys are strings");
    json.0
}

/// How long most payloads are at most, in bytes.
const USUAL_PAYLOAD: usize = 512;

/// Memory that leaves no copy behind when it grows.
struct Wiped(Zeroizing<Vec<u8>>);

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * needed));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A time in RFC 3339, written without a text of its own.
struct Text(Timestamp);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    tenant: &'a str,
    provider: &'a str,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    version: u64,
    saved_at: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<LoginClaims<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_account: Option<MailClaims<'a>>,
}

// Secrets serialize here and nowhere else.
#[derive(Serialize)]
struct LoginClaims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_number: Option<&'a str>,
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_partner_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_partner_signature: Option<&'a str>,
}

impl<'a> From<&'a Login> for LoginClaims<'a> {
    fn from(login: &'a Login) -> Self {
        let exposed = |secret: &'a Option<SecretString>| secret.as_ref().map(SecretString::expose_secret);
        Self {
            customer_number: login.customer_number.as_deref(),
            username: &login.username,
            password: exposed(&login.password),
            customer_signature: login
                .customer_signature
                .as_ref()
                .map(|signature| signature.value().expose_secret()),
            interface_partner_number: login.interface_partner_number.as_deref(),
            interface_partner_signature: exposed(&login.interface_partner_signature),
        }
    }
}

#[derive(Serialize)]
struct MailClaims<'a> {
    host: &'a str,
    port: u16,
    security: &'static str,
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oauth2: Option<OAuth2Claims<'a>>,
    from_address: &'a str,
    from_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
}

impl<'a> From<&'a MailAccount> for MailClaims<'a> {
    fn from(account: &'a MailAccount) -> Self {
        let (password, oauth2) = match &account.auth {
            Some(MailAuth::Password(password)) => (Some(password.expose_secret()), None),
            Some(MailAuth::OAuth2(client)) => (None, Some(OAuth2Claims::from(client))),
            None => (None, None),
        };
        Self {
            host: &account.host,
            port: account.port.get(),
            security: match account.security {
                MailSecurity::StartTls => "MAIL_SECURITY_STARTTLS",
                MailSecurity::ImplicitTls => "MAIL_SECURITY_IMPLICIT_TLS",
                MailSecurity::Plaintext => "MAIL_SECURITY_PLAINTEXT",
            },
            username: &account.username,
            password,
            oauth2,
            from_address: &account.from_address,
            from_name: &account.from_name,
            reply_to: account.reply_to.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct OAuth2Claims<'a> {
    token_url: &'a str,
    client_id: &'a str,
    client_secret: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    scopes: &'a [String],
}

impl<'a> From<&'a OAuth2Client> for OAuth2Claims<'a> {
    fn from(client: &'a OAuth2Client) -> Self {
        Self {
            token_url: &client.token_url,
            client_id: &client.client_id,
            client_secret: client.client_secret.expose_secret(),
            refresh_token: client.refresh_token.as_ref().map(SecretString::expose_secret),
            scopes: &client.scopes,
        }
    }
}

#[cfg(test)]
mod tests {
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
            std::str::from_utf8(&json).unwrap(),
            r#"{"iss":"tresor","tenant":"demo","provider":"wom","scope":"office","subject":"leipzig","version":3,"saved_at":"1970-01-01T00:00:00Z","login":{"username":"a\"b","password":"geheim"}}"#
        );
    }
}
