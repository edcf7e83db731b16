//! Loads the sample, as an operator would: over the API.

use secrecy::SecretString;
use serde::Deserialize;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::Dev;
use crate::pb::v1::credential_admin_client::CredentialAdminClient;
use crate::pb::v1::{self, mail_account, put_credential_request};
use crate::vault::scope::CredentialRef;

const SAMPLE: &str = include_str!("../../deploy/dev/credentials.toml");

/// Why the sample is not there.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The file is malformed.
    #[error("deploy/dev/credentials.toml: {0}")]
    Malformed(String),
    /// A certificate cannot be read.
    #[error("the operator's certificate: {0}")]
    Certificate(#[from] std::io::Error),
    /// The server does not answer.
    #[error("the sample could not be loaded: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// The server refuses.
    #[error("the sample's {what}: {}", status.message())]
    Refused {
        /// Which entry.
        what: String,
        /// What the server said.
        status: Box<Status>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    credential: Vec<Credential>,
    assignment: Vec<Assignment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    path: String,
    #[serde(default)]
    note: String,
    login: Option<Login>,
    mail_account: Option<MailAccount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    #[serde(default)]
    customer_number: String,
    username: String,
    password: SecretText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MailAccount {
    host: String,
    port: u32,
    security: String,
    username: String,
    password: SecretText,
    from_address: String,
    from_name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assignment {
    tenant: String,
    provider: String,
    mode: String,
    #[serde(default)]
    fallback_to_general: bool,
}

/// Made up, and treated like a real one.
#[derive(Deserialize)]
#[serde(from = "String")]
struct SecretText(SecretString);

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl SecretText {
    fn exposed(&self) -> String {
        use secrecy::ExposeSecret as _;

        self.0.expose_secret().into()
    }
}

/// Loads what is not there yet; what is there stays as it is.
pub(super) async fn load(dev: &Dev) -> Result<(), SampleError> {
    let sample: Sample = toml::from_str(SAMPLE).map_err(|error| SampleError::Malformed(error.message().into()))?;
    let mut client = connect(dev).await?;
    for credential in &sample.credential {
        let request = credential.request()?;
        ignore_existing(&credential.path, client.put_credential(request).await)?;
    }
    for assignment in &sample.assignment {
        let what = format!("assignment {}/{}", assignment.tenant, assignment.provider);
        ignore_existing(&what, client.set_assignment(assignment.request()?).await)?;
    }
    Ok(())
}

async fn connect(dev: &Dev) -> Result<CredentialAdminClient<Channel>, SampleError> {
    let certificate = std::fs::read(&dev.pki.operator.certificate)?;
    let identity = Identity::from_pem(certificate, std::fs::read(&dev.pki.operator.key)?);
    let tls = ClientTlsConfig::new()
        .domain_name("localhost")
        .ca_certificate(Certificate::from_pem(std::fs::read(&dev.pki.ca)?))
        .identity(identity);
    let endpoint = Endpoint::try_from(format!("https://{}", dev.listen))?.tls_config(tls)?;
    Ok(CredentialAdminClient::new(endpoint.connect().await?))
}

/// A start that was cut off while it loaded left some of it behind.
fn ignore_existing<T>(what: &str, answer: Result<T, Status>) -> Result<(), SampleError> {
    let is_there = |status: &Status| {
        let reason = status.get_details_error_info().map(|info| info.reason);
        status.code() == Code::Aborted && reason.as_deref() == Some("VERSION_MISMATCH")
    };
    match answer {
        Err(status) if !is_there(&status) => Err(SampleError::Refused {
            what: what.into(),
            status: Box::new(status),
        }),
        _ => Ok(()),
    }
}

impl Credential {
    fn request(&self) -> Result<v1::PutCredentialRequest, SampleError> {
        let malformed = |what: &str| SampleError::Malformed(format!("{}: {what}", self.path));
        let name = CredentialRef::from_path(&self.path).ok_or_else(|| malformed("is no path"))?;
        let secret = match (&self.login, &self.mail_account) {
            (Some(login), None) => put_credential_request::Secret::Login(v1::Login {
                customer_number: login.customer_number.clone(),
                username: login.username.clone(),
                password: login.password.exposed(),
                ..v1::Login::default()
            }),
            (None, Some(account)) => put_credential_request::Secret::MailAccount(v1::MailAccount {
                host: account.host.clone(),
                port: account.port,
                security: v1::MailSecurity::from_str_name(&account.security)
                    .unwrap_or_default()
                    .into(),
                username: account.username.clone(),
                auth: Some(mail_account::Auth::Password(account.password.exposed())),
                from_address: account.from_address.clone(),
                from_name: account.from_name.clone(),
                reply_to: String::new(),
            }),
            _ => return Err(malformed("needs either login or mail_account")),
        };
        Ok(v1::PutCredentialRequest {
            r#ref: Some((&name).into()),
            secret: Some(secret),
            valid_until: None,
            note: self.note.clone(),
            expected_version: Some(0),
            validate_only: false,
        })
    }
}

impl Assignment {
    fn request(&self) -> Result<v1::SetAssignmentRequest, SampleError> {
        let mode = v1::AssignmentMode::from_str_name(&self.mode)
            .ok_or_else(|| SampleError::Malformed(format!("{}: {} is no mode", self.provider, self.mode)))?;
        Ok(v1::SetAssignmentRequest {
            tenant: self.tenant.clone(),
            provider: self.provider.clone(),
            mode: mode.into(),
            fallback_to_general: self.fallback_to_general,
            expected_revision: Some(0),
            signature_variant: v1::SignatureVariant::Unspecified.into(),
        })
    }
}
