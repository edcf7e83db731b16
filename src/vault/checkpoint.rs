//! What the vault does for the audit log: it signs checkpoints.

use super::Vault;

impl Vault {
    /// Signs the payload of a checkpoint with the key that signs now: `header..signature`, the payload detached.
    #[must_use]
    pub fn sign_checkpoint(&self, payload: &[u8]) -> String {
        self.keyring.sign_checkpoint(payload)
    }
}
