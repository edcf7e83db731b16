//! A store that is being filled from elsewhere: all of it, or none.
//!
//! The file `restoring` is there before anything else is, and goes away last; no store opens beside it. The format is written
//! at the end, too, so that a program that does not look for the file finds no store either.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sled::Batch;

use super::guard::{Lock, Mark, open_or_create};
use super::journal::Journal;
use super::{FORMAT_KEY, META, Opened, REVISION_KEY, damaged, folder, io_error, record, settle, sled_error, stored};
use crate::store::{Key, Revision, StoreError};

const MARKER: &str = "restoring";
/// What is in a folder before it is filled without being in the way: our lock, and what a fresh file system has.
const HARMLESS: [&str; 2] = ["lock", "lost+found"];

/// A folder on its way to become a store. What is there is removed when this is dropped before [`Filling::finish`].
pub struct Filling {
    path: PathBuf,
    /// None once it is finished or given up.
    open: Option<Opened>,
    records: u64,
    _lock: Lock,
}

impl Filling {
    /// Whether the folder may be filled: it is not there, it is empty, or nothing is in it but what a restore has left that was
    /// cut off.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`], or the operating system's.
    pub fn check(path: &Path) -> Result<(), StoreError> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error(path)(error)),
        };
        if is_unfinished(path)? {
            return Ok(());
        }
        for entry in entries {
            let name = entry.map_err(io_error(path))?.file_name();
            if !HARMLESS.iter().any(|harmless| name == *harmless) {
                return Err(StoreError::NotEmpty {
                    path: path.into(),
                    found: name.to_string_lossy().into_owned(),
                });
            }
        }
        Ok(())
    }

    /// Begins to fill a folder; makes it if it is not there.
    ///
    /// # Errors
    /// As [`Self::check`], or that another process has it open.
    pub fn begin(path: &Path) -> Result<Self, StoreError> {
        Self::check(path)?;
        let path = folder::make(path).map_err(io_error(path))?;
        let mut lock = Lock::take(&path)?;
        // Once more: now nobody else puts anything there.
        Self::check(&path)?;
        open_or_create(&path.join(MARKER))
            .and_then(|_| File::open(&path)?.sync_all())
            .and_then(|()| empty(&path))
            .and_then(|()| lock.sign())
            .map_err(io_error(&path))?;
        let open = Opened::open(&path)?;
        Ok(Self {
            open: Some(open),
            records: 0,
            _lock: lock,
            path,
        })
    }

    /// How many records there are.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Applies writes of the given revisions in their order, all of them or none; no value removes the record. One whose record
    /// has the same or a greater revision is passed over.
    ///
    /// # Errors
    /// [`StoreError`]; what was begun can only be given up then.
    pub fn apply(&mut self, writes: &[(Key, Revision, Option<&[u8]>)]) -> Result<(), StoreError> {
        let (path, tree) = (&self.path, &self.open.as_ref().ok_or(StoreError::Closed)?.tree);
        let mut batch = Batch::default();
        let mut written = std::collections::HashMap::<&str, Option<Revision>>::new();
        for (key, revision, value) in writes {
            if key.as_str().starts_with(META) {
                return Err(damaged(path, "a record has the name of one of the store's own"));
            }
            let before = match written.get(key.as_str()) {
                Some(revision) => *revision,
                None => tree
                    .get(key.as_str())
                    .map_err(|error| sled_error(path, &error))?
                    .map(|stored| record(path, key.clone(), &stored).map(|record| record.revision))
                    .transpose()?,
            };
            if before.is_some_and(|before| before >= *revision) {
                continue;
            }
            if let Some(value) = value {
                batch.insert(key.as_str(), stored(*revision, value));
            } else {
                batch.remove(key.as_str());
            }
            self.records += u64::from(value.is_some() && before.is_none());
            self.records -= u64::from(value.is_none() && before.is_some());
            written.insert(key.as_str(), value.is_some().then_some(*revision));
        }
        tree.apply_batch(batch).map_err(|error| sled_error(path, &error))
    }

    /// Makes it the store that had this revision and this format, with these files beside it.
    ///
    /// # Errors
    /// [`StoreError`]: then it is none.
    pub fn finish(mut self, revision: Revision, format: u32, files: &[(&str, &[u8])]) -> Result<(), StoreError> {
        let open = self.open.take().ok_or(StoreError::Closed)?;
        let finished = finish(&self.path, open, revision, format, files);
        match finished {
            Ok(()) => remove_marker(&self.path).map_err(io_error(&self.path)),
            Err(error) => {
                // The marker keeps it from being taken for a store in any case.
                let _ = empty(&self.path).and_then(|()| remove_marker(&self.path));
                Err(error)
            }
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            drop(open);
            let _ = empty(&self.path).and_then(|()| remove_marker(&self.path));
        }
    }
}

