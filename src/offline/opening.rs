//! Opening everything in a backup, to see whether it could be used.

use std::io::{self, Read};

use super::OfflineError;
use crate::backup::{Backup, Identities, Judge, ReadError, WrappedKeys, Write, read};
use crate::keyring::{KekSource, KeyringError, OpenedKeys, is_key};
use crate::store::{Key, Record};
use crate::vault::examine::{Defect, examine};

/// A backup whose entries were opened.
#[derive(Debug)]
pub struct Opened {
    /// The backup, which is whole and the vault's own.
    pub backup: Backup,
    /// How many records opened, keys included; one that changed while the backup was made counts each time.
    pub records: u64,
    /// What does not, as it was in the vault.
    pub damaged: Vec<Damaged>,
}

/// A record that does not open.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// A sealed one.
    #[error("{key}: {defect}")]
    Record {
        /// Which.
        key: Key,
        /// What is wrong with it.
        defect: Defect,
    },
    /// A wrapped key.
    #[error("{0}")]
    Key(String),
}

/// Opens everything in a backup with a key-encryption key. Reads the file twice, once for the keys.
///
/// # Errors
/// [`OfflineError`], if it is not whole or not this vault's.
pub async fn open_all<R: Read>(
    open: impl Fn() -> io::Result<R>,
    identities: Option<&Identities>,
    kek: &dyn KekSource,
) -> Result<Opened, OfflineError> {
    let mut wrapped = WrappedKeys::default();
    let first = read(open()?, identities, |writes| {
        // A data key that was retired meanwhile opens what was read before.
        wrapped.note_present(writes);
        Ok(())
    });
    let backup = first.map_err(unreadable)?;
    let keys = wrapped.open(kek).await?.unless_none_opens().map_err(none_opens)?;
    backup.is_signed(Judge::Opened(&keys))?;
    let mut opened = Opened {
        records: keys.count() as u64,
        damaged: keys
            .refused()
            .iter()
            .map(|(_, error)| Damaged::Key(error.to_string()))
            .collect(),
        backup,
    };
    let second = read(open()?, identities, |writes| {
        opened.look_at(writes, &keys);
        Ok(())
    });
    // It could have been replaced meanwhile.
    if second.map_err(unreadable)?.end != opened.backup.end {
        return Err(io::Error::other("it has changed meanwhile").into());
    }
    Ok(opened)
}

impl Opened {
    fn look_at(&mut self, writes: &[Write<'_>], keys: &OpenedKeys) {
        for (key, revision, value) in writes {
            let Some(value) = value.filter(|_| !is_key(key.as_str())) else {
                continue;
            };
            let record = Record {
                key: key.clone(),
                revision: *revision,
                value: value.into(),
            };
            match examine(&record, keys) {
                Ok(_) => self.records += 1,
                Err(defect) => self.damaged.push(Damaged::Record {
                    key: record.key,
                    defect,
                }),
            }
        }
    }
}

fn none_opens(error: KeyringError) -> OfflineError {
    match error {
        KeyringError::OtherKek {
            wrapped_by, configured, ..
        } => OfflineError::OtherKek { wrapped_by, configured },
        error => error.into(),
    }
}

fn unreadable(error: ReadError<std::convert::Infallible>) -> OfflineError {
    match error {
        ReadError::Io(error) => error.into(),
        ReadError::Flaw(flaw) => flaw.into(),
        ReadError::Stopped(never) => match never {},
    }
}
