//! What is wrong with the audit log.

use std::io;
use std::path::PathBuf;

/// The line of a call could not be written, or not in time, so the call must not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written, so nothing is answered; it goes on trying")]
pub struct Unavailable;

/// Why the log does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes it.
    #[error(
        "the audit log {} is in use by another process; stop that one first, or give this one another directory",
        .0.display()
    )]
    InUse(PathBuf),
    /// Something is there that must not be.
    #[error("the audit log {}: {what}", path.display())]
    Refused {
        /// The directory or the file.
        path: PathBuf,
        /// What is wrong with it and how to mend it.
        what: &'static str,
    },
    /// The operating system refuses.
    #[error("the audit log {}: {error}", path.display())]
    Io {
        /// The directory or the file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }

    pub(super) fn refused(path: impl Into<PathBuf>, what: &'static str) -> Self {
        Self::Refused {
            path: path.into(),
            what,
        }
    }
}
