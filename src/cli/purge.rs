//! `tresor credential purge`: nothing brings it back, so the path is named twice.

use clap::Args;
use serde::Serialize;
use tresor::pb::v1::PurgeCredentialRequest;
use tresor::vault::scope::CredentialRef;

use super::args;
use super::confirm::Question;
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::Output;

/// Remove a credential with all its versions, for good.
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal you are asked to type the path again; elsewhere, give it with --confirm.\n\n\
    Example:\n  tresor credential purge demo/dat/office/leipzig --confirm demo/dat/office/leipzig\n\n\
    JSON: {path, revision}"
)]
pub(crate) struct Purge {
    /// Which credential, such as demo/dat/office/leipzig.
    #[arg(value_parser = args::path)]
    path: CredentialRef,
    /// The same path again.
    #[arg(long, value_name = "PATH")]
    confirm: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    path: String,
    revision: u64,
}

impl Purge {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let path = self.path.to_string();
        let question = Question {
            name: &path,
            warning: format!("This removes all versions of {path} for good."),
            otherwise: "nothing was purged",
        };
        question.confirm(self.confirm)?;
        let request = PurgeCredentialRequest {
            r#ref: Some((&self.path).into()),
            confirm: path.clone(),
        };
        let revision = connection
            .admin()
            .purge_credential(request)
            .await?
            .into_inner()
            .revision;
        output.show(&Answer { path, revision }, |answer| {
            format!("purged {}: revision {}\n", answer.path, answer.revision)
        })?;
        Ok(Exit::Done)
    }
}
