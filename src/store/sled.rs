//! The embedded store: sled behind one writer thread.
//!
//! The thread takes every transaction that waits, makes them durable together in the [`journal`], acknowledges them (group commit)
//! and gives them to sled, for which readers wait. sled's own file is made durable at [checkpoints](checkpoint): sled's `flush`
//! stops at the page cache's metadata and does not survive a power cut; an `fdatasync` of its file after it does.

mod checkpoint;
mod filling;
mod guard;
mod journal;
mod leftovers;
mod log;
mod mending;
mod quiet;
mod recovery;
mod salvage;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sled::{IVec, Tree};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::filling::Filling;
use self::guard::{Lock, Mark};
use self::journal::Journal;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::journal::fuzzing;
use self::mending::{sync_what_was_left, write_once_more};
use self::quiet::{Held, quietly};
use self::recovery::recover;
pub use self::salvage::{Salvage, leaves_something, salvage};
use self::writer::{Job, Writer};
use super::{Changes, CommitError, Committed, Key, Record, Revision, Scan, Store, StoreError, Transaction};
use crate::hardening::folder;
use crate::telemetry::{metrics, traces};

/// The store's own records, which nobody else sees.
const META: &str = "meta/";
const FORMAT_KEY: &str = "meta/format";
const REVISION_KEY: &str = "meta/revision";
/// sled keeps pages above a quarter of this in files of their own, which it never syncs. A page holds up to 16 records, and the
/// largest record (three secrets of 4 KiB, escaped once more in the signed JSON) is about 100 KiB: with 16 MiB, sled's maximum,
/// no page gets there. A store can only be opened with the size that it was made with.
const SEGMENT_SIZE: usize = 16 << 20;
/// How much of what it has read or written sled keeps in memory, in bytes. Little: decisions are made from the copy of all heads
/// that is in memory anyway. sled's default, 1 GiB, would keep most of a large store a second time.
const CACHE: u64 = 32 << 20;
/// How long sled may take to let go of its file.
const RELEASE: Duration = Duration::from_secs(5);
/// How many transactions may wait before the callers do.
const QUEUE: usize = 4096;

/// A store in a directory of its own.
pub struct SledStore {
    path: PathBuf,
    shelf: Arc<Shelf>,
    revision: Arc<AtomicU64>,
    writer: mpsc::Sender<Job>,
    thread: Option<std::thread::JoinHandle<()>>,
    left_at: Option<Revision>,
    _lock: Lock,
}

/// sled's database, and the file that is synced after it.
struct Opened {
    database: sled::Db,
    tree: Tree,
    file: File,
    /// How long the file was when it was last durable, in bytes; 0 if that is not known.
    length: u64,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let (database, tree) = open_tree(path)?;
        let file = File::open(path.join("db")).map_err(io_error(path))?;
        let length = 0;
        Ok(Self {
            database,
            tree,
            file,
            length,
        })
    }

    /// Makes what sled has durable.
    fn sync(&mut self, path: &Path) -> Result<(), StoreError> {
        self.database.flush().map_err(|error| sled_error(path, &error))?;
        let length = self.file.sync_data().and_then(|()| self.file.metadata());
        self.length = length.map_err(io_error(path))?.len();
        Ok(())
    }

    /// The same of what it has just recovered or made, also the names of its files.
    fn make_durable(&mut self, path: &Path) -> Result<(), StoreError> {
        self.sync(path)?;
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error(path))
    }
}

/// Where readers find the records.
struct Shelf {
    shown: watch::Sender<Shown>,
    /// No record in the tree is newer.
    newest: AtomicU64,
}

/// What readers are shown.
struct Shown {
    /// While it is not known which records are on the disk, only why.
    tree: Result<Tree, StoreError>,
    /// Everything up to this revision is in the tree.
    applied: Revision,
}

impl Shelf {
    fn new(tree: Tree, newest: Revision) -> Arc<Self> {
        Arc::new(Self {
            shown: watch::Sender::new(Shown {
                tree: Ok(tree),
                applied: newest,
            }),
            newest: AtomicU64::new(newest.0),
        })
    }

