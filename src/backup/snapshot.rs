//! The records of a store as they were at one revision, read while the store goes on being written.
//!
//! The store has no snapshots. So its changes are followed first, then its records are read in the order of their keys, and
//! after each page of them the changes that have come meanwhile are given, too. When the last page is read, the newest
//! revision that any of them can have shown is known; what is given ends with the change of that revision. Whoever takes the
//! records and changes in their order, and passes over what is older than what it has, has the store as it was then:
//!
//! * A record that did not change meanwhile was read as it was.
//! * Of one that did, the last change is among those given, and it has the greatest revision. A page is read after every change
//!   that was given before it had happened, so none brings back what a change has removed.

use std::collections::{HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::pb::backup as pb;
use crate::store::{Change, Changes, Key, Revision, Scan, Store, StoreError};

/// How many records are read at once.
const PAGE: usize = 512;
/// How large a batch gets before it is given, in bytes.
const BATCH: usize = 256 * 1024;
/// How much of what has changed is kept for a reader that does not take it, in bytes.
const MOST_WAITING: usize = 64 << 20;
/// How long the newest revision may take to become durable.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store is in trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store has is not durable and does not become so.
    #[error("the store does not make durable what it was given; start the vault again, then back it up")]
    NotDurable,
    /// Nobody takes the records while others are being written.
    #[error("the backup was not taken fast enough for what is being saved meanwhile; try again")]
    TooSlow,
}

/// A snapshot that is being read.
pub(super) struct Snapshot {
    store: Arc<dyn Store>,
    changes: Changes,
    /// Changes that have come and are not given yet, and how much memory they take.
    waiting: VecDeque<Arc<Change>>,
    waiting_size: usize,
    /// The newest change that has come.
    newest: Revision,
    begun_at: Revision,
    progress: Progress,
    /// What is to be given next, and the batch behind it with its size.
    ready: VecDeque<Vec<pb::Entry>>,
    next: Vec<pb::Entry>,
    size: usize,
    most_waiting: usize,
}

enum Progress {
    /// The last key that was read.
    Reading(Option<Key>),
    /// All records are read; it ends with this revision.
    Following(Revision),
    Done(Revision),
}

impl Snapshot {
    /// Begins to follow the store.
    pub(super) async fn begin(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let changes = store.watch().await?;
        // Not before: of what is newer than this, every change comes.
        let begun_at = store.revision();
        Ok(Self {
            store,
            changes,
            waiting: VecDeque::new(),
            waiting_size: 0,
            newest: begun_at,
            begun_at,
            progress: Progress::Reading(None),
            ready: VecDeque::new(),
            next: Vec::new(),
            size: 0,
            most_waiting: MOST_WAITING,
        })
    }

    /// The newest durable revision when it was begun.
    pub(super) fn begun_at(&self) -> Revision {
        self.begun_at
    }

    /// The next entries; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<pb::Entry>>, SnapshotError> {
        while self.ready.is_empty() && !matches!(self.progress, Progress::Done(_)) {
            self.advance().await?;
        }
        if self.ready.is_empty() {
            self.end_batch();
        }
        Ok(self.ready.pop_front())
    }

    /// The revision that it is of; none before the last entry was given.
    pub(super) fn revision(&self) -> Option<Revision> {
        match self.progress {
            Progress::Done(revision) => Some(revision),
            Progress::Reading(_) | Progress::Following(_) => None,
        }
    }

    /// Does something else, and keeps what changes meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError::TooSlow`] if that gets too much.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, SnapshotError> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                change = self.changes.recv() => self.keep(change)?,
            }
        }
    }

    async fn advance(&mut self) -> Result<(), SnapshotError> {
        match &self.progress {
            Progress::Reading(after) => {
                let scan = Scan {
                    prefix: String::new(),
                    after: after.clone(),
                    limit: PAGE,
                };
                let store = Arc::clone(&self.store);
                let page = self.during(async move { store.scan(scan).await }).await??;
                let Some(last) = page.last() else {
                    self.progress = Progress::Following(self.store.applied().await?);
                    return Ok(());
                };
                self.progress = Progress::Reading(Some(last.key.clone()));
                for record in page {
                    self.give(&record.key, record.revision, Some(&record.value));
                }
                while let Ok(change) = self.changes.try_recv() {
                    self.keep(Some(change))?;
                }
                self.give_changes(None);
            }
            Progress::Following(end) => {
                let end = *end;
                while self.newest < end {
                    let change = tokio::time::timeout(PATIENCE, self.changes.recv()).await;
                    self.keep(change.map_err(|_| SnapshotError::NotDurable)?)?;
                }
                self.give_changes(Some(end));
                self.progress = Progress::Done(end);
            }
            Progress::Done(_) => {}
        }
        Ok(())
    }

    fn keep(&mut self, change: Option<Arc<Change>>) -> Result<(), SnapshotError> {
        let change = change.ok_or(StoreError::Closed)?;
        self.newest = change.revision;
        self.waiting_size += size_of_change(&change);
        self.waiting.push_back(change);
        if self.waiting_size > self.most_waiting {
            return Err(SnapshotError::TooSlow);
        }
        Ok(())
    }

    /// Gives the changes that have come, up to the last revision if that is known.
    fn give_changes(&mut self, last: Option<Revision>) {
        while let Some(change) = self.waiting.pop_front() {
            self.waiting_size -= size_of_change(&change);
            if last.is_some_and(|last| change.revision > last) {
                continue;
            }
            // Of several writes of a record in one transaction the last one counts, and they have the same revision.
            let mut given = HashSet::new();
            for (key, value) in change.writes.iter().rev() {
                if given.insert(key) {
                    self.give(key, change.revision, value.as_deref());
                }
            }
        }
    }

    fn give(&mut self, key: &Key, revision: Revision, value: Option<&[u8]>) {
        self.size += key.as_str().len() + value.map_or(0, <[u8]>::len);
        self.next.push(pb::Entry {
            key: key.as_str().to_owned(),
            revision: revision.0,
            value: value.map(<[u8]>::to_vec),
        });
        // As many changes as have come may be far more than one part of a backup holds.
        if self.size >= BATCH {
            self.end_batch();
        }
    }

    fn end_batch(&mut self) {
        self.size = 0;
        if !self.next.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.next));
        }
    }
}

/// In memory, roughly: bytes, and what holds them.
fn size_of_change(change: &Change) -> usize {
    let write =
        |(key, value): &(Key, Option<Arc<[u8]>>)| key.as_str().len() + value.as_ref().map_or(0, |v| v.len()) + 96;
    64 + change.writes.iter().map(write).sum::<usize>()
}
