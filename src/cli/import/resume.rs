//! How far an import of a file has come, in a file beside it. It is only believed if what was imported of the file is still the
//! same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::file::Place;
use super::report::Counts;
use crate::cli::failure::Failure;

/// Notes how far an import is.
pub(super) struct Progress {
    path: PathBuf,
    /// What was imported, once more, to be hashed.
    file: File,
    hash: Sha256,
    place: Place,
    counts: Counts,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    /// How many bytes and lines were acknowledged.
    offset: u64,
    lines: u64,
    /// Of these bytes.
    sha256: String,
    counts: Counts,
}

impl Progress {
    /// Where an earlier import of the file was interrupted; the beginning if there was none.
    pub(super) fn of(input: &Path) -> Result<Self, Failure> {
        if input == Path::new("-") {
            let text = "standard input cannot be resumed; run it again: what is stored already stays as it is";
            return Err(Failure::Usage(text.to_owned()));
        }
        let mut path = input.as_os_str().to_owned();
        path.push(".import-state");
        let path = PathBuf::from(path);
        let mut progress = Self {
            file: File::open(input).map_err(at(input))?,
            hash: Sha256::new(),
            place: Place::START,
            counts: Counts::default(),
            path,
        };
        let text = match fs::read(&progress.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(progress),
            Err(error) => return Err(at(&progress.path)(error)),
        };
        let noted = serde_json::from_slice::<Noted>(&text).ok();
        let is_same = match &noted {
            Some(noted) => progress.hash_up_to(noted.offset).map_err(at(input))? && progress.hash() == noted.sha256,
            None => false,
        };
        match noted.filter(|_| is_same) {
            Some(Noted {
                offset, lines, counts, ..
            }) => {
                progress.place = Place { offset, lines };
                progress.counts = counts;
                Ok(progress)
            }
            None => Err(Failure::Usage(format!(
                "{} is not about this file as it is now; remove it to import the file from its beginning",
                progress.path.display()
            ))),
        }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Notes what is acknowledged.
    pub(super) fn note(&mut self, place: Place, counts: Counts) -> Result<(), Failure> {
        self.write(place, counts).map_err(|error| {
            let source = io::Error::new(error.kind(), format!("cannot be written: {error}"));
            at(&self.path)(source)
        })
    }

    fn write(&mut self, place: Place, counts: Counts) -> io::Result<()> {
        if !self.hash_up_to(place.offset)? {
            return Err(io::Error::other("the file that is imported was cut short meanwhile"));
        }
        (self.place, self.counts) = (place, counts);
        let noted = Noted {
            offset: place.offset,
            lines: place.lines,
            sha256: self.hash(),
            counts,
        };
        // In one step: an import that is killed leaves the old note or the new one.
        let new = self.path.with_extension("import-state-new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // Not what somebody else may have put there meanwhile, be it a link.
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&noted)?)?;
        fs::rename(&new, &self.path)
    }

    /// The import is over.
    pub(super) fn remove(self) {
        // It tells of nothing that is not done.
        let _ = fs::remove_file(&self.path);
    }

    /// Whether the file is so long.
    fn hash_up_to(&mut self, offset: u64) -> io::Result<bool> {
        let missing = offset.saturating_sub(self.place.offset);
        let hashed = io::copy(&mut (&self.file).take(missing), &mut HashWriter(&mut self.hash))?;
        self.place.offset += hashed;
        Ok(hashed == missing)
    }

    fn hash(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    |source| Failure::File {
        option: "--resume",
        path: path.to_owned(),
        source,
    }
}
