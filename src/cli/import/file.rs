//! The file, a line at a time: bounded memory, however long it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, StringRecord};
use tresor::pb::v1::{CredentialLine, ProviderKind, PutCredentialRequest};
use zeroize::Zeroizing;

use super::Format;
use super::line::{COLUMNS, Line, Problems, too_long};
use crate::cli::failure::Failure;

/// The longest line. In CSV a quote that is not closed would take all the rest of the file for one.
const LONGEST_LINE: u64 = 1024 * 1024;

/// A place between two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// How many bytes are before it.
    pub(super) offset: u64,
    /// How many lines are before it.
    pub(super) lines: u64,
}

impl Place {
    /// The beginning.
    pub(super) const START: Self = Self { offset: 0, lines: 0 };
}

/// What is imported.
pub(super) struct Input {
    path: PathBuf,
    /// None: standard input.
    file: Option<File>,
    format: Format,
}

impl Input {
    pub(super) fn open(path: &Path, format: Option<Format>) -> Result<Self, Failure> {
        let is_stdin = path == Path::new("-");
        if is_stdin && io::stdin().is_terminal() {
            let text = "standard input is a terminal: pipe the credentials in (tresor import - < FILE)";
            return Err(Failure::Usage(text.to_owned()));
        }
        let format = format.or_else(|| format_of(path)).ok_or_else(|| {
            let text = "cannot tell from its name how the file is written: give --format csv or --format jsonl";
            Failure::Usage(text.to_owned())
        })?;
        let file = if is_stdin {
            None
        } else {
            Some(File::open(path).map_err(at(path))?)
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            format,
        })
    }

    /// Says so if others may read the passwords in the file.
    pub(super) fn open_to_others(&self) -> Option<String> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        let is_open = metadata.is_file() && metadata.mode() & 0o077 != 0;
        let path = self.path.display();
        is_open.then(|| format!("{path} holds passwords and others may read it: chmod 600 {path}"))
    }

    /// In bytes, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Its lines from a place on.
    pub(super) fn lines(self, from: Place) -> Result<Lines, Failure> {
        let Self { path, file, format } = self;
        let room = Arc::new(AtomicU64::new(LONGEST_LINE));
        let limited = |input: Box<dyn Read + Send>| Limited::new(input, &room);
        let again = file.as_ref().map(File::try_clone).transpose().map_err(at(&path))?;
        let input: Box<dyn Read + Send> = match file {
            Some(file) => Box::new(file),
            None => Box::new(io::stdin()),
        };
        let mut counted_from = from;
        let source = match format {
            Format::Jsonl => {
                let mut input = BufReader::with_capacity(BUFFER, input);
                if from != Place::START
                    && let Some(mut file) = again
                {
                    file.seek(SeekFrom::Start(from.offset)).map_err(at(&path))?;
                    input = BufReader::with_capacity(BUFFER, Box::new(file));
                }
                Source::Jsonl(input)
            }
            Format::Csv => {
                let Head {
                    mut rows,
                    names,
                    delimiter,
                    line_end,
                } = head(limited(input), &path)?;
                if from != Place::START
                    && let Some(mut file) = again
                {
                    file.seek(SeekFrom::Start(from.offset)).map_err(at(&path))?;
                    // Another row first: where a reader begins, it passes over a byte order mark, which in here is a part of a row.
                    let rest = Box::new(ANOTHER_ROW.chain(file));
                    rows = reader(delimiter, BufReader::with_capacity(BUFFER, limited(rest)));
                    let _ = rows.read_record(&mut StringRecord::new());
                    counted_from = Place {
                        offset: from.offset - ANOTHER_ROW.len() as u64,
                        lines: from.lines,
                    };
                }
                Source::Csv {
                    rows,
                    names,
                    line_end,
                    room,
                }
            }
        };
        let mut lines = Lines {
            path,
            source,
            from: counted_from,
            place: from,
            before: from,
            held: None,
        };
        if from == Place::START {
            lines.place = lines.here();
        }
        Ok(lines)
    }
}

/// A row that stands in for the one that names the columns, which is longer. What ends it does not count as a line.
const ANOTHER_ROW: &[u8] = b"x\r";
/// How much is read at once.
const BUFFER: usize = 256 * 1024;

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    |source| Failure::File {
        option: "FILE",
        path: path.to_owned(),
        source,
    }
}

fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "csv" => Some(Format::Csv),
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        _ => None,
    }
}

type Rows = csv::Reader<BufReader<Limited>>;

/// What the first row says of all others.
struct Head {
    /// Those others.
    rows: Rows,
    names: StringRecord,
    delimiter: u8,
    line_end: LineEnd,
}

/// What a row ends with, of which its reader takes one byte.
#[derive(Clone, Copy)]
enum LineEnd {
    Lf,
    /// The second byte comes with the next row.
    CrLf,
}

