//! A backup on its way into a file: there under its name once it is whole and on the disk, and not before.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::recipient::{Recipient, Sink};

/// What the name of a file ends with while it is being written.
pub(super) const UNFINISHED: &str = ".part";

/// How often it is begun anew because somebody else has just cleared the file away.
const TRIES: usize = 16;

/// A file that is being written, for its owner alone, and by nobody else.
pub struct NewFile {
    /// None once it is done or given up.
    sink: Option<Sink<BufWriter<File>>>,
    unfinished: PathBuf,
    /// The same file, locked for as long as it has that name: whoever finds it locked leaves it alone.
    lock: File,
}

impl NewFile {
    /// Begins to write what is to be called `path` or, in the same folder, otherwise. What an earlier attempt has left is
    /// removed.
    ///
    /// # Errors
    /// The system's, or that somebody else is writing it.
    pub fn create(path: &Path, recipients: &[Recipient]) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        for _ in 0..TRIES {
            remove_unfinished(&unfinished)?;
            let mut options = OpenOptions::new();
            let file = match options.write(true).create_new(true).mode(0o600).open(&unfinished) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created?,
            };
            // Somebody may have taken it for what was left, between these two lines.
            if !is_locked_now(&file) || !is_at(&file, &unfinished) {
                continue;
            }
            let lock = file.try_clone()?;
            let mut new = Self {
                sink: None,
                unfinished,
                lock,
            };
            new.sink = Some(Sink::new(BufWriter::with_capacity(256 * 1024, file), recipients)?);
            return Ok(new);
        }
        Err(occupied(&unfinished))
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
        file.and_then(|file| file.sync_all())?;
        // Not by a hard link, which not every file system has.
        if path.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !is_at(&self.lock, &self.unfinished) {
            return Err(occupied(&self.unfinished));
        }
        fs::rename(&self.unfinished, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Under its own name it is somebody else's by now.
        if is_at(&self.lock, &self.unfinished) {
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// Removes what was cut off while it was written, unless somebody is writing it.
///
/// # Errors
/// The system's, or that somebody is.
pub(super) fn remove_unfinished(unfinished: &Path) -> io::Result<()> {
    // Not one that somebody may have put there, be it a link or a pipe.
    let is_file = match fs::symlink_metadata(unfinished) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?.is_file(),
    };
    // What this user may not even open, nobody of ours is writing.
    let mut options = OpenOptions::new();
    let left = options.read(true).write(true).open(unfinished).ok().filter(|_| is_file);
    if left.as_ref().is_some_and(|left| !is_locked_now(left)) {
        return Err(occupied(unfinished));
    }
    // It may have been finished meanwhile. The lock holds until it is removed.
    if left.as_ref().is_some_and(|left| !is_at(left, unfinished)) {
        return Ok(());
    }
    match fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Locks a file, unless somebody else has. A file system without locks keeps nobody out.
fn is_locked_now(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether it is this file that has the name.
fn is_at(file: &File, path: &Path) -> bool {
    let found = file.metadata().and_then(|own| Ok((own, fs::symlink_metadata(path)?)));
    found.is_ok_and(|(own, named)| (own.dev(), own.ino()) == (named.dev(), named.ino()))
}

fn occupied(unfinished: &Path) -> io::Error {
    let text = format!(
        "{} is being written by another process; try again when it is done",
        unfinished.display()
    );
    io::Error::new(io::ErrorKind::WouldBlock, text)
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.as_mut().ok_or(io::ErrorKind::NotFound)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.as_mut().ok_or(io::ErrorKind::NotFound)?.flush()
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

    /// However they meet: each that says that it has written its file has written the one that is there.
    #[test]
    fn many_that_begin_at_once_over_what_was_left_do_not_take_one_anothers_file() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..50 {
            fs::write(folder.path().join("next.part"), b"cut off").unwrap();
            let start = std::sync::Barrier::new(6);
            let write = |number: u32| {
                start.wait();
                let path = folder.path().join(format!("{round}-{number}"));
                let mut file = NewFile::create(&folder.path().join("next"), &[])?;
                file.write_all(number.to_string().as_bytes())?;
                file.finish(&path).map(|()| path)
            };
            let written: Vec<_> = std::thread::scope(|scope| {
                let writers: Vec<_> = (0..6)
                    .map(|number| scope.spawn(move || (number, write(number))))
                    .collect();
                writers.into_iter().map(|writer| writer.join().unwrap()).collect()
            });
            for (number, outcome) in &written {
                match outcome {
                    Ok(path) => assert_eq!(fs::read_to_string(path).unwrap(), number.to_string()),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
                }
            }
            assert!(written.iter().any(|(_, outcome)| outcome.is_ok()));
            assert!(!folder.path().join("next.part").exists());
        }
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
