//! `tresor credential …`: what changes or shows one credential. `put` and `list` have their own files.

use clap::{Args, Subcommand};
use serde::Serialize;
use tresor::pb::v1::{
    Credential, CredentialState, DeleteCredentialRequest, GetCredentialRequest, ListCredentialVersionsRequest,
    RollbackCredentialRequest, SetCredentialStateRequest, UndeleteCredentialRequest,
};
use tresor::vault::scope::CredentialRef;

use super::args;
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::list::List;
use super::output::{Output, table};
use super::purge::Purge;
use super::put::Put;
use super::view::{CredentialView, VersionView, WarningView, all, or_empty};

const AFTER_HELP: &str = "\
A credential is named by its path: TENANT/PROVIDER/general, TENANT/PROVIDER/office/ID, TENANT/PROVIDER/appraiser/ID \
or TENANT/PROVIDER/user/ID.

JSON: where the help of a subcommand says `credential`, it is {path, state, version, customer_number, username, \
saved_at, saved_by, valid_until, note, last_verified, delete_time}, and a warning is {reason, field, message}.

Example:
  tresor credential list demo";

/// Save, show, switch off and delete credentials. No answer holds a secret.
#[derive(Debug, Subcommand)]
#[command(after_help = AFTER_HELP)]
pub(crate) enum Command {
    Put(Box<Put>),
    /// Show what is known about a credential.
    #[command(after_help = "Example:\n  tresor credential get demo/dat/office/leipzig\n\nJSON: {credential}")]
    Get(Named),
    List(List),
    /// Show every version of a credential, newest first.
    #[command(after_help = "Example:\n  tresor credential versions demo/dat/general\n\n\
        JSON: {versions[]}, each {version, saved_at, saved_by, note, changed_fields[], valid_until}")]
    Versions(Named),
    /// Take a credential back to an older version: its content is saved as a new one.
    #[command(
        after_help = "Example:\n  tresor credential rollback demo/dat/general --to-version 2\n\n\
        JSON: {credential, revision, warnings[]}"
    )]
    Rollback(Rollback),
    /// Switch a credential off: orders that would get it get an error, never another one.
    #[command(after_help = "Example:\n  tresor credential disable demo/dat/office/leipzig\n\n\
        JSON: {credential, revision, warnings[]}")]
    Disable(Expected),
    /// Switch a credential on again.
    #[command(after_help = "Example:\n  tresor credential enable demo/dat/office/leipzig\n\n\
        JSON: {credential, revision, warnings[]}")]
    Enable(Expected),
    /// Delete a credential so that it can be brought back.
    #[command(
        after_help = "Example:\n  tresor credential delete demo/dat/office/leipzig --expected-version 3\n\n\
        JSON: {credential, revision, warnings[]}"
    )]
    Delete(Expected),
    /// Bring a deleted credential back, in the state it had.
    #[command(after_help = "Example:\n  tresor credential undelete demo/dat/office/leipzig\n\n\
        JSON: {credential, revision, warnings[]}")]
    Undelete(Expected),
    Purge(Purge),
}

/// Names one credential.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Which credential, such as demo/dat/office/leipzig.
    #[arg(value_parser = args::path)]
    path: CredentialRef,
}

/// Names one credential, and which version of it is meant.
#[derive(Debug, Args)]
pub(crate) struct Expected {
    /// Which credential, such as demo/dat/office/leipzig.
    #[arg(value_parser = args::path)]
    path: CredentialRef,
    /// The version that must be the current one.
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    credential: Expected,
    /// The version whose content is wanted again; `tresor credential versions` shows them.
    #[arg(long, value_name = "VERSION")]
    to_version: u64,
}

impl Command {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Put(put) => put.run(connection, output).await,
            Self::Get(named) => get(named, connection, output).await,
            Self::List(list) => list.run(connection, output).await,
            Self::Versions(named) => versions(named, connection, output).await,
            Self::Rollback(rollback) => rollback.run(connection, output).await,
            Self::Disable(credential) => credential.set(CredentialState::Disabled, connection, output).await,
            Self::Enable(credential) => credential.set(CredentialState::Enabled, connection, output).await,
            Self::Delete(credential) => credential.delete(connection, output).await,
            Self::Undelete(credential) => credential.undelete(connection, output).await,
            Self::Purge(purge) => purge.run(connection, output).await,
        }
    }
}

