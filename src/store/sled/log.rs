//! sled's file `db`, read without sled: to see before it is opened whether sled would cut acknowledged writes off, and to save what is
//! in a file that sled refuses.
//!
//! The file is segments of [`SEGMENT_SIZE`] bytes. A segment is a header and messages one behind the other; a message is a header
//! (CRC-32, kind, length, number of the segment, page) and its body. The log's order is that of the segments' numbers
//! (sled 0.34, `pagecache/logger.rs`, `serialization.rs`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::SEGMENT_SIZE;

/// A segment's header: CRC-32, then two numbers, each of 8 bytes.
const SEGMENT_HEADER: usize = 20;
/// Nothing begins nearer to the end of a segment.
const LONGEST_MESSAGE_HEADER: usize = 32;
/// How much is compared with zeros at once.
const ZEROS: [u8; 4096] = [0; 4096];

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing that counts.
    Void,
    /// The rest of the segment is not used.
    Cap,
    /// Where the last message of a batch stands, in front of it.
    Batch,
    /// A page is no more.
    Free,
    /// A page as it is from then on.
    Node,
    /// A change of a page.
    Link,
    /// sled's own.
    Other,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Void,
            2 => Self::Cap,
            3 => Self::Batch,
            4 => Self::Free,
            8 => Self::Node,
            10 => Self::Link,
            // 9 and 11 are kept in files of their own, which a store of this segment size never has.
            5..=7 | 9 | 11 => Self::Other,
            _ => return None,
        })
    }
}

/// A message whose checksum fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) page: u64,
    /// Its place in the log's order: its first byte's, and its last one's.
    pub(super) lsn: u64,
    pub(super) last: u64,
    /// Where its body is in the file, and how long.
    pub(super) body_at: u64,
    pub(super) length: usize,
}

/// What is in a segment.
#[derive(Default)]
pub(super) struct Segment {
    pub(super) messages: Vec<Message>,
    /// How many places there are that cannot be read and have messages behind them.
    pub(super) gaps: u64,
    /// Whether its header cannot be read though it has messages.
    pub(super) is_headless: bool,
}

/// A file of segments.
pub(super) struct LogFile {
    file: File,
    length: u64,
    buffer: Vec<u8>,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path.join("db"))?;
        let length = file.metadata()?.len();
        let buffer = Vec::new();
        Ok(Self { file, length, buffer })
    }

    /// Where each segment begins.
    pub(super) fn segments(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.length).step_by(SEGMENT_SIZE)
    }

    /// The place in the log's order where a segment begins, by its header; none if that cannot be read.
    pub(super) fn begin_of(&self, segment: u64) -> io::Result<Option<u64>> {
        let mut header = [0; SEGMENT_HEADER];
        if self.length - segment < SEGMENT_HEADER as u64 {
            return Ok(None);
        }
        self.file.read_exact_at(&mut header, segment)?;
        Ok(begin_in(&header))
    }

    /// Reads a segment.
    pub(super) fn read(&mut self, segment: u64) -> io::Result<Segment> {
        let length = (self.length - segment).min(SEGMENT_SIZE as u64);
        self.buffer.resize(usize::try_from(length).unwrap_or(SEGMENT_SIZE), 0);
        self.file.read_exact_at(&mut self.buffer, segment)?;
        Ok(messages_in(&self.buffer, segment))
    }

    /// The body of a message.
    pub(super) fn body(&self, message: &Message) -> io::Result<Vec<u8>> {
        let mut body = vec![0; message.length];
        self.file.read_exact_at(&mut body, message.body_at)?;
        Ok(body)
    }
}

fn begin_in(header: &[u8]) -> Option<u64> {
    let checksum = u32::from_le_bytes(header.get(..4)?.try_into().ok()?) ^ u32::MAX;
    let number = u64::from_le_bytes(header.get(4..12)?.try_into().ok()?) ^ 0x7FFF_FFFF_FFFF_FFFF;
    let is_whole = crc32fast::hash(&header[4..SEGMENT_HEADER]) == checksum;
    (is_whole && number.is_multiple_of(SEGMENT_SIZE as u64)).then_some(number)
}

