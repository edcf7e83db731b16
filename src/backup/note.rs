//! What a restore or a rescue leaves beside the store: that the vault goes back for a reason. It counts only with the vault's own
//! signature, and for the store as it was left, for it excuses a store that is older than the audit log says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::read::Backup;
use crate::keyring::{PublicKey, SigningKey, TokenKind};
use crate::store::Revision;
use crate::time::Timestamp;

/// Where it is, in the folder of the store.
const NAME: &str = "restored";

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    #[serde(flatten)]
    pub(crate) said: Said,
    /// With which key it is signed.
    #[serde(default)]
    kid: String,
    /// Over what is said, detached. Empty: there was no key at hand that signs.
    #[serde(default)]
    signature: String,
}

/// What it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    #[serde(flatten)]
    pub(crate) origin: Origin,
    /// The revision that the store has.
    pub(crate) revision: u64,
    pub(crate) restored_at: String,
}

/// What the store was made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Origin {
    /// A damaged store.
    Rescue {
        /// Its folder.
        rescued_from: String,
    },
    /// A backup.
    Restore {
        /// Its id.
        backup: String,
        /// When it was begun.
        made_at: String,
    },
}

impl Note {
    pub(super) fn of_restore(backup: &Backup, now: Timestamp, key: Option<&SigningKey>) -> Self {
        let origin = Origin::Restore {
            backup: hex::encode(backup.header.id),
            made_at: backup.header.begun_at.to_string(),
        };
        Self::new(origin, backup.end.revision, now, key)
    }

    pub(crate) fn of_rescue(from: &Path, revision: Revision, now: Timestamp, key: Option<&SigningKey>) -> Self {
        let rescued_from = from.display().to_string();
        Self::new(Origin::Rescue { rescued_from }, revision, now, key)
    }

    fn new(origin: Origin, revision: Revision, now: Timestamp, key: Option<&SigningKey>) -> Self {
        let said = Said {
            origin,
            revision: revision.0,
            restored_at: now.to_string(),
        };
        let note = Self {
            said,
            kid: String::new(),
            signature: String::new(),
        };
        match key {
            Some(key) => note.signed_with(key),
            None => note,
        }
    }

    fn signed_with(self, key: &SigningKey) -> Self {
        Self {
            kid: key.public().kid().to_owned(),
            signature: key.sign_detached(TokenKind::Restored, self.payload().as_bytes()),
            said: self.said,
        }
    }

    fn payload(&self) -> String {
        serde_json::json!(self.said).to_string()
    }

    /// As a file beside the store: its name and its text.
    pub(crate) fn as_file(&self) -> (&'static str, String) {
        (NAME, serde_json::json!(self).to_string())
    }

    /// Where it is, and what it says if there is one.
    pub(crate) fn beside(store: &Path) -> (PathBuf, io::Result<Option<Self>>) {
        let path = store.join(NAME);
        let note = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        (path, note)
    }

    /// Signs the note of a restore that had no key at hand, now that there is one and the store has this revision. Nothing else is
    /// changed, and nothing if there is none.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn sign_beside(store: &Path, revision: Revision, key: &SigningKey) -> io::Result<()> {
        let (path, note) = Self::beside(store);
        let Some(note) = note?.filter(|note| note.signature.is_empty()) else {
            return Ok(());
        };
        let said = Said {
            revision: revision.0,
            ..note.said
        };
        let (_, text) = Self { said, ..note }.signed_with(key).as_file();
        fs::write(path, text)
    }

    /// Whether the vault whose keys these are has signed it for a store that had `found` when it was opened.
    pub(crate) fn is_of(&self, found: Revision, key: impl FnOnce(&str) -> Option<Arc<PublicKey>>) -> bool {
        let payload = self.payload();
        self.said.revision == found.0
            && key(&self.kid)
                .is_some_and(|key| key.has_signed(TokenKind::Restored, &self.signature, payload.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> Arc<SigningKey> {
        let key = SigningKey::from_seed(&[seed; 32], Timestamp::EPOCH, Timestamp::EPOCH);
        Arc::new(key.unwrap())
    }

    fn of_rescue(key: Option<&SigningKey>) -> Note {
        let note = Note::of_rescue(Path::new("/damaged"), Revision(7), Timestamp::EPOCH, key);
        serde_json::from_str(&note.as_file().1).unwrap()
    }

    fn is_of_its_vault(note: &Note, found: u64) -> bool {
        let own = key(1);
        note.is_of(Revision(found), |kid| {
            (own.public().kid() == kid).then(|| Arc::clone(own.public()))
        })
    }

    #[test]
    fn a_note_counts_only_as_the_vault_has_signed_it_and_for_its_store() {
        let note = of_rescue(Some(&key(1)));
        assert!(is_of_its_vault(&note, 7));
        assert!(!is_of_its_vault(&note, 6) && !is_of_its_vault(&note, 8));
        for signed in [Some(&*key(2)), None] {
            assert!(!is_of_its_vault(&of_rescue(signed), 7), "somebody else has");
        }
        let changed = |change: fn(&mut Note)| {
            let mut note = note.clone();
            change(&mut note);
            note
        };
        for changed in [
            changed(|note| note.said.restored_at.clear()),
            changed(|note| note.signature.clear()),
            changed(|note| note.kid.clear()),
            changed(|note| {
                note.said.origin = Origin::Rescue {
                    rescued_from: "/else".into(),
                }
            }),
            changed(|note| {
                note.said.origin = Origin::Restore {
                    backup: String::new(),
                    made_at: String::new(),
                }
            }),
        ] {
            assert!(!is_of_its_vault(&changed, 7), "{changed:?}");
        }
        let other_revision = changed(|note| note.said.revision = 1);
        assert!(!is_of_its_vault(&other_revision, 1));
    }

    #[test]
    fn a_note_that_no_key_was_there_for_is_signed_once_there_is_one() {
        let store = tempfile::tempdir().unwrap();
        Note::sign_beside(store.path(), Revision(9), &key(1)).unwrap();
        assert!(Note::beside(store.path()).1.unwrap().is_none());
        let (name, text) = of_rescue(None).as_file();
        fs::write(store.path().join(name), text).unwrap();
        Note::sign_beside(store.path(), Revision(9), &key(1)).unwrap();
        let signed = Note::beside(store.path()).1.unwrap().unwrap();
        assert!(is_of_its_vault(&signed, 9));
        Note::sign_beside(store.path(), Revision(10), &key(1)).unwrap();
        let still = Note::beside(store.path()).1.unwrap().unwrap();
        assert!(is_of_its_vault(&still, 9), "it is signed already");
    }
}
