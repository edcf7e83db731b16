//! What the vault does for backups: it gives its records and signs what is made of them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Vault;
use crate::backup::{self, BackupError, Made};

impl Vault {
    /// The place for making a backup, for as long as it is kept; none while another one is made.
    #[must_use]
    pub fn backup_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.backup_place).try_acquire_owned().ok()
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
