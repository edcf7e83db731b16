//! What can be read of a store's files where sled refuses them, or would cut them off.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use super::filling::refuse_unfinished;
use super::guard::Lock;
use super::journal;
use super::log::{Cursor, Kind, LogFile, Message};
use super::{FORMAT_KEY, META, REVISION_KEY, io_error, record, stored};
use crate::store::{Change, FORMAT, Key, Record, Revision, StoreError};

/// What is left of a store. Of each record the newest state that can be read; nothing is changed.
pub struct Salvage {
    /// In the order of their keys.
    pub records: Vec<Record>,
    /// How many places of the file cannot be read or are not there. What was written there is missing: records may be older than
    /// they were, be there though they were removed, or be gone.
    pub gaps: u64,
    /// What stands under a name that is no text, or is no record.
    pub unreadable: u64,
    /// The newest revision that anything in the folder tells of.
    pub revision: Revision,
    /// The format of the store; the newest there is, which reads all others, if it cannot be read.
    pub format: u32,
}

/// Values under their names, as sled has both.
type Written = BTreeMap<Vec<u8>, Vec<u8>>;

/// A page: where it was written last as a whole, and its changes since.
#[derive(Default)]
struct Page {
    whole: Option<Message>,
    changes: Vec<Message>,
}

/// Whether a folder has what is left of a store.
#[must_use]
pub fn leaves_something(path: &Path) -> bool {
    ["db", journal::NAME].iter().any(|name| path.join(name).exists())
}

/// Reads what can be read of the store in `path`, all of it into memory, and changes nothing there.
///
/// # Errors
/// Another process has it open, a restore into it was cut off, or the system's.
pub fn salvage(path: &Path) -> Result<Salvage, StoreError> {
    // What a restore has left of a backup nobody has vouched for yet.
    refuse_unfinished(path)?;
    // Without it where nothing can be written, such as on a disk that was taken out and is only to be read.
    let _lock = match Lock::take(path) {
        Err(error @ StoreError::InUse { .. }) => return Err(error),
        taken => taken.ok(),
    };
    read(path).map_err(io_error(path))
}

fn read(path: &Path) -> io::Result<Salvage> {
    let (mut written, mut gaps) = match LogFile::open(path) {
        Ok(mut file) => read_log(&mut file)?,
        // What was written last is in the journal alone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Written::new(), 1),
        Err(error) => return Err(error),
    };
    gaps += take_from_journal(path, &mut written, gaps > 0)?;
    if revision_in(&written) < acknowledged(path) {
        gaps = gaps.max(1);
    }
    Ok(sorted_out(path, written, gaps))
}

/// The newest value under each name, as sled's file has them, and how many places of it cannot be read or are not there.
fn read_log(file: &mut LogFile) -> io::Result<(Written, u64)> {
    let (pages, mut gaps) = pages(file)?;
    let mut written = Written::new();
    let mut bounds = Vec::with_capacity(pages.len());
    for page in pages.values() {
        let whole = page.whole.as_ref().map(|message| file.body(message)).transpose()?;
        let Some(mut state) = whole.as_deref().and_then(Leaf::decode) else {
            continue;
        };
        for change in &page.changes {
            if state.apply(&file.body(change)?).is_none() {
                gaps += 1;
            }
        }
        bounds.push((state.low, state.high));
        for (key, value) in state.records {
            let is_newer = |known: &Vec<u8>| revision_of(known) < revision_of(&value);
            if written.get(&key).is_none_or(is_newer) {
                written.insert(key, value);
            }
        }
    }
    // What cannot be read may be what is missing.
    gaps = gaps.max(missing(&written, bounds));
    Ok((written, gaps))
}

/// How many places are missing of which nothing is left that could not be read, such as whole segments that were overwritten with
/// zeros. The leaves of a tree have all keys between them: each goes on where the one before it ends. An older leaf that takes the
/// place of a lost one for the same keys cannot be told from it.
fn missing(written: &Written, mut bounds: Vec<(Vec<u8>, Vec<u8>)>) -> u64 {
    // Of a store that has its format. sled has a tree of its own, too: one leaf for all keys, which has none.
    if !written.contains_key(FORMAT_KEY.as_bytes()) {
        return 1;
    }
    let is_of_all = |(low, high): &(Vec<u8>, Vec<u8>)| low.is_empty() && high.is_empty();
    if let Some(own) = bounds.iter().position(is_of_all) {
        bounds.swap_remove(own);
    }
    bounds.sort();
    let (mut missing, mut reached) = (0, Some(Vec::new()));
    for (low, high) in bounds {
        let Some(end) = &mut reached else { break };
        missing += u64::from(low > *end);
        if high.is_empty() {
            reached = None;
        } else if high > *end {
            *end = high;
        }
    }
    missing + u64::from(reached.is_some())
}

/// Adds what the journal has and sled's file has not, and returns how many places of the journal cannot be read. What is older than
/// the file counts only if that has gaps itself: else it was replaced or removed since.
fn take_from_journal(path: &Path, written: &mut Written, has_gaps: bool) -> io::Result<u64> {
    let known = revision_in(written);
    let Some(changes) = journal::left_in(path)? else {
        return Ok(1);
    };
    let (mut gaps, mut before) = (0, known);
    for Change { revision, writes } in changes {
        let is_newer = revision.0 > known;
        if is_newer {
            gaps += u64::from(revision.0 > before + 1);
            before = revision.0;
        }
        for (key, value) in writes.into_iter().filter(|_| is_newer || has_gaps) {
            let key = key.as_str().as_bytes();
            if written.get(key).is_some_and(|known| revision_of(known) >= revision.0) {
                continue;
            }
            match value {
                Some(value) => drop(written.insert(key.to_vec(), stored(revision, &value))),
                None => drop(written.remove(key)),
            }
        }
    }
    if before > known {
        written.insert(REVISION_KEY.into(), before.to_be_bytes().to_vec());
    }
    Ok(gaps)
}

