//! A backup on its way into a file: there under its name once it is whole and on the disk, and not before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::recipient::{Recipient, Sink};

/// What the name of a file ends with while it is being written.
pub(super) const UNFINISHED: &str = ".part";

/// A file that is being written, for its owner alone.
pub struct NewFile {
    /// None once it is done or given up.
    sink: Option<Sink<BufWriter<File>>>,
    unfinished: PathBuf,
}

impl NewFile {
    /// Begins to write what is to be called `path` or, in the same folder, otherwise. What an earlier attempt has left is
    /// removed.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path, recipients: &[Recipient]) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        remove_unfinished(&unfinished)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.try_lock().map_err(|error| occupied(error, &unfinished))?;
        let mut new = Self { sink: None, unfinished };
        new.sink = Some(Sink::new(BufWriter::with_capacity(256 * 1024, file), recipients)?);
        Ok(new)
    }

    /// Makes it durable and gives it its name, unless something has that name already.
    ///
    /// # Errors
    /// The system's; then it is gone.
    pub fn finish(mut self, path: &Path) -> io::Result<()> {
        let sink = self.sink.take().ok_or(io::ErrorKind::NotFound)?;
        let file = sink
            .finish()
            .and_then(|file| file.into_inner().map_err(io::IntoInnerError::into_error));
        let named = file.and_then(|file| file.sync_all()).and_then(|()| {
            // Not by a hard link, which not every file system has.
            if path.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(&self.unfinished, path)
        });
        if let Err(error) = named {
            let _ = fs::remove_file(&self.unfinished);
            return Err(error);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Removes what was cut off while it was written, unless somebody is writing it.
///
/// # Errors
/// The system's, or that somebody is.
pub(super) fn remove_unfinished(unfinished: &Path) -> io::Result<()> {
    // Not one that somebody may have put there, be it a link or a pipe.
    let found = match fs::symlink_metadata(unfinished) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if found.is_file() {
        let file = File::open(unfinished)?;
        file.try_lock().map_err(|error| occupied(error, unfinished))?;
    }
    match fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn occupied(error: fs::TryLockError, unfinished: &Path) -> io::Error {
    match error {
        fs::TryLockError::Error(error) => error,
        fs::TryLockError::WouldBlock => {
            let text = format!(
                "{} is being written by another process; try again when it is done",
                unfinished.display()
            );
            io::Error::new(io::ErrorKind::WouldBlock, text)
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.as_mut().ok_or(io::ErrorKind::NotFound)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.as_mut().ok_or(io::ErrorKind::NotFound)?.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.sink.take().is_some() {
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let mut file = NewFile::create(&path, &[]).unwrap();
        file.write_all(b"whole").unwrap();
        assert_eq!(names(folder.path()), ["one.part"]);
        file.finish(&path).unwrap();
        assert_eq!(names(folder.path()), ["one"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_given_up_or_was_cut_off_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        fs::write(folder.path().join("one.part"), b"cut off").unwrap();
        let mut file = NewFile::create(&path, &[]).unwrap();
        file.write_all(b"given up").unwrap();
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn two_do_not_write_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let mut first = NewFile::create(&path, &[]).unwrap();
        let second = NewFile::create(&path, &[]).err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        first.write_all(b"whole").unwrap();
        first.finish(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["one"]);
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let file = NewFile::create(&path, &[]).unwrap();
        fs::write(&path, b"before").unwrap();
        assert_eq!(file.finish(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["one"]);
        assert_eq!(fs::read(&path).unwrap(), b"before");
    }
}
