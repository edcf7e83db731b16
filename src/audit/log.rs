//! The files of the log: appended to one after the other, never rewritten.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use super::chain::{Hash, Link};
use super::directory::{Directory, Place, files_in};
use super::error::OpenError;
use super::record::Record;
use super::tail::{LONGEST, Pieces, Tail, Torn};
use crate::time::Timestamp;

/// The file that lines go to.
pub(super) struct Log {
    directory: Directory,
    number: u64,
    file: Arc<File>,
    place: Place,
    /// In bytes, as far as it was written in full.
    length: u64,
    began: Timestamp,
    is_empty: bool,
}

/// Where the log goes on.
pub(super) struct Resumed {
    pub(super) link: Link,
    /// What was left of a line; the next line says so.
    pub(super) torn: Option<Torn>,
    /// The file that was lost.
    pub(super) lost: Option<u64>,
}

impl Log {
    /// Opens the log where it ended, or begins a new one.
    pub(super) fn open(path: &Path, now: Timestamp) -> Result<(Self, Resumed), OpenError> {
        let directory = Directory::open(path)?;
        let Some(number) = directory.newest()? else {
            let log = Self::begin(directory, 1, now)?;
            let resumed = Resumed {
                link: Link::START,
                torn: None,
                lost: None,
            };
            return Ok((log, resumed));
        };
        let file = directory.open_file(number)?;
        let (tail, length) = read_tail(&file).map_err(OpenError::io(directory.file_path(number)))?;
        let link = match tail.link {
            Some(link) => link,
            None => last_before(&directory, number)?,
        };
        let began = tail.began.as_deref().and_then(parse_time).unwrap_or(now);
        let place = place_of(&directory, number, &file)?;
        let mut log = Self {
            directory,
            number,
            file: Arc::new(file),
            place,
            length,
            began,
            is_empty: tail.link.is_none(),
        };
        log.close_last_line(length, &tail)?;
        let torn = tail.torn;
        Ok((log, Resumed { link, torn, lost: None }))
    }

