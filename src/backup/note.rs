//! What a restore or a rescue leaves beside the store: that the vault goes back for a reason. It counts only with the vault's own
//! signature, for it excuses a store that is older than the audit log says.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::read::Backup;
use crate::keyring::{PublicKey, SigningKey, TokenKind};
use crate::pb::backup as pb;
use crate::store::Revision;
use crate::time::Timestamp;

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    #[serde(flatten)]
    pub(crate) origin: Origin,
    /// The revision that the store goes on from.
    pub(crate) revision: u64,
    pub(crate) restored_at: String,
    /// What the signature is over; base64.
    #[serde(default)]
    statement: String,
    /// With which key.
    #[serde(default)]
    kid: String,
    /// Detached. Empty: the rescue has found no key that signs.
    #[serde(default)]
    signature: String,
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

/// What a rescue signs.
#[derive(Serialize, Deserialize)]
struct Said {
    rescued_from: String,
    revision: u64,
    restored_at: String,
}

impl Note {
    /// Vouched for by the signature of the backup, which needs no key here.
    pub(super) fn of_restore(backup: &Backup, now: Timestamp) -> Self {
        Self {
            origin: Origin::Restore {
                backup: hex::encode(backup.header.id),
                made_at: backup.header.begun_at.to_string(),
            },
            revision: backup.end.revision.0,
            restored_at: now.to_string(),
            statement: STANDARD.encode(&backup.end.statement),
            kid: backup.kid(),
            signature: backup.end.signature.clone(),
        }
    }

    pub(crate) fn of_rescue(from: &Path, revision: Revision, now: Timestamp, key: Option<&SigningKey>) -> Self {
        let rescued = Said {
            rescued_from: from.display().to_string(),
            revision: revision.0,
            restored_at: now.to_string(),
        };
        let statement = serde_json::json!(rescued).to_string();
        Self {
            statement: STANDARD.encode(&statement),
            kid: key.map(|key| key.public().kid().to_owned()).unwrap_or_default(),
            signature: key
                .map(|key| key.sign_detached(TokenKind::Rescue, statement.as_bytes()))
                .unwrap_or_default(),
            origin: Origin::Rescue {
                rescued_from: rescued.rescued_from,
            },
            revision: rescued.revision,
            restored_at: rescued.restored_at,
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Whether the vault whose keys these are has signed it for a store that had `found` when it was opened. What was done to it
    /// since, such as wrapping its keys anew, makes that a later one.
    pub(crate) fn is_of(&self, found: Revision, key: impl FnOnce(&str) -> Option<Arc<PublicKey>>) -> bool {
        let Ok(statement) = STANDARD.decode(&self.statement) else {
            return false;
        };
        let is_signed = |kind| key(&self.kid).is_some_and(|key| key.has_signed(kind, &self.signature, &statement));
        let (kind, is_about_this) = match &self.origin {
            Origin::Restore { backup, .. } => {
                let said = pb::Statement::decode(&*statement).ok();
                let is_about_this =
                    said.is_some_and(|said| (hex::encode(said.id), said.revision) == (backup.clone(), self.revision));
                (TokenKind::Backup, is_about_this)
            }
            Origin::Rescue { rescued_from } => {
                let said = serde_json::from_slice::<Said>(&statement).ok();
                let is_about_this = said.is_some_and(|said| {
                    (&said.rescued_from, said.revision, &said.restored_at)
                        == (rescued_from, self.revision, &self.restored_at)
                });
                (TokenKind::Rescue, is_about_this)
            }
        };
        is_about_this && self.revision <= found.0 && is_signed(kind)
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
        serde_json::from_str(&note.to_json()).unwrap()
    }

    fn is_of_its_vault(note: &Note, found: u64) -> bool {
        let own = key(1);
        note.is_of(Revision(found), |kid| {
            (own.public().kid() == kid).then(|| Arc::clone(own.public()))
        })
    }

    #[test]
    fn a_note_counts_only_as_the_vault_has_signed_it() {
        let note = of_rescue(Some(&key(1)));
        assert!(is_of_its_vault(&note, 7) && is_of_its_vault(&note, 8));
        assert!(!is_of_its_vault(&note, 6), "the store is older than that");
        for signed in [Some(&*key(2)), None] {
            assert!(!is_of_its_vault(&of_rescue(signed), 7), "somebody else has");
        }
        let changed = |change: fn(&mut Note)| {
            let mut note = note.clone();
            change(&mut note);
            note
        };
        for changed in [
            changed(|note| note.revision = 1),
            changed(|note| note.restored_at.clear()),
            changed(|note| note.statement.clear()),
            changed(|note| note.signature.clear()),
            changed(|note| note.kid.clear()),
            changed(|note| {
                note.origin = Origin::Rescue {
                    rescued_from: "/else".into(),
                }
            }),
            changed(|note| {
                note.origin = Origin::Restore {
                    backup: String::new(),
                    made_at: String::new(),
                }
            }),
        ] {
            assert!(!is_of_its_vault(&changed, 7), "{changed:?}");
        }
    }
}
