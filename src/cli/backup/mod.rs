//! `tresor backup`: everything that a vault holds, in a file.

mod create;
mod source;
mod verify;

use clap::{Args, Subcommand};
use serde::Serialize;
use tresor::backup;

pub(super) use self::source::{IdentityFile, input, keys_in};
use super::connection::ConnectionArgs;
use super::failure::{Exit, Failure};
use super::output::Output;

/// Back a vault up, sealed and signed, while it serves; or verify a backup.
///
/// What is in the file is worth nothing without the key-encryption key: keep a copy of that one elsewhere. The file is there once
/// it is whole and was verified.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example:\n  tresor backup vault.backup\n  \
    tresor backup /var/backups/tresor --keep 30\n  \
    tresor backup off-site.backup.age --recipient age1…\n  \
    tresor backup - | ssh elsewhere 'cat > vault.backup'\n  \
    tresor backup vault.backup --config /etc/tresor/tresor.toml\n\n\
    JSON: {file, id, revision, begun_at, done_at, entries, bytes, kid, recipients[], removed[]}"
)]
pub(crate) struct Backup {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    create: create::Create,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Verify),
}

impl Backup {
    pub(crate) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Result<Exit, Failure> {
        match self.command {
            Some(Command::Verify(verify)) => verify.run(connection, output).await,
            None => self.create.run(connection, output).await,
        }
    }
}

/// What is told of a backup.
#[derive(Serialize)]
pub(super) struct BackupView {
    pub(super) id: String,
    pub(super) revision: u64,
    pub(super) begun_at: String,
    pub(super) done_at: String,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) kid: String,
}

impl From<&backup::Backup> for BackupView {
    fn from(backup: &backup::Backup) -> Self {
        Self {
            id: hex::encode(backup.header.id),
            revision: backup.end.revision.0,
            begun_at: backup.header.begun_at.to_string(),
            done_at: backup.end.done_at.to_string(),
            entries: backup.end.entries,
            bytes: backup.bytes,
            kid: backup.kid(),
        }
    }
}

impl BackupView {
    /// Its rows in a table.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        vec![
            ("backup", self.id.clone()),
            ("revision", self.revision.to_string()),
            ("made", format!("{} to {}", self.begun_at, self.done_at)),
            ("entries", self.entries.to_string()),
            ("bytes", self.bytes.to_string()),
            ("signed with", self.kid.clone()),
        ]
    }
}
