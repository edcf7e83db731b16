//! The writer: the one thread that changes the store.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::guard::Mark;
use super::journal::Journal;
use super::mending::{Pause, has_room, quietly_close};
use super::{Opened, Shelf, damaged, record, sled_error};
use crate::store::{Change, Changes, CommitError, Committed, Expectation, Key, Revision, StoreError, Transaction};
use crate::telemetry::metrics;

/// How many transactions share one sync at most; bounds the time that the first of them waits.
const GROUP: usize = 1024;
/// With how many bytes in its keys and values a group is synced at once, however few transactions it has.
const GROUP_BYTES: usize = 1 << 20;

/// Of how many records it is remembered when they were last written.
const KNOWN: usize = 4096;

/// What the writer is asked for.
pub(super) enum Job {
    Commit(Transaction, oneshot::Sender<Committed>),
    CommitAll(Vec<Transaction>, oneshot::Sender<Vec<Committed>>),
    Watch(oneshot::Sender<Changes>),
    Tend(oneshot::Sender<Result<(), StoreError>>),
    Close,
}

/// Who waits for what, once it is durable.
enum Waiting {
    ForOne(Committed, oneshot::Sender<Committed>),
    ForAll(Vec<Committed>, oneshot::Sender<Vec<Committed>>),
}

enum Next {
    GoOn,
    Close,
}

/// Transactions that were taken and that are not in the journal yet.
#[derive(Default)]
pub(super) struct Pending {
    /// How much is written, in bytes.
    bytes: usize,
    changes: Vec<Arc<Change>>,
}

