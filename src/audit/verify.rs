//! Finds out whether a log is whole: no line changed, removed, added or moved.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::chain::{Hash, Link, signed_parts};
use super::directory::files_in;
use super::events;
use super::jws::Keys;
use super::record::Record;
use super::stretch::Stretch;
use super::tail::{LONGEST, Pieces};

/// How often, and how long, the end of a log is waited for that a server may be writing at this moment.
const PATIENCE: (u32, Duration) = (10, Duration::from_millis(50));

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// The line in the file, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// What came of a verification.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many files were read.
    pub files: u64,
    /// How many lines.
    pub lines: u64,
    /// The number of the first line.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// Up to which line a signature vouches for everything before it; none if nothing is signed, or no keys were given.
    pub signed_up_to: Option<u64>,
    /// What is wrong. The log is whole if there is none.
    pub findings: Vec<Finding>,
    /// What the log says of itself that a reader should know: torn lines, lost files, times without a log.
    pub notes: Vec<Finding>,
}

/// Verifies the log in a directory: with the vault's keys if they are given, and against checkpoints that must be in it: the
/// newest that the vault knows, or that was kept.
///
/// # Errors
/// The files cannot be read.
pub fn verify(directory: &Path, keys: Option<Keys>, kept: impl IntoIterator<Item = Link>) -> io::Result<Report> {
    let mut verifier = Verifier::new(keys, kept);
    let mut files = files_in(directory)?.into_iter().peekable();
    while let Some((_, path)) = files.next() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = BufReader::with_capacity(256 * 1024, File::open(&path)?);
        let patience = if files.peek().is_none() {
            PATIENCE
        } else {
            (0, Duration::ZERO)
        };
        verifier.read(&name, file, patience)?;
    }
    Ok(verifier.finish())
}

/// Reads a log file by file.
pub struct Verifier {
    keys: Option<Keys>,
    /// Lines that must be there and were not met yet.
    kept: Vec<Link>,
    /// The line before the next one; none before the first.
    link: Option<Link>,
    /// What the first line says of the line before it.
    beginning: Option<Link>,
    /// The last lines of the files that the log says, under a signature, were removed on purpose.
    removed: Vec<Link>,
    stretch: Stretch,
    /// Whether the last line is signed, and whether the one before says that the process ended.
    is_signed: bool,
    has_stopped: bool,
    /// The end of a file that is not signed, and whose successor has not said why.
    unsigned_end: Option<(String, u64)>,
    /// What is no line.
    broken: Option<Broken>,
    report: Report,
    /// Where it is.
    file: String,
    line: u64,
}

struct Broken {
    file: String,
    line: u64,
    bytes: u64,
    hasher: Sha256,
    /// A line end that is not in the hash yet: the last one closes the torn line and is not part of it.
    has_line_end: bool,
}

impl Verifier {
    /// A verifier that has read nothing yet.
    #[must_use]
    pub fn new(keys: Option<Keys>, kept: impl IntoIterator<Item = Link>) -> Self {
        Self {
            keys,
            kept: kept.into_iter().collect(),
            link: None,
            beginning: None,
            removed: Vec::new(),
            stretch: Stretch::new(),
            is_signed: false,
            has_stopped: false,
            unsigned_end: None,
            broken: None,
            report: Report::default(),
            file: String::new(),
            line: 0,
        }
    }

