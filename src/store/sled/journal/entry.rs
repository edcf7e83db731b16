//! An entry of the journal: transactions that were made durable together.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | the mark of an entry |
//! | 4 | CRC-32 of the salt and of everything that follows, up to the end of the page |
//! | 4 | length of the body |
//! | 8 | revision of the first transaction; each further one has the next |
//! | | the body: for each transaction the number of its writes; for each write its key and its value, with their lengths in front |
//! | | zeros up to the end of the page |
//!
//! Numbers are little-endian; those of the body have 4 bytes. A record that is removed has the length `u32::MAX` and no value.

use std::borrow::Borrow;

use crate::store::{Change, Key, Revision, Write};

/// Where entries begin, in bytes: what a disk writes as a whole.
pub(super) const PAGE: usize = 4096;
/// Bytes of the salt.
pub(super) const SALT: usize = 16;
const MARK: [u8; 4] = *b"grp\x01";
const HEADER: usize = 20;
/// Where the checksum is, and where begins what it is of.
const CHECKSUM: std::ops::Range<usize> = 4..8;
const REMOVED: u32 = u32::MAX;

/// An entry on its way into the journal.
pub(in super::super) struct Entry {
    bytes: Vec<u8>,
    /// How many there are of them.
    transactions: usize,
}

impl Entry {
    /// The entry of transactions whose revisions follow each other; none if it would be longer than anything can be.
    pub(in super::super) fn of(changes: &[impl Borrow<Change>]) -> Option<Self> {
        let first = changes.first()?.borrow().revision;
        let mut bytes = vec![0; HEADER];
        for change in changes {
            let Change { writes, .. } = change.borrow();
            put_number(&mut bytes, writes.len())?;
            for (key, value) in writes {
                put_bytes(&mut bytes, key.as_str().as_bytes())?;
                match value {
                    Some(value) => put_bytes(&mut bytes, value)?,
                    None => bytes.extend(REMOVED.to_le_bytes()),
                }
            }
        }
        let body = u32::try_from(bytes.len() - HEADER).ok()?;
        bytes[..4].copy_from_slice(&MARK);
        bytes[8..12].copy_from_slice(&body.to_le_bytes());
        bytes[12..HEADER].copy_from_slice(&first.0.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        Some(Self {
            bytes,
            transactions: changes.len(),
        })
    }

    pub(super) fn transactions(&self) -> usize {
        self.transactions
    }

    /// How much room it takes, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Its bytes in the journal with this salt.
    pub(super) fn sealed_with(mut self, salt: &[u8; SALT]) -> Vec<u8> {
        seal(&mut self.bytes, salt);
        self.bytes
    }
}

pub(super) fn seal(entry: &mut [u8], salt: &[u8; SALT]) {
    let checksum = checksum(salt, &entry[CHECKSUM.end..]);
    entry[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// An entry that was read.
pub(super) struct Found {
    pub(super) first: Revision,
    pub(super) changes: Vec<Change>,
    /// How much room it takes, in bytes.
    pub(super) length: u64,
}

impl Found {
    pub(super) fn last(&self) -> Revision {
        self.changes.last().map_or(self.first, |change| change.revision)
    }
}

/// The entry that begins at a place of a journal, if there is one that is whole.
pub(super) fn entry_at(content: &[u8], at: u64, salt: &[u8; SALT]) -> Option<Found> {
    let rest = content.get(usize::try_from(at).ok()?..)?;
    let header = rest.first_chunk::<HEADER>()?;
    if header[..4] != MARK {
        return None;
    }
    let claimed = u32::from_le_bytes(header[CHECKSUM].try_into().ok()?);
    let body = u32::from_le_bytes(header[8..12].try_into().ok()?);
    let first = u64::from_le_bytes(header[12..HEADER].try_into().ok()?);
    let used = HEADER.checked_add(usize::try_from(body).ok()?)?;
    let length = used.checked_next_multiple_of(PAGE)?;
    let sealed = rest.get(CHECKSUM.end..length)?;
    if checksum(salt, sealed) != claimed {
        return None;
    }
    Some(Found {
        first: Revision(first),
        changes: changes_in(&rest[HEADER..used], first)?,
        length: length as u64,
    })
}

fn checksum(salt: &[u8; SALT], sealed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(salt);
    hasher.update(sealed);
    hasher.finalize()
}

fn changes_in(body: &[u8], first: u64) -> Option<Vec<Change>> {
    let mut rest = Reader(body);
    let mut changes = Vec::new();
    let mut revision = first;
    while !rest.0.is_empty() {
        let mut writes = Vec::new();
        for _ in 0..rest.number()? {
            writes.push(rest.write()?);
        }
        changes.push(Change {
            revision: Revision(revision),
            writes,
        });
        revision = revision.checked_add(1)?;
    }
    (!changes.is_empty()).then_some(changes)
}

fn put_number(bytes: &mut Vec<u8>, number: usize) -> Option<()> {
    let number = u32::try_from(number).ok().filter(|number| *number != REMOVED)?;
    bytes.extend(number.to_le_bytes());
    Some(())
}

fn put_bytes(bytes: &mut Vec<u8>, content: &[u8]) -> Option<()> {
    put_number(bytes, content.len())?;
    bytes.extend(content);
    Some(())
}

/// Reads a body from its front; none where there is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn bytes(&mut self, length: u32) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn write(&mut self) -> Option<Write> {
        let length = self.number()?;
        let key = Key::new(std::str::from_utf8(self.bytes(length)?).ok()?);
        let value = match self.number()? {
            REMOVED => None,
            length => Some(self.bytes(length)?.into()),
        };
        Some((key, value))
    }
}
