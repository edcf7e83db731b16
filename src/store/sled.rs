//! The embedded store: sled behind one writer thread.
//!
//! The thread takes every transaction that waits, applies them one after the other, makes them durable together and then
//! acknowledges them (group commit). sled's `flush` stops at the page cache's metadata and does not survive a power cut;
//! an `fdatasync` of its file after it does.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use sled::{Batch, IVec, Tree};
use tokio::sync::{mpsc, oneshot};

use super::{
    Change, Changes, CommitError, Expectation, FORMAT, Key, Record, Revision, Scan, Store, StoreError, Transaction,
};

/// The store's own records, which nobody else sees.
const META: &str = "meta/";
const FORMAT_KEY: &str = "meta/format";
const REVISION_KEY: &str = "meta/revision";
/// How many transactions share one flush at most; bounds the time that the first of them waits.
const GROUP: usize = 1024;
/// How many transactions may wait before the callers do.
const QUEUE: usize = 4096;

/// A store in a directory of its own.
pub struct SledStore {
    path: PathBuf,
    tree: Tree,
    revision: Arc<AtomicU64>,
    writer: mpsc::Sender<Job>,
    thread: Option<std::thread::JoinHandle<()>>,
    // Held for as long as the store is open: the lock goes with the file.
    _lock: File,
}

enum Job {
    Commit(Transaction, oneshot::Sender<Result<Revision, CommitError>>),
    Watch(oneshot::Sender<Changes>),
    Close,
}

impl SledStore {
    /// Opens the store in `path`, or makes a new one there.
    ///
    /// # Errors
    /// [`StoreError`] says what is in the way: another process, a newer format, damage, or the operating system. A store
    /// that cannot be used is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let io = |error: std::io::Error| StoreError::Io {
            path: path.into(),
            detail: error.to_string(),
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io)?;
        let lock = lock(path)?;
        let is_new = !path.join("db").exists();
        let mark = Mark::open(path).map_err(io)?;
        let acknowledged = mark.read().map_err(io)?;
        if is_new && acknowledged > Revision(0) {
            return Err(StoreError::LostWrites {
                path: path.into(),
                found: Revision(0),
                acknowledged,
            });
        }
        let (database, tree) = open_tree(path)?;
        check_format(path, &tree, is_new)?;
        let revision = read_revision(path, &tree)?;
        if revision < acknowledged {
            return Err(StoreError::LostWrites {
                path: path.into(),
                found: revision,
                acknowledged,
            });
        }
        let durable = Arc::new(AtomicU64::new(revision.0));
        let (writer, jobs) = mpsc::channel(QUEUE);
        let mut thread = Writer {
            path: path.into(),
            file: File::open(path.join("db")).map_err(io)?,
            database,
            tree: tree.clone(),
            mark,
            revision,
            durable: Arc::clone(&durable),
            unpublished: Vec::new(),
            watchers: Vec::new(),
        };
        thread.sync()?;
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || thread.run(jobs))
            .map_err(io)?;
        Ok(Self {
            path: path.into(),
            tree,
            revision: durable,
            writer,
            thread: Some(thread),
            _lock: lock,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tree) -> sled::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tree, path) = (self.tree.clone(), self.path.clone());
        // sled may have to go to the disk, and the caller's thread serves others too.
        tokio::task::spawn_blocking(move || read(&tree).map_err(|error| sled_error(&path, &error)))
            .await
            .map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl Store for SledStore {
    fn kind(&self) -> &'static str {
        "sled"
    }

    fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let wanted = key.clone();
        let value = self.read(move |tree| tree.get(wanted.as_str())).await?;
        value.map(|value| record(&self.path, key.clone(), &value)).transpose()
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        let found: Vec<(IVec, IVec)> = self
            .read(move |tree| {
                let mut found = Vec::with_capacity(scan.limit.min(1024));
                let start = scan.after.as_ref().map_or(scan.prefix.as_str(), Key::as_str);
                for entry in tree.range(start.as_bytes()..) {
                    let (key, value) = entry?;
                    if !key.starts_with(scan.prefix.as_bytes()) || found.len() == scan.limit {
                        break;
                    }
                    let is_start = scan
                        .after
                        .as_ref()
                        .is_some_and(|after| key == after.as_str().as_bytes());
                    if !is_start && !key.starts_with(META.as_bytes()) {
                        found.push((key, value));
                    }
                }
                Ok(found)
            })
            .await?;
        let parse = |(key, value): (IVec, IVec)| {
            let text = std::str::from_utf8(&key).map_err(|_| damaged(&self.path, "a key is not text"))?;
            record(&self.path, Key::new(text), &value)
        };
        found.into_iter().map(parse).collect()
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Commit(transaction, answer);
        self.writer.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writer
            .send(Job::Watch(answer))
            .await
            .map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // A full queue means that the thread is busy with what was asked before; it notices the closed channel after it.
        let _ = self.writer.try_send(Job::Close);
        let (closed, _) = mpsc::channel(1);
        self.writer = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The only one who writes.
