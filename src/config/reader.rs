//! Reads a TOML file key by key and gathers everything that is wrong instead of stopping at the first.
//!
//! In goes a text and a function that reads the root [`Table`]; out comes what the function made of it, or all problems.
//! A reading that fails has noted its problem and answers [`Reported`]; so read every key first and use `?` only then.
//! Keys that nobody asked for are problems too. The configuration, the catalogue and the policy are read with it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeTable;

use super::environment::{Environment, variable};
use super::errors::{ConfigErrors, Place, Problem};
use super::table::Table;
use super::value::did_you_mean;
use crate::hardening::modes::{self, Forbidden, Unfit};
use crate::hardening::regular::LONGEST_TEXT;

/// Proof that a problem was noted.
#[derive(Debug)]
pub(crate) struct Reported(());

/// What all tables of a file share.
pub(super) struct File<'a> {
    /// Where its lines end, in bytes.
    line_ends: Vec<usize>,
    pub(super) environment: &'a Environment,
    /// Each once: of a line whose syntax is broken the same can be said many times.
    problems: RefCell<BTreeSet<Problem>>,
    pub(super) asked: RefCell<BTreeSet<Asked>>,
}

/// A key that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    /// The name of its section, or of the entries that have it; empty for the root.
    pub(super) table: &'static str,
    pub(super) key: &'static str,
    /// Whether the environment can override it.
    pub(super) is_setting: bool,
}

/// The content of a file that decides: nobody else must have written it.
pub(crate) fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    let about = |message: String| ConfigErrors::of_file(&path.display().to_string(), message);
    let content = modes::read(path, Forbidden::Writing, LONGEST_TEXT).map_err(|unfit| {
        about(match unfit {
            Unfit::Unreadable(error) => format!("cannot be read: {error}"),
            Unfit::Exposed(exposure) => exposure.to_string(),
        })
    })?;
    let text = std::str::from_utf8(&content).map_err(|_| about("cannot be read: it is not UTF-8".into()))?;
    Ok(text.to_owned())
}

/// Reads `text`, the content of the file `name`, with `build`.
pub(crate) fn read<T>(
    text: &str,
    name: &str,
    environment: &Environment,
    build: impl FnOnce(&mut Table<'_>) -> Result<T, Reported>,
) -> Result<T, ConfigErrors> {
    read_with_keys(text, name, environment, build).0
}

/// The same, and all keys that were asked for.
pub(super) fn read_with_keys<T>(
    text: &str,
    name: &str,
    environment: &Environment,
    build: impl FnOnce(&mut Table<'_>) -> Result<T, Reported>,
) -> (Result<T, ConfigErrors>, BTreeSet<Asked>) {
    let file = File {
        line_ends: text.match_indices('\n').map(|(end, _)| end).collect(),
        environment,
        problems: RefCell::default(),
        asked: RefCell::default(),
    };
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        let place = error.span().map_or(Place::File, |span| file.line(span.start));
        file.note(place, String::new(), error.message().replace('\n', ", "));
    }
    // What follows from broken syntax would only hide it.
    if !syntax_errors.is_empty() {
        return (
            Err(ConfigErrors::new(name, file.problems.into_inner())),
            BTreeSet::new(),
        );
    }
    let mut root = Table::root(&file, document.get_ref());
    let outcome = build(&mut root);
    root.refuse_unknown_keys();
    file.refuse_unknown_variables();
    let asked = file.asked.take();
    match (outcome, file.problems.take()) {
        (Ok(value), problems) if problems.is_empty() => (Ok(value), asked),
        (_, problems) => (Err(ConfigErrors::new(name, problems)), asked),
    }
}

impl File<'_> {
    pub(super) fn note(&self, place: Place, key: String, message: String) -> Reported {
        self.problems.borrow_mut().insert(Problem { place, key, message });
        Reported(())
    }

    pub(super) fn line(&self, offset: usize) -> Place {
        Place::Line(1 + self.line_ends.partition_point(|end| *end < offset))
    }

    fn refuse_unknown_variables(&self) {
        if self.environment.is_empty() {
            return;
        }
        let asked = self.asked.borrow();
        let settings = asked.iter().filter(|asked| asked.is_setting);
        let known: BTreeSet<_> = settings.map(|asked| variable(asked.table, asked.key)).collect();
        for name in self.environment.names().filter(|name| !known.contains(*name)) {
            let hint = did_you_mean(name, known.iter().map(String::as_str));
            let message = format!("overrides no setting; unset it or correct its name{hint}");
            self.note(Place::Variable(name.to_owned()), String::new(), message);
        }
    }
}
