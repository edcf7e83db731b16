//! `tresor audit …`: is the log whole, and what does it say.

mod show;
mod verify;

use clap::Subcommand;

use super::connection::ConnectionArgs;
use super::failure::{Exit, Failure};
use super::output::Output;

/// Show the audit log, and verify that nobody has changed it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Verify(verify::Verify),
    Show(show::Show),
}

impl Command {
    pub(crate) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Verify(verify) => verify.run(connection, output).await,
            Self::Show(show) => show.run(connection, output).await,
        }
    }
}
