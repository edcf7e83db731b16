//! `tresor backup FILE`: from a server, or of the store of one that does not run.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;
use tresor::audit::Keys;
use tresor::backup::{self, Backup, Judge, NewFile, Reading, Recipient, Sink};
use tresor::config::Config;
use tresor::pb::v1::{BackupRequest, GetSigningKeysRequest};

use super::BackupView;
use crate::cli::connection::{Connection, ConnectionArgs};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Output, details};
use crate::cli::owner;

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The file to write; it must not be there. A folder that is there: the file gets a name of its own in it, with the time and
    /// the revision. `-` for standard output.
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    /// How many backups the folder may have; when the new one is there, the oldest above that are removed.
    #[arg(long, value_name = "COUNT")]
    keep: Option<NonZeroUsize>,
    /// Encrypt the file for this age recipient too (`age1…`), so that it takes that identity besides the key-encryption key to
    /// open it. May be given several times.
    #[arg(long, value_name = "RECIPIENT", value_parser = recipient)]
    recipient: Vec<Recipient>,
    /// The configuration of a server that does not run; then its store is read, and no server is asked.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn recipient(text: &str) -> Result<Recipient, String> {
    Recipient::parse(text).map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Created {
    file: PathBuf,
    #[serde(flatten)]
    backup: BackupView,
    recipients: Vec<String>,
    removed: Vec<PathBuf>,
}

impl Create {
    pub(super) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Result<Exit, Failure> {
        let file = self.file.unwrap_or_default();
        let place = Place::of(&file)?;
        if self.keep.is_some() && !matches!(place, Place::Folder(_)) {
            let text = format!("--keep: {} is no folder; name one that is there", file.display());
            return Err(Failure::Usage(text));
        }
        let (file, backup) = if let Some(config) = &self.config {
            let failed = |error: tresor::offline::OfflineError| Failure::Start(error.to_string());
            let config = Config::load(config).map_err(|error| failed(error.into()))?;
            let store = config.store.path.clone();
            let (out, parts) = mpsc::channel(2);
            let making = tokio::spawn(async move { tresor::offline::back_up(&config, &out).await });
            let mut taking = Taking::new(place.clone(), &self.recipient)?;
            taking.take_all(parts).await?;
            let keys = making.await.map_err(|error| Failure::Start(error.to_string()))?;
            owner::remind(&store, output);
            taking.finish(&keys.map_err(failed)?)?
        } else {
            let connection = connection.open()?;
            match fetch(&connection, place.clone(), &self.recipient).await {
                Ok(taken) => taken,
                Err(failure) => return Err(connection.explain(failure).await),
            }
        };
        let removed = match (&place, self.keep) {
            (Place::Folder(folder), Some(keep)) => {
                let cleared = backup::clear(folder, keep.get(), backup.header.begun_at);
                cleared
                    .map_err(|error| Failure::Start(format!("{}: old backups stay there: {error}", folder.display())))?
            }
            _ => Vec::new(),
        };
        let created = Created {
            file,
            backup: (&backup).into(),
            recipients: self.recipient.iter().map(ToString::to_string).collect(),
            removed,
        };
        if matches!(place, Place::Output) {
            // Standard output has the backup.
            output.tell(&format!("backed up revision {}", created.backup.revision));
            return Ok(Exit::Done);
        }
        output.show(&created, |created| {
            let mut rows = vec![("file", created.file.display().to_string())];
            rows.extend(created.backup.rows());
            let whom = created
                .recipients
                .iter()
                .map(|recipient| ("encrypted for", recipient.clone()));
            rows.extend(whom);
            rows.extend(created.removed.iter().map(|old| ("removed", old.display().to_string())));
            details(&rows)
        })?;
        Ok(Exit::Done)
    }
}

async fn fetch(connection: &Connection, place: Place, recipients: &[Recipient]) -> Result<(PathBuf, Backup), Failure> {
    let mut answers = connection.operator().backup(BackupRequest {}).await?.into_inner();
    let mut taking = Taking::new(place, recipients)?;
    while let Some(answer) = answers.message().await? {
        taking.take(&answer.chunk)?;
    }
    // Not before: a key that was made meanwhile may have signed it.
    let keys = connection.resolver().get_signing_keys(GetSigningKeysRequest {}).await?;
    let keys = Keys::parse(&keys.into_inner().jwks);
    let keys = keys.map_err(|error| Failure::Start(format!("the server's keys: {error}")))?;
    taking.finish(&keys)
}

