//! The journal: where transactions are made durable together, before sled has them.
//!
//! To make a change durable in sled's own file takes a round trip through its threads and, as the file grows, a commit of the file
//! system's journal. This file has its whole length from the start, so one write and one `fdatasync` in place are all there is to
//! a group of transactions. sled gets them afterwards, in memory, and its file is made durable now and then, at a *checkpoint*;
//! then the journal begins anew.
//!
//! The first page says what the file is. An [entry](entry::Entry) for each group follows, each at the beginning of a page, so that
//! no write touches what was acknowledged before it. Revisions rise by one from transaction to transaction, and that tells what
//! belongs to what: the entries that count follow each other without a gap; what stands behind them is older, left from before the
//! last checkpoint, or is the one entry whose write was cut off. An intact entry that is newer than the end of that chain is neither:
//! then something has rotted in front of it.

mod entry;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

pub(super) use self::entry::Entry;
use self::entry::{Found, PAGE, SALT, entry_at};
use super::guard::open_or_create;
use super::{damaged, io_error};
use crate::store::{Change, Revision, StoreError};

/// Its name, and the name that it has until it is whole.
pub(super) const NAME: &str = "journal";
/// The format of the store from which on there is one.
pub(super) const SINCE: u32 = 3;
const UNFINISHED: &str = "journal.new";
/// How long it is, in bytes: bounds how long a checkpoint takes, and what a start has to do over.
const LENGTH: usize = 4 << 20;
/// How many transactions it takes before it begins anew: a small one may cost sled a page of large records, now and then.
const MOST: usize = 2048;
/// What it begins with; then the salt, and a CRC-32 of both.
const TITLE: &[u8; 16] = b"tresor journal 1";
const FIRST: u64 = PAGE as u64;

/// The journal of a store that is open.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Nobody who has a record stored can make it look like an entry without it.
    salt: [u8; SALT],
    /// Where the next entry goes.
    end: u64,
    /// How many transactions were appended since it began anew.
    transactions: usize,
}

/// What a journal has that a store does not.
pub(super) struct Newer {
    /// Without a gap, from the revision on that follows the store's.
    pub(super) changes: Vec<Change>,
    /// The newest of them, or the store's own.
    pub(super) revision: Revision,
    end: u64,
}

impl Journal {
    /// Opens the journal of the store in `path`; none if it has none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let name = path.join(NAME);
        if !name.try_exists().map_err(io_error(path))? {
            return Ok(None);
        }
        let file = open_or_create(&name).map_err(io_error(path))?;
        let length = file.metadata().map_err(io_error(path))?.len();
        if length != LENGTH as u64 {
            let detail = format!("its journal has {length} bytes and not {LENGTH}");
            return Err(damaged(path, &detail));
        }
        let mut page = [0; PAGE];
        file.read_exact_at(&mut page, 0).map_err(io_error(path))?;
        let salt = salt_in(&page).ok_or_else(|| damaged(path, "its journal's first page cannot be read"))?;
        Ok(Some(Self {
            path: path.into(),
            file,
            salt,
            end: FIRST,
            transactions: 0,
        }))
    }

    /// Makes an empty journal for the store in `path`, durably. It gets its name when all of it is on the disk.
    pub(super) fn make(path: &Path) -> Result<Self, StoreError> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|error| io_error(path)(io::Error::other(error)))?;
        let unfinished = path.join(UNFINISHED);
        let make = || {
            let file = open_or_create(&unfinished)?;
            let mut content = vec![0; LENGTH];
            let title = [&TITLE[..], &salt].concat();
            content[..title.len()].copy_from_slice(&title);
            content[title.len()..title.len() + 4].copy_from_slice(&crc32fast::hash(&title).to_le_bytes());
            // Zeros that are written, and not only room: else the first write of each page would change the file's metadata.
            file.write_all_at(&content, 0)?;
            file.set_len(LENGTH as u64)?;
            file.sync_all()?;
            fs::rename(&unfinished, path.join(NAME))?;
            File::open(path)?.sync_all()?;
            Ok(file)
        };
        let file = make().map_err(io_error(path))?;
        Ok(Self {
            path: path.into(),
            file,
            salt,
            end: FIRST,
            transactions: 0,
        })
    }

    /// Whether nothing was appended since it began anew.
    pub(super) fn is_empty(&self) -> bool {
        self.end == FIRST
    }

    /// Whether there is room for an entry.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        self.end + entry.length() <= LENGTH as u64 && self.transactions + entry.transactions() <= MOST
    }

    /// Makes an entry durable, for which there must be room.
    pub(super) fn append(&mut self, entry: Entry) -> io::Result<()> {
        let transactions = entry.transactions();
        let bytes = entry.sealed_with(&self.salt);
        self.file.write_all_at(&bytes, self.end)?;
        self.file.sync_data()?;
        self.end += bytes.len() as u64;
        self.transactions += transactions;
        Ok(())
    }

    /// Begins anew: everything that is in it is durable elsewhere. A power cut may take that back, which does no harm: what is
    /// older than the store is passed over.
    pub(super) fn begin_anew(&mut self) -> io::Result<()> {
        self.file.write_all_at(&[0; PAGE], FIRST)?;
        (self.end, self.transactions) = (FIRST, 0);
        Ok(())
    }

    /// Goes on behind what was found to be newer than the store.
    pub(super) fn go_on_behind(&mut self, newer: &Newer) -> io::Result<()> {
        (self.end, self.transactions) = (newer.end, newer.changes.len());
        self.file.sync_data()
    }

    /// What it has for a store that is at a revision.
    ///
    /// # Errors
    /// [`StoreError::LostWrites`] if the store has not all that was there before the journal began, [`StoreError::Damaged`] if
    /// something in the journal has rotted.
    pub(super) fn newer_than(&self, found: Revision) -> Result<Newer, StoreError> {
        let content = self.content().map_err(io_error(&self.path))?;
        newer_in(&content, &self.salt, found, &self.path)
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; LENGTH];
        self.file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }
}

