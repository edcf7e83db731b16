//! Reads a log for those who may: the lines that fit a filter, in their order, from as many files as there are.

use std::fs::File;
use std::io::{self, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::chain::{Hash, Link};
use super::directory::files_in;
use super::log::parse_time;
use super::record::Record;
use super::tail::Pieces;
use crate::time::Timestamp;

/// After how many lines it is asked whether anybody still wants them.
const LOOK_EVERY: u64 = 1024;

/// Which lines are wanted. What is not set does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Written at this time or later.
    pub since: Option<Timestamp>,
    /// Written before this time.
    pub until: Option<Timestamp>,
    /// About this caller.
    pub caller: Option<String>,
    /// About this firm.
    pub tenant: Option<String>,
    /// About this third-party system.
    pub provider: Option<String>,
    /// About this order.
    pub order: Option<String>,
    /// About this method.
    pub method: Option<String>,
    /// That ended like this.
    pub outcome: Option<String>,
    /// About the request with this id.
    pub request: Option<String>,
}

/// The log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be read: {error}", path.display())]
pub struct ReadError {
    /// The file or the directory.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl Filter {
    /// Whether a line is wanted.
    #[must_use]
    pub fn takes(&self, record: &Record<'_>) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        is(&self.caller, record.caller.as_deref())
            && is(&self.tenant, record.tenant.as_deref())
            && is(&self.provider, record.provider.as_deref())
            && is(&self.order, record.order_id.as_deref())
            && is(&self.method, record.method.as_deref())
            && is(&self.outcome, record.outcome.as_deref())
            && is(&self.request, record.request_id.as_deref())
            && self.takes_time(&record.time)
    }

    fn takes_time(&self, time: &str) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(time) = parse_time(time) else { return false };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// In how many files, the newest of them, a revision is looked for: a log that is written at all has one each minute in which
/// something is saved.
const REVISION_FILES: usize = 3;

/// Reads lines. It sees what was there when a file was opened or written since; a file that is removed meanwhile is read to
/// its end.
pub struct Reader {
    files: Vec<(u64, PathBuf)>,
}

impl Reader {
    /// A reader of the log in a directory.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn new(directory: &Path) -> Result<Self, ReadError> {
        let files = files_in(directory).map_err(|error| ReadError {
            path: directory.into(),
            error,
        })?;
        Ok(Self { files })
    }

    /// Gives every line that the filter takes to `each`, up to the line numbered `newest`, until `each` has had enough.
    /// What is no line is left out: [`super::verify()`] finds it.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn lines(
        &self,
        filter: &Filter,
        newest: u64,
        each: impl FnMut(&str, &Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.lines_while(filter, newest, || true, each)
    }

    /// The same for as long as `goes_on` says yes. It is asked at first and after so and so many lines, whether they are wanted or
    /// not.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn lines_while(
        &self,
        filter: &Filter,
        newest: u64,
        mut goes_on: impl FnMut() -> bool,
        mut each: impl FnMut(&str, &Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for (at, (_, path)) in self.files.iter().enumerate() {
            let is_over = self
                .files
                .get(at + 1)
                .zip(filter.since)
                .is_some_and(|((_, next), since)| begins_before(next, since));
            if is_over {
                continue;
            }
            let file = match File::open(path) {
                // It was old enough to be removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened,
            };
            let read = file.and_then(|file| read_file(file, filter, newest, &mut goes_on, &mut each));
            let flow = read.map_err(|error| ReadError {
                path: path.clone(),
                error,
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The newest revision that the store had, by the lines up to this number of the last files that tell of one. After it was put
    /// back, and that was told, only what was written since counts.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn newest_revision(&self, up_to: u64) -> Result<Option<u64>, ReadError> {
        let mut newest = None;
        let mut told_by = 0;
        for (_, path) in self.files.iter().rev().take(REVISION_FILES) {
            let (of_file, was_put_back) = newest_in(path, up_to).map_err(|error| ReadError {
                path: path.clone(),
                error,
            })?;
            newest = newest.max(of_file);
            told_by += usize::from(of_file.is_some());
            // What a file begins with may be a minute old.
            if was_put_back || told_by == 2 {
                break;
            }
        }
        Ok(newest)
    }

    /// The hash of the line with this number; none if there is none.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn hash_of(&self, link: Link) -> Result<Option<Hash>, ReadError> {
        // It is most likely near the end, and the log may be large.
        for (_, path) in self.files.iter().rev() {
            let (began, found) = find(path, link.seq).map_err(|error| ReadError {
                path: path.clone(),
                error,
            })?;
            if found.is_some() || began.is_some_and(|began| began <= link.seq) {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// The newest revision that a file tells of, or of what it has since the store was put back; and whether it was.
fn newest_in(path: &Path, up_to: u64) -> io::Result<(Option<u64>, bool)> {
    let (mut newest, mut was_put_back) = (None, false);
    let mut note = |_: &str, record: &Record<'_>| {
        if matches!(record.method.as_deref(), Some("Restore" | "Rescue" | "StoreIsOlder")) {
            (newest, was_put_back) = (record.revision, true);
        } else {
            newest = newest.max(record.revision);
        }
        ControlFlow::Continue(())
    };
    let _ = read_file(File::open(path)?, &Filter::default(), up_to, &mut || true, &mut note)?;
    Ok((newest, was_put_back))
}

/// The number of a file's first line, and the hash of the line that is looked for.
fn find(path: &Path, seq: u64) -> io::Result<(Option<u64>, Option<Hash>)> {
    let mut pieces = Pieces::new(BufReader::with_capacity(256 * 1024, File::open(path)?));
    let mut began = None;
    while let Some(piece) = pieces.next()? {
        let line = piece.strip_suffix(b"\n").unwrap_or(piece);
        let Ok(record) = Record::parse(line) else { continue };
        if record.seq == seq {
            return Ok((began, Some(Hash::of(line))));
        }
        if record.seq > seq {
            return Ok((began, None));
        }
        began.get_or_insert(record.seq);
    }
    Ok((began, None))
}

fn read_file(
    file: File,
    filter: &Filter,
    newest: u64,
    goes_on: &mut impl FnMut() -> bool,
    each: &mut impl FnMut(&str, &Record<'_>) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut pieces = Pieces::new(BufReader::with_capacity(256 * 1024, file));
    let mut read = 0_u64;
    while let Some(piece) = pieces.next()? {
        if read.is_multiple_of(LOOK_EVERY) && !goes_on() {
            return Ok(ControlFlow::Break(()));
        }
        read += 1;
        let text = piece
            .strip_suffix(b"\n")
            .and_then(|line| std::str::from_utf8(line).ok());
        let Some((line, record)) = text.and_then(|line| Some((line, Record::of(line)?))) else {
            continue;
        };
        if record.seq > newest {
            return Ok(ControlFlow::Break(()));
        }
        if filter.takes(&record) && each(line, &record).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Whether a file's first line was written before a time; then so were all lines of the files before it.
fn begins_before(path: &Path, time: Timestamp) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut pieces = Pieces::new(BufReader::new(file));
    let Ok(Some(piece)) = pieces.next() else { return false };
    let record = piece.strip_suffix(b"\n").and_then(|line| Record::parse(line).ok());
    let began = record.and_then(|record| parse_time(&record.time));
    began.is_some_and(|began| began < time)
}