    /// The tree, once it has everything up to a revision that is durable.
    async fn tree(&self, with: Revision) -> Result<Held, StoreError> {
        let is_there = |shown: &Shown| shown.tree.is_err() || shown.applied >= with;
        let mut shown = self.shown.subscribe();
        let shown = shown.wait_for(is_there).await.map_err(|_| StoreError::Closed)?;
        shown.tree.clone().map(Held::new)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.shown.borrow().tree.as_ref().map(drop).map_err(Clone::clone)
    }

    fn put(&self, tree: Tree, newest: Revision) {
        self.announce(newest);
        self.shown.send_replace(Shown {
            tree: Ok(tree),
            applied: newest,
        });
    }

    fn take_away(&self, why: StoreError) {
        self.shown.send_modify(|shown| shown.tree = Err(why));
    }

    /// To be called before the first record of a revision is given to the tree.
    fn announce(&self, newest: Revision) {
        self.newest.store(newest.0, Ordering::SeqCst);
    }

    /// To be called when the tree has all of them.
    fn applied(&self, newest: Revision) {
        self.shown.send_modify(|shown| shown.applied = newest);
    }
}

impl SledStore {
    /// Opens the store in `path`, or makes a new one there. Makes the folder if it is not there.
    ///
    /// # Errors
    /// See [`Self::open_in`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_in(&folder::make(path).map_err(io_error(path))?)
    }

    /// Opens the store in a folder that is there and whose name is safe, and touches nothing outside of it.
    ///
    /// # Errors
    /// [`StoreError`] says what is in the way: another process, a newer format, damage, or the operating system. A store
    /// that cannot be used is left as it is, but for a note in its mark that it is in doubt.
    pub fn open_in(path: &Path) -> Result<Self, StoreError> {
        let io = io_error(path);
        let mut lock = Lock::take(path)?;
        filling::refuse_unfinished(path)?;
        let mark = Mark::open(path).map_err(&io)?;
        if mark.is_in_doubt {
            write_once_more(path)?;
        }
        let journal = Journal::open(path);
        mark.check_file(path, journal.as_ref().ok().and_then(Option::as_ref))?;
        mark.doubt_until_settled().map_err(&io)?;
        if lock.was_left {
            sync_what_was_left(path)?;
        }
        let mut opened = Opened::open(path)?;
        let (journal, revision) = recover(path, &mut opened, &mark, journal)?;
        let left_at = lock.was_left.then_some(mark.revision);
        lock.sign().map_err(&io)?;
        let durable = Arc::new(AtomicU64::new(revision.0));
        let shelf = Shelf::new(opened.tree.clone(), revision);
        let mut writer = Writer::new(path, opened, journal, Arc::clone(&shelf), mark, Arc::clone(&durable));
        let (inlet, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(jobs))
            .map_err(&io)?;
        Ok(Self {
            path: path.into(),
            shelf,
            revision: durable,
            writer: inlet,
            thread: Some(thread),
            left_at,
            _lock: lock,
        })
    }

    /// If whoever had it open before has ended without closing it, the newest revision that is known to have been acknowledged. The
    /// store has at least that.
    #[must_use]
    pub fn left_at(&self) -> Option<Revision> {
        self.left_at
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tree) -> sled::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tree, path) = (self.shelf.tree(self.revision()).await?, self.path.clone());
        // sled may have to go to the disk, and the caller's thread serves others too.
        tokio::task::spawn_blocking(move || read(tree.tree()).map_err(|error| sled_error(&path, &error)))
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

    async fn applied(&self) -> Result<Revision, StoreError> {
        self.shelf.check()?;
        Ok(Revision(self.shelf.newest.load(Ordering::SeqCst)))
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let wanted = key.clone();
        let value = self.read(move |tree| tree.get(wanted.as_str())).await?;
        value.map(|value| record(&self.path, key.clone(), &value)).transpose()
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError> {
        let path = self.path.clone();
        let parse = move |(key, value): (IVec, IVec)| {
            let text = std::str::from_utf8(&key).map_err(|_| damaged(&path, "a key is not text"))?;
            record(&path, Key::new(text), &value)
        };
        let found: Vec<Result<Record, StoreError>> = self
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
                        found.push(parse((key, value)));
                    }
                }
                Ok(found)
            })
            .await?;
        found.into_iter().collect()
    }

    async fn commit(&self, transaction: Transaction) -> Committed {
        let began = Instant::now();
        let _span = traces::child("commit");
        let (answer, answered) = oneshot::channel();
        let job = Job::Commit(transaction, answer);
        self.writer.send(job).await.map_err(|_| StoreError::Closed)?;
        let outcome = answered.await.map_err(|_| StoreError::Closed)?;
        note(began, &outcome);
        outcome
    }

    async fn commit_all(&self, transactions: Vec<Transaction>) -> Vec<Committed> {
        let began = Instant::now();
        let _span = traces::child("commit");
        let closed = |count| (0..count).map(|_| Err(StoreError::Closed.into())).collect();
        let count = transactions.len();
        let (answer, answered) = oneshot::channel();
        if self.writer.send(Job::CommitAll(transactions, answer)).await.is_err() {
            return closed(count);
        }
        let outcomes = answered.await.unwrap_or_else(|_| closed(count));
        for outcome in &outcomes {
            note(began, outcome);
        }
        outcomes
    }

    fn waiting(&self) -> usize {
        self.writer.max_capacity() - self.writer.capacity()
    }

    fn has_ended(&self) -> bool {
        self.writer.is_closed()
    }

    async fn watch(&self) -> Result<Changes, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writer
            .send(Job::Watch(answer))
            .await
            .map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)
    }

    async fn tend(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Tend(answer);
        self.writer.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
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

fn note(began: Instant, outcome: &Committed) {
    let outcome = match outcome {
        Ok(_) => metrics::Committed::Done,
        Err(CommitError::Conflict { .. }) => metrics::Committed::Conflict,
        Err(CommitError::Store(_)) => metrics::Committed::Failed,
    };
    metrics::store_commit(began.elapsed(), outcome);
}

fn open_tree(path: &Path) -> Result<(sled::Db, Tree), StoreError> {
    wait_for_release(path);
    leftovers::clear(path).map_err(io_error(path))?;
    // sled's recovery panics on some damaged files.
    let opened = quietly(|| {
        let database = sled::Config::default()
            .path(path)
            .segment_size(SEGMENT_SIZE)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(CACHE)
            // The writer flushes; a second flusher would only compete with it.
            .flush_every_ms(None)
            .open()?;
        let tree = database.open_tree("records")?;
        Ok((database, tree))
    });
    match opened {
        Some(Ok(opened)) => Ok(opened),
        Some(Err(error)) => Err(sled_error(path, &error)),
        None => Err(damaged(path, "it cannot be recovered")),
    }
}

/// The folder is ours; still, sled's own threads may hold its file a moment longer than the store was open that this process had
/// there before.
pub(super) fn wait_for_release(path: &Path) {
    if let Ok(file) = File::open(path.join("db")) {
        let _ = lock_when_released(&file);
        // To close it is not enough: a process that another thread is just starting has it open, too, for a moment.
        let _ = file.unlock();
    }
}

/// Locks sled's file for as long as it is open here, once sled has let go of it.
fn lock_when_released(file: &File) -> Result<(), TryLockError> {
    let deadline = Instant::now() + RELEASE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            locked => return locked,
        }
    }
}

/// Notes what the store has, all of which is on the disk.
fn settle(path: &Path, opened: &Opened, mark: &Mark, revision: Revision) -> Result<(), StoreError> {
    mark.settle(revision, opened.length).map_err(io_error(path))
}

fn read_revision(path: &Path, tree: &Tree) -> Result<Revision, StoreError> {
    let stored = tree.get(REVISION_KEY).map_err(|error| sled_error(path, &error))?;
    revision_in(path, stored.as_deref())
}

fn revision_in(path: &Path, stored: Option<&[u8]>) -> Result<Revision, StoreError> {
    match stored.map(<[u8; 8]>::try_from) {
        None => Ok(Revision(0)),
        Some(Ok(bytes)) => Ok(Revision(u64::from_be_bytes(bytes))),
        Some(Err(_)) => Err(damaged(path, "its revision cannot be read")),
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

/// As a record is kept; [`record`] reads it.
fn stored(revision: Revision, value: &[u8]) -> Vec<u8> {
    [&revision.0.to_be_bytes()[..], value].concat()
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Damaged {
        path: path.into(),
        detail: detail.into(),
    }
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> StoreError + '_ {
    |error| StoreError::Io {
        path: path.into(),
        detail: error.to_string(),
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
