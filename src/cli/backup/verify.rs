//! `tresor backup verify`: whether a backup could be restored.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tresor::audit::Keys;
use tresor::backup::{self, Flaw, Judge, ReadError, is_of_the_reader};
use tresor::config::{Config, Kek};
use tresor::keyring::KeyringError;
use tresor::offline::{self, OfflineError};
use tresor::pb::v1::GetSigningKeysRequest;

use super::{BackupView, IdentityFile, input, keys_in};
use crate::cli::connection::ConnectionArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Output, details, plain};

/// Verify that a backup is whole and the vault's own.
///
/// Whose it is show the vault's public keys, from the server or from a file (--jwks); with --config it is the key-encryption key
/// that shows it, and every record in the backup is opened with it. Ends with code 9 if something is wrong, and with another if
/// that cannot be told: without what opens the file, or while the key-encryption key is not at hand.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor backup verify vault.backup\n  \
    tresor backup verify vault.backup --config /etc/tresor/tresor.toml\n  \
    tresor backup verify off-site.backup.age --identity off-site.key --jwks keys.json\n\n\
    JSON: {is_whole, problem, backup: {id, revision, begun_at, done_at, entries, bytes, kid}, opened, damaged[]}")]
pub(super) struct Verify {
    /// The backup; `-` for standard input, but not with --config.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    identity: IdentityFile,
    /// The vault's public keys as `tresor jwks` prints them; then no server is asked.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    jwks: Option<PathBuf>,
    /// The vault's configuration; then every record is opened, and no server is asked.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    is_whole: bool,
    problem: Option<String>,
    backup: Option<BackupView>,
    /// How many records opened; null if none was tried.
    opened: Option<u64>,
    damaged: Vec<String>,
}

impl Verify {
    pub(super) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Result<Exit, Failure> {
        let answer = if let Some(config) = &self.config {
            self.open_all(config).await?
        } else {
            let keys = match &self.jwks {
                Some(path) => keys_in(path)?,
                None => ask(connection).await?,
            };
            self.judge(&keys)?
        };
        output.show(&answer, text)?;
        Ok(if answer.is_whole { Exit::Done } else { Exit::Broken })
    }

    fn judge(&self, keys: &Keys) -> Result<Answer, Failure> {
        let identities = self.identity.read()?;
        let read = backup::read(input(&self.file)?, identities.as_ref(), |_| {
            Ok::<_, std::convert::Infallible>(())
        });
        Ok(match read {
            Err(ReadError::Io(error)) if is_of_the_reader(&error) => return Err(self.unknown(&error)),
            Err(ReadError::Flaw(flaw @ Flaw::ForRecipient)) => return Err(self.unknown(&flaw)),
            Err(error) => Answer::unusable(&error, None),
            Ok(backup) => match backup.is_signed(Judge::Published(keys)) {
                Err(error) => Answer::unusable(&error, Some(&backup)),
                Ok(()) => Answer::whole(&backup),
            },
        })
    }

    async fn open_all(&self, config: &Path) -> Result<Answer, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Start(error.to_string());
        if self.file == Path::new("-") {
            let text = "with --config the backup is read twice, which standard input cannot be: give it as a file";
            return Err(Failure::Usage(text.to_owned()));
        }
        input(&self.file)?;
        let identities = self.identity.read()?;
        let config = Config::load(config).map_err(|error| failed(&error))?;
        let kek = Kek::new(&config.keys).map_err(|error| failed(&error))?;
        let open = || input(&self.file).map_err(|error| std::io::Error::other(error.to_string()));
        let opened = offline::open_all(open, identities.as_ref(), &*kek.source).await;
        Ok(match opened {
            Err(OfflineError::Io(error)) if is_of_the_reader(&error) => return Err(self.unknown(&error)),
            Err(OfflineError::Flaw(flaw @ Flaw::ForRecipient)) => return Err(self.unknown(&flaw)),
            Err(OfflineError::Keyring(error @ KeyringError::Kek(_))) => return Err(self.unknown(&error)),
            Err(error) => Answer::unusable(&error, None),
            Ok(opened) => Answer {
                is_whole: opened.damaged.is_empty(),
                opened: Some(opened.records),
                damaged: opened.damaged.iter().map(ToString::to_string).collect(),
                ..Answer::whole(&opened.backup)
            },
        })
    }

    /// Whatever the backup is like.
    fn unknown(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::Start(format!("{}: cannot be verified: {why}", self.file.display()))
    }
}

async fn ask(connection: &ConnectionArgs) -> Result<Keys, Failure> {
    let connection = connection.open()?;
    match connection.resolver().get_signing_keys(GetSigningKeysRequest {}).await {
        Ok(keys) => {
            let keys = Keys::parse(&keys.into_inner().jwks);
            keys.map_err(|error| Failure::Start(format!("the server's keys: {error}")))
        }
        Err(status) => Err(connection.explain(status.into()).await),
    }
}

impl Answer {
    fn whole(backup: &backup::Backup) -> Self {
        Self {
            is_whole: true,
            problem: None,
            backup: Some(backup.into()),
            opened: None,
            damaged: Vec::new(),
        }
    }

    fn unusable(why: &dyn std::fmt::Display, backup: Option<&backup::Backup>) -> Self {
        Self {
            is_whole: false,
            problem: Some(why.to_string()),
            backup: backup.map(BackupView::from),
            opened: None,
            damaged: Vec::new(),
        }
    }
}

fn text(answer: &Answer) -> String {
    let mut text = match (&answer.problem, answer.damaged.len()) {
        (Some(problem), _) => format!("NOT TO BE USED: {}\n", plain(problem)),
        (None, 0) => "whole, and the vault's own\n".to_owned(),
        (None, damaged) => format!("whole, and the vault's own, but {damaged} of its records do not open\n"),
    };
    for record in &answer.damaged {
        text.extend(["damaged: ", &plain(record), "\n"]);
    }
    if let Some(backup) = &answer.backup {
        let mut rows = backup.rows();
        rows.extend(answer.opened.map(|opened| ("records opened", opened.to_string())));
        text += &details(&rows);
    }
    text
}