fn sorted_out(path: &Path, written: Written, gaps: u64) -> Salvage {
    let number = |key: &str| written.get(key.as_bytes()).map(|value| number_in(value));
    let mut salvage = Salvage {
        revision: Revision(number(REVISION_KEY).unwrap_or(0).max(acknowledged(path))),
        format: number(FORMAT_KEY)
            .and_then(|format| u32::try_from(format).ok())
            .filter(|format| *format > 0)
            .unwrap_or(FORMAT),
        records: Vec::new(),
        unreadable: 0,
        gaps,
    };
    for (key, value) in written {
        if key.starts_with(META.as_bytes()) {
            continue;
        }
        let key = std::str::from_utf8(&key).ok();
        match key.and_then(|key| record(path, Key::new(key), &value).ok()) {
            Some(record) => {
                salvage.revision = salvage.revision.max(record.revision);
                salvage.records.push(record);
            }
            None => salvage.unreadable += 1,
        }
    }
    salvage
}

/// The revision that a store says it is at.
fn revision_in(written: &Written) -> u64 {
    written.get(REVISION_KEY.as_bytes()).map_or(0, |value| number_in(value))
}

fn number_in(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The revision that a stored value begins with.
fn revision_of(stored: &[u8]) -> u64 {
    number_in(stored)
}

/// What the mark says, if it can be read.
fn acknowledged(path: &Path) -> u64 {
    let text = fs::read_to_string(path.join("acknowledged")).unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The pages as the log leaves them, and how many places of it cannot be read. Neither zeros nor a shorter file are signs of a loss:
/// sled writes zeros over what it does not need any more, and gives the end of its file back.
fn pages(file: &mut LogFile) -> io::Result<(HashMap<u64, Page>, u64)> {
    let (mut messages, mut gaps) = (Vec::new(), 0);
    for segment in file.segments() {
        let read = file.read(segment)?;
        gaps += read.gaps + u64::from(read.is_headless);
        messages.extend(read.messages);
    }
    messages.sort_by_key(|message| message.lsn);
    let end = unfinished_batch(file, &messages)?;
    messages.truncate(end);
    let mut pages = HashMap::<u64, Page>::new();
    for message in messages {
        match message.kind {
            Kind::Node => {
                let whole = Some(message);
                pages.insert(
                    message.page,
                    Page {
                        whole,
                        ..Page::default()
                    },
                );
            }
            Kind::Link => pages.entry(message.page).or_default().changes.push(message),
            Kind::Free => drop(pages.remove(&message.page)),
            Kind::Void | Kind::Cap | Kind::Batch | Kind::Other => {}
        }
    }
    Ok((pages, gaps))
}

/// Where the batch begins that the log ends within, of which nothing was acknowledged; the log's end, if there is none. A batch
/// says first where its last byte is.
fn unfinished_batch(file: &LogFile, messages: &[Message]) -> io::Result<usize> {
    let Some(newest) = messages.last().map(|message| message.last) else {
        return Ok(0);
    };
    for (place, message) in messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.kind == Kind::Batch)
    {
        let body = file.body(message)?;
        let last = <[u8; 8]>::try_from(&body[..]).map(u64::from_le_bytes);
        if last.is_ok_and(|last| last > newest) {
            return Ok(place);
        }
    }
    Ok(messages.len())
}

/// A page that holds records. The keys in it and in its changes lack what its own bound begins with.
struct Leaf {
    prefix: Vec<u8>,
    /// The first key that it could have, and the first behind it; empty for the end of all keys.
    low: Vec<u8>,
    high: Vec<u8>,
    records: Written,
}

impl Leaf {
    /// None for a page that holds other pages, or none.
    fn decode(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let (_next, _merging_child, _is_merging) = (cursor.number()?, cursor.number()?, cursor.byte()?);
        let prefix_length = usize::from(cursor.byte()?);
        let (low, high) = (cursor.bytes()?, cursor.bytes()?);
        let prefix = low.get(..prefix_length)?.to_vec();
        if cursor.byte()? != 0 {
            return None;
        }
        let count = cursor.number()?;
        // A key takes a byte at least.
        if count > cursor.0.len() as u64 {
            return None;
        }
        let keys: Option<Vec<_>> = (0..count).map(|_| cursor.bytes()).collect();
        let mut records = BTreeMap::new();
        for key in keys? {
            records.insert([&prefix, key].concat(), cursor.bytes()?.to_vec());
        }
        Some(Self {
            prefix,
            low: low.to_vec(),
            high: high.to_vec(),
            records,
        })
    }

    /// None if it is no change of records.
    fn apply(&mut self, change: &[u8]) -> Option<()> {
        let mut cursor = Cursor(change);
        let kind = cursor.byte()?;
        match kind {
            0 => {
                let key = [&self.prefix, cursor.bytes()?].concat();
                self.records.insert(key, cursor.bytes()?.to_vec());
            }
            1 => drop(self.records.remove(&[&self.prefix, cursor.bytes()?].concat())),
            // Pages that are merged; the page that takes them is written as a whole.
            2..=4 => {}
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "salvage_tests.rs"]
mod tests;
