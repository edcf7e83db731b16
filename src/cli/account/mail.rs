//! A mail account: where the mail server is, who sends, and a password or OAuth 2.0 client data.

use clap::Args;
use secrecy::SecretString;
use serde::Deserialize;
use tresor::pb::v1::mail_account::Auth;
use tresor::pb::v1::{MailAccount, MailSecurity, OAuth2Client, Provider};

use super::{Extra, FieldArgs, Given, ask_for_extra, exposed, object, require, secret, security};
use crate::cli::failure::Failure;
use crate::cli::secret_input::{Ask, Secrets};
use crate::cli::words;

const JSON: &str = "host, port (a number), security (starttls, implicit-tls or plaintext), username, password, fromAddress, \
                    fromName, replyTo, and in place of password oauth2 with tokenUrl, clientId, clientSecret, refreshToken, \
                    scopes (a list)";

/// The fields that only a mail account has.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Mail account")]
pub(super) struct MailArgs {
    /// The mail server's host name or IP address.
    #[arg(long)]
    host: Option<String>,
    /// The mail server's port.
    #[arg(long)]
    port: Option<u16>,
    /// How the connection is protected. The server refuses plaintext unless its configuration allows it.
    #[arg(long, value_parser = words::parser::<MailSecurity>())]
    security: Option<MailSecurity>,
    /// The sender's address.
    #[arg(long, value_name = "ADDRESS")]
    from_address: Option<String>,
    /// The sender's name.
    #[arg(long, value_name = "NAME")]
    from_name: Option<String>,
    /// Where answers go, if not to the sender.
    #[arg(long, value_name = "ADDRESS")]
    reply_to: Option<String>,
    /// Where OAuth 2.0 tokens are fetched. With it, the client secret is asked for in place of the password.
    #[arg(long, value_name = "URL")]
    oauth2_token_url: Option<String>,
    /// The OAuth 2.0 client's id.
    #[arg(long, value_name = "ID")]
    oauth2_client_id: Option<String>,
    /// An OAuth 2.0 scope to ask for; may be repeated.
    #[arg(long = "oauth2-scope", value_name = "SCOPE")]
    oauth2_scopes: Vec<String>,
}

impl MailArgs {
    pub(super) fn given(&self) -> [Given; 9] {
        [
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("security", self.security.is_some()),
            ("from_address", self.from_address.is_some()),
            ("from_name", self.from_name.is_some()),
            ("reply_to", self.reply_to.is_some()),
            ("oauth2_token_url", self.oauth2_token_url.is_some()),
            ("oauth2_client_id", self.oauth2_client_id.is_some()),
            ("oauth2_scope", !self.oauth2_scopes.is_empty()),
        ]
    }

    fn wants_oauth2(&self) -> bool {
        self.oauth2_token_url.is_some() || self.oauth2_client_id.is_some() || !self.oauth2_scopes.is_empty()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Fields {
    host: Option<String>,
    port: Option<u16>,
    #[serde(deserialize_with = "security")]
    security: Option<MailSecurity>,
    username: Option<String>,
    #[serde(deserialize_with = "secret")]
    password: Option<SecretString>,
    oauth2: Option<OAuth2Fields>,
    #[serde(alias = "from_address")]
    from_address: Option<String>,
    #[serde(alias = "from_name")]
    from_name: Option<String>,
    #[serde(alias = "reply_to")]
    reply_to: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct OAuth2Fields {
    #[serde(alias = "token_url")]
    token_url: Option<String>,
    #[serde(alias = "client_id")]
    client_id: Option<String>,
    #[serde(alias = "client_secret", deserialize_with = "secret")]
    client_secret: Option<SecretString>,
    #[serde(alias = "refresh_token", deserialize_with = "secret")]
    refresh_token: Option<SecretString>,
    scopes: Vec<String>,
}

pub(super) fn complete(
    args: FieldArgs,
    provider: &Provider,
    secrets: Secrets,
    extras: &[Extra],
    ask: &mut dyn Ask,
) -> Result<MailAccount, Failure> {
    if extras.iter().any(|extra| *extra != Extra::RefreshToken) {
        return Err(Failure::Usage(format!(
            "{} takes a mail account, which has no signature",
            provider.id
        )));
    }
    let mut fields = Fields::default();
    match secrets {
        Secrets::Object(json) => fields = object(&json, JSON)?,
        Secrets::Password(_) if args.mail.wants_oauth2() => {
            return Err(Failure::Usage(
                "OAuth 2.0 has no password: give everything with --from-stdin, or be asked for the client secret"
                    .to_owned(),
            ));
        }
        Secrets::Password(password) => fields.password = Some(password),
        Secrets::Prompt => {
            require(provider, args.username.as_ref(), &args.mail.given())?;
            prompt(&mut fields, args.mail.wants_oauth2(), extras, ask)?;
        }
    }
    let (mail, auth) = (args.mail, (fields.password, fields.oauth2));
    Ok(MailAccount {
        host: mail.host.or(fields.host).unwrap_or_default(),
        port: mail.port.or(fields.port).unwrap_or_default().into(),
        security: mail.security.or(fields.security).unwrap_or_default().into(),
        username: args.username.or(fields.username).unwrap_or_default(),
        from_address: mail.from_address.or(fields.from_address).unwrap_or_default(),
        from_name: mail.from_name.or(fields.from_name).unwrap_or_default(),
        reply_to: mail.reply_to.or(fields.reply_to).unwrap_or_default(),
        auth: login_method(auth, mail.oauth2_token_url, mail.oauth2_client_id, mail.oauth2_scopes)?,
    })
}

fn prompt(fields: &mut Fields, wants_oauth2: bool, extras: &[Extra], ask: &mut dyn Ask) -> Result<(), Failure> {
    let wants_refresh_token = extras.contains(&Extra::RefreshToken);
    if !wants_oauth2 && wants_refresh_token {
        return Err(Failure::Usage(
            "a refresh token belongs to OAuth 2.0: give --oauth2-token-url too".to_owned(),
        ));
    }
    if !wants_oauth2 {
        fields.password = Some(ask.ask_twice("password")?);
        return Ok(());
    }
    fields.oauth2 = Some(OAuth2Fields {
        client_secret: Some(ask.ask_twice("OAuth 2.0 client secret")?),
        refresh_token: ask_for_extra(wants_refresh_token, "OAuth 2.0 refresh token", ask)?,
        ..OAuth2Fields::default()
    });
    Ok(())
}

fn login_method(
    given: (Option<SecretString>, Option<OAuth2Fields>),
    token_url: Option<String>,
    client_id: Option<String>,
    scopes: Vec<String>,
) -> Result<Option<Auth>, Failure> {
    match given {
        (Some(_), Some(_)) => Err(Failure::Usage(
            "a mail account has either a password or oauth2".to_owned(),
        )),
        (Some(password), None) => Ok(Some(Auth::Password(exposed(Some(&password))))),
        (None, Some(client)) => Ok(Some(Auth::Oauth2(OAuth2Client {
            token_url: token_url.or(client.token_url).unwrap_or_default(),
            client_id: client_id.or(client.client_id).unwrap_or_default(),
            client_secret: exposed(client.client_secret.as_ref()),
            refresh_token: exposed(client.refresh_token.as_ref()),
            scopes: if scopes.is_empty() { client.scopes } else { scopes },
        }))),
        (None, None) => Ok(None),
    }
}
