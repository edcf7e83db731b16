//! What a credential consists of. Secrets are wiped when dropped and print nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU16;

use secrecy::{ExposeSecret as _, SecretString};

use super::catalogue::ProviderKind;
use crate::time::Timestamp;

/// What a provider wants to see.
#[derive(Clone)]
pub enum Secret {
    /// A user name and a password.
    Login(Login),
    /// An SMTP account.
    MailAccount(MailAccount),
}

/// A user name and a password, with what DAT's login needs besides.
#[derive(Clone)]
pub struct Login {
    /// The provider's number for the customer.
    pub customer_number: Option<String>,
    /// The user name.
    pub username: String,
    /// The password; none if whoever gets this may not see it.
    pub password: Option<SecretString>,
    /// DAT's customerSignature.
    pub customer_signature: Option<CustomerSignature>,
    /// DAT's number for the software vendor.
    pub interface_partner_number: Option<String>,
    /// DAT's signature for the software vendor.
    pub interface_partner_signature: Option<SecretString>,
}

/// DAT's customerSignature, and where it is from.
#[derive(Clone)]
pub enum CustomerSignature {
    /// Made here, by the published formula.
    Made(SecretString),
    /// Issued by DAT and given when the credential was saved.
    Given(SecretString),
}

impl CustomerSignature {
    /// The signature itself.
    #[must_use]
    pub fn value(&self) -> &SecretString {
        match self {
            Self::Made(value) | Self::Given(value) => value,
        }
    }
}

/// An SMTP account.
#[derive(Clone)]
pub struct MailAccount {
    /// A host name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: NonZeroU16,
    /// How the connection is protected.
    pub security: MailSecurity,
    /// The user name.
    pub username: String,
    /// How to log in; none if whoever gets this may not see it.
    pub auth: Option<MailAuth>,
    /// The sender's address.
    pub from_address: String,
    /// The sender's name.
    pub from_name: String,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<String>,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// Starts in plaintext and must switch to TLS before logging in (RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314).
    ImplicitTls,
    /// None; only where the deployment allows it.
    Plaintext,
}

/// How to log in to a mail server.
#[derive(Clone)]
pub enum MailAuth {
    /// With a password.
    Password(SecretString),
    /// With a token that is fetched first.
    OAuth2(OAuth2Client),
}

/// OAuth 2.0 client data.
#[derive(Clone)]
pub struct OAuth2Client {
    /// Where tokens are fetched.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
    /// A refresh token; without one, the client-credentials grant is meant.
    pub refresh_token: Option<SecretString>,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
}

/// A version's content before it is saved.
pub struct Draft {
    /// What the provider wants to see.
    pub secret: Secret,
    /// Until when it may be used; none: without end.
    pub valid_until: Option<Timestamp>,
    /// What is worth remembering about it.
    pub note: String,
}

/// Whether a credential is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Enabled,
    /// Someone switched it off.
    Disabled,
    /// Deleted, and can be brought back until it is purged.
    Deleted {
        /// When.
        since: Timestamp,
        /// Whether it was enabled then, and will be when it comes back.
        was_enabled: bool,
    },
}

impl State {
    /// Whether it is deleted.
    #[must_use]
    pub fn is_deleted(self) -> bool {
        matches!(self, Self::Deleted { .. })
    }
}

/// The number of a credential's version. The first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Secret {
    /// Which kind of provider takes it.
    #[must_use]
    pub fn kind(&self) -> ProviderKind {
        match self {
            Self::Login(_) => ProviderKind::Login,
            Self::MailAccount(_) => ProviderKind::MailAccount,
        }
    }

    /// Whether it is a mail account that is used without TLS.
    #[must_use]
    pub fn is_plaintext_mail(&self) -> bool {
        matches!(self, Self::MailAccount(account) if account.security == MailSecurity::Plaintext)
    }

    /// The user name.
    #[must_use]
    pub fn username(&self) -> &str {
        match self {
            Self::Login(login) => &login.username,
            Self::MailAccount(account) => &account.username,
        }
    }

    /// The customer number, if it has one.
    #[must_use]
    pub fn customer_number(&self) -> Option<&str> {
        match self {
            Self::Login(login) => login.customer_number.as_deref(),
            Self::MailAccount(_) => None,
        }
    }

    /// The password, if there is one.
    #[must_use]
    pub fn password(&self) -> Option<&SecretString> {
        match self {
            Self::Login(login) => login.password.as_ref(),
            Self::MailAccount(account) => match &account.auth {
                Some(MailAuth::Password(password)) => Some(password),
                Some(MailAuth::OAuth2(_)) | None => None,
            },
        }
    }

    /// The same without what lets its bearer log in with a password or a token. A login keeps its signatures.
    #[must_use]
    pub fn without_password(self) -> Self {
        match self {
            Self::Login(login) => Self::Login(Login {
                password: None,
                ..login
            }),
            Self::MailAccount(account) => Self::MailAccount(MailAccount { auth: None, ..account }),
        }
    }

    /// The names of the fields in which it differs from what was there before, in alphabetical order, as the wire contract
    /// spells them. Never their values.
    #[must_use]
    pub fn changed_fields(&self, before: Option<&Self>) -> Vec<&'static str> {
        let (now, before) = (self.fields(), before.map(Self::fields).unwrap_or_default());
        let names: BTreeSet<_> = now.keys().chain(before.keys()).copied().collect();
        names
            .into_iter()
            .filter(|name| now.get(name) != before.get(name))
            .collect()
    }

    /// Every field that is set, by name.
    fn fields(&self) -> BTreeMap<&'static str, Cow<'_, str>> {
        match self {
            Self::Login(login) => login.fields(),
            Self::MailAccount(account) => account.fields(),
        }
    }
}

