//! `tresor credential put`.

use clap::Args;
use prost_types::Timestamp;
use tresor::pb::v1::{ListProvidersRequest, Provider, PutCredentialRequest};
use tresor::vault::scope::CredentialRef;

use super::account::{Extra, FieldArgs};
use super::connection::Connection;
use super::credential::{Change, credential};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::secret_input::{Choice, Secrets, Terminal};
use super::view::all;
use super::{args, hint};

const AFTER_HELP: &str = "\
Secrets are never arguments. On a terminal they are asked for, twice and without echo; else they come \
through standard input: the password alone (--password-stdin), or all fields as one JSON object \
(--from-stdin). A save replaces every field.

The JSON object of a login, all fields are strings:
  customerNumber, username, password, customerSignature, interfacePartnerNumber,
  interfacePartnerSignature
That of a mail account:
  host, port, security, username, password, fromAddress, fromName, replyTo,
  and in place of the password: oauth2 {tokenUrl, clientId, clientSecret, refreshToken, scopes[]}
Options given besides win. Names in snake_case are taken too.

Example:
  tresor credential put demo/dat/office/leipzig --customer-number 1234567 --username myuser
  tresor credential put demo/audatex/general --username myuser --password-stdin < password.txt
  tresor credential put demo/wom/general --from-stdin < login.json
  tresor credential put demo/email/user/m.lang --username m.lang@example.org \\
      --host smtp.example.org --port 587 --security starttls \\
      --from-address m.lang@example.org --from-name 'M. Lang'

JSON: {credential, revision, warnings[]}";

/// Save a credential: a new version of it, or the first.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Put {
    /// Which credential, such as demo/dat/office/leipzig.
    #[arg(value_parser = args::path)]
    path: CredentialRef,
    /// Read the password from standard input: all of it but one line end.
    #[arg(long, conflicts_with = "from_stdin")]
    password_stdin: bool,
    /// Read all fields from standard input, as a JSON object.
    #[arg(long)]
    from_stdin: bool,
    /// Ask for this secret too; may be repeated.
    #[arg(long, value_enum, value_name = "SECRET", conflicts_with_all = ["password_stdin", "from_stdin"])]
    ask: Vec<Extra>,
    /// Until when it may be used: 2027-03-31 (the whole day, UTC) or 2027-03-31T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = args::until)]
    valid_until: Option<Timestamp>,
    /// Anything worth remembering about this version. No secrets.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// The version that must be the current one; 0: there must be none.
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<u64>,
    /// Let the server check everything and change nothing.
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    fields: FieldArgs,
}

impl Put {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let secrets = Secrets::read(Choice {
            password_stdin: self.password_stdin,
            from_stdin: self.from_stdin,
        })?;
        self.save(secrets, connection, output).await
    }

    async fn save(self, secrets: Secrets, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let provider = provider(connection, self.path.provider.as_str()).await?;
        // The connection must be looked after while someone types.
        let (fields, extras) = (self.fields, self.ask);
        let asking = move || fields.complete(&provider, secrets, &extras, &mut Terminal);
        let secret = tokio::task::spawn_blocking(asking)
            .await
            .map_err(|error| Failure::Runtime(error.into()))??;

        // From here on, the secret is in the message's plain strings, which nobody wipes.
        let request = PutCredentialRequest {
            r#ref: Some((&self.path).into()),
            secret: Some(secret),
            valid_until: self.valid_until,
            note: self.note.unwrap_or_default(),
            expected_version: self.expected_version,
            validate_only: self.validate_only,
        };
        let answer = connection.admin().put_credential(request).await?.into_inner();
        let change = Change {
            credential: credential(answer.credential)?,
            revision: answer.revision,
            warnings: all(answer.warnings),
        };
        change.show(
            if self.validate_only {
                "can be saved, nothing was changed:"
            } else {
                "saved"
            },
            output,
        )
    }
}

/// What the catalogue says about the provider: the fields of its credential follow from it.
async fn provider(connection: &Connection, id: &str) -> Result<Provider, Failure> {
    let answer = connection
        .admin()
        .list_providers(ListProvidersRequest {})
        .await?
        .into_inner();
    let unknown = || {
        let hint = hint::for_reason("UNKNOWN_PROVIDER", &std::collections::HashMap::new()).unwrap_or_default();
        Failure::Usage(format!("{id} is no provider of this server; {hint}"))
    };
    answer
        .providers
        .into_iter()
        .find(|provider| provider.id == id)
        .ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use tonic::Status;
    use tresor::pb::v1::put_credential_request::Secret;
    use tresor::pb::v1::{Credential, ListProvidersResponse, ProviderKind, PutCredentialResponse, Warning};

    use super::*;
    use crate::cli::fake::{Fake, Ran};
    use crate::cli::{ClientCommand, credential};

    fn catalogue() -> ListProvidersResponse {
        let dat = Provider {
            id: "dat".into(),
            kind: ProviderKind::Login.into(),
            ..Default::default()
        };
        ListProvidersResponse { providers: vec![dat] }
    }

    async fn put(server: &Fake, line: &str) -> Ran {
        let password = Secrets::Password(SecretString::from(" pass-word"));
        let work = async |command, connection: &Connection, output: &mut Output| match command {
            ClientCommand::Credential(credential::Command::Put(put)) => put.save(password, connection, output).await,
            _ => panic!("not a put"),
        };
        server
            .run_with(&format!("credential put {line} --password-stdin"), work)
            .await
    }

    #[tokio::test]
    async fn a_password_reaches_the_server_and_nothing_else() {
        let saved = PutCredentialResponse {
            credential: Some(Credential {
                path: "demo/dat/general".into(),
                state: 1,
                version: 3,
                ..Default::default()
            }),
            warnings: vec![Warning {
                reason: "PASSWORD_SURROUNDED_BY_WHITE_SPACE".into(),
                field: "login.password".into(),
                message: "begins with white space".into(),
            }],
            revision: 42,
        };
        let server = Fake::default().will(catalogue()).will(saved);
        let ran = put(&server, "demo/dat/general --username myuser --expected-version 0").await;

        let request = server.asked::<PutCredentialRequest>().remove(0);
        assert!(matches!(request.secret, Some(Secret::Login(login)) if login.password == " pass-word"));
        assert_eq!(request.expected_version, Some(0));
        assert_eq!(ran.result.unwrap(), Exit::Done);
        assert_eq!(ran.stdout, "saved demo/dat/general: version 3, enabled, revision 42\n");
        assert_eq!(
            ran.stderr,
            "warning: login.password: begins with white space (PASSWORD_SURROUNDED_BY_WHITE_SPACE)\n"
        );
    }

    #[tokio::test]
    async fn a_provider_that_the_server_does_not_know_is_told_before_saving() {
        let server = Fake::default().will(catalogue());
        let failure = put(&server, "demo/nada/general").await.result.unwrap_err();
        assert!(
            failure.to_string().starts_with("nada is no provider of this server"),
            "{failure}"
        );
        assert!(server.asked::<PutCredentialRequest>().is_empty());
    }

    #[tokio::test]
    async fn a_save_over_another_version_is_a_conflict() {
        let mismatch = Status::aborted("the current version is 4");
        let server = Fake::default()
            .will(catalogue())
            .will_refuse::<PutCredentialResponse>(mismatch);
        let failure = put(&server, "demo/dat/general --expected-version 3")
            .await
            .result
            .unwrap_err();
        assert_eq!(failure.exit(), Exit::Conflict);
    }
}