struct Writer {
    path: PathBuf,
    file: File,
    database: sled::Db,
    tree: Tree,
    mark: Mark,
    /// The newest revision applied, durable or not.
    revision: Revision,
    durable: Arc<AtomicU64>,
    /// Applied and not yet durable. They stay here if the disk fails, and are published when it works again.
    unpublished: Vec<Arc<Change>>,
    watchers: Vec<mpsc::UnboundedSender<Arc<Change>>>,
}

impl Writer {
    fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
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
        self.database.flush().map_err(|error| sled_error(&self.path, &error))?;
        let io = |error: std::io::Error| StoreError::Io {
            path: self.path.clone(),
            detail: error.to_string(),
        };
        self.file.sync_data().map_err(io)?;
        self.mark.write(self.revision).map_err(io)?;
        self.durable.store(self.revision.0, Ordering::Release);
        for change in self.unpublished.drain(..) {
            self.watchers
                .retain(|watcher| watcher.send(Arc::clone(&change)).is_ok());
        }
        Ok(())
    }
}

/// The newest acknowledged revision, kept outside of sled, so that a store that was cut short or replaced by an older copy
/// shows. Written after the sync and not synced itself: it may be behind after a power cut and is never ahead.
struct Mark(File);

impl Mark {
    const LENGTH: usize = 21;

    fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("acknowledged"))?;
        Ok(Self(file))
    }

    fn read(&self) -> std::io::Result<Revision> {
        let mut text = String::new();
        (&self.0).read_to_string(&mut text)?;
        // An empty or torn mark promises nothing.
        Ok(Revision(text.trim_end().parse().unwrap_or(0)))
    }

    fn write(&self, revision: Revision) -> std::io::Result<()> {
        let text = format!("{revision:0width$}\n", revision = revision.0, width = Self::LENGTH - 1);
        self.0.write_all_at(text.as_bytes(), 0)
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file_path = path.join("lock");
    let io = |error: std::io::Error| StoreError::Io {
        path: path.into(),
        detail: error.to_string(),
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file_path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(io)?;
            file.write_all_at(std::process::id().to_string().as_bytes(), 0)
                .map_err(io)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&file_path).ok().filter(|pid| !pid.is_empty());
            Err(StoreError::InUse {
                path: path.into(),
                holder,
            })
        }
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

fn open_tree(path: &Path) -> Result<(sled::Db, Tree), StoreError> {
    // sled's recovery panics on some damaged files. The hook is silenced so that the one line said is ours.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let opened = std::panic::catch_unwind(|| {
        let database = sled::Config::default()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            // The writer flushes; a second flusher would only compete with it.
            .flush_every_ms(None)
            .open()?;
        let tree = database.open_tree("records")?;
        Ok((database, tree))
    });
    std::panic::set_hook(hook);
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(sled_error(path, &error)),
        Err(_) => Err(damaged(path, "it cannot be recovered")),
    }
}

fn check_format(path: &Path, tree: &Tree, is_new: bool) -> Result<(), StoreError> {
    let stored = tree.get(FORMAT_KEY).map_err(|error| sled_error(path, &error))?;
    match stored {
        Some(bytes) => {
            let found = <[u8; 4]>::try_from(&*bytes).map_err(|_| damaged(path, "its format cannot be read"))?;
            match u32::from_be_bytes(found) {
                found if found > FORMAT => Err(StoreError::NewerFormat {
                    path: path.into(),
                    found,
                }),
                _ => Ok(()),
            }
        }
        None if is_new || tree.is_empty() => {
            tree.insert(FORMAT_KEY, &FORMAT.to_be_bytes())
                .map_err(|error| sled_error(path, &error))?;
            Ok(())
        }
        None => Err(damaged(path, "its format is missing")),
    }
}

fn read_revision(path: &Path, tree: &Tree) -> Result<Revision, StoreError> {
    match tree.get(REVISION_KEY).map_err(|error| sled_error(path, &error))? {
        None => Ok(Revision(0)),
        Some(bytes) => <[u8; 8]>::try_from(&*bytes)
            .map(|bytes| Revision(u64::from_be_bytes(bytes)))
            .map_err(|_| damaged(path, "its revision cannot be read")),
    }
}

fn record(path: &Path, key: Key, stored: &[u8]) -> Result<Record, StoreError> {
    let Some((revision, value)) = stored.split_first_chunk::<8>() else {
        return Err(damaged(path, &format!("record {key} is cut short")));
    };
    Ok(Record {
        key,
        revision: Revision(u64::from_be_bytes(*revision)),
        value: value.into(),
    })
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Damaged {
        path: path.into(),
        detail: detail.into(),
    }
}

fn sled_error(path: &Path, error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => damaged(path, "sled reports corruption"),
        sled::Error::Io(error) => StoreError::Io {
            path: path.into(),
            detail: error.to_string(),
        },
        other => StoreError::Io {
            path: path.into(),
            detail: other.to_string(),
        },
    }
}
