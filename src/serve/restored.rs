//! What a restore or a rescue has left beside the store, for the audit log.

use std::io;
use std::path::{Path, PathBuf};

use crate::audit::{Audit, Entry, Event};
use crate::backup::{Note, Origin, Said};
use crate::vault::Vault;

/// The note, as it was found at the start.
pub(super) struct Restored {
    path: PathBuf,
    note: io::Result<Option<Note>>,
}

impl Restored {
    pub(super) fn beside(store: &Path) -> Self {
        let (path, note) = Note::beside(store);
        Self { path, note }
    }

    /// What this vault says of how its store was made; nothing if nobody has restored it, or if it is not the vault that says so.
    pub(super) fn vouched(&self, vault: &Vault) -> Option<&Said> {
        let note = self.note.as_ref().ok()?.as_ref()?;
        let is_its_own = note.is_of(vault.opened_at_revision(), |kid| vault.public_key(kid));
        is_its_own.then_some(&note.said)
    }

    /// Records that the store was restored, once.
    pub(super) async fn tell(&self, vault: &Vault, audit: &Audit) {
        let Some(note) = self.vouched(vault) else {
            return self.tell_of_another();
        };
        let (revision, restored_at) = (note.revision, &note.restored_at);
        let method = match &note.origin {
            Origin::Rescue { rescued_from } => {
                tracing::warn!(
                    rescued_from,
                    revision,
                    restored_at,
                    "the store was saved from a damaged one"
                );
                "Rescue"
            }
            Origin::Restore { backup, made_at } => {
                tracing::warn!(
                    backup,
                    revision,
                    made_at,
                    restored_at,
                    "the store was restored from a backup"
                );
                "Restore"
            }
        };
        let entry = Entry {
            revision: Some(revision),
            ..Entry::new(Event::Upkeep, method)
        };
        // A power cut must not take the line and leave the note removed: then the store would be taken for one that was put back by
        // hand.
        let is_told = match audit.announce(&entry).await {
            Ok(line) => audit.is_durable(line).await.is_ok(),
            Err(_) => false,
        };
        if is_told && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, "that the store was restored is told again at the next start");
        }
    }

    /// Whoever can write a note can put back a store: it excuses nothing.
    fn tell_of_another(&self) {
        let path = self.path.display();
        match &self.note {
            Ok(None) => {}
            Ok(Some(_)) => tracing::error!(
                %path,
                "what says that the store was restored is not signed by this vault; the store is taken for one that was not \
                 restored; look at the log of changes, then remove the file"
            ),
            Err(error) => tracing::error!(
                %path,
                %error,
                "what the store was restored from cannot be read; it is taken for one that was not restored"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_note_of_a_restore_is_told_and_taken_for_none() {
        let store = tempfile::tempdir().unwrap();
        let (path, _) = Note::beside(store.path());
        assert!(matches!(Restored::beside(store.path()).note, Ok(None)));
        for wrong in ["", "{", "null", "3", r#"{"revision":7}"#] {
            std::fs::write(&path, wrong).unwrap();
            assert!(Restored::beside(store.path()).note.is_err(), "{wrong:?}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(Restored::beside(store.path()).note.is_err());
    }
}
