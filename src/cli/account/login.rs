//! A login: customer number, user name, password, signatures.

use clap::Args;
use secrecy::SecretString;
use serde::Deserialize;
use tresor::pb::v1::{Login, Provider};

use super::{Extra, FieldArgs, Given, ask_for_extra, exposed, object, require, secret};
use crate::cli::failure::Failure;
use crate::cli::secret_input::{Ask, Secrets};

const JSON: &str = "customerNumber, username, password, customerSignature, interfacePartnerNumber, \
                    interfacePartnerSignature (all are strings)";

/// The fields that only a login has.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Login")]
pub(super) struct LoginArgs {
    /// The provider's number for the customer.
    #[arg(long, value_name = "NUMBER")]
    customer_number: Option<String>,
    /// DAT's number for the software vendor.
    #[arg(long, value_name = "NUMBER")]
    interface_partner_number: Option<String>,
}

impl LoginArgs {
    pub(super) fn given(&self) -> [Given; 2] {
        [
            ("customer_number", self.customer_number.is_some()),
            ("interface_partner_number", self.interface_partner_number.is_some()),
        ]
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Fields {
    #[serde(alias = "customer_number")]
    customer_number: Option<String>,
    username: Option<String>,
    #[serde(deserialize_with = "secret")]
    password: Option<SecretString>,
    #[serde(alias = "customer_signature", deserialize_with = "secret")]
    customer_signature: Option<SecretString>,
    #[serde(alias = "interface_partner_number")]
    interface_partner_number: Option<String>,
    #[serde(alias = "interface_partner_signature", deserialize_with = "secret")]
    interface_partner_signature: Option<SecretString>,
}

pub(super) fn complete(
    args: FieldArgs,
    provider: &Provider,
    secrets: Secrets,
    extras: &[Extra],
    ask: &mut dyn Ask,
) -> Result<Login, Failure> {
    if extras.contains(&Extra::RefreshToken) {
        return Err(Failure::Usage(format!(
            "{} takes a login, which has no refresh token",
            provider.id
        )));
    }
    let mut fields = Fields::default();
    match secrets {
        Secrets::Object(json) => fields = object(&json, JSON)?,
        Secrets::Password(password) => fields.password = Some(password),
        Secrets::Prompt => {
            require(provider, args.username.as_ref(), &args.login.given())?;
            fields.password = Some(ask.ask_twice("password")?);
            let wants = |extra| extras.contains(&extra);
            fields.customer_signature = ask_for_extra(wants(Extra::CustomerSignature), "customer signature", ask)?;
            fields.interface_partner_signature = ask_for_extra(
                wants(Extra::InterfacePartnerSignature),
                "interface partner signature",
                ask,
            )?;
        }
    }
    Ok(Login {
        customer_number: args
            .login
            .customer_number
            .or(fields.customer_number)
            .unwrap_or_default(),
        username: args.username.or(fields.username).unwrap_or_default(),
        password: exposed(fields.password.as_ref()),
        customer_signature: exposed(fields.customer_signature.as_ref()),
        interface_partner_number: args
            .login
            .interface_partner_number
            .or(fields.interface_partner_number)
            .unwrap_or_default(),
        interface_partner_signature: exposed(fields.interface_partner_signature.as_ref()),
    })
}
