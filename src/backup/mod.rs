//! Backups: everything that the store holds, as it was at one revision, in one signed file.
//!
//! Records go in as they stand in the store, so a backup is worth nothing without the key-encryption key. `snapshot` reads them
//! while the vault serves, `format` is the file, `read` takes it apart again and judges it, `restore` makes a store of it,
//! `recipient` encrypts it once more for somebody else. `docs/BACKUP.md` is the operator's side.

mod file;
mod folder;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod make;
mod note;
mod read;
mod recipient;
mod restore;
mod snapshot;

pub use self::file::NewFile;
pub use self::folder::{KeptBackup, NEXT, clear, file_name, kept};
pub use self::format::{End, Flaw, Header};
pub use self::make::{BackupError, Made, make};
pub(crate) use self::note::{Note, Origin, Said};
pub(crate) use self::read::Write;
pub use self::read::{Backup, Judge, ReadError, Reading, Unsigned, read};
pub use self::recipient::{Identities, NotARecipient, Recipient, Sink, is_of_the_reader};
pub(crate) use self::restore::{CHECKPOINT, WrappedKeys};
pub use self::restore::{Plan, RestoreError, Restored, restore};
pub use self::snapshot::SnapshotError;

#[cfg(test)]
mod tests;