fn newer_in(content: &[u8], salt: &[u8; SALT], found: Revision, path: &Path) -> Result<Newer, StoreError> {
    let mut newer = Newer {
        changes: Vec::new(),
        revision: found,
        end: FIRST,
    };
    let mut last: Option<Revision> = None;
    while let Some(entry) = entry_at(content, newer.end, salt) {
        if last.is_some_and(|last| last.0.checked_add(1) != Some(entry.first.0)) {
            break;
        }
        if entry.first.0.saturating_sub(1) > newer.revision.0 {
            return Err(StoreError::LostWrites {
                path: path.into(),
                found,
                acknowledged: Revision(entry.first.0 - 1),
            });
        }
        newer.end += entry.length;
        last = Some(entry.last());
        newer.revision = newer.revision.max(entry.last());
        let unknown = entry.changes.into_iter().filter(|change| change.revision > found);
        newer.changes.extend(unknown);
    }
    let Some(behind) = intact(content, salt).map(|entry| entry.last()).max() else {
        return Ok(newer);
    };
    if behind <= newer.revision {
        return Ok(newer);
    }
    // When it began anew the store had all that is in it.
    if is_blank(content) {
        return Err(StoreError::LostWrites {
            path: path.into(),
            found,
            acknowledged: behind,
        });
    }
    let detail = format!(
        "its journal cannot be read behind revision {}, and has revision {behind} further on",
        newer.revision
    );
    Err(damaged(path, &detail))
}

/// Whether nothing was appended since it began anew.
fn is_blank(content: &[u8]) -> bool {
    let mut first = content.iter().skip(PAGE).take(PAGE);
    first.all(|byte| *byte == 0)
}

/// Every transaction that can be read in the journal of the store in `path`, also those from before the last checkpoint, in the order
/// of their revisions. None if the journal is there and nothing in it can be told from anything else.
pub(super) fn left_in(path: &Path) -> io::Result<Option<Vec<Change>>> {
    let content = match fs::read(path.join(NAME)) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Vec::new())),
        Err(error) => return Err(error),
    };
    let Some(salt) = salt_in(&content) else {
        return Ok(None);
    };
    let mut changes: Vec<_> = intact(&content, &salt).flat_map(|entry| entry.changes).collect();
    changes.sort_by_key(|change| change.revision);
    Ok(Some(changes))
}

/// Every entry that can be read, wherever it stands.
fn intact<'a>(content: &'a [u8], salt: &'a [u8; SALT]) -> impl Iterator<Item = Found> + 'a {
    let pages = (FIRST..content.len() as u64).step_by(PAGE);
    pages.filter_map(move |at| entry_at(content, at, salt))
}

/// The salt in a first page; none if that is not one.
fn salt_in(page: &[u8]) -> Option<[u8; SALT]> {
    let (title, rest) = page.split_at_checked(TITLE.len() + SALT)?;
    let checksum = u32::from_le_bytes(*rest.first_chunk()?);
    let is_whole = title.starts_with(TITLE) && crc32fast::hash(title) == checksum;
    is_whole.then(|| title.last_chunk().copied())?
}
