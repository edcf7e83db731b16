//! Backups that the server makes by itself, and what the name of one says of the store.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::kept::Kept;
use super::restored::Restored;
use super::taken;
use crate::audit::{Audit, Entry, Event, Outcome};
use crate::backup::{self, BackupError, Made, NewFile, Recipient};
use crate::config::BackupConfig;
use crate::store::Revision;
use crate::telemetry::metrics;
use crate::time::{Clock as _, SystemClock, Timestamp};
use crate::vault::{Door, Vault};

/// How often it is looked whether the vault is open.
const LOOK: Duration = Duration::from_millis(100);
/// How long it sleeps at most: the clock may be set.
const NAP: Duration = Duration::from_mins(1);
/// When a backup that failed is tried again, at the latest.
const AGAIN: Duration = Duration::from_mins(10);
/// How many parts are made ahead of the file.
const AHEAD: usize = 2;

/// When backups are made, and what becomes of them.
pub(super) struct Schedule {
    folder: PathBuf,
    every: Duration,
    keep: usize,
    recipients: Vec<Recipient>,
}

impl Schedule {
    pub(super) fn new(folder: PathBuf, config: &BackupConfig) -> Self {
        Self {
            folder,
            every: config.every,
            keep: config.keep.get(),
            recipients: config.recipients.clone(),
        }
    }
}

/// Why a scheduled backup was not made.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("the folder of the backups: {0}")]
    Io(#[from] io::Error),
    #[error("another backup is being made")]
    Occupied,
    #[error("it could not be announced in the audit log")]
    Untold,
    #[error("the process ends")]
    Ending,
}

/// Tells what the store was restored from, then makes backups for as long as it is let.
pub(super) async fn keep(
    schedule: Option<Schedule>,
    restored: Arc<Restored>,
    taken: Kept,
    audit: Audit,
    door: Arc<Door>,
) {
    let mut ticks = tokio::time::interval(LOOK);
    let vault = loop {
        ticks.tick().await;
        if let Ok(vault) = door.vault() {
            break Arc::clone(vault);
        }
    };
    restored.tell(&vault, &audit).await;
    let make = async {
        let Some(schedule) = schedule else { return };
        if restored.vouched(&vault).is_none() {
            compare(&schedule, vault.revision());
        }
        make(&schedule, &audit, &vault).await;
    };
    tokio::join!(taken::keep(Arc::clone(&vault), taken), make);
}

/// Makes backups for as long as it is let.
async fn make(schedule: &Schedule, audit: &Audit, vault: &Arc<Vault>) {
    let mut not_before = Timestamp::EPOCH;
    loop {
        let due = due(schedule).max(not_before);
        let wait = due.since(SystemClock.now());
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(NAP)).await;
            continue;
        }
        if let Err(error) = back_up(schedule, audit, vault).await {
            metrics::backup(None);
            tracing::error!(%error, "a backup was not made; it is tried again");
            not_before = SystemClock.now().after(schedule.every.min(AGAIN));
        }
    }
}

/// When the next backup is to be made.
fn due(schedule: &Schedule) -> Timestamp {
    let now = SystemClock.now();
    // One from the future, of when the clock was wrong, keeps no other from being made.
    let newest = backup::kept(&schedule.folder)
        .ok()
        .and_then(|kept| kept.into_iter().rfind(|kept| kept.begun_at <= now));
    let Some(newest) = newest else {
        return Timestamp::EPOCH;
    };
    metrics::last_backup(newest.begun_at.unix_seconds());
    newest.begun_at.after(schedule.every)
}

async fn back_up(schedule: &Schedule, audit: &Audit, vault: &Arc<Vault>) -> Result<(), Trouble> {
    let place = vault.backup_place().ok_or(Trouble::Occupied)?;
    let announced = audit.announce(&Entry::new(Event::Upkeep, METHOD)).await;
    let intent = announced.map_err(|_| Trouble::Untold)?.seq;
    let made = write(schedule, audit, vault).await;
    drop(place);
    let outcome = if made.is_ok() { Outcome::Ok } else { Outcome::Failed };
    audit.note(&Entry {
        intent: Some(intent),
        revision: made.as_ref().ok().map(|made| made.revision.0),
        outcome: Some(outcome),
        ..Entry::new(Event::Upkeep, METHOD)
    });
    let made = made?;
    metrics::backup(Some(made.begun_at.unix_seconds()));
    tracing::info!(revision = made.revision.0, bytes = made.bytes, "a backup was made");
    let (folder, keep, begun_at) = (schedule.folder.clone(), schedule.keep, made.begun_at);
    let removed = apart(move || backup::clear(&folder, keep, begun_at)).await;
    match removed {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => tracing::info!(count = removed.len(), "old backups were removed"),
        // The new one is there all the same.
        Err(error) => tracing::warn!(%error, "old backups were not removed"),
    }
    Ok(())
}

/// As audit lines name it.
const METHOD: &str = "Backup";

async fn write(schedule: &Schedule, audit: &Audit, vault: &Arc<Vault>) -> Result<Made, Trouble> {
    let (folder, recipients) = (schedule.folder.clone(), schedule.recipients.clone());
    let (out, mut parts) = mpsc::channel::<Bytes>(AHEAD);
    let writing = apart(move || {
        let mut file = NewFile::create(&folder.join(backup::NEXT), &recipients)?;
        while let Some(part) = parts.blocking_recv() {
            file.write_all(&part)?;
        }
        Ok((file, folder, !recipients.is_empty()))
    });
    let checkpoint = audit.checkpoints().borrow().as_ref().map(|newest| newest.line.clone());
    let making = async {
        let made = vault.back_up(checkpoint.unwrap_or_default(), &out).await;
        drop(out);
        made
    };
    let (made, written) = tokio::join!(making, writing);
    // If the file failed, nobody has taken the backup, and it is the file that is to be told.
    let (file, folder, is_encrypted) = written?;
    let made = made?;
    let path = folder.join(backup::file_name(made.begun_at, made.revision, is_encrypted));
    apart(move || file.finish(&path)).await?;
    Ok(made)
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| Trouble::Ending)?;
    Ok(done?)
}

/// A store that is older than its backups was put back to an older state.
fn compare(schedule: &Schedule, found: Revision) {
    let newest = backup::kept(&schedule.folder)
        .ok()
        .and_then(|kept| kept.iter().map(|backup| backup.revision).max());
    if let Some(newest) = newest.filter(|newest| *newest > found) {
        tracing::error!(
            found = found.0,
            backed_up = newest.0,
            "the store is older than a backup of it: it was put back to an older state, or the backups are another vault's"
        );
    }
}