/// Reads the first row, which names the columns and shows what separates them.
fn head(input: Limited, path: &Path) -> Result<Head, Failure> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let begin = input.fill_buf().map_err(at(path))?;
    let first = begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let separates = |candidate: &u8| first.contains(candidate);
    let delimiter = [b',', b';', b'\t'].into_iter().find(separates).unwrap_or(b',');
    let mut rows = reader(delimiter, input);
    let mut head = StringRecord::new();
    let usage = |text: String| Failure::Usage(format!("{}: {text}", path.display()));
    let columns = || format!("there are: {}", COLUMNS.join(", "));
    let is_there = rows
        .read_record(&mut head)
        .map_err(|_| usage("its first row cannot be read".to_owned()))?;
    if !is_there {
        return Err(usage("is empty: its first row must name the columns".to_owned()));
    }
    let has_taken_lf = rows.position().line() > 1 + line_feeds(head.as_byte_record());
    let line_end = if has_taken_lf { LineEnd::Lf } else { LineEnd::CrLf };
    head.trim();
    let mut seen = Vec::new();
    for name in &head {
        // Not repeated: in a file without a head it may be a password.
        let number = seen.len() + 1;
        let Some(column) = COLUMNS.iter().position(|column| is_named(column, name)) else {
            return Err(usage(format!(
                "column {number} has no name that is known; {}",
                columns()
            )));
        };
        if seen.contains(&column) {
            return Err(usage(format!("column {} is there twice", COLUMNS[column])));
        }
        seen.push(column);
    }
    if !seen.contains(&0) {
        return Err(usage(format!("there is no column path; {}", columns())));
    }
    let known = seen.iter().map(|column| COLUMNS[*column]);
    Ok(Head {
        rows,
        names: known.collect(),
        delimiter,
        line_end,
    })
}

/// Whether a column is headed by its name, in `camelCase` or `snake_case`.
fn is_named(column: &str, name: &str) -> bool {
    let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
    plain(column) == plain(name)
}

fn reader(delimiter: u8, input: BufReader<Limited>) -> Rows {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        // A reader that begins in the middle would hold its first row for the measure of all others: `next_row` compares.
        .flexible(true)
        .from_reader(input)
}

enum Source {
    Jsonl(BufReader<Box<dyn Read + Send>>),
    Csv {
        rows: Rows,
        names: StringRecord,
        line_end: LineEnd,
        room: Arc<AtomicU64>,
    },
}

/// What a line says, or what is wrong with it, with its number.
type Numbered = (u64, Result<PutCredentialRequest, Problems>);

/// Lines, one after the other.
pub(super) struct Lines {
    path: PathBuf,
    source: Source,
    from: Place,
    place: Place,
    before: Place,
    held: Option<(CredentialLine, Place)>,
}

impl Lines {
    /// Where it goes on.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The next line that is not empty; none at the end.
    pub(super) fn next(&mut self, kinds: &HashMap<String, ProviderKind>) -> Result<Option<Numbered>, Failure> {
        self.before = self.place;
        if let Some((line, after)) = self.held.take() {
            self.place = after;
            return Ok(line.put.map(|put| (line.number, Ok(put))));
        }
        let next = match &mut self.source {
            Source::Jsonl(input) => next_json(input, &mut self.place).map_err(at(&self.path))?,
            Source::Csv {
                rows,
                names,
                line_end,
                room,
            } => {
                let next = next_row(rows, names, *line_end, room, self.from).map_err(at(&self.path))?;
                self.place = self.here();
                next
            }
        };
        Ok(next.map(|(number, line)| (number, line.and_then(|line| line.request(kinds)))))
    }

    /// Gives back the line that came last.
    pub(super) fn put_back(&mut self, line: CredentialLine) {
        self.held = Some((line, self.place));
        self.place = self.before;
    }

    fn here(&self) -> Place {
        match &self.source {
            Source::Jsonl(_) => self.place,
            Source::Csv { rows, .. } => {
                // After the first row, a new reader counts from where it begins.
                let here = rows.position();
                Place {
                    offset: self.from.offset + here.byte(),
                    lines: self.from.lines + here.line() - 1,
                }
            }
        }
    }
}

type Parsed = (u64, Result<Line, Problems>);

fn next_json(input: &mut impl BufRead, place: &mut Place) -> io::Result<Option<Parsed>> {
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    loop {
        line.clear();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        place.offset += read as u64;
        place.lines += 1;
        let is_whole = line.ends_with(b"\n") || (read as u64) < LONGEST_LINE;
        if !is_whole {
            place.offset += skip_line(input)?;
            return Ok(Some((place.lines, Err(too_long()))));
        }
        let text = if place.lines == 1 {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line)
        } else {
            &line[..]
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        // What the parser says of a wrong value quotes it, so only the place is told.
        let parsed = serde_json::from_slice(text).map_err(|error| {
            let text = format!(
                "is not the JSON object that is expected, at column {}; `tresor import --help` shows its fields",
                error.column()
            );
            vec![("", text)]
        });
        return Ok(Some((place.lines, parsed)));
    }
}

