//! What the writer does when the disk fails it.
//!
//! After a failed write or sync nobody knows what is on the disk: sled has stopped, and the system may have dropped what it was to
//! write while it goes on showing it to readers, so that a later sync which succeeds proves nothing. So nothing is read or written
//! any more. The store is mended by having all of sled's file and of the journal written once more and synced, and opening it anew:
//! then what is there is on the disk, and what was in doubt turns out to be in it or not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::journal;
use super::quiet::quietly;
use super::recovery::catch_up;
use super::writer::{Pending, Writer};
use super::{Opened, damaged, io_error, lock_when_released, read_revision, settle};
use crate::store::{RESERVE, Revision, StoreError};

/// How long to wait before the first and before every later attempt, at most: each wait is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How much is written at once, in bytes.
const PIECE: usize = 1 << 20;

/// When it is tried again to mend the store.
pub(super) struct Pause {
    until: Instant,
    next: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            until: Instant::now(),
            next: FIRST_PAUSE,
        }
    }
}

impl Pause {
    fn begin(&mut self) {
        self.until = Instant::now() + self.next;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl Writer {
    /// Stops reading and writing: what is on the disk is open.
    pub(super) fn fail(&mut self, error: StoreError) -> StoreError {
        tracing::error!(%error, "the store has failed: nothing is read from it or written to it until it is mended");
        self.leave_word();
        self.shelf.take_away(error.clone());
        // What was taken may turn out not to be there; what is durable the journal has.
        self.known.clear();
        self.unapplied.clear();
        let failed = std::mem::replace(&mut self.opened, Err(error.clone()));
        quietly_close(failed);
        self.pause = Pause::default();
        error
    }

    /// Has the next process not take for what is on the disk what the system has in memory.
    pub(super) fn leave_word(&self) {
        if let Err(error) = self.mark.doubt() {
            tracing::warn!(%error, "that the store is in doubt could not be noted beside it");
        }
    }

    /// Says what keeps it from writing, after it has tried to mend that.
    pub(super) fn tend(&mut self) -> Result<(), StoreError> {
        if self.opened.is_err() && self.pause.is_over() {
            let mended = quietly(|| self.mend());
            if let Err(error) = mended.unwrap_or_else(|| Err(damaged(&self.path, "sled has panicked"))) {
                tracing::warn!(%error, "the store is not mended yet");
                self.pause.begin();
            }
        }
        has_room(&self.path, &self.opened()?.file)?;
        self.checkpoint_when_quiet()
    }

    fn mend(&mut self) -> Result<(), StoreError> {
        write_once_more(&self.path)?;
        let mut opened = Opened::open(&self.path)?;
        let newer = self.journal.newer_than(read_revision(&self.path, &opened.tree)?)?;
        let found = newer.revision;
        let acknowledged = Revision(self.durable.load(Ordering::Acquire));
        if found < acknowledged {
            return Err(StoreError::LostWrites {
                path: self.path.clone(),
                found,
                acknowledged,
            });
        }
        catch_up(&self.path, &opened, &mut self.journal, &newer)?;
        opened.make_durable(&self.path)?;
        self.journal.begin_anew().map_err(io_error(&self.path))?;
        settle(&self.path, &opened, &self.mark, found)?;
        let in_doubt = self.unpublished.len();
        self.unpublished.retain(|change| change.revision <= found);
        tracing::info!(
            revision = found.0,
            in_doubt,
            kept = self.unpublished.len(),
            "the store is mended: it has all that was acknowledged, and takes writes again"
        );
        self.batch = Pending::default();
        self.revision = found;
        self.shelf.put(opened.tree.clone(), found);
        self.opened = Ok(opened);
        self.publish();
        Ok(())
    }
}

/// Refuses if the disk has less than [`RESERVE`] left.
pub(super) fn has_room(path: &Path, file: &File) -> Result<(), StoreError> {
    let disk = rustix::fs::fstatvfs(file).map_err(|error| io_error(path)(error.into()))?;
    let left = disk.f_bavail.saturating_mul(disk.f_frsize);
    if left < RESERVE {
        return Err(StoreError::Full {
            path: path.into(),
            left,
        });
    }
    Ok(())
}

/// Closes sled, which syncs then, and panics if that fails.
pub(super) fn quietly_close(opened: Result<Opened, StoreError>) {
    let _ = quietly(|| drop(opened));
}

/// Has all that the system knows of sled's file and of the journal written to the disk, also what it takes for written already.
///
/// What is on the disk was synced, or is what a power cut would leave; each part is replaced by what it should be, so it does no
/// harm to be interrupted.
pub(super) fn write_once_more(path: &Path) -> Result<(), StoreError> {
    let write = |name: &str| {
        let file = OpenOptions::new().read(true).write(true).open(path.join(name))?;
        lock_when_released(&file)?;
        let mut piece = vec![0; PIECE];
        let mut offset = 0;
        loop {
            let length = file.read_at(&mut piece, offset)?;
            if length == 0 {
                return file.sync_all().and_then(|()| file.unlock());
            }
            file.write_all_at(&piece[..length], offset)?;
            offset += length as u64;
        }
    };
    both_files(write).map_err(io_error(path))
}

/// Makes durable what a process has left that ended without closing the store. sled clears what it takes for free when it is opened,
/// before it syncs anything: what was there must be on the disk in its new place by then.
pub(super) fn sync_what_was_left(path: &Path) -> Result<(), StoreError> {
    both_files(|name| File::open(path.join(name))?.sync_all()).map_err(io_error(path))
}

fn both_files(work: impl Fn(&str) -> io::Result<()>) -> io::Result<()> {
    for name in ["db", journal::NAME] {
        match work(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
