//! Between the journal and sled: what was made durable in the journal is applied to sled in memory, and sled's file is made durable
//! now and then.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use sled::{Batch, Tree};

use super::journal::Entry;
use super::mending::has_room;
use super::writer::Writer;
use super::{REVISION_KEY, io_error, sled_error, stored};
use crate::store::{Change, StoreError, Write};

/// How many transactions sled takes at once. Nobody can read meanwhile, and the revision is written once for all of them.
const BATCH: usize = 64;
/// After how long without a write sled's file is brought up to date.
const QUIET: Duration = Duration::from_secs(2);

impl Writer {
    /// Makes what is not published yet durable.
    pub(super) fn write_out(&mut self) -> Result<(), StoreError> {
        self.written = Instant::now();
        match Entry::of(&self.unpublished) {
            Some(entry) if self.makes_room_for(&entry)? => {
                self.journal.append(entry).map_err(io_error(&self.path))?;
                self.unapplied.clone_from(&self.unpublished);
            }
            // More than all of the journal can take: it goes to sled at once, and can be read a moment before it is durable.
            _ => {
                self.shelf.announce(self.revision);
                apply_whole(&self.path, &self.opened()?.tree, &self.unpublished)?;
                self.checkpoint()?;
                self.shelf.applied(self.revision);
            }
        }
        self.write_mark().map_err(io_error(&self.path))
    }

    /// Gives sled what is durable in the journal alone. Nothing is taken, and no checkpoint made, before.
    pub(super) fn bring_up_to_date(&mut self) -> Result<(), StoreError> {
        let unapplied = std::mem::take(&mut self.unapplied);
        let Some(newest) = unapplied.last().map(|change| change.revision) else {
            return Ok(());
        };
        self.shelf.announce(newest);
        let applied = self
            .opened()
            .and_then(|opened| apply(&self.path, &opened.tree, &unapplied));
        applied.map_err(|error| self.fail(error))?;
        self.shelf.applied(newest);
        Ok(())
    }

    fn write_mark(&self) -> io::Result<()> {
        let length = self.opened.as_ref().map_or(0, |opened| opened.length);
        self.mark.write(self.revision, length)
    }

    /// Whether the journal can take an entry, now or after a checkpoint.
    fn makes_room_for(&mut self, entry: &Entry) -> Result<bool, StoreError> {
        if !self.journal.takes(entry) {
            self.checkpoint()?;
        }
        Ok(self.journal.takes(entry))
    }

    /// Makes sled's file durable, after which the journal begins anew.
    pub(super) fn checkpoint(&mut self) -> Result<(), StoreError> {
        let began = Instant::now();
        self.opened.as_mut().map_err(|error| error.clone())?.sync(&self.path)?;
        self.journal.begin_anew().map_err(io_error(&self.path))?;
        tracing::debug!(revision = self.revision.0, took = ?began.elapsed(), "the store's journal begins anew");
        Ok(())
    }

    /// A checkpoint if nothing was written for a while and there is room: what is in the journal is safe there.
    pub(super) fn checkpoint_when_quiet(&mut self) -> Result<(), StoreError> {
        if self.journal.is_empty() || self.written.elapsed() < QUIET {
            return Ok(());
        }
        self.checkpoint().map_err(|error| self.fail(error))
    }

    /// A checkpoint at the end, if it can be; else the next start finds in the journal what sled lacks.
    pub(super) fn close(&mut self) {
        if self.journal.is_empty() {
            return;
        }
        let has_room = self.opened().and_then(|opened| has_room(&self.path, &opened.file));
        if has_room.is_err() {
            // sled writes what it has when it is closed, and nobody hears whether it could.
            self.leave_word();
            return;
        }
        if let Err(error) = self.checkpoint() {
            self.fail(error);
            return;
        }
        if let Err(error) = self.write_mark() {
            tracing::warn!(%error, "the store's mark could not be written");
        }
    }
}

/// Gives sled what is in the journal, in its order, and the revision at the end. Should the process end before that, the next one
/// finds the revision of before, and does all of it again. sled waits for the disk after each batch, so there is none here.
pub(super) fn apply(path: &Path, tree: &Tree, changes: &[impl Borrow<Change>]) -> Result<(), StoreError> {
    let changes = changes.iter().map(Borrow::borrow);
    let mut newest = None;
    let apply = || {
        for Change { revision, writes } in changes {
            for (key, value) in that_count(writes) {
                match value {
                    Some(value) => tree.insert(key.as_str(), stored(*revision, value))?,
                    None => tree.remove(key.as_str())?,
                };
            }
            newest = Some(revision);
        }
        match newest {
            Some(newest) => tree.insert(REVISION_KEY, &newest.0.to_be_bytes()).map(drop),
            None => Ok(()),
        }
    };
    apply().map_err(|error| sled_error(path, &error))
}

/// Of several writes of a record in one transaction, the last one. A backup may read meanwhile, and must find no other one with the
/// transaction's revision.
fn that_count(writes: &[Write]) -> Vec<&Write> {
    let mut seen = HashSet::with_capacity(writes.len());
    let backwards = writes.iter().rev();
    let mut last: Vec<_> = backwards.filter(|(key, _)| seen.insert(key.as_str())).collect();
    last.reverse();
    last
}

/// Gives sled transactions that no journal has: some at once, all or nothing of those.
fn apply_whole(path: &Path, tree: &Tree, changes: &[impl Borrow<Change>]) -> Result<(), StoreError> {
    for some in changes.chunks(BATCH) {
        let mut batch = Batch::default();
        for change in some {
            let Change { revision, writes } = change.borrow();
            for (key, value) in writes {
                match value {
                    Some(value) => batch.insert(key.as_str(), stored(*revision, value)),
                    None => batch.remove(key.as_str()),
                }
            }
            batch.insert(REVISION_KEY, &revision.0.to_be_bytes());
        }
        tree.apply_batch(batch).map_err(|error| sled_error(path, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;

    #[test]
    fn of_several_writes_of_a_record_the_last_one_counts_in_its_place() {
        let write = |key: &str, value: Option<&[u8]>| (Key::new(key), value.map(Into::into));
        let writes = [
            write("a", Some(b"first")),
            write("b", Some(b"only")),
            write("a", None),
            write("c", None),
            write("c", Some(b"back")),
        ];
        let expected = [write("b", Some(b"only")), write("a", None), write("c", Some(b"back"))];
        assert_eq!(that_count(&writes), expected.iter().collect::<Vec<_>>());
        assert!(that_count(&[]).is_empty());
    }
}