fn messages_in(segment: &[u8], offset: u64) -> Segment {
    let mut found = Segment::default();
    // A large part of the last segment is zeros.
    let used = segment
        .chunks(ZEROS.len())
        .rposition(|part| part != &ZEROS[..part.len()]);
    let used = &segment[..used.map_or(0, |last| ((last + 1) * ZEROS.len()).min(segment.len()))];
    if used.len() < SEGMENT_HEADER {
        return found;
    }
    let begin = begin_in(used);
    let mut number = begin.map(|begin| begin / SEGMENT_SIZE as u64);
    found.is_headless = begin.is_none();
    let mut at = SEGMENT_HEADER;
    while at + LONGEST_MESSAGE_HEADER <= SEGMENT_SIZE {
        let Some((message, next, its_number)) =
            message_at(used, offset, at).filter(|it| number.is_none_or(|n| n == it.2))
        else {
            // Behind what cannot be read: the next place at which something begins that can.
            let is_message =
                |at: &usize| message_at(used, offset, *at).is_some_and(|it| number.is_none_or(|n| n == it.2));
            match (at + 1..used.len()).find(is_message) {
                Some(next) => {
                    found.gaps += 1;
                    at = next;
                    continue;
                }
                None => break,
            }
        };
        number = Some(its_number);
        found.messages.push(message);
        if message.kind == Kind::Cap {
            break;
        }
        at = next;
    }
    found.is_headless &= !found.messages.is_empty();
    found
}

/// The message that begins at a place in a segment, the place behind it, and the number of the segment that it says it is of.
fn message_at(segment: &[u8], offset: u64, at: usize) -> Option<(Message, usize, u64)> {
    let rest = segment.get(at..)?;
    let checksum = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
    let kind = Kind::of(*rest.get(4)?)?;
    let mut cursor = Cursor(rest.get(5..)?);
    let (length, number, page) = (cursor.number()?, cursor.number()?, cursor.number()?);
    let header = rest.len() - cursor.0.len();
    let length = usize::try_from(length).ok()?;
    let body = cursor.0.get(..length)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&rest[4..header]);
    if hasher.finalize() ^ u32::MAX != checksum {
        return None;
    }
    let lsn = number.checked_mul(SEGMENT_SIZE as u64)?.checked_add(at as u64)?;
    let message = Message {
        kind,
        page,
        lsn,
        last: lsn.checked_add((header + length) as u64 - 1)?,
        body_at: offset + (at + header) as u64,
        length,
    };
    Some((message, at + header + length, number))
}

/// Bytes as sled writes its values, which are read from the front. None where there are too few.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of 1 to 9 bytes (`SQLite`'s variable-length integers, little-endian from 4 bytes on).
    pub(super) fn number(&mut self) -> Option<u64> {
        Some(match self.byte()? {
            small @ 0..=240 => u64::from(small),
            first @ 241..=248 => 240 + 256 * (u64::from(first) - 241) + u64::from(self.byte()?),
            249 => 2288 + 256 * u64::from(self.byte()?) + u64::from(self.byte()?),
            first => {
                let mut bytes = [0; 8];
                for byte in bytes.iter_mut().take(usize::from(first) - 247) {
                    *byte = self.byte()?;
                }
                u64::from_le_bytes(bytes)
            }
        })
    }

    /// A length, and so many bytes.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let taken = self.0.get(..length)?;
        self.0 = &self.0[length..];
        Some(taken)
    }
}

/// Whether something cannot be read that has more of the log behind it. sled would take that for the log's end and write zeros
/// over all the rest. It reads what was written since its last snapshot; so does this.
pub(super) fn is_broken_before_its_end(path: &Path) -> io::Result<bool> {
    let snapshot = newest_snapshot(path)?;
    let since = snapshot / SEGMENT_SIZE as u64 * SEGMENT_SIZE as u64;
    let mut file = LogFile::open(path)?;
    for segment in file.segments() {
        if file.begin_of(segment)?.is_some_and(|begin| begin < since) {
            continue;
        }
        let read = file.read(segment)?;
        let is_newer = read.messages.last().is_some_and(|last| last.lsn >= snapshot);
        if is_newer && (read.gaps > 0 || read.is_headless) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Up to where sled's newest snapshot goes, by its name; 0 if there is none.
fn newest_snapshot(path: &Path) -> io::Result<u64> {
    let mut newest = 0;
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("snap."));
        let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}
