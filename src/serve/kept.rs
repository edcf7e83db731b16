//! A line that outlives the process, in the store's folder: no record of the store, so that it makes no revision.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where it is.
#[derive(Clone)]
pub(super) struct Kept {
    path: PathBuf,
    writing: Arc<Mutex<()>>,
}

impl Kept {
    pub(super) fn beside(store: &Path, name: &str) -> Self {
        Self {
            path: store.join(name),
            writing: Arc::default(),
        }
    }

    pub(super) fn read(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(&self.path) {
            Ok(line) => Ok(Some(line)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a line in the place of the one before, whole or not at all.
    pub(super) fn write(&self, line: &str) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        fs::rename(new, &self.path)
    }
}
