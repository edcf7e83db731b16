//! What the vault does for backups: it gives its records and signs what is made of them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::Vault;
use crate::backup::{self, BackupError, Made};
use crate::time::Timestamp;

impl Vault {
    /// The place for making a backup, for as long as it is kept; none while another one is made.
    #[must_use]
    pub fn backup_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.backup_place).try_acquire_owned().ok()
    }

    /// Somebody has taken all of a backup.
    pub fn was_backed_up(&self, made: &Made) {
        // One that was begun earlier may be taken to its end later.
        self.backups_taken.send_if_modified(|newest| {
            let is_newer = newest.is_none_or(|newest| made.begun_at > newest);
            if is_newer {
                *newest = Some(made.begun_at);
            }
            is_newer
        });
    }

    /// When the newest backup was begun that somebody has taken.
    #[must_use]
    pub fn backups_taken(&self) -> watch::Receiver<Option<Timestamp>> {
        self.backups_taken.subscribe()
    }

    /// Writes a backup to `out`, part by part; see [`backup::make`].
    ///
    /// # Errors
    /// [`BackupError`]
    pub async fn back_up(&self, audit_checkpoint: String, out: &mpsc::Sender<Bytes>) -> Result<Made, BackupError> {
        let store = Arc::clone(&self.store);
        let signing_key = self.keyring.signing_key();
        backup::make(store, signing_key, &*self.clock, audit_checkpoint, out).await
    }
}