/// Skips what is left of a line, and says how much that was.
fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        input.consume(length);
        skipped += length as u64;
        if end.is_some() || length == 0 {
            return Ok(skipped);
        }
    }
}

fn next_row(
    rows: &mut Rows,
    names: &StringRecord,
    line_end: LineEnd,
    room: &AtomicU64,
    from: Place,
) -> io::Result<Option<Parsed>> {
    room.store(LONGEST_LINE + BUFFER as u64, Ordering::Relaxed);
    let begin = from.lines + rows.position().line();
    let mut row = ByteRecord::new();
    match rows.read_byte_record(&mut row) {
        Ok(false) => Ok(None),
        Ok(true) => {
            let number = from.lines + first_line(rows, &row, line_end);
            Ok(Some((number, parse_row(row, names))))
        }
        Err(error) => {
            let error = io::Error::from(error);
            Err(io::Error::new(error.kind(), format!("line {begin}: {error}")))
        }
    }
}

/// The line in which the row begins that was just read. Where the reader stood before tells less: it has passed over empty lines, and
/// over what was left of a line's end.
fn first_line(rows: &Rows, row: &ByteRecord, line_end: LineEnd) -> u64 {
    let has_taken_lf = matches!(line_end, LineEnd::Lf) && !rows.get_ref().get_ref().ended_within_a_line;
    rows.position().line() - line_feeds(row) - u64::from(has_taken_lf)
}

fn line_feeds(row: &ByteRecord) -> u64 {
    let all = row.iter().flatten();
    all.filter(|byte| **byte == b'\n').count() as u64
}

fn parse_row(row: ByteRecord, names: &StringRecord) -> Result<Line, Problems> {
    let problem = |text: &str| Err(vec![("", text.to_owned())]);
    let Ok(row) = StringRecord::from_byte_record(row) else {
        return problem("is not UTF-8");
    };
    if row.len() != names.len() {
        let text = format!("has {} columns; the first row names {}", row.len(), names.len());
        return problem(&text);
    }
    row.deserialize::<Line>(Some(names)).or_else(|_| {
        let text = format!(
            "its columns are not as the first row names them: {} are expected",
            names.len()
        );
        problem(&text)
    })
}

/// Input that ends with an error when no line ends for too long.
struct Limited {
    input: Box<dyn Read + Send>,
    room: Arc<AtomicU64>,
    last_byte: Option<u8>,
    /// Whether its end has been met, and it was none of a line.
    ended_within_a_line: bool,
}

impl Limited {
    fn new(input: Box<dyn Read + Send>, room: &Arc<AtomicU64>) -> Self {
        Self {
            input,
            room: Arc::clone(room),
            last_byte: None,
            ended_within_a_line: false,
        }
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room.load(Ordering::Relaxed);
        if room == 0 {
            return Err(io::Error::other(
                "is longer than any credential; is a quote not closed?",
            ));
        }
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.input.read(&mut buffer[..most])?;
        self.room.store(room - read as u64, Ordering::Relaxed);
        match buffer[..read].last() {
            Some(last) => self.last_byte = Some(*last),
            None => self.ended_within_a_line = self.last_byte.is_some_and(|last| last != b'\n'),
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines in which the rows of a table begin.
    fn lines(text: &str) -> Vec<u64> {
        let room = Arc::new(AtomicU64::new(LONGEST_LINE));
        let input = Limited::new(Box::new(io::Cursor::new(text.to_owned())), &room);
        let Head {
            mut rows,
            names,
            line_end,
            ..
        } = head(input, Path::new("table")).map_err(|_| ()).unwrap();
        let mut next = || next_row(&mut rows, &names, line_end, &room, Place::START).unwrap();
        std::iter::from_fn(|| next().map(|(number, _)| number)).collect()
    }

    #[test]
    fn a_row_is_in_the_line_in_which_it_begins_whatever_ends_lines() {
        for end in ["\n", "\r\n"] {
            let of = |text: &str| lines(&text.replace('|', end));
            assert_eq!(of("path,note|a,b|c,d|"), [2, 3], "{end:?}");
            assert_eq!(of("path,note|a,b|c,d"), [2, 3], "the last has no end");
            assert_eq!(of("path,note||a,b|||c,d||e,f"), [3, 6, 8], "empty lines");
            assert_eq!(of("path,note|a,\"b|b|b\"|c,d|e|"), [2, 5, 6], "a field of three lines");
            assert_eq!(of("path,note|"), [0; 0]);
        }
    }
}