    /// Reads the next file. At its end it waits so often, and so long, for a line that is being written.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&mut self, name: &str, file: impl BufRead, patience: (u32, Duration)) -> io::Result<()> {
        if self.link.is_some() && !self.is_signed && !self.stretch.may_be_sealed() {
            self.unsigned_end.get_or_insert((self.file.clone(), self.line));
        }
        name.clone_into(&mut self.file);
        (self.line, self.report.files) = (0, self.report.files + 1);
        let mut pieces = Pieces::new(file);
        let (mut tries, pause) = patience;
        while let Some(mut piece) = pieces.next()? {
            while tries > 0 && !piece.ends_with(b"\n") && (piece.len() as u64) < LONGEST {
                tries -= 1;
                std::thread::sleep(pause);
                piece = pieces.read_on()?.unwrap_or_default();
            }
            self.line += 1;
            match piece.strip_suffix(b"\n").map(|line| (line, Record::parse(line))) {
                Some((line, Ok(record))) => self.take(line, &record),
                Some((_, Err(_))) | None => self.take_broken(piece),
            }
        }
        // A torn line is recorded in its own file.
        self.report_broken("is no line of the log");
        Ok(())
    }

    /// What came of it.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if self.link.is_none() {
            self.find("the log is empty".into());
        }
        if let Some(beginning) = self.beginning.filter(|beginning| *beginning != Link::START) {
            let until = beginning.seq;
            if self.removed.contains(&beginning) {
                self.note(format!(
                    "lines 1 to {until} were old enough and were removed by the server"
                ));
            } else {
                self.find(format!("lines 1 to {until} are missing"));
            }
        }
        for kept in std::mem::take(&mut self.kept) {
            let last = self.report.last;
            self.find(format!(
                "the vault has signed line {}, which is not in the log; its last line is {last}: it was cut, or is another one",
                kept.seq
            ));
        }
        if self.keys.is_some() && self.link.is_some() {
            self.finish_signatures();
        }
        self.report
    }

    fn finish_signatures(&mut self) {
        self.report_unsigned_end();
        if self.report.signed_up_to.is_none() {
            self.find("nothing in it is signed by the vault: anybody may have written it".into());
        } else if self.stretch.may_be_sealed() && self.stretch.is_too_long() {
            let lines = self.stretch.lines();
            self.note(format!(
                "the last {lines} lines are not signed: the vault was sealed, or somebody else wrote them"
            ));
        }
    }

    fn report_unsigned_end(&mut self) {
        if let Some(place) = self.unsigned_end.take() {
            let what = "the file does not end with a signature, though the vault had its keys".to_owned();
            self.report.findings.push(at(place, what));
        }
    }

    fn take(&mut self, line: &[u8], record: &Record<'_>) {
        let hash = Hash::of(line);
        let previous = record.previous();
        let fits = match (self.link, previous) {
            (_, None) => false,
            (None, Some(previous)) => {
                self.beginning = Some(Link {
                    seq: record.seq.saturating_sub(1),
                    hash: previous,
                });
                self.report.first = record.seq;
                record.seq > 0
            }
            (Some(before), Some(previous)) => before.seq.checked_add(1) == Some(record.seq) && before.hash == previous,
        };
        if !fits {
            self.report_broken("is no line of the log");
            self.find_misfit(record, previous);
        } else if record.event == events::RECOVERED {
            self.take_torn(record);
        } else {
            self.report_broken("is no line of the log");
        }
        self.link = Some(Link { seq: record.seq, hash });
        self.report.lines += 1;
        self.report.last = record.seq;
        let (met, kept) = std::mem::take(&mut self.kept)
            .into_iter()
            .partition::<Vec<_>, _>(|kept| kept.seq == record.seq);
        self.kept = kept;
        if met.iter().any(|kept| kept.hash != hash) {
            self.find(format!("line {} is not the one that the vault has signed", record.seq));
        }
        self.take_event(line, record);
    }

    fn take_event(&mut self, line: &[u8], record: &Record<'_>) {
        if self.has_stopped && self.is_signed && !events::may_follow_an_end(&record.event) {
            self.find(format!(
                "line {} stands behind the end of a log that was closed in order, and no process has begun",
                record.seq
            ));
        }
        let has_stopped = std::mem::replace(&mut self.has_stopped, record.event == events::STOPPED);
        if record.event == events::CHECKPOINT || record.event == events::REMOVED || record.jws.is_some() {
            self.is_signed = self.take_signed(line, record);
            self.has_stopped = has_stopped && self.is_signed;
        } else {
            self.is_signed = false;
        }
        if self.keys.is_some() && !self.is_signed && self.stretch.take(record) {
            let lines = self.stretch.lines();
            self.find(format!(
                "{lines} lines are not signed, though the vault had its keys and signs sooner"
            ));
        }
        match &*record.event {
            events::REMOVED => {
                let last = record.last.zip(record.last_hash.as_deref().and_then(Hash::parse));
                if let Some((seq, hash)) = last.filter(|_| self.is_signed) {
                    self.removed.push(Link { seq, hash });
                }
            }
            "file_lost" => {
                self.unsigned_end = None;
                self.note(format!(
                    "the server lost the file {} while it wrote it",
                    record.file.unwrap_or_default()
                ));
            }
            "sync_failed" => {
                self.unsigned_end = None;
                self.note("the disk may have lost lines before this one: a sync failed".into());
            }
            // A crash as the file was made.
            events::STARTED => self.unsigned_end = None,
            "log_cut" => {
                self.find("the server found at its start that lines it had signed were missing or others".into());
            }
            "resumed" => self.note("calls were refused before this line: the log could not be written".into()),
            _ => {}
        }
    }

    /// Whether a line that should be signed is. Without keys nobody can tell.
    fn take_signed(&mut self, line: &[u8], record: &Record<'_>) -> bool {
        let Some(keys) = &self.keys else { return true };
        let verified = match signed_parts(line) {
            Some((payload, jws)) if record.jws.as_deref() == Some(jws) => {
                keys.verify(jws, &payload).map_err(|error| error.to_string())
            }
            _ => Err("it has no signature".to_owned()),
        };
        match verified {
            Ok(()) => {
                self.report.signed_up_to = Some(record.seq);
                self.stretch.signed();
                self.report_unsigned_end();
                true
            }
            Err(why) => {
                self.find(format!(
                    "the {}, line {}, vouches for nothing: {why}",
                    record.event, record.seq
                ));
                false
            }
        }
    }

    /// A line that does not follow from the one before.
    fn find_misfit(&mut self, record: &Record<'_>, previous: Option<Hash>) {
        let seq = record.seq;
        let Some(link) = self.link else {
            self.find(format!("line {seq} is no beginning of a log"));
            return;
        };
        let expected = link.seq.saturating_add(1);
        let what = if previous.is_none() {
            format!("line {seq} was changed: it names no line before it")
        } else if seq == expected {
            format!(
                "line {} was changed, or line {seq} was: they do not fit together",
                link.seq
            )
        } else if seq > expected {
            let missing = if seq - 1 == expected {
                format!("line {expected} is missing")
            } else {
                format!("lines {expected} to {} are missing", seq - 1)
            };
            format!("{missing} before line {seq}")
        } else {
            format!(
                "line {seq} stands behind line {}: it was moved, or is there twice",
                link.seq
            )
        };
        self.find(what);
    }

    /// A line that says what a crash has left before it.
    fn take_torn(&mut self, record: &Record<'_>) {
        let said = (record.torn_bytes, record.torn_sha256.as_deref().and_then(Hash::parse));
        match self.broken.take() {
            None => self.find(format!("line {} speaks of a torn line that is not there", record.seq)),
            Some(broken) => {
                let bytes = broken.bytes - u64::from(broken.has_line_end);
                let found = (Some(bytes), Some(Hash::from(broken.hasher)));
                let place = (broken.file, broken.line);
                // A file that was just made is torn at its first line.
                if self.has_stopped && place.1 > 1 {
                    let what = format!("{bytes} bytes of no line, though the log was closed in order before it");
                    self.report.findings.push(at(place, what));
                } else if broken.has_line_end && found == said {
                    let what = format!(
                        "{bytes} bytes of a torn line, which a crash has left and line {} records",
                        record.seq
                    );
                    self.report.notes.push(at(place, what));
                } else {
                    let what = format!("is not the torn line that line {} speaks of", record.seq);
                    self.report.findings.push(at(place, what));
                }
            }
        }
    }

    fn take_broken(&mut self, piece: &[u8]) {
        let broken = self.broken.get_or_insert_with(|| Broken {
            file: self.file.clone(),
            line: self.line,
            bytes: 0,
            hasher: Sha256::new(),
            has_line_end: false,
        });
        if broken.has_line_end {
            broken.hasher.update(b"\n");
        }
        broken.bytes += piece.len() as u64;
        let text = piece.strip_suffix(b"\n");
        broken.has_line_end = text.is_some();
        broken.hasher.update(text.unwrap_or(piece));
    }

    fn report_broken(&mut self, what: &str) {
        if let Some(broken) = self.broken.take() {
            let what = format!("{what} ({} bytes)", broken.bytes);
            self.report.findings.push(at((broken.file, broken.line), what));
        }
    }

    fn find(&mut self, what: String) {
        let finding = at((self.file.clone(), self.line), what);
        self.report.findings.push(finding);
    }

    fn note(&mut self, what: String) {
        let note = at((self.file.clone(), self.line), what);
        self.report.notes.push(note);
    }
}

fn at((file, line): (String, u64), what: String) -> Finding {
    Finding { file, line, what }
}
