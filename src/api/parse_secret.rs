//! Wire to domain: what a provider wants to see, by the rules of its catalogue entry.

use std::num::NonZeroU16;

use email_address::{EmailAddress, Options};
use secrecy::SecretString;

use super::violations::Violations;
use crate::pb::v1::{self, mail_account, put_credential_request};
use crate::vault::catalogue::{CustomerNumber, Provider, ProviderKind};
use crate::vault::credential::{CustomerSignature, Login, MailAccount, MailAuth, MailSecurity, OAuth2Client, Secret};
use crate::vault::ids::is_printable;

/// The longest secret, in bytes.
pub(super) const MAX_SECRET: usize = 4096;
/// The longest other text, in characters.
pub(super) const MAX_TEXT: usize = 256;
const MAX_OAUTH2_SCOPES: usize = 16;

/// A login or a mail account, as the provider takes it. Without a provider only what holds for all of them is checked.
pub(super) fn secret(
    violations: &mut Violations,
    provider: Option<&Provider>,
    allows_plaintext: bool,
    wire: Option<put_credential_request::Secret>,
) -> Option<Secret> {
    match (wire, provider.map(|provider| provider.kind)) {
        (Some(put_credential_request::Secret::Login(_)), Some(ProviderKind::MailAccount)) => refuse(
            violations,
            "login",
            "is of the wrong kind: the provider takes a mail_account",
        ),
        (Some(put_credential_request::Secret::MailAccount(_)), Some(ProviderKind::Login)) => refuse(
            violations,
            "mail_account",
            "is of the wrong kind: the provider takes a login",
        ),
        (Some(put_credential_request::Secret::Login(wire)), _) => login(violations, provider, wire).map(Secret::Login),
        (Some(put_credential_request::Secret::MailAccount(wire)), _) => {
            mail_account(violations, allows_plaintext, wire).map(Secret::MailAccount)
        }
        (None, Some(ProviderKind::MailAccount)) => refuse(violations, "mail_account", "is required"),
        (None, Some(ProviderKind::Login) | None) => refuse(violations, "login", "is required"),
    }
}

fn refuse<T>(violations: &mut Violations, field: &str, text: &str) -> Option<T> {
    violations.add(field, text);
    None
}

fn login(violations: &mut Violations, provider: Option<&Provider>, wire: v1::Login) -> Option<Login> {
    let mut fields = Fields {
        violations,
        prefix: "login",
    };
    let customer_number = fields.customer_number(provider, &wire.customer_number);
    let username = fields.required("username", wire.username.trim());
    let password = fields.required_secret("password", wire.password);
    let signature = fields.optional_secret("customer_signature", wire.customer_signature);
    let partner_number = fields.optional("interface_partner_number", wire.interface_partner_number.trim());
    let partner_signature = fields.optional_secret("interface_partner_signature", wire.interface_partner_signature);
    if let Some(provider) = provider.filter(|provider| provider.customer_signature.is_none()) {
        let given = [
            ("customer_signature", matches!(signature, Some(Some(_)))),
            ("interface_partner_number", matches!(partner_number, Some(Some(_)))),
            (
                "interface_partner_signature",
                matches!(partner_signature, Some(Some(_))),
            ),
        ];
        for (field, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            fields.add(field, format!("is not taken by {}", provider.id));
        }
    }
    Some(Login {
        customer_number: customer_number?,
        username: username?,
        password: Some(password?),
        customer_signature: signature?.map(CustomerSignature::Given),
        interface_partner_number: partner_number?,
        interface_partner_signature: partner_signature?,
    })
}

fn mail_account(violations: &mut Violations, allows_plaintext: bool, wire: v1::MailAccount) -> Option<MailAccount> {
    let security = mail_security(violations, allows_plaintext, &wire);
    let mut fields = Fields {
        violations,
        prefix: "mail_account",
    };
    let host = fields.host(&wire.host);
    let port = u16::try_from(wire.port).ok().and_then(NonZeroU16::new);
    if port.is_none() {
        fields.add("port", "must be between 1 and 65535");
    }
    let username = fields.required("username", wire.username.trim());
    let from_address = fields.address("from_address", &wire.from_address);
    let from_name = fields.required("from_name", &wire.from_name);
    let reply_to = match wire.reply_to.as_str() {
        "" => Some(None),
        address => fields.address("reply_to", address).map(Some),
    };
    let auth = match wire.auth {
        Some(mail_account::Auth::Password(password)) => {
            fields.required_secret("password", password).map(MailAuth::Password)
        }
        Some(mail_account::Auth::Oauth2(client)) => oauth2(violations, client).map(MailAuth::OAuth2),
        None => {
            fields.add("auth", "is required: password or oauth2");
            None
        }
    };
    Some(MailAccount {
        host: host?,
        port: port?,
        security: security?,
        username: username?,
        auth: Some(auth?),
        from_address: from_address?,
        from_name: from_name?,
        reply_to: reply_to?,
    })
}

fn mail_security(violations: &mut Violations, allows_plaintext: bool, wire: &v1::MailAccount) -> Option<MailSecurity> {
    let field = "mail_account.security";
    match v1::MailSecurity::try_from(wire.security) {
        Ok(v1::MailSecurity::Starttls) => Some(MailSecurity::StartTls),
        Ok(v1::MailSecurity::ImplicitTls) => Some(MailSecurity::ImplicitTls),
        Ok(v1::MailSecurity::Plaintext) if allows_plaintext => Some(MailSecurity::Plaintext),
        Ok(v1::MailSecurity::Plaintext) => {
            violations.add(
                field,
                "PLAINTEXT is not allowed here; the setting mail.allow_plaintext would",
            );
            None
        }
        Ok(v1::MailSecurity::Unspecified) | Err(_) => {
            violations.add(field, "is required: STARTTLS or IMPLICIT_TLS");
            None
        }
    }
}