/// Where it goes.
#[derive(Clone)]
enum Place {
    File(PathBuf),
    /// There it gets its name from what it is.
    Folder(PathBuf),
    Output,
}

impl Place {
    /// What a name on the command line means.
    fn of(name: &Path) -> Result<Self, Failure> {
        if name == Path::new("-") {
            return Ok(Self::Output);
        }
        if name.is_dir() {
            return Ok(Self::Folder(name.into()));
        }
        if name.exists() {
            let text = format!(
                "{}: is there already; name a file that is not, or a folder",
                name.display()
            );
            return Err(Failure::Usage(text));
        }
        Ok(Self::File(name.into()))
    }

    /// What it is called at last.
    fn file(&self, backup: &Backup, is_encrypted: bool) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Folder(folder) => folder.join(backup::file_name(
                backup.header.begun_at,
                backup.end.revision,
                is_encrypted,
            )),
            Self::Output => "-".into(),
        }
    }
}

/// What is written to.
enum Target {
    File(Box<NewFile>),
    Output(Sink<io::Stdout>),
}

/// A backup that is written, and verified on the way.
struct Taking {
    place: Place,
    is_encrypted: bool,
    target: Target,
    reading: Reading,
    progress: ProgressBar,
}

impl Taking {
    fn new(place: Place, recipients: &[Recipient]) -> Result<Self, Failure> {
        let begin = |path: &Path| {
            let new = NewFile::create(path, recipients).map_err(|error| cannot_write(path, &error));
            new.map(|new| Target::File(Box::new(new)))
        };
        let target = match &place {
            Place::File(path) => begin(path)?,
            Place::Folder(folder) => begin(&folder.join(backup::NEXT))?,
            Place::Output => Target::Output(Sink::new(io::stdout(), recipients).map_err(Failure::Output)?),
        };
        let progress = ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{spinner} {bytes} in {elapsed}, {bytes_per_sec}").expect("it is a template"),
        );
        progress.enable_steady_tick(Duration::from_millis(200));
        Ok(Self {
            place,
            is_encrypted: !recipients.is_empty(),
            target,
            reading: Reading::new(),
            progress,
        })
    }

    async fn take_all(&mut self, mut parts: mpsc::Receiver<Bytes>) -> Result<(), Failure> {
        while let Some(part) = parts.recv().await {
            self.take(&part)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.reading.check(bytes).map_err(|flaw| unusable(&flaw))?;
        let written = match &mut self.target {
            Target::File(file) => file.write_all(bytes).map_err(|error| match &self.place {
                Place::File(path) | Place::Folder(path) => cannot_write(path, &error),
                Place::Output => Failure::Output(error),
            }),
            Target::Output(sink) => sink.write_all(bytes).map_err(Failure::Output),
        };
        self.progress.inc(bytes.len() as u64);
        written
    }

    /// Gives it its name once it is whole and signed by the vault.
    fn finish(self, keys: &Keys) -> Result<(PathBuf, Backup), Failure> {
        self.progress.finish_and_clear();
        let backup = self.reading.finish().map_err(|flaw| unusable(&flaw))?;
        backup
            .is_signed(Judge::Published(keys))
            .map_err(|error| unusable(&error))?;
        let path = self.place.file(&backup, self.is_encrypted);
        match self.target {
            Target::File(file) => file.finish(&path).map_err(|error| cannot_write(&path, &error))?,
            Target::Output(sink) => {
                let mut output = sink.finish().map_err(Failure::Output)?;
                output.flush().map_err(Failure::Output)?;
            }
        }
        Ok((path, backup))
    }
}

fn unusable(why: &dyn std::fmt::Display) -> Failure {
    Failure::Start(format!("the backup is not to be used: {why}"))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Start(format!("{}: cannot be written: {error}", path.display()))
}