fn finish(
    path: &Path,
    mut open: Opened,
    revision: Revision,
    format: u32,
    files: &[(&str, &[u8])],
) -> Result<(), StoreError> {
    let io = io_error(path);
    for (name, content) in files {
        let file = open_or_create(&path.join(name)).map_err(&io)?;
        io::Write::write_all(&mut &file, content).map_err(&io)?;
        file.sync_all().map_err(&io)?;
    }
    Journal::make(path)?;
    let mut batch = Batch::default();
    batch.insert(FORMAT_KEY, &format.to_be_bytes());
    batch.insert(REVISION_KEY, &revision.0.to_be_bytes());
    let applied = open.tree.apply_batch(batch);
    applied.map_err(|error| sled_error(path, &error))?;
    open.make_durable(path)?;
    settle(path, &open, &Mark::open(path).map_err(&io)?, revision)
}

fn is_unfinished(path: &Path) -> Result<bool, StoreError> {
    path.join(MARKER).try_exists().map_err(io_error(path))
}

/// Refuses a folder that a restore has not come to its end in.
pub(super) fn refuse_unfinished(path: &Path) -> Result<(), StoreError> {
    if is_unfinished(path)? {
        return Err(StoreError::Unfinished { path: path.into() });
    }
    Ok(())
}

/// Removes everything but the marker and what is harmless.
fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == MARKER || HARMLESS.iter().any(|harmless| name == *harmless) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(path)?.sync_all()
}

fn remove_marker(path: &Path) -> io::Result<()> {
    fs::remove_file(path.join(MARKER))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FORMAT, Scan, SledStore, Store as _};

    fn key(text: &str) -> Key {
        Key::new(text)
    }

    async fn content(path: &Path) -> Vec<(String, u64, Vec<u8>)> {
        let store = SledStore::open(path).unwrap();
        let all = Scan {
            prefix: String::new(),
            after: None,
            limit: usize::MAX,
        };
        let records = store.scan(all).await.unwrap().into_iter();
        records
            .map(|record| (record.key.to_string(), record.revision.0, record.value.to_vec()))
            .collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_several_writes_of_a_record_the_one_of_the_greatest_revision_counts() {
        let directory = tempfile::tempdir().unwrap();
        let mut filling = Filling::begin(directory.path()).unwrap();
        filling
            .apply(&[
                (key("a"), Revision(3), Some(b"new")),
                (key("b"), Revision(1), Some(b"kept")),
                (key("c"), Revision(1), Some(b"removed")),
            ])
            .unwrap();
        filling
            .apply(&[
                (key("a"), Revision(2), Some(b"old")),
                (key("b"), Revision(1), None),
                (key("c"), Revision(2), None),
                (key("d"), Revision(2), Some(b"gone")),
                (key("d"), Revision(4), None),
                (key("d"), Revision(5), Some(b"back")),
            ])
            .unwrap();
        assert_eq!(filling.records(), 3);
        filling.finish(Revision(7), FORMAT, &[("beside", b"it")]).unwrap();
        let expected = [("a", 3, &b"new"[..]), ("b", 1, b"kept"), ("d", 5, b"back")];
        assert_eq!(
            content(directory.path()).await,
            expected.map(|(key, revision, value)| (key.to_owned(), revision, value.to_vec()))
        );
        assert_eq!(SledStore::open(directory.path()).unwrap().revision(), Revision(7));
        assert_eq!(fs::read(directory.path().join("beside")).unwrap(), b"it");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_finished_is_no_store_and_can_be_begun_again() {
        let directory = tempfile::tempdir().unwrap();
        let cut_off = tempfile::tempdir().unwrap();
        let mut filling = Filling::begin(directory.path()).unwrap();
        filling.apply(&[(key("a"), Revision(1), Some(b"1"))]).unwrap();
        filling.open.as_ref().unwrap().database.flush().unwrap();
        // As a process leaves it that is killed.
        for name in ["restoring", "db", "conf"] {
            fs::copy(directory.path().join(name), cut_off.path().join(name)).unwrap();
        }
        drop(filling);
        let left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["lock"]);
        let refused = SledStore::open(cut_off.path()).err().unwrap();
        assert!(matches!(refused, StoreError::Unfinished { .. }), "{refused}");
        // Nor for a program that does not know the marker.
        fs::rename(cut_off.path().join("restoring"), cut_off.path().join("elsewhere")).unwrap();
        let refused = SledStore::open(cut_off.path()).err().unwrap();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        fs::rename(cut_off.path().join("elsewhere"), cut_off.path().join("restoring")).unwrap();
        let mut again = Filling::begin(cut_off.path()).unwrap();
        again.apply(&[(key("b"), Revision(2), Some(b"2"))]).unwrap();
        again.finish(Revision(2), FORMAT, &[]).unwrap();
        assert_eq!(content(cut_off.path()).await, [("b".to_owned(), 2, b"2".to_vec())]);
    }

    #[test]
    fn nothing_is_restored_over_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        drop(SledStore::open(directory.path()).unwrap());
        let before = fs::read(directory.path().join("db")).unwrap();
        let refused = Filling::begin(directory.path()).err().unwrap();
        assert!(matches!(refused, StoreError::NotEmpty { .. }), "{refused}");
        assert_eq!(fs::read(directory.path().join("db")).unwrap(), before);
        let _open = SledStore::open(directory.path()).unwrap();
        assert!(Filling::begin(directory.path()).is_err());
    }
}
