//! What is wrong with a file, all of it.

use std::collections::BTreeSet;
use std::fmt;

/// Everything that is wrong with a configuration or policy file, in the order of its lines.
///
/// Its text has one line for each problem: `tresor.toml:12: server.listen: "foo" is not an address and port, …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    file: String,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    /// Where it is.
    pub(super) place: Place,
    /// The path of the key, such as `server.listen`; empty if it is about none.
    pub(super) key: String,
    /// What is wrong and what is allowed.
    pub(super) message: String,
}

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In the file as a whole: something is missing.
    File,
    /// In this line of the file, counted from 1.
    Line(usize),
    /// In the environment variable of this name.
    Variable(String),
}

impl ConfigErrors {
    pub(super) fn new(file: &str, problems: BTreeSet<Problem>) -> Self {
        Self {
            file: file.to_owned(),
            problems: problems.into_iter().collect(),
        }
    }

    /// The file as a whole can't be used.
    pub(crate) fn of_file(file: &str, message: String) -> Self {
        let problem = Problem {
            place: Place::File,
            key: String::new(),
            message,
        };
        Self::new(file, BTreeSet::from([problem]))
    }

    /// How many things are wrong; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            match &problem.place {
                Place::File => write!(out, "{}: ", self.file)?,
                Place::Line(line) => write!(out, "{}:{line}: ", self.file)?,
                Place::Variable(name) => write!(out, "environment variable {name}: ")?,
            }
            if !problem.key.is_empty() {
                write!(out, "{}: ", problem.key)?;
            }
            out.write_str(&problem.message)?;
        }
        Ok(())
    }
}
