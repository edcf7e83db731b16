//! What a credential consists of, put together from options, standard input and prompts: a login or a mail account.

mod login;
mod mail;

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tresor::pb::v1::put_credential_request::Secret;
use tresor::pb::v1::{MailSecurity, Provider, ProviderKind};

use super::failure::Failure;
use super::secret_input::{Ask, Secrets};
use super::words;

/// The fields that are no secrets.
#[derive(Debug, Default, Args)]
pub(crate) struct FieldArgs {
    /// The user name.
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    #[command(flatten)]
    login: login::LoginArgs,
    #[command(flatten)]
    mail: mail::MailArgs,
}

/// Secrets that not every credential has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Extra {
    /// A customerSignature that DAT has issued.
    CustomerSignature,
    /// DAT's signature for the software vendor.
    InterfacePartnerSignature,
    /// The OAuth 2.0 refresh token.
    RefreshToken,
}

/// A field's name, and whether it was given.
type Given = (&'static str, bool);

impl FieldArgs {
    /// The secret that the provider's credential is, complete.
    pub(crate) fn complete(
        self,
        provider: &Provider,
        secrets: Secrets,
        extras: &[Extra],
        ask: &mut dyn Ask,
    ) -> Result<Secret, Failure> {
        match provider.kind() {
            ProviderKind::Login => {
                refuse(provider, "a login", &self.mail.given())?;
                login::complete(self, provider, secrets, extras, ask).map(Secret::Login)
            }
            ProviderKind::MailAccount => {
                refuse(provider, "a mail account", &self.login.given())?;
                mail::complete(self, provider, secrets, extras, ask).map(Secret::MailAccount)
            }
            ProviderKind::Unspecified => Err(Failure::Incomplete("kind of the provider that this client knows")),
        }
    }
}

/// Options that the provider's credential has no place for.
fn refuse(provider: &Provider, kind: &str, fields: &[Given]) -> Result<(), Failure> {
    match options(fields.iter().filter(|(_, is_given)| *is_given)) {
        options if options.is_empty() => Ok(()),
        options => Err(Failure::Usage(format!(
            "{} takes {kind}, which has no {options}",
            provider.id
        ))),
    }
}

/// Nobody shall type a password twice to be told then that another field is missing. The server checks all else.
fn require(provider: &Provider, username: Option<&String>, fields: &[Given]) -> Result<(), Failure> {
    let username = [("username", username.is_some())];
    let is_required = |name: &str| {
        let mut rules = provider.fields.iter().filter(|field| field.required && !field.secret);
        rules.any(|field| field.path.rsplit('.').next() == Some(name))
    };
    let fields = username.iter().chain(fields);
    match options(fields.filter(|(name, is_given)| !is_given && is_required(name))) {
        options if options.is_empty() => Ok(()),
        options => Err(Failure::Usage(format!("{} requires {options}", provider.id))),
    }
}

fn options<'a>(fields: impl Iterator<Item = &'a Given>) -> String {
    let options: Vec<_> = fields
        .map(|(name, _)| format!("--{}", name.replace('_', "-")))
        .collect();
    options.join(", ")
}

fn ask_for_extra(wanted: bool, what: &'static str, ask: &mut dyn Ask) -> Result<Option<SecretString>, Failure> {
    if wanted {
        ask.ask_twice(what).map(Some)
    } else {
        Ok(None)
    }
}

/// The message of the contract can only hold an open text.
fn exposed(secret: Option<&SecretString>) -> String {
    secret.map_or_else(String::new, |secret| secret.expose_secret().to_owned())
}

/// Reads the JSON object. What the parser says of a wrong value quotes it, so only the place is told.
fn object<T: DeserializeOwned>(bytes: &[u8], expected: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::Usage(format!(
            "standard input is not the JSON object that is expected, at line {}, column {}; it may have: {expected}",
            error.line(),
            error.column()
        ))
    })
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(input)?.map(SecretString::from))
}

fn security<'de, D: Deserializer<'de>>(input: D) -> Result<Option<MailSecurity>, D::Error> {
    let text = Option::<String>::deserialize(input)?;
    let unknown = || serde::de::Error::custom("unknown kind of security");
    text.map(|text| words::parse(&text).ok_or_else(unknown)).transpose()
}

#[cfg(test)]
mod tests;