    fn begin(directory: Directory, number: u64, now: Timestamp) -> Result<Self, OpenError> {
        let file = Arc::new(directory.create_file(number)?);
        let place = place_of(&directory, number, &file)?;
        Ok(Self {
            directory,
            number,
            file,
            place,
            length: 0,
            began: now,
            is_empty: true,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Whether the file has no line yet; then its first line says which file it is.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn began(&self) -> Timestamp {
        self.began
    }

    /// Appends whole lines. They are in the file with this name when it returns; they are on the disk after a sync, and there
    /// to stay once they are kept.
    pub(super) fn write(&self, lines: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(lines)?;
        // A file that was removed takes lines without a complaint, and they are gone when it is closed.
        if !self.place.holds()? {
            return Err(io::Error::other("its file was removed or replaced"));
        }
        Ok(())
    }

    /// Keeps what was written.
    pub(super) fn keep(&mut self, lines: &[u8]) {
        self.length += lines.len() as u64;
        self.is_empty = false;
    }

    /// Takes back what was written and not kept: its calls are refused.
    pub(super) fn take_back(&self) -> io::Result<()> {
        self.file.set_len(self.length)
    }

    /// Whether this file, which has no line yet, can be written and made durable: leaves nothing in it.
    pub(super) fn probe(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let probed = (&*self.file).write_all(b"probe").and_then(|()| sync(&self.file));
        self.file.set_len(0)?;
        probed
    }

    /// After a failed write: goes on in the same file if it is still there, else in a new one.
    pub(super) fn reopen(&mut self, link: Link, now: Timestamp) -> Result<Resumed, OpenError> {
        let io = |log: &Self| OpenError::io(log.directory.file_path(log.number));
        if !self.place.holds().map_err(io(self))? {
            let lost = Some(self.number);
            self.begin_anew(now)?;
            return Ok(Resumed { link, torn: None, lost });
        }
        let length = self.file.metadata().map_err(io(self))?.len();
        if length == self.length {
            return Ok(Resumed {
                link,
                torn: None,
                lost: None,
            });
        }
        // What could not be taken back is looked at as after a crash.
        let file = self.directory.open_file(self.number)?;
        let (tail, length) = read_tail(&file).map_err(io(self))?;
        self.close_last_line(length, &tail)?;
        Ok(Resumed {
            link: tail.link.unwrap_or(link),
            torn: tail.torn,
            lost: None,
        })
    }

    /// Begins a new file, in a directory that may be a new one too.
    pub(super) fn begin_anew(&mut self, now: Timestamp) -> Result<(), OpenError> {
        let path = self.directory.path().to_owned();
        if !self.directory.is_in_place().map_err(OpenError::io(&path))? {
            self.directory = Directory::open(&path)?;
        }
        let newest = self.directory.newest()?.unwrap_or(0).max(self.number);
        let number = newest
            .checked_add(1)
            .ok_or_else(|| OpenError::refused(self.directory.file_path(newest), "has the last number there is"))?;
        let file = self.directory.create_file(number)?;
        self.place = place_of(&self.directory, number, &file)?;
        self.file = Arc::new(file);
        (self.number, self.length, self.began, self.is_empty) = (number, 0, now, true);
        Ok(())
    }

    /// The oldest file that is not being written, if its last line was written before `limit`; and that line. Files without
    /// any line are in nobody's way and are removed.
    pub(super) fn oldest_before(&self, limit: Timestamp) -> Result<Option<(u64, Link)>, OpenError> {
        let path = self.directory.path();
        let mut oldest = None;
        for (number, path) in files_in(path).map_err(OpenError::io(path))? {
            if number > self.number {
                break;
            }
            let file = self.directory.open_file(number)?;
            if number < self.number && file.metadata().map_err(OpenError::io(&path))?.len() == 0 {
                self.directory.remove_file(number)?;
                continue;
            }
            let Some((oldest, oldest_file)) = &oldest else {
                oldest = Some((number, file));
                continue;
            };
            // This file begins when the one before ends.
            let began = first_time(&file).map_err(OpenError::io(&path))?;
            if began.is_none_or(|began| began >= limit) {
                return Ok(None);
            }
            let oldest_path = self.directory.file_path(*oldest);
            let last = last_link(oldest_file).map_err(OpenError::io(oldest_path))?;
            return Ok(last.map(|last| (*oldest, last)));
        }
        Ok(None)
    }

    pub(super) fn remove(&self, number: u64) -> Result<(), OpenError> {
        self.directory.remove_file(number)
    }

    /// A torn line stays as it is and gets a line end, and so does a whole one that lacks it.
    fn close_last_line(&mut self, length: u64, tail: &Tail) -> Result<(), OpenError> {
        self.length = length;
        if tail.torn.is_some() || tail.lacks_end {
            let path = self.directory.file_path(self.number);
            if let Err(error) = (&*self.file).write_all(b"\n") {
                // Looked at anew by the next attempt.
                self.length = 0;
                return Err(OpenError::io(path)(error));
            }
            self.length += 1;
        }
        Ok(())
    }
}

fn place_of(directory: &Directory, number: u64, file: &File) -> Result<Place, OpenError> {
    let place = directory.place_of(number, file);
    place.map_err(OpenError::io(directory.file_path(number)))
}

/// The newest line of the files before this one.
fn last_before(directory: &Directory, number: u64) -> Result<Link, OpenError> {
    let files = files_in(directory.path()).map_err(OpenError::io(directory.path()))?;
    for (earlier, _) in files.into_iter().rev().filter(|(earlier, _)| *earlier < number) {
        let file = directory.open_file(earlier)?;
        let (tail, _) = read_tail(&file).map_err(OpenError::io(directory.file_path(earlier)))?;
        if let Some(link) = tail.link {
            return Ok(link);
        }
    }
    Ok(Link::START)
}

/// The time in the first line of a file that can be read: what stands before it is what a crash has left of one.
fn first_time(file: &File) -> io::Result<Option<Timestamp>> {
    let mut pieces = Pieces::new(BufReader::new(file));
    while let Some(piece) = pieces.next()? {
        let record = piece.strip_suffix(b"\n").and_then(|line| Record::parse(line).ok());
        if let Some(time) = record.and_then(|record| parse_time(&record.time)) {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

/// A file's last line; none if what stands there is no line.
fn last_link(file: &File) -> io::Result<Option<Link>> {
    let length = file.metadata()?.len();
    let mut bytes = vec![0; usize::try_from(length.min(LONGEST)).expect("64 KiB fit")];
    let start = length - bytes.len() as u64;
    file.read_exact_at(&mut bytes, start)?;
    let Some(lines) = bytes.strip_suffix(b"\n") else {
        return Ok(None);
    };
    let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or(lines);
    let record = Record::parse(line).ok();
    Ok(record.map(|record| Link {
        seq: record.seq,
        hash: Hash::of(line),
    }))
}

fn read_tail(file: &File) -> io::Result<(Tail, u64)> {
    let tail = Tail::of(BufReader::with_capacity(256 * 1024, file))?;
    Ok((tail, file.metadata()?.len()))
}

/// A time as it stands in a line.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let wire: prost_types::Timestamp = text.parse().ok()?;
    Timestamp::try_from(&wire).ok()
}

/// A time as it stands in a line: always in milliseconds, so that lines sort as their times do.
#[derive(Default)]
pub(super) struct TimeText {
    /// The second that the text is of. There are thousands of lines in one.
    second: Option<i64>,
    text: String,
}

impl TimeText {
    pub(super) fn of(&mut self, time: Timestamp) -> &str {
        use std::fmt::Write as _;

        let second = time.unix_seconds();
        if self.second != Some(second) {
            self.text = Timestamp::from_unix_ms(second * 1000).to_string();
            self.text.truncate(WHOLE_SECONDS);
            self.second = Some(second);
        }
        self.text.truncate(WHOLE_SECONDS);
        let ms = time.unix_ms().rem_euclid(1000);
        write!(self.text, ".{ms:03}Z").expect("writing to memory cannot fail");
        &self.text
    }
}

/// How long a time is without its fraction and its zone: `1970-01-01T00:00:00`.
const WHOLE_SECONDS: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_milliseconds_and_read_back() {
        let mut written = TimeText::default();
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_800_000_000_120, "2027-01-15T08:00:00.120Z"),
            (1_800_000_000_007, "2027-01-15T08:00:00.007Z"),
            (1_800_000_001_007, "2027-01-15T08:00:01.007Z"),
        ] {
            let time = Timestamp::from_unix_ms(ms);
            assert_eq!(written.of(time), text);
            assert_eq!(parse_time(text), Some(time));
        }
    }
}