async fn get(named: Named, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Answer {
        credential: CredentialView,
    }

    let request = GetCredentialRequest {
        r#ref: Some((&named.path).into()),
    };
    let answer = connection.admin().get_credential(request).await?.into_inner();
    let answer = Answer {
        credential: credential(answer.credential)?,
    };
    output.show(&answer, |answer| answer.credential.details())?;
    Ok(Exit::Done)
}

async fn versions(named: Named, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Answer {
        versions: Vec<VersionView>,
    }

    let request = ListCredentialVersionsRequest {
        r#ref: Some((&named.path).into()),
    };
    let answer = connection.admin().list_credential_versions(request).await?.into_inner();
    let answer = Answer {
        versions: all(answer.versions),
    };
    output.show(&answer, |answer| {
        let rows = answer.versions.iter().map(|version| {
            [
                version.version.to_string(),
                or_empty(version.saved_at.as_ref()),
                or_empty(version.saved_by.as_ref()),
                or_empty(version.valid_until.as_ref()),
                version.changed_fields.join(", "),
                or_empty(version.note.as_ref()),
            ]
        });
        table(
            ["VERSION", "SAVED AT", "SAVED BY", "VALID UNTIL", "CHANGED", "NOTE"],
            rows,
        )
    })?;
    Ok(Exit::Done)
}

impl Rollback {
    async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let request = RollbackCredentialRequest {
            r#ref: Some((&self.credential.path).into()),
            to_version: self.to_version,
            expected_version: self.credential.expected_version,
        };
        let answer = connection.admin().rollback_credential(request).await?.into_inner();
        let change = Change {
            credential: credential(answer.credential)?,
            revision: answer.revision,
            warnings: all(answer.warnings),
        };
        change.show(&format!("took back to version {}:", self.to_version), output)
    }
}

impl Expected {
    async fn set(self, state: CredentialState, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let request = SetCredentialStateRequest {
            r#ref: Some((&self.path).into()),
            state: state.into(),
            expected_version: self.expected_version,
        };
        let answer = connection.admin().set_credential_state(request).await?.into_inner();
        let done = if state == CredentialState::Enabled {
            "enabled"
        } else {
            "disabled"
        };
        Change::silent(answer.credential, answer.revision)?.show(done, output)
    }

    async fn delete(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let request = DeleteCredentialRequest {
            r#ref: Some((&self.path).into()),
            expected_version: self.expected_version,
        };
        let answer = connection.admin().delete_credential(request).await?.into_inner();
        Change::silent(answer.credential, answer.revision)?.show("deleted", output)
    }

    async fn undelete(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let request = UndeleteCredentialRequest {
            r#ref: Some((&self.path).into()),
            expected_version: self.expected_version,
        };
        let answer = connection.admin().undelete_credential(request).await?.into_inner();
        Change::silent(answer.credential, answer.revision)?.show("brought back", output)
    }
}

/// The credential of an answer, which always has one.
pub(crate) fn credential(wire: Option<Credential>) -> Result<CredentialView, Failure> {
    wire.map(CredentialView::from).ok_or(Failure::Incomplete("credential"))
}

/// What every change of a credential answers.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    pub(crate) credential: CredentialView,
    pub(crate) revision: u64,
    pub(crate) warnings: Vec<WarningView>,
}

impl Change {
    /// A change that never has warnings.
    fn silent(wire: Option<Credential>, revision: u64) -> Result<Self, Failure> {
        Ok(Self {
            credential: credential(wire)?,
            revision,
            warnings: Vec::new(),
        })
    }

    /// Shows what was `done`.
    pub(crate) fn show(&self, done: &str, output: &mut Output) -> Result<Exit, Failure> {
        output.warnings(&self.warnings);
        output.show(self, |change| {
            let credential = &change.credential;
            format!(
                "{done} {}: version {}, {}, revision {}\n",
                credential.path, credential.version, credential.state, change.revision
            )
        })?;
        Ok(Exit::Done)
    }
}
