//! The writer: the one thread that changes the store.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sled::{Batch, Tree};
use tokio::sync::{mpsc, oneshot};

use super::guard::Mark;
use super::{REVISION_KEY, io_error, record, sled_error};
use crate::store::{Change, Changes, CommitError, Expectation, Revision, StoreError, Transaction};

/// How many transactions share one flush at most; bounds the time that the first of them waits.
const GROUP: usize = 1024;

/// What the writer is asked for.
pub(super) enum Job {
    Commit(Transaction, oneshot::Sender<Result<Revision, CommitError>>),
    Watch(oneshot::Sender<Changes>),
    Close,
}

/// The only one who writes.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    database: sled::Db,
    tree: Tree,
    mark: Mark,
    /// The newest revision applied, durable or not.
    revision: Revision,
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
            durable,
            failed: None,
            unpublished,
            watchers,
        }
    }

    pub(super) fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
            let mut applied = Vec::with_capacity(group.len());
            let mut close = false;
            for job in group.drain(..) {
                match job {
                    Job::Commit(transaction, answer) => match self.apply(transaction) {
                        Ok(revision) => applied.push((revision, answer)),
                        Err(refused) => drop(answer.send(Err(refused))),
                    },
                    Job::Watch(answer) => {
                        let (sender, changes) = mpsc::unbounded_channel();
                        // What is applied and not yet published reaches this watcher too.
                        self.watchers.push(sender);
                        let _ = answer.send(changes);
                    }
                    Job::Close => close = true,
                }
            }
            let synced = self.sync();
            for (revision, answer) in applied {
                let _ = answer.send(synced.clone().map(|()| revision).map_err(CommitError::from));
            }
            if close {
                return;
            }
        }
    }

    fn apply(&mut self, transaction: Transaction) -> Result<Revision, CommitError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone().into());
        }
        for (key, expectation) in &transaction.expectations {
            let stored = self
                .tree
                .get(key.as_str())
                .map_err(|error| sled_error(&self.path, &error))?;
            let stored = stored
                .map(|value| record(&self.path, key.clone(), &value))
                .transpose()?;
            let holds = match (expectation, &stored) {
                (Expectation::Absent, stored) => stored.is_none(),
                (Expectation::Present, stored) => stored.is_some(),
                (Expectation::WrittenAt(revision), Some(record)) => record.revision == *revision,
                (Expectation::WrittenAt(_), None) => false,
            };
            if !holds {
                return Err(CommitError::Conflict {
                    key: key.clone(),
                    seen: self.revision,
                });
            }
        }
        let revision = Revision(self.revision.0 + 1);
        let mut batch = Batch::default();
        for (key, value) in &transaction.writes {
            match value {
                Some(value) => batch.insert(key.as_str(), [&revision.0.to_be_bytes()[..], value].concat()),
                None => batch.remove(key.as_str()),
            }
        }
        batch.insert(REVISION_KEY, &revision.0.to_be_bytes());
        self.tree
            .apply_batch(batch)
            .map_err(|error| sled_error(&self.path, &error))?;
        self.revision = revision;
        self.unpublished.push(Arc::new(Change {
            revision,
            writes: transaction.writes,
        }));
        Ok(revision)
    }

    /// Makes everything applied durable, then tells the watchers.
    fn sync(&mut self) -> Result<(), StoreError> {
        if self.unpublished.is_empty() || self.failed.is_some() {
            return Ok(());
        }
        let synced = self.write_out();
        if let Err(error) = &synced {
            tracing::error!(%error, "the store takes no more writes until the process is started again");
            self.failed = Some(error.clone());
            return synced;
        }
        self.durable.store(self.revision.0, Ordering::Release);
        for change in self.unpublished.drain(..) {
            self.watchers
                .retain(|watcher| watcher.send(Arc::clone(&change)).is_ok());
        }
        Ok(())
    }

    fn write_out(&self) -> Result<(), StoreError> {
        self.database.flush().map_err(|error| sled_error(&self.path, &error))?;
        let io = io_error(&self.path);
        self.file.sync_data().map_err(&io)?;
        let length = self.file.metadata().map_err(&io)?.len();
        self.mark.write(self.revision, length).map_err(&io)?;
        Ok(())
    }
}
