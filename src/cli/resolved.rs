//! A credential as an order service gets it, with its secrets masked unless they were asked for.

use serde::Serialize;
use tresor::pb::v1::mail_account::Auth;
use tresor::pb::v1::resolved_credential::Secret;
use tresor::pb::v1::{Login, MailAccount, MailSecurity, OAuth2Client, ResolvedCredential};
use zeroize::Zeroize;

use super::view::{or_empty, ref_path, seconds, time};
use super::words::word_of;

/// In place of a secret. It has the same length for each, so that it does not tell theirs.
const MASK: &str = "••••";

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reveal(pub(crate) bool);

impl Reveal {
    /// The secret or the mask; none if there is no secret.
    fn secret(self, text: &str) -> Option<&str> {
        given(text).map(|text| if self.0 { text } else { MASK })
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The credential. It borrows, so that JSON is written without another copy of the secrets.
#[derive(Serialize)]
pub(crate) struct ResolvedView<'a> {
    path: String,
    version: u64,
    saved_at: Option<String>,
    valid_until: Option<String>,
    login: Option<LoginView<'a>>,
    mail_account: Option<MailView<'a>>,
    signed_credential: Option<&'a str>,
    cache_for_seconds: Option<i64>,
}

#[derive(Serialize)]
struct LoginView<'a> {
    customer_number: Option<&'a str>,
    username: Option<&'a str>,
    password: Option<&'a str>,
    customer_signature: Option<&'a str>,
    interface_partner_number: Option<&'a str>,
    interface_partner_signature: Option<&'a str>,
}

#[derive(Serialize)]
struct MailView<'a> {
    host: &'a str,
    port: u32,
    security: String,
    username: Option<&'a str>,
    password: Option<&'a str>,
    oauth2: Option<OAuth2View<'a>>,
    from_address: Option<&'a str>,
    from_name: Option<&'a str>,
    reply_to: Option<&'a str>,
}

#[derive(Serialize)]
struct OAuth2View<'a> {
    token_url: &'a str,
    client_id: &'a str,
    client_secret: Option<&'a str>,
    refresh_token: Option<&'a str>,
    scopes: &'a [String],
}

impl<'a> ResolvedView<'a> {
    /// How the credential is shown.
    pub(crate) fn new(wire: &'a ResolvedCredential, reveal: Reveal) -> Self {
        let (login, mail_account) = match &wire.secret {
            Some(Secret::Login(login)) => (Some(LoginView::new(login, reveal)), None),
            Some(Secret::MailAccount(mail)) => (None, Some(MailView::new(mail, reveal))),
            None => (None, None),
        };
        Self {
            path: ref_path(wire.r#ref.as_ref()),
            version: wire.version,
            saved_at: time(wire.saved_at.as_ref()),
            valid_until: time(wire.valid_until.as_ref()),
            login,
            mail_account,
            signed_credential: reveal.secret(&wire.signed_credential),
            cache_for_seconds: seconds(wire.cache_for.as_ref()),
        }
    }

    /// A name and a value a line.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("credential", self.path.clone()),
            ("version", self.version.to_string()),
            ("saved at", or_empty(self.saved_at.as_ref())),
            ("valid until", or_empty(self.valid_until.as_ref())),
        ];
        rows.extend(self.login.iter().flat_map(LoginView::rows));
        rows.extend(self.mail_account.iter().flat_map(MailView::rows));
        rows.push(("signed credential", text(self.signed_credential)));
        let cache_for = self
            .cache_for_seconds
            .map_or_else(String::new, |seconds| format!("{seconds}s"));
        rows.push(("cache for", cache_for));
        rows
    }
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

impl<'a> LoginView<'a> {
    fn new(wire: &'a Login, reveal: Reveal) -> Self {
        Self {
            customer_number: given(&wire.customer_number),
            username: given(&wire.username),
            password: reveal.secret(&wire.password),
            customer_signature: reveal.secret(&wire.customer_signature),
            interface_partner_number: given(&wire.interface_partner_number),
            interface_partner_signature: reveal.secret(&wire.interface_partner_signature),
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        vec![
            ("customer number", text(self.customer_number)),
            ("user name", text(self.username)),
            ("password", text(self.password)),
            ("customer signature", text(self.customer_signature)),
            ("interface partner number", text(self.interface_partner_number)),
            ("interface partner signature", text(self.interface_partner_signature)),
        ]
    }
}

impl<'a> MailView<'a> {
    fn new(wire: &'a MailAccount, reveal: Reveal) -> Self {
        let (password, oauth2) = match &wire.auth {
            Some(Auth::Password(password)) => (reveal.secret(password), None),
            Some(Auth::Oauth2(client)) => (None, Some(OAuth2View::new(client, reveal))),
            None => (None, None),
        };
        Self {
            host: &wire.host,
            port: wire.port,
            security: word_of::<MailSecurity>(wire.security),
            username: given(&wire.username),
            password,
            oauth2,
            from_address: given(&wire.from_address),
            from_name: given(&wire.from_name),
            reply_to: given(&wire.reply_to),
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("host", self.host.to_owned()),
            ("port", self.port.to_string()),
            ("security", self.security.clone()),
            ("user name", text(self.username)),
        ];
        match &self.oauth2 {
            None => rows.push(("password", text(self.password))),
            Some(client) => rows.extend([
                ("OAuth 2.0 token URL", client.token_url.to_owned()),
                ("OAuth 2.0 client id", client.client_id.to_owned()),
                ("OAuth 2.0 client secret", text(client.client_secret)),
                ("OAuth 2.0 refresh token", text(client.refresh_token)),
                ("OAuth 2.0 scopes", client.scopes.join(" ")),
            ]),
        }
        rows.extend([
            ("from address", text(self.from_address)),
            ("from name", text(self.from_name)),
            ("reply to", text(self.reply_to)),
        ]);
        rows
    }
}

impl<'a> OAuth2View<'a> {
    fn new(wire: &'a OAuth2Client, reveal: Reveal) -> Self {
        Self {
            token_url: &wire.token_url,
            client_id: &wire.client_id,
            client_secret: reveal.secret(&wire.client_secret),
            refresh_token: reveal.secret(&wire.refresh_token),
            scopes: &wire.scopes,
        }
    }
}

/// Overwrites the secrets of a message that has been shown.
pub(crate) fn wipe(wire: &mut ResolvedCredential) {
    wire.signed_credential.zeroize();
    match &mut wire.secret {
        Some(Secret::Login(login)) => {
            login.password.zeroize();
            login.customer_signature.zeroize();
            login.interface_partner_signature.zeroize();
        }
        Some(Secret::MailAccount(mail)) => match &mut mail.auth {
            Some(Auth::Password(password)) => password.zeroize(),
            Some(Auth::Oauth2(client)) => {
                client.client_secret.zeroize();
                client.refresh_token.zeroize();
            }
            None => {}
        },
        None => {}
    }
}

#[cfg(test)]
mod tests;
