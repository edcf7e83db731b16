//! Making a store of a backup: all of it, or none.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use super::format::Flaw;
use super::note::Note;
use super::read::{Backup, Judge, ReadError, Unsigned, Write, read};
use super::recipient::Identities;
use crate::audit::Keys;
use crate::keyring::{KekSource, KeyringError, OpenedKeys, is_key};
use crate::store::{Filling, Key, Revision, StoreError};
use crate::time::Timestamp;

/// Where the newest signed line of the audit log is kept.
pub(crate) const CHECKPOINT: &str = "audit-checkpoint";

/// What is to be restored, and who vouches for it.
pub struct Plan<'a> {
    /// The folder of the store.
    pub store: &'a Path,
    /// The key-encryption key, which proves the keys in the backup and so its signature. None: the published keys do.
    pub kek: Option<&'a dyn KekSource>,
    /// The vault's public keys, where its key-encryption key is not at hand.
    pub published: Option<&'a Keys>,
    /// What opens the file if it is encrypted.
    pub identities: Option<&'a Identities>,
    /// Whether everything is only looked at.
    pub is_dry: bool,
    /// The time now.
    pub now: Timestamp,
}

/// What was restored, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub backup: Backup,
    /// How many records the store has; none if it was only looked at.
    pub records: Option<u64>,
    /// How many keys the key-encryption key has opened; none if it was not asked.
    pub keys: Option<usize>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file cannot be read, or not be decrypted.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something is wrong with it.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// Nobody vouches for it.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    /// Keys in it do not open.
    #[error("{count} of its keys do not open; the first: {first}")]
    Keys {
        /// How many.
        count: usize,
        /// Why the first does not.
        first: String,
    },
    /// The key-encryption key is not at hand.
    #[error(transparent)]
    Kek(#[from] KeyringError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReadError<StoreError>> for RestoreError {
    fn from(error: ReadError<StoreError>) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            ReadError::Flaw(flaw) => Self::Flaw(flaw),
            ReadError::Stopped(error) => Self::Store(error),
        }
    }
}

/// The wrapped keys of a backup.
#[derive(Default)]
pub(crate) struct WrappedKeys(HashMap<Key, (Revision, Option<Vec<u8>>)>);

impl WrappedKeys {
    pub(super) fn note(&mut self, writes: &[Write<'_>]) {
        for (key, revision, value) in writes.iter().filter(|(key, ..)| is_key(key.as_str())) {
            let is_older = |(known, _): &(Revision, _)| known >= revision;
            if !self.0.get(key).is_some_and(is_older) {
                self.0.insert(key.clone(), (*revision, value.map(<[u8]>::to_vec)));
            }
        }
    }

    /// Notes what is written, and not what is removed.
    pub(crate) fn note_present(&mut self, writes: &[Write<'_>]) {
        for write in writes.iter().filter(|(_, _, value)| value.is_some()) {
            self.note(std::slice::from_ref(write));
        }
    }

    pub(crate) async fn open(&self, kek: &dyn KekSource) -> Result<OpenedKeys, KeyringError> {
        let present = self.0.iter();
        let present: Vec<_> = present
            .filter_map(|(key, (_, value))| Some((key, value.as_deref()?)))
            .collect();
        OpenedKeys::open(kek, &present).await
    }
}

/// Restores a backup into an empty folder. Reads the file on this thread.
///
/// # Errors
/// [`RestoreError`]; then the folder is as empty as before.
pub async fn restore(input: impl Read, plan: &Plan<'_>) -> Result<Restored, RestoreError> {
    let mut keys = WrappedKeys::default();
    let mut filling = if plan.is_dry {
        Filling::check(plan.store)?;
        None
    } else {
        Some(Filling::begin(plan.store)?)
    };
    let backup = read(input, plan.identities, |writes| {
        keys.note(writes);
        match &mut filling {
            Some(filling) => filling.apply(writes),
            None => Ok(()),
        }
    })?;
    let opened = judge(&backup, &keys, plan).await?;
    let records = filling.as_ref().map(Filling::records);
    if let Some(filling) = filling {
        let signing_key = opened.as_ref().and_then(|keys| keys.signing_key(plan.now));
        let (name, note) = Note::of_restore(&backup, plan.now, signing_key.as_deref()).as_file();
        let checkpoint = &backup.end.audit_checkpoint;
        let mut files = vec![(name, note.as_bytes())];
        if !checkpoint.is_empty() {
            files.push((CHECKPOINT, checkpoint.as_bytes()));
        }
        filling.finish(backup.end.revision, backup.header.store_format, &files)?;
    }
    Ok(Restored {
        backup,
        records,
        keys: opened.map(|keys| keys.count()),
    })
}

/// That the vault has signed it, and that its keys open; these.
async fn judge(backup: &Backup, keys: &WrappedKeys, plan: &Plan<'_>) -> Result<Option<OpenedKeys>, RestoreError> {
    if let Some(published) = plan.published {
        backup.is_signed(Judge::Published(published))?;
    }
    let Some(kek) = plan.kek else {
        return match plan.published {
            Some(_) => Ok(None),
            None => Err(Unsigned::Foreign { kid: backup.kid() }.into()),
        };
    };
    let opened = keys.open(kek).await?;
    if let Some((_, first)) = opened.refused().first() {
        return Err(RestoreError::Keys {
            count: opened.refused().len(),
            first: first.to_string(),
        });
    }
    backup.is_signed(Judge::Opened(&opened))?;
    Ok(Some(opened))
}