fn oauth2(violations: &mut Violations, wire: v1::OAuth2Client) -> Option<OAuth2Client> {
    let mut fields = Fields {
        violations,
        prefix: "mail_account.oauth2",
    };
    let token_url = fields.https_url("token_url", &wire.token_url);
    let client_id = fields.required("client_id", &wire.client_id);
    let client_secret = fields.required_secret("client_secret", wire.client_secret);
    let refresh_token = fields.optional_secret("refresh_token", wire.refresh_token);
    if wire.scopes.len() > MAX_OAUTH2_SCOPES {
        fields.add(
            "scopes",
            format!(
                "has {} entries; at most {MAX_OAUTH2_SCOPES} are allowed",
                wire.scopes.len()
            ),
        );
    }
    let scopes: Vec<_> = wire
        .scopes
        .iter()
        .take(MAX_OAUTH2_SCOPES)
        .enumerate()
        .map(|(index, scope)| fields.required(&format!("scopes[{index}]"), scope))
        .collect();
    Some(OAuth2Client {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        refresh_token: refresh_token?,
        scopes: scopes.into_iter().collect::<Option<_>>()?,
    })
}

/// A note: any text that shows itself, or none.
pub(super) fn note(violations: &mut Violations, text: &str) -> Option<String> {
    match check_text(text) {
        Ok(()) => Some(text.to_owned()),
        Err(problem) => {
            violations.add("note", problem);
            None
        }
    }
}

/// The fields of one message.
struct Fields<'a> {
    violations: &'a mut Violations,
    prefix: &'static str,
}

impl Fields<'_> {
    fn add(&mut self, field: &str, text: impl Into<String>) {
        self.violations.add(format!("{}.{field}", self.prefix), text);
    }

    fn required(&mut self, field: &str, text: &str) -> Option<String> {
        let optional = self.optional(field, text)?;
        if optional.is_none() {
            self.add(field, "is required");
        }
        optional
    }

    /// None if it is malformed, `Some(None)` if it is not there.
    fn optional(&mut self, field: &str, text: &str) -> Option<Option<String>> {
        match check_text(text) {
            Ok(()) => Some((!text.is_empty()).then(|| text.to_owned())),
            Err(problem) => {
                self.add(field, problem);
                None
            }
        }
    }

    fn required_secret(&mut self, field: &str, text: String) -> Option<SecretString> {
        let optional = self.optional_secret(field, text)?;
        if optional.is_none() {
            self.add(field, "is required");
        }
        optional
    }
    fn optional_secret(&mut self, field: &str, text: String) -> Option<Option<SecretString>> {
        let (length, secret) = (text.len(), SecretString::from(text));
        if length > MAX_SECRET {
            self.add(field, format!("has {length} bytes; at most {MAX_SECRET} are allowed"));
            return None;
        }
        Some((length > 0).then_some(secret))
    }
    fn customer_number(&mut self, provider: Option<&Provider>, text: &str) -> Option<Option<String>> {
        let field = "customer_number";
        let number = self.optional(field, text.trim())?;
        let Some(provider) = provider else { return Some(number) };
        match (provider.customer_number, &number) {
            (CustomerNumber::Required { .. }, None) => {
                self.add(field, format!("is required by {}", provider.id));
                return None;
            }
            (CustomerNumber::None, Some(_)) => {
                self.add(field, format!("is not taken by {}", provider.id));
                return None;
            }
            _ => {}
        }
        if let (Some(digits), Some(number)) = (provider.customer_number.digits(), &number) {
            let is_right = number.len() == usize::from(digits) && number.bytes().all(|byte| byte.is_ascii_digit());
            if !is_right {
                self.add(field, format!("must have exactly {digits} digits"));
                return None;
            }
        }
        Some(number)
    }

    /// A host name (RFC 1123) or an IP address.
    fn host(&mut self, text: &str) -> Option<String> {
        let host = self.required("host", text)?;
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_name = host.len() <= 253 && host.split('.').all(is_label);
        if is_name || host.parse::<std::net::IpAddr>().is_ok() {
            return Some(host);
        }
        self.add("host", "must be a host name or an IP address");
        None
    }

    fn address(&mut self, field: &str, text: &str) -> Option<String> {
        let address = self.required(field, text)?;
        // The bare address: a name beside it has a field of its own.
        let options = Options::default().without_display_text().without_domain_literal();
        if EmailAddress::parse_with_options(&address, options).is_ok() {
            return Some(address);
        }
        self.add(field, "must be an e-mail address");
        None
    }

    fn https_url(&mut self, field: &str, text: &str) -> Option<String> {
        let url = self.required(field, text)?;
        let is_https = url
            .parse::<http::Uri>()
            .is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty()));
        // A user and a password in a URL would be a secret in a place that is not treated as one.
        if is_https && !url.contains('@') {
            return Some(url);
        }
        self.add(field, "must be an https URL without user information");
        None
    }
}

/// At most [`MAX_TEXT`] characters that show themselves.
fn check_text(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if length > MAX_TEXT {
        return Err(format!("has {length} characters; at most {MAX_TEXT} are allowed"));
    }
    match text.chars().position(|character| !is_printable(character)) {
        Some(index) => Err(format!("holds an unprintable character at position {}", index + 1)),
        None => Ok(()),
    }
}
