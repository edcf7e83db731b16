//! What is kept beside sled's own files: a lock, and how far the store had come.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::journal::Journal;
use super::{StoreError, io_error, log, open_tree, read_revision, wait_for_release};
use crate::store::Revision;

/// Held for as long as the store is open: the lock goes with the file.
pub(super) struct Lock {
    file: File,
    /// Whether whoever held it before has ended without closing the store.
    pub(super) was_left: bool,
    is_signed: bool,
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let file_path = path.join("lock");
        let file = open_or_create(&file_path).map_err(io_error(path))?;
        match file.try_lock() {
            Ok(()) => {
                let length = file.metadata().map_err(io_error(path))?.len();
                let was_left = length > 0;
                Ok(Self {
                    file,
                    was_left,
                    is_signed: false,
                })
            }
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&file_path).ok().filter(|pid| !pid.is_empty());
                Err(StoreError::InUse {
                    path: path.into(),
                    holder,
                })
            }
            Err(TryLockError::Error(error)) => Err(io_error(path)(error)),
        }
    }

    /// Lets others know who holds it.
    pub(super) fn sign(&mut self) -> io::Result<()> {
        self.is_signed = true;
        self.file.set_len(0)?;
        self.file.write_all_at(std::process::id().to_string().as_bytes(), 0)?;
        // So that it is there after a power cut, too.
        self.file.sync_data()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody holds it any more; should this fail, the next one to take it signs anyway. Who could not open the store, or only looked
        // at it, leaves what whoever had it open before has left.
        if self.is_signed {
            let _ = self.file.set_len(0);
        }
        // A process that another thread is just starting has the file open, too, for a moment.
        let _ = self.file.unlock();
    }
}

/// The newest acknowledged revision and how long sled's file was then, so that a store that was cut short or replaced by an
/// older copy shows. Written after the sync and not synced itself: after a power cut it may be behind, and is never ahead.
pub(super) struct Mark {
    file: File,
    /// As it was when the store was opened.
    pub(super) revision: Revision,
    /// As it was then, in bytes.
    pub(super) length: u64,
    /// Whether the system may have more of sled's file in memory than on the disk, and may not know it.
    pub(super) is_in_doubt: bool,
}

/// Where a copy is checked: in the store's own folder, which is the one place that is surely writable and large enough.
const CHECK: &str = "check";
/// Digits of a `u64`.
const WIDTH: usize = 20;
/// What stands behind the numbers of a mark while it [is in doubt](Mark::doubt) what the disk has.
const DOUBT: &str = "doubt";

impl Mark {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = open_or_create(&path.join("acknowledged"))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut words = text.split_whitespace();
        let mut number = || words.next().map(str::parse);
        // An empty or torn mark promises nothing.
        let (revision, length) = match (number(), number()) {
            (Some(Ok(revision)), Some(Ok(length))) => (Revision(revision), length),
            _ => (Revision(0), 0),
        };
        Ok(Self {
            file,
            revision,
            length,
            is_in_doubt: words.next() == Some(DOUBT),
        })
    }

    /// Whether it says nothing: the store is new, or its mark was lost.
    pub(super) fn is_blank(&self) -> bool {
        self.length == 0
    }

    pub(super) fn write(&self, revision: Revision, length: u64) -> io::Result<()> {
        self.file.write_all_at(numbers(revision, length).as_bytes(), 0)
    }

    /// Notes before sled is opened that what it finds and what it writes is in doubt, until it is [settled](Self::settle): a sync that
    /// fails meanwhile ends the process, and the next one must not take what the system has in memory for what is on the disk.
    pub(super) fn doubt_until_settled(&self) -> io::Result<()> {
        self.write(self.revision, self.length)?;
        self.doubt()
    }

    /// Notes that a write or a sync has failed, after which the system takes for written what is not. The note reaches the next
    /// process through the same memory as what is in doubt: after a power cut both are gone.
    pub(super) fn doubt(&self) -> io::Result<()> {
        let behind = numbers(self.revision, self.length).len() as u64;
        self.file.write_all_at(format!("{DOUBT}\n").as_bytes(), behind)
    }

    /// Notes what the store has and that the disk has all of it.
    pub(super) fn settle(&self, revision: Revision, length: u64) -> io::Result<()> {
        self.write(revision, length)?;
        self.file.set_len(numbers(revision, length).len() as u64)
    }

    /// The same where it has said all that there is to say since before the store was opened.
    pub(super) fn settle_as_it_was(&self) -> io::Result<()> {
        self.settle(self.revision, self.length)
    }

    /// Refuses a store that has lost what it had acknowledged.
    pub(super) fn check(&self, path: &Path, found: Revision) -> Result<(), StoreError> {
        if found < self.revision {
            return Err(StoreError::LostWrites {
                path: path.into(),
                found,
                acknowledged: self.revision,
            });
        }
        Ok(())
    }

    /// Refuses a store whose file is gone, or that was cut short so that it lost something. sled makes the best of a short
    /// file in place, and of one that is broken in its middle, so a copy shows whether that is good enough; the original stays as
    /// it is for a rescue. A file may also be shorter because sled gave free space back, and be broken in what a crash has left
    /// unacknowledged, or in what the journal still has; then the copy is fine.
    pub(super) fn check_file(&self, path: &Path, journal: Option<&Journal>) -> Result<(), StoreError> {
        let length = match fs::metadata(path.join("db")) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.check(path, Revision(0)),
            Err(error) => return Err(io_error(path)(error)),
        };
        wait_for_release(path);
        let is_broken = || log::is_broken_before_its_end(path).map_err(io_error(path));
        if length >= self.length && !is_broken()? {
            return Ok(());
        }
        let copy = path.join(CHECK);
        remove_if_there(&copy).map_err(io_error(path))?;
        let found = copy_store(path, &copy)
            .map_err(io_error(path))
            .and_then(|()| revision_of(path, &copy));
        let removed = fs::remove_dir_all(&copy);
        let found = found?;
        let reached = journal.map_or(Ok(found), |journal| {
            journal.newer_than(found).map(|newer| newer.revision)
        });
        self.check(path, reached?)?;
        removed.map_err(io_error(path))
    }
}

/// As a mark has them: always as many bytes.
fn numbers(revision: Revision, length: u64) -> String {
    format!("{:0WIDTH$} {length:0WIDTH$}\n", revision.0)
}

/// The revision of the copy of a store; errors speak of the store.
fn revision_of(path: &Path, copy: &Path) -> Result<Revision, StoreError> {
    let speak_of = |error| match error {
        StoreError::Damaged { detail, .. } => StoreError::Damaged {
            path: path.into(),
            detail,
        },
        StoreError::Io { detail, .. } => StoreError::Io {
            path: path.into(),
            detail,
        },
        other => other,
    };
    let (database, tree) = open_tree(copy).map_err(speak_of)?;
    let revision = read_revision(copy, &tree).map_err(speak_of);
    drop((database, tree));
    revision
}

/// What a check that was cut off may have left behind.
fn remove_if_there(copy: &Path) -> io::Result<()> {
    match fs::remove_dir_all(copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_store(path: &Path, copy: &Path) -> io::Result<()> {
    fs::create_dir(copy)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == CHECK {
            continue;
        }
        let to = copy.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_store(&entry.path(), &to)?;
        } else {
            // Not `fs::copy`, which sets the mode of the copy: the sandbox refuses to set any.
            io::copy(&mut File::open(entry.path())?, &mut File::create_new(to)?)?;
        }
    }
    Ok(())
}

pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
