//! The files: a certificate for everyone, its key for its owner only.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::PkiError;

/// A certificate and its key, as text.
pub(super) struct PemPair {
    pub(super) certificate: String,
    pub(super) key: Zeroizing<String>,
}

/// What there is of a pair.
pub(super) enum Existing {
    Both(PemPair),
    One,
    Neither,
}

/// Where a pair is.
pub(super) struct Names {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Names {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        }
    }

    pub(super) fn read(&self) -> Result<Existing, PkiError> {
        let certificate = read_if_there(&self.certificate)?;
        let key = read_if_there(&self.key)?.map(Zeroizing::new);
        if key.is_some() {
            refuse_open_key(&self.key)?;
        }
        Ok(match (certificate, key) {
            (Some(certificate), Some(key)) => Existing::Both(PemPair { certificate, key }),
            (None, None) => Existing::Neither,
            _ => Existing::One,
        })
    }

    /// Writes both, replacing what is there. Whoever is stopped in between leaves no certificate behind, so that the pair
    /// is made again.
    pub(super) fn write(&self, pair: &PemPair) -> Result<(), PkiError> {
        match fs::remove_file(&self.certificate) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&self.certificate)(error)),
            _ => {}
        }
        replace(&self.key, &pair.key, 0o600).map_err(at(&self.key))?;
        replace(&self.certificate, &pair.certificate, 0o644).map_err(at(&self.certificate))
    }
}

/// Creates the folder, for its owner only, if it is not there.
pub(super) fn create_folder(folder: &Path) -> Result<(), PkiError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(at(folder))
}

fn read_if_there(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

fn refuse_open_key(path: &Path) -> Result<(), PkiError> {
    let mode = fs::metadata(path).map_err(at(path))?.mode() & 0o777;
    let of_others = mode & 0o077;
    if of_others == 0 {
        return Ok(());
    }
    Err(PkiError::KeyIsOpen {
        path: path.to_owned(),
        mode,
    })
}

/// Writes a file beside it and renames that, so that a reader finds the old content or the new one.
fn replace(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    // Left over from a run that was stopped.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn at(path: &Path) -> impl Fn(io::Error) -> PkiError + '_ {
    |error| PkiError::File {
        path: path.to_owned(),
        error,
    }
}
