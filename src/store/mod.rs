//! Where records are kept: readable keys, opaque values, one revision per transaction.
//!
//! A [`Transaction`] goes in and is durable, whole, when its [`Revision`] comes out; every committed one also comes out of
//! [`Store::watch`], in order. What the values mean is not known here.

mod sled;

use std::borrow::Borrow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::sled::fuzzing;
pub use self::sled::{Filling, Salvage, SledStore, leaves_something, salvage};

/// The version of the store's format that this program writes, and the newest that it reads.
///
/// | format | what it added |
/// | --- | --- |
/// | 1 | – |
/// | 2 | a signature without its payload, which is put together from the record that holds it |
/// | 3 | a journal beside sled's file, which may have changes that the file lacks |
///
/// It grows when records get a meaning that older programs would misread; a field that they may ignore is no reason. A program
/// reads every older format. It raises an older store before it writes the first record there, whose other records stay as they
/// are until they are written again; then older programs refuse the store.
pub const FORMAT: u32 = 3;

/// How many bytes its disk must have left for a store to write: more than sled takes for the largest batch of transactions, so that
/// a disk that gets full is met before a write and not in the middle of one.
pub const RESERVE: u64 = 32 << 20;

/// The number of a committed transaction. The first is 1; each commit's is greater than those before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// The name of a record. Readable, with `/` between its parts; the first part says what kind of record it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Hashes and compares like its text, so that maps can be asked with that.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A record as it stands in the store.
#[derive(Clone)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// The transaction that wrote it last.
    pub revision: Revision,
    /// Its content.
    pub value: Arc<[u8]>,
}

/// What a record must look like for a transaction to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// There is none.
    Absent,
    /// There is one, whatever it is.
    Present,
    /// It was last written by this transaction.
    WrittenAt(Revision),
}

/// Writes that happen together or not at all, and what must hold for them to happen.
#[derive(Clone, Default)]
pub struct Transaction {
    expectations: Vec<(Key, Expectation)>,
    writes: Vec<Write>,
}

/// One write: the new value, or none to remove the record.
pub type Write = (Key, Option<Arc<[u8]>>);

impl Transaction {
    /// A transaction that does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Happens only if the record looks like this.
    #[must_use]
    pub fn only_if(mut self, key: Key, expectation: Expectation) -> Self {
        self.expectations.push((key, expectation));
        self
    }

    /// Writes a record.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Arc<[u8]>>) -> Self {
        self.writes.push((key, Some(value.into())));
        self
    }

    /// Removes a record.
    #[must_use]
    pub fn remove(mut self, key: Key) -> Self {
        self.writes.push((key, None));
        self
    }
}

/// A committed transaction.
pub struct Change {
    /// Its number.
    pub revision: Revision,
    /// What it wrote.
    pub writes: Vec<Write>,
}

/// Committed transactions, in order, none left out. It ends when the store closes.
pub type Changes = mpsc::UnboundedReceiver<Arc<Change>>;

/// A part of the records, in the order of their keys.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Only keys that begin so.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<Key>,
    /// At most so many.
    pub limit: usize,
}

/// A durable, ordered, transactional map.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What it is, in one word.
    fn kind(&self) -> &'static str;

    /// The newest revision that is durable.
    fn revision(&self) -> Revision;

    /// The newest revision that reads can show. It may not be durable yet, and comes out of [`Store::watch`] when it is.
    async fn applied(&self) -> Result<Revision, StoreError>;

    /// One record.
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// Records in the order of their keys (bytes).
    async fn scan(&self, scan: Scan) -> Result<Vec<Record>, StoreError>;

    /// Does the transaction and returns when it is durable.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] if an expectation does not hold: nothing was done. [`CommitError::Store`]: it may have
    /// been done or not.
    async fn commit(&self, transaction: Transaction) -> Committed;

    /// Does transactions one after the other, each whole or not at all, and returns when those that were done are durable.
    /// What comes of each is at its place; one that fails keeps none from happening.
    async fn commit_all(&self, transactions: Vec<Transaction>) -> Vec<Committed> {
        let mut outcomes = Vec::with_capacity(transactions.len());
        for transaction in transactions {
            outcomes.push(self.commit(transaction).await);
        }
        outcomes
    }

    /// Whether what writes has ended by a fault of the program, so that nothing is written until the process is started again.
    fn has_ended(&self) -> bool {
        false
    }

    /// How many jobs wait for whoever writes; 0 where there is no queue.
    fn waiting(&self) -> usize {
        0
    }

    /// Every transaction that is committed from now on.
    async fn watch(&self) -> Result<Changes, StoreError>;

    /// Looks whether it takes writes, and mends what keeps it from that as far as it can: to be asked now and then.
    ///
    /// # Errors
    /// What keeps it from taking writes.
    async fn tend(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What comes of a transaction.
pub type Committed = Result<Revision, CommitError>;

/// Why a transaction was not done.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A record does not look as expected; nothing was done.
    #[error("record {key} was changed meanwhile")]
    Conflict {
        /// Which.
        key: Key,
        /// The store's newest revision: whoever has seen it has seen the change.
        seen: Revision,
    },
    /// The store is in trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "the store {} is in use by another process{}; stop that one first, or give this one another directory",
        path.display(),
        holder.as_deref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        /// Its directory.
        path: PathBuf,
        /// The other's process id, if it can be told.
        holder: Option<String>,
    },
    /// A newer program wrote it.
    #[error(
        "the store {} has format {found}; this program reads up to format {FORMAT}; run the newer program that wrote it",
        path.display()
    )]
    NewerFormat {
        /// Its directory.
        path: PathBuf,
        /// The format it has.
        found: u32,
    },
    /// It cannot be read.
    #[error(
        "the store {} is damaged: {detail}; restore it from a backup, or save what is left of it: tresor rescue",
        path.display()
    )]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What was seen.
        detail: String,
    },
    /// It was there and is not any more, or is older than it was.
    #[error(
        "the store {} is at revision {found} but had acknowledged revision {acknowledged}; it was cut short or replaced by \
         an older copy; restore it from a backup, or save what is left of it: tresor rescue",
        path.display()
    )]
    LostWrites {
        /// Its directory.
        path: PathBuf,
        /// The revision it has.
        found: Revision,
        /// The revision it once had.
        acknowledged: Revision,
    },
    /// It is to be filled, and is in use already.
    #[error(
        "the folder {} is not empty ({found} is in it); a backup is restored into an empty one only: move what is there away, \
         or name another folder",
        path.display()
    )]
    NotEmpty {
        /// Its directory.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A restore into it did not come to its end.
    #[error(
        "the store {} was not restored to its end, so it is none; restore it again, or empty the folder",
        path.display()
    )]
    Unfinished {
        /// Its directory.
        path: PathBuf,
    },
    /// Its disk is nearly full, and it is better to write nothing than a part.
    #[error(
        "the store {} writes nothing while its disk has less than {} MiB left ({} MiB are); make room there, it goes on by itself",
        path.display(), RESERVE >> 20, left >> 20
    )]
    Full {
        /// Its directory.
        path: PathBuf,
        /// How many bytes are left.
        left: u64,
    },
    /// The disk or the operating system refuses.
    #[error("the store {}: {detail}", path.display())]
    Io {
        /// Its directory.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
    /// It was closed: the process is ending.
    #[error("the store is closed")]
    Closed,
}

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod over;
