//! Reads a file of the log piece by piece, and finds out where its last whole line ends.

use std::io::{self, BufRead, Read as _};

use sha2::{Digest as _, Sha256};

use super::chain::{Hash, Link};
use super::record::Record;

/// No line is longer, in bytes.
pub(super) const LONGEST: u64 = 64 * 1024;

/// A file in pieces: lines with their ends, and what is no line.
pub(super) struct Pieces<R> {
    reader: R,
    piece: Vec<u8>,
}

impl<R: BufRead> Pieces<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            piece: Vec::new(),
        }
    }

    /// The next piece. One without a line end is the end of the file, or too long for a line.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.piece.clear();
        self.read_on()
    }

    /// The last piece and what has been appended to the file since.
    pub(super) fn read_on(&mut self) -> io::Result<Option<&[u8]>> {
        let rest = LONGEST.saturating_sub(self.piece.len() as u64);
        self.reader.by_ref().take(rest).read_until(b'\n', &mut self.piece)?;
        Ok((!self.piece.is_empty()).then_some(self.piece.as_slice()))
    }
}

/// What was left of a line, or of several, when a process or a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) sha256: Hash,
}

/// How a file ends.
#[derive(Debug)]
pub(super) struct Tail {
    /// The time in its first line.
    pub(super) began: Option<String>,
    /// Its last whole line; none if it has none.
    pub(super) link: Option<Link>,
    /// What comes after that.
    pub(super) torn: Option<Torn>,
    /// Whether the last whole line has everything but its line end.
    pub(super) lacks_end: bool,
}

impl Tail {
    pub(super) fn of(reader: impl BufRead) -> io::Result<Self> {
        let mut pieces = Pieces::new(reader);
        let mut tail = Self {
            began: None,
            link: None,
            torn: None,
            lacks_end: false,
        };
        let (mut bytes, mut hasher) = (0, Sha256::new());
        while let Some(piece) = pieces.next()? {
            let line = piece.strip_suffix(b"\n").unwrap_or(piece);
            let has_end = line.len() < piece.len();
            let record = Record::parse(line).ok();
            if let Some(record) = record.filter(|record| has_end || (bytes == 0 && tail.is_followed_by(record))) {
                tail.began.get_or_insert_with(|| record.time.to_string());
                tail.link = Some(Link {
                    seq: record.seq,
                    hash: Hash::of(line),
                });
                tail.lacks_end = !has_end;
                (bytes, hasher) = (0, Sha256::new());
            } else {
                bytes += piece.len() as u64;
                hasher.update(piece);
            }
        }
        tail.torn = (bytes > 0).then(|| Torn {
            bytes,
            sha256: hasher.into(),
        });
        Ok(tail)
    }

    fn is_followed_by(&self, record: &Record<'_>) -> bool {
        self.link
            .is_some_and(|link| record.seq == link.seq + 1 && record.previous() == Some(link.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64) -> (Vec<u8>, Link) {
        let (mut link, mut lines) = (Link::START, Vec::new());
        for _ in 0..count {
            link.append(&mut lines, "2026-01-01T00:00:00.000Z", r#""event":"call""#);
        }
        (lines, link)
    }

    #[test]
    fn a_whole_file_ends_with_its_last_line() {
        let (lines, link) = lines(3);
        let tail = Tail::of(&lines[..]).unwrap();
        assert_eq!((tail.link, tail.torn), (Some(link), None));
        assert_eq!(tail.began.as_deref(), Some("2026-01-01T00:00:00.000Z"));
    }

    #[test]
    fn a_file_cut_anywhere_ends_with_its_last_whole_line() {
        let (whole, _) = lines(3);
        for cut in 0..whole.len() {
            let tail = Tail::of(&whole[..cut]).unwrap();
            if tail.lacks_end {
                assert_eq!(whole[cut], b'\n');
                continue;
            }
            let ends = whole[..cut].split(|byte| *byte == b'\n').count() as u64 - 1;
            let begin = whole[..cut]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            let left = &whole[begin..cut];
            assert_eq!(tail.link.map_or(0, |link| link.seq), ends);
            let torn = (!left.is_empty()).then(|| Torn {
                bytes: left.len() as u64,
                sha256: Hash::of(left),
            });
            assert_eq!(tail.torn, torn);
        }
    }

    #[test]
    fn what_is_no_line_takes_no_memory_and_is_part_of_the_torn_end() {
        let (mut bytes, link) = lines(2);
        let zeros = vec![0; 300_000];
        bytes.extend_from_slice(&zeros);
        bytes.extend_from_slice(b"\nabc\n");
        let tail = Tail::of(&bytes[..]).unwrap();
        assert_eq!((tail.link, tail.torn.unwrap().bytes), (Some(link), 300_005));
    }
}
