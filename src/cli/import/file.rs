//! The file, a line at a time: bounded memory, however long it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tresor::pb::v1::{CredentialLine, ProviderKind, PutCredentialRequest};

use super::Format;
use super::line::{Problems, too_long};
use super::table::{Parsed, Table, Unreadable};
use super::text::Text;
use crate::cli::failure::Failure;

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
        let again = file.as_ref().map(File::try_clone).transpose().map_err(at(&path))?;
        let input: Box<dyn Read + Send> = match file {
            Some(file) => Box::new(file),
            None => Box::new(io::stdin()),
        };
        let mut text = Text::new(input, Place::START);
        let table = match format {
            Format::Jsonl => None,
            Format::Csv => Some(Table::begin(&mut text).map_err(|unreadable| match unreadable {
                Unreadable::Io(error) => at(&path)(error),
                Unreadable::Head(problem) => Failure::Usage(format!("{}: {problem}", path.display())),
            })?),
        };
        if from != Place::START
            && let Some(mut file) = again
        {
            file.seek(SeekFrom::Start(from.offset)).map_err(at(&path))?;
            text = Text::new(Box::new(file), from);
        }
        Ok(Lines {
            before: text.place(),
            path,
            text,
            table,
            held: None,
        })
    }
}

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

/// What a line says, or what is wrong with it, with its number.
type Numbered = (u64, Result<PutCredentialRequest, Problems>);

/// Lines, one after the other.
pub(super) struct Lines {
    path: PathBuf,
    text: Text,
    /// None: each line is a JSON object.
    table: Option<Table>,
    /// Where the line begins that came last.
    before: Place,
    held: Option<CredentialLine>,
}

impl Lines {
    /// Where it goes on.
    pub(super) fn place(&self) -> Place {
        match self.held {
            Some(_) => self.before,
            None => self.text.place(),
        }
    }

    /// The next line that is not empty; none at the end.
    pub(super) fn next(&mut self, kinds: &HashMap<String, ProviderKind>) -> Result<Option<Numbered>, Failure> {
        if let Some(line) = self.held.take() {
            return Ok(line.put.map(|put| (line.number, Ok(put))));
        }
        self.before = self.text.place();
        let next = match &self.table {
            None => next_json(&mut self.text),
            Some(table) => table.next(&mut self.text),
        };
        let next = next.map_err(at(&self.path))?;
        Ok(next.map(|(number, line)| (number, line.and_then(|line| line.request(kinds)))))
    }

    /// Gives back the line that came last.
    pub(super) fn put_back(&mut self, line: CredentialLine) {
        self.held = Some(line);
    }
}

fn next_json(text: &mut Text) -> io::Result<Option<Parsed>> {
    let Some((number, line)) = text.next()? else {
        return Ok(None);
    };
    let Some(object) = line.text() else {
        return Ok(Some((number, Err(too_long()))));
    };
    // What the parser says of a wrong value quotes it, so only the place is told.
    let parsed = serde_json::from_slice(object).map_err(|error| {
        let text = format!(
            "is not the JSON object that is expected, at column {}; `tresor import --help` shows its fields",
            error.column()
        );
        vec![("", text)]
    });
    Ok(Some((number, parsed)))
}
