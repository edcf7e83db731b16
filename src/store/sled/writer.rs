//! The writer: the one thread that changes the store.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sled::{Batch, Tree};
use tokio::sync::{mpsc, oneshot};

use super::guard::Mark;
use super::{REVISION_KEY, io_error, record, sled_error};
use crate::store::{Change, Changes, CommitError, Committed, Expectation, Key, Revision, StoreError, Transaction};
use crate::telemetry::metrics;

/// How many transactions share one flush at most; bounds the time that the first of them waits.
const GROUP: usize = 1024;
/// How many of them sled takes at once. Nobody can read meanwhile, and the revision is written once for all of them.
const BATCH: usize = 64;

/// What the writer is asked for.
pub(super) enum Job {
    Commit(Transaction, oneshot::Sender<Committed>),
    CommitAll(Vec<Transaction>, oneshot::Sender<Vec<Committed>>),
    Watch(oneshot::Sender<Changes>),
    Close,
}

/// Who waits for what, once it is durable.
enum Waiting {
    ForOne(Committed, oneshot::Sender<Committed>),
    ForAll(Vec<Committed>, oneshot::Sender<Vec<Committed>>),
}

/// Transactions that were taken and that sled does not have yet.
#[derive(Default)]
struct Pending {
    writes: Batch,
    /// When each record that was looked at or written was last written, with these transactions done.
    written_at: HashMap<Key, Option<Revision>>,
    changes: Vec<Arc<Change>>,
}

/// The only one who writes.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    database: sled::Db,
    tree: Tree,
    mark: Mark,
    /// The newest revision given to a transaction, durable or not.
    revision: Revision,
    batch: Pending,
    durable: Arc<AtomicU64>,
    /// Why nothing is written any more. After a failed sync the system may have dropped what was to be written, so a later one
    /// that succeeds proves nothing: only a restart reads what is really there.
    failed: Option<StoreError>,
    /// Applied and not yet durable.
    unpublished: Vec<Arc<Change>>,
    watchers: Vec<mpsc::UnboundedSender<Arc<Change>>>,
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        file: File,
        database: sled::Db,
        tree: Tree,
        mark: Mark,
        revision: Revision,
        durable: Arc<AtomicU64>,
    ) -> Self {
        let (unpublished, watchers) = (Vec::new(), Vec::new());
        Self {
            path: path.into(),
            file,
            database,
            tree,
            mark,
            revision,
            batch: Pending::default(),
            durable,
            failed: None,
            unpublished,
            watchers,
        }
    }

    pub(super) fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        let mut waiting = Vec::new();
        while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
            let mut close = false;
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
                    Job::Close => close = true,
                }
                if taken >= GROUP {
                    self.acknowledge(&mut waiting);
                    taken = 0;
                }
            }
            self.acknowledge(&mut waiting);
            if close {
                return;
            }
        }
    }

    /// Makes what was taken durable and answers everybody who waits for it.
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
    }

    /// Takes a transaction into the batch, if what it expects holds after all those before it.
    fn take(&mut self, transaction: Transaction) -> Committed {
        if let Some(failed) = &self.failed {
            return Err(failed.clone().into());
        }
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
            match value {
                Some(value) => {
                    let stored = [&revision.0.to_be_bytes()[..], value].concat();
                    self.batch.writes.insert(key.as_str(), stored);
                }
                None => self.batch.writes.remove(key.as_str()),
            }
            let written_at = value.is_some().then_some(revision);
            self.batch.written_at.insert(key.clone(), written_at);
        }
        self.revision = revision;
        self.batch.changes.push(Arc::new(Change {
            revision,
            writes: transaction.writes,
        }));
        if self.batch.changes.len() >= BATCH {
            self.apply()?;
        }
        Ok(revision)
    }

    /// When a record was last written, as the transactions that were taken leave it; none if it is not there.
    fn written_at(&mut self, key: &Key) -> Result<Option<Revision>, StoreError> {
        if let Some(known) = self.batch.written_at.get(key) {
            return Ok(*known);
        }
        let stored = self.tree.get(key.as_str());
        let stored = stored.map_err(|error| sled_error(&self.path, &error))?;
        let stored = stored.map(|value| record(&self.path, key.clone(), &value).map(|record| record.revision));
        let written_at = stored.transpose()?;
        self.batch.written_at.insert(key.clone(), written_at);
        Ok(written_at)
    }

    /// Gives the batch to sled, all or nothing of it.
    fn apply(&mut self) -> Result<(), StoreError> {
        let Pending {
            mut writes,
            written_at: _,
            mut changes,
        } = std::mem::take(&mut self.batch);
        if changes.is_empty() {
            return Ok(());
        }
        writes.insert(REVISION_KEY, &self.revision.0.to_be_bytes());
        if let Err(error) = self.tree.apply_batch(writes) {
            return Err(self.fail(sled_error(&self.path, &error)));
        }
        self.unpublished.append(&mut changes);
        Ok(())
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        tracing::error!(%error, "the store takes no more writes until the process is started again");
        self.failed = Some(error.clone());
        error
    }

    /// Makes everything applied durable, then tells the watchers.
    fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.apply()?;
        if self.unpublished.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.write_out() {
            return Err(self.fail(error));
        }
        self.durable.store(self.revision.0, Ordering::Release);
        for change in self.unpublished.drain(..) {
            self.watchers
                .retain(|watcher| watcher.send(Arc::clone(&change)).is_ok());
        }
        Ok(())
    }

    fn write_out(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        self.database.flush().map_err(|error| sled_error(&self.path, &error))?;
        let io = io_error(&self.path);
        self.file.sync_data().map_err(&io)?;
        let length = self.file.metadata().map_err(&io)?.len();
        self.mark.write(self.revision, length).map_err(&io)?;
        metrics::store_sync(began.elapsed());
        Ok(())
    }
}
