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

/// Verifies the log in a directory: with the vault's keys if they are given, and against the newest checkpoint that the
/// vault knows.
///
/// # Errors
/// The files cannot be read.
pub fn verify(directory: &Path, keys: Option<Keys>, kept: Option<Link>) -> io::Result<Report> {
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
    kept: Option<Link>,
    /// The line before the next one; none before the first.
    link: Option<Link>,
    /// What the first line says of the line before it.
    beginning: Option<Link>,
    /// The last line of the last file that the log says was removed on purpose, and where it says so.
    removed: Option<(Link, u64)>,
    /// What is no line.
    broken: Option<Broken>,
    has_kept: bool,
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
    pub fn new(keys: Option<Keys>, kept: Option<Link>) -> Self {
        Self {
            keys,
            kept,
            link: None,
            beginning: None,
            removed: None,
            broken: None,
            has_kept: false,
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
            match self.removed {
                Some((last, said_at)) if last == beginning => {
                    if self.keys.is_some() && self.report.signed_up_to.is_none_or(|signed| signed < said_at) {
                        self.find(format!(
                            "lines 1 to {until} were removed, and no signature says on whose behalf"
                        ));
                    } else {
                        self.note(format!(
                            "lines 1 to {until} were old enough and were removed by the server"
                        ));
                    }
                }
                _ => self.find(format!("lines 1 to {until} are missing")),
            }
        }
        if let Some(kept) = self.kept.filter(|_| !self.has_kept) {
            let last = self.report.last;
            self.find(format!(
                "the vault has signed line {}, which is not in the log; its last line is {last}: it was cut, or is another one",
                kept.seq
            ));
        }
        self.report
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
        if let Some(kept) = self.kept.filter(|kept| kept.seq == record.seq) {
            self.has_kept = true;
            if kept.hash != hash {
                self.find(format!("line {} is not the one that the vault has signed", kept.seq));
            }
        }
        self.take_event(line, record);
    }

    fn take_event(&mut self, line: &[u8], record: &Record<'_>) {
        if record.event == events::CHECKPOINT || record.jws.is_some() {
            self.take_checkpoint(line, record);
        }
        match &*record.event {
            events::REMOVED => {
                let last = record.last.zip(record.last_hash.as_deref().and_then(Hash::parse));
                if let Some((seq, hash)) = last {
                    self.removed = Some((Link { seq, hash }, record.seq));
                }
            }
            "file_lost" => self.note(format!(
                "the server lost the file {} while it wrote it",
                record.file.unwrap_or_default()
            )),
            "sync_failed" => self.note("the disk may have lost lines before this one: a sync failed".into()),
            "log_cut" => self.note("the server found at its start that lines before this one were missing".into()),
            "resumed" => self.note("calls were refused before this line: the log could not be written".into()),
            _ => {}
        }
    }

    fn take_checkpoint(&mut self, line: &[u8], record: &Record<'_>) {
        let Some(keys) = &self.keys else { return };
        let verified = match signed_parts(line) {
            Some((payload, jws)) if record.jws.as_deref() == Some(jws) => {
                keys.verify(jws, &payload).map_err(|error| error.to_string())
            }
            _ => Err("it has no signature".to_owned()),
        };
        match verified {
            Ok(()) => self.report.signed_up_to = Some(record.seq),
            Err(why) => self.find(format!(
                "the checkpoint, line {}, vouches for nothing: {why}",
                record.seq
            )),
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
                if broken.has_line_end && found == said {
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