impl Login {
    fn fields(&self) -> BTreeMap<&'static str, Cow<'_, str>> {
        let given = match &self.customer_signature {
            Some(CustomerSignature::Given(value)) => Some(value),
            // It follows from the other fields.
            Some(CustomerSignature::Made(_)) | None => None,
        };
        let fields = [
            ("customer_number", self.customer_number.as_deref()),
            ("username", Some(self.username.as_str())),
            ("password", self.password.as_ref().map(SecretString::expose_secret)),
            ("customer_signature", given.map(SecretString::expose_secret)),
            ("interface_partner_number", self.interface_partner_number.as_deref()),
            (
                "interface_partner_signature",
                self.interface_partner_signature
                    .as_ref()
                    .map(SecretString::expose_secret),
            ),
        ];
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, Cow::Borrowed(value?))))
            .collect()
    }
}

impl MailAccount {
    fn fields(&self) -> BTreeMap<&'static str, Cow<'_, str>> {
        let security = match self.security {
            MailSecurity::StartTls => "STARTTLS",
            MailSecurity::ImplicitTls => "IMPLICIT_TLS",
            MailSecurity::Plaintext => "PLAINTEXT",
        };
        let mut fields = BTreeMap::from([
            ("host", Cow::Borrowed(self.host.as_str())),
            ("port", Cow::Owned(self.port.to_string())),
            ("security", Cow::Borrowed(security)),
            ("username", Cow::Borrowed(self.username.as_str())),
            ("from_address", Cow::Borrowed(self.from_address.as_str())),
            ("from_name", Cow::Borrowed(self.from_name.as_str())),
        ]);
        if let Some(reply_to) = &self.reply_to {
            fields.insert("reply_to", Cow::Borrowed(reply_to));
        }
        match &self.auth {
            Some(MailAuth::Password(password)) => {
                fields.insert("password", Cow::Borrowed(password.expose_secret()));
            }
            Some(MailAuth::OAuth2(client)) => {
                fields.insert("oauth2.token_url", Cow::Borrowed(&client.token_url));
                fields.insert("oauth2.client_id", Cow::Borrowed(&client.client_id));
                fields.insert(
                    "oauth2.client_secret",
                    Cow::Borrowed(client.client_secret.expose_secret()),
                );
                fields.insert("oauth2.scopes", Cow::Owned(client.scopes.join(" ")));
                if let Some(token) = &client.refresh_token {
                    fields.insert("oauth2.refresh_token", Cow::Borrowed(token.expose_secret()));
                }
            }
            None => {}
        }
        fields
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}([redacted])", self.kind())
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Draft")
            .field("secret", &self.secret)
            .field("valid_until", &self.valid_until)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(password: &str) -> Login {
        Login {
            customer_number: Some("1234567".into()),
            username: "myuser".into(),
            password: Some(password.into()),
            customer_signature: Some(CustomerSignature::Made("FF".into())),
            interface_partner_number: None,
            interface_partner_signature: None,
        }
    }

    #[test]
    fn a_change_is_told_by_field_names() {
        let first = Secret::Login(login("one"));
        assert_eq!(first.changed_fields(None), ["customer_number", "password", "username"]);
        let second = Secret::Login(Login {
            interface_partner_number: Some("1".into()),
            ..login("two")
        });
        assert_eq!(
            second.changed_fields(Some(&first)),
            ["interface_partner_number", "password"]
        );
        assert!(first.changed_fields(Some(&first)).is_empty());
    }

    #[test]
    fn debug_shows_no_field() {
        let draft = Draft {
            secret: Secret::Login(login("geheim")),
            valid_until: None,
            note: "geheim".into(),
        };
        let shown = format!("{draft:?}");
        for hidden in ["geheim", "myuser", "1234567", "FF"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
}