/// The only one who writes.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    /// What is written to; after a failure, why nothing is until that is [mended](Self::mend).
    pub(super) opened: Result<Opened, StoreError>,
    pub(super) pause: Pause,
    pub(super) shelf: Arc<Shelf>,
    pub(super) journal: Journal,
    pub(super) mark: Mark,
    /// When something was last written.
    pub(super) written: Instant,
    /// The newest revision given to a transaction, durable or not.
    pub(super) revision: Revision,
    pub(super) batch: Pending,
    /// When records that were looked at or written lately were last written, with all transactions done that were taken. A tenant's
    /// data key is looked at for each of its saves.
    pub(super) known: HashMap<Key, Option<Revision>>,
    pub(super) durable: Arc<AtomicU64>,
    /// On their way to the journal.
    pub(super) unpublished: Vec<Arc<Change>>,
    /// In the journal, and on their way to sled.
    pub(super) unapplied: Vec<Arc<Change>>,
    watchers: Vec<mpsc::UnboundedSender<Arc<Change>>>,
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        opened: Opened,
        journal: Journal,
        shelf: Arc<Shelf>,
        mark: Mark,
        durable: Arc<AtomicU64>,
    ) -> Self {
        Self {
            path: path.into(),
            pause: Pause::default(),
            shelf,
            journal,
            opened: Ok(opened),
            mark,
            written: Instant::now(),
            revision: Revision(durable.load(Ordering::Acquire)),
            batch: Pending::default(),
            known: HashMap::new(),
            durable,
            unpublished: Vec::new(),
            unapplied: Vec::new(),
            watchers: Vec::new(),
        }
    }

    pub(super) fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
            match catch_unwind(AssertUnwindSafe(|| self.work_off(&mut group))) {
                Ok(Next::GoOn) => {}
                Ok(Next::Close) => break,
                Err(_) => {
                    // Whoever waits is told that the outcome is open.
                    group.clear();
                    self.fail(damaged(&self.path, "sled has panicked"));
                }
            }
        }
        if catch_unwind(AssertUnwindSafe(|| self.close())).is_err() {
            self.fail(damaged(&self.path, "sled has panicked"));
        }
        // The disk may be full.
        quietly_close(std::mem::replace(&mut self.opened, Err(StoreError::Closed)));
    }

    fn work_off(&mut self, group: &mut Vec<Job>) -> Next {
        let mut waiting = Vec::new();
        let mut tending = Vec::new();
        let mut next = Next::GoOn;
        let mut taken = 0;
        for job in group.drain(..) {
            match job {
                Job::Commit(transaction, answer) => {
                    taken += 1;
                    waiting.push(Waiting::ForOne(self.take(transaction), answer));
                }
                Job::CommitAll(transactions, answer) => {
                    taken += transactions.len();
                    let outcomes = transactions.into_iter().map(|one| self.take(one)).collect();
                    waiting.push(Waiting::ForAll(outcomes, answer));
                }
                Job::Watch(answer) => {
                    let (sender, changes) = mpsc::unbounded_channel();
                    // What is applied and not yet published reaches this watcher too.
                    self.watchers.push(sender);
                    let _ = answer.send(changes);
                }
                Job::Tend(answer) => tending.push(answer),
                Job::Close => next = Next::Close,
            }
            if taken >= GROUP {
                self.acknowledge(&mut waiting);
                taken = 0;
            }
        }
        self.acknowledge(&mut waiting);
        // Not before: what was taken before a failure must not be acknowledged after it was mended.
        for answer in tending {
            let _ = answer.send(self.tend());
        }
        next
    }

    /// Makes what was taken durable, answers everybody who waits for it, and then sees to it that it can be read.
    fn acknowledge(&mut self, waiting: &mut Vec<Waiting>) {
        let synced = self.sync();
        let durable = |outcome: Committed| {
            let revision = outcome?;
            synced.clone().map(|()| revision).map_err(CommitError::from)
        };
        for waiting in waiting.drain(..) {
            // Nobody may be listening any more.
            match waiting {
                Waiting::ForOne(outcome, answer) => drop(answer.send(durable(outcome))),
                Waiting::ForAll(outcomes, answer) => {
                    drop(answer.send(outcomes.into_iter().map(durable).collect()));
                }
            }
        }
        // Readers are told if that fails, and whoever commits next.
        let _ = self.bring_up_to_date();
    }

    /// Takes a transaction into the batch, if what it expects holds after all those before it.
    fn take(&mut self, transaction: Transaction) -> Committed {
        self.refuse_without_room()?;
        for (key, expectation) in &transaction.expectations {
            let written_at = self.written_at(key)?;
            let holds = match expectation {
                Expectation::Absent => written_at.is_none(),
                Expectation::Present => written_at.is_some(),
                Expectation::WrittenAt(revision) => written_at == Some(*revision),
            };
            if !holds {
                return Err(CommitError::Conflict {
                    key: key.clone(),
                    seen: self.revision,
                });
            }
        }
        let revision = Revision(self.revision.0 + 1);
        for (key, value) in &transaction.writes {
            self.batch.bytes += key.as_str().len() + value.as_ref().map_or(0, |value| value.len());
            let written_at = value.is_some().then_some(revision);
            self.known.insert(key.clone(), written_at);
        }
        self.revision = revision;
        self.batch.changes.push(Arc::new(Change {
            revision,
            writes: transaction.writes,
        }));
        if self.batch.bytes >= GROUP_BYTES {
            self.sync()?;
            self.bring_up_to_date()?;
        }
        Ok(revision)
    }

    /// When a record was last written, as the transactions that were taken leave it; none if it is not there.
    fn written_at(&mut self, key: &Key) -> Result<Option<Revision>, StoreError> {
        if let Some(known) = self.known.get(key) {
            return Ok(*known);
        }
        let stored = self.opened()?.tree.get(key.as_str());
        let stored = stored.map_err(|error| sled_error(&self.path, &error))?;
        let stored = stored.map(|value| record(&self.path, key.clone(), &value).map(|record| record.revision));
        let written_at = stored.transpose()?;
        self.known.insert(key.clone(), written_at);
        Ok(written_at)
    }

    /// Makes what was taken durable, then tells the watchers.
    fn sync(&mut self) -> Result<(), StoreError> {
        self.opened()?;
        let Pending { changes, .. } = std::mem::take(&mut self.batch);
        if changes.is_empty() {
            return Ok(());
        }
        self.unpublished = changes;
        let began = Instant::now();
        if let Err(error) = self.write_out() {
            return Err(self.fail(error));
        }
        metrics::store_sync(began.elapsed());
        // sled has them all before the next transaction is taken.
        if self.known.len() > KNOWN {
            self.known.clear();
        }
        self.publish();
        Ok(())
    }

    /// Tells everybody of what is durable now.
    pub(super) fn publish(&mut self) {
        self.durable.store(self.revision.0, Ordering::Release);
        for change in self.unpublished.drain(..) {
            self.watchers
                .retain(|watcher| watcher.send(Arc::clone(&change)).is_ok());
        }
    }

    pub(super) fn opened(&self) -> Result<&Opened, StoreError> {
        self.opened.as_ref().map_err(Clone::clone)
    }

    /// Looked at once for each batch: what is in one fits into the room that must be there.
    fn refuse_without_room(&self) -> Result<(), StoreError> {
        let opened = self.opened()?;
        if self.batch.changes.is_empty() {
            has_room(&self.path, &opened.file)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
