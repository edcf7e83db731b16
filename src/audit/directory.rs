//! The directory of the log: its files by number, its lock, and what is refused to stand there.
//!
//! The path comes from the configuration and from nowhere else; the names of the files are made here, of a number.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::error::OpenError;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";
/// Group and others may not write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A directory that this process alone writes.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Takes the directory; makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(OpenError::io(path))?;
        let found = fs::symlink_metadata(path).map_err(OpenError::io(path))?;
        if !found.is_dir() {
            return Err(OpenError::refused(
                path,
                "is a symbolic link; name the directory itself",
            ));
        }
        check_owner(path, &found)?;
        let lock = path.join("lock");
        let file = open(&lock, OpenOptions::new().read(true).write(true).create(true))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                path: path.into(),
                lock: file,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.into())),
            Err(TryLockError::Error(error)) => Err(OpenError::io(lock)(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to this directory.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        is_at(identity(&self.lock.metadata()?), &self.path.join("lock"))
    }

    /// The number of the newest file; none if there is no file.
    pub(super) fn newest(&self) -> Result<Option<u64>, OpenError> {
        let files = files_in(&self.path).map_err(OpenError::io(&self.path))?;
        Ok(files.last().map(|(number, _)| *number))
    }

    /// Opens a file that is there, to read and to append.
    pub(super) fn open_file(&self, number: u64) -> Result<File, OpenError> {
        open(&self.file_path(number), OpenOptions::new().read(true).append(true))
    }

    /// Makes a file that must not be there yet. Its name is durable when this returns.
    pub(super) fn create_file(&self, number: u64) -> Result<File, OpenError> {
        let file = open(
            &self.file_path(number),
            OpenOptions::new().read(true).append(true).create_new(true),
        )?;
        self.sync_names()?;
        Ok(file)
    }

    /// Removes a file for good.
    pub(super) fn remove_file(&self, number: u64) -> Result<(), OpenError> {
        let path = self.file_path(number);
        fs::remove_file(&path).map_err(OpenError::io(path))?;
        self.sync_names()
    }

    /// Where a file is meant to be, and which one it is.
    pub(super) fn place_of(&self, number: u64, file: &File) -> io::Result<Place> {
        Ok(Place {
            path: self.file_path(number),
            identity: identity(&file.metadata()?),
        })
    }

    pub(super) fn file_path(&self, number: u64) -> PathBuf {
        self.path.join(file_name(number))
    }

    fn sync_names(&self) -> Result<(), OpenError> {
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(OpenError::io(&self.path))
    }
}

/// Keeps everybody from writing a log, as long as it is kept itself.
#[derive(Debug)]
pub struct Closed {
    _lock: Option<File>,
}

/// Sees to it that no server writes the log in `directory` meanwhile, so that none runs with the same configuration. Makes and changes
/// nothing: where there is no log, or none that this process may open, there is nothing to see to.
///
/// # Errors
/// [`OpenError::InUse`].
pub fn keep_closed(directory: &Path) -> Result<Closed, OpenError> {
    let Ok(lock) = File::open(directory.join("lock")) else {
        return Ok(Closed { _lock: None });
    };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(directory.into())),
        // A file system without locks keeps nobody out, here and there.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Closed { _lock: Some(lock) }),
    }
}

/// The files of a log in their order, each with its number.
///
/// # Errors
/// The directory cannot be read.
pub fn files_in(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(number_of) {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Where an open file is meant to be.
pub(super) struct Place {
    path: PathBuf,
    /// Nobody else has it as long as the file is open.
    identity: Identity,
}

impl Place {
    /// Whether the file is still there.
    pub(super) fn holds(&self) -> io::Result<bool> {
        is_at(self.identity, &self.path)
    }
}

/// Device and number of a file.
type Identity = (u64, u64);

fn identity(found: &fs::Metadata) -> Identity {
    (found.dev(), found.ino())
}

/// Whether the path leads to this file.
fn is_at(ours: Identity, path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(identity(&found) == ours),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:06}{SUFFIX}")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    // One number has one name.
    (file_name(number) == name).then_some(number)
}

/// Opens a file for its owner alone; follows no symbolic link and takes nothing but a regular file.
fn open(path: &Path, options: &mut OpenOptions) -> Result<File, OpenError> {
    let file = options
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => OpenError::refused(path, "is a symbolic link; remove it"),
            _ => OpenError::io(path)(error),
        })?;
    let found = file.metadata().map_err(OpenError::io(path))?;
    if !found.is_file() {
        return Err(OpenError::refused(path, "is no regular file; remove it"));
    }
    if found.nlink() > 1 {
        return Err(OpenError::refused(
            path,
            "has another name elsewhere (a hard link); remove that",
        ));
    }
    check_owner(path, &found)?;
    Ok(file)
}

fn check_owner(path: &Path, found: &fs::Metadata) -> Result<(), OpenError> {
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(OpenError::refused(
            path,
            "belongs to another user; give it to the user that the server runs as (chown)",
        ));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(OpenError::refused(
            path,
            "can be written by others; take that away (chmod go-w)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn refusal(result: Result<impl std::fmt::Debug, OpenError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn directory_and_files_are_for_their_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("audit");
        let directory = Directory::open(&path).unwrap();
        directory.create_file(1).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("audit-000001.jsonl"))), (0o700, 0o600));
    }

    #[test]
    fn a_directory_has_one_writer() {
        let path = tempfile::tempdir().unwrap();
        let directory = Directory::open(path.path()).unwrap();
        assert!(matches!(Directory::open(path.path()), Err(OpenError::InUse(_))));
        drop(directory);
        Directory::open(path.path()).unwrap();
    }

    #[test]
    fn cve_2025_6000_a_link_at_the_files_place_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let (path, victim) = (parent.path().join("audit"), parent.path().join("victim"));
        fs::write(&victim, "theirs").unwrap();
        let directory = Directory::open(&path).unwrap();
        symlink(&victim, path.join("audit-000001.jsonl")).unwrap();
        assert!(refusal(directory.open_file(1)).contains("symbolic link"));
        assert!(
            directory.create_file(1).is_err(),
            "what is there already is not taken over"
        );
        fs::hard_link(&victim, path.join("audit-000002.jsonl")).unwrap();
        assert!(refusal(directory.open_file(2)).contains("hard link"));
        fs::create_dir(path.join("audit-000003.jsonl")).unwrap();
        assert!(directory.open_file(3).is_err());
        drop(directory);
        symlink(&path, parent.path().join("elsewhere")).unwrap();
        assert!(refusal(Directory::open(&parent.path().join("elsewhere"))).contains("symbolic link"));
        assert_eq!(fs::read_to_string(victim).unwrap(), "theirs");
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let path = tempfile::tempdir().unwrap();
        let others_may = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let directory = Directory::open(path.path()).unwrap();
        directory.create_file(1).unwrap();
        others_may(&directory.file_path(1), 0o620);
        assert!(refusal(directory.open_file(1)).contains("chmod go-w"));
        drop(directory);
        others_may(path.path(), 0o777);
        assert!(refusal(Directory::open(path.path())).contains("chmod go-w"));
    }

    #[test]
    fn a_number_has_one_name() {
        assert_eq!(number_of(&file_name(7)), Some(7));
        assert_eq!(number_of(&file_name(12_345_678)), Some(12_345_678));
        for other in [
            "audit-7.jsonl",
            "audit-0000007.jsonl",
            "audit-000007.json",
            "audit-00000x.jsonl",
            "lock",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
