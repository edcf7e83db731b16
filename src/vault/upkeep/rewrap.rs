//! Wrapping every key by the key-encryption key that is configured now.

use prost::Message as _;

use super::{Deed, REWRAP, RewrapStatus};
use crate::pb::storage;
use crate::store::{CommitError, Expectation, Key, Transaction};
use crate::vault::{Vault, VaultError};

impl Vault {
    /// Begins to wrap every key anew that is due; says how many.
    ///
    /// # Errors
    /// That the key-encryption key or the store is not at hand.
    pub async fn request_rewrap(&self) -> Result<u64, VaultError> {
        let due = self.keyring.due_for_rewrap().await?.len() as u64;
        if due == 0 {
            return Ok(0);
        }
        let task = storage::RewrapTask {
            requested_at_ms: self.clock.now().unix_ms(),
        };
        let transaction = Transaction::new().put(Key::new(REWRAP), task.encode_to_vec());
        self.store.commit(transaction).await.map_err(VaultError::from_commit)?;
        self.upkeep.state().rewrap = Some(RewrapStatus {
            keys: Some(due),
            ..RewrapStatus::default()
        });
        self.upkeep.nudge();
        Ok(due)
    }

    pub(super) async fn rewrap_keys(&self) -> Result<(), VaultError> {
        let done = self.try_to_rewrap_keys().await;
        if let Some(status) = &mut self.upkeep.state().rewrap {
            status.trouble = done.as_ref().err().map(ToString::to_string);
        }
        done
    }

    async fn try_to_rewrap_keys(&self) -> Result<(), VaultError> {
        let name = Key::new(REWRAP);
        let Some(task) = self.store.get(&name).await? else {
            return Ok(());
        };
        let due = self.keyring.due_for_rewrap().await?;
        if let Some(status) = &mut self.upkeep.state().rewrap {
            status.keys = Some(status.keys_done + due.len() as u64);
        }
        self.announce(Deed::RewrapKeys, None).await?;
        for key in &due {
            self.keyring.rewrap(key).await?;
            if let Some(status) = &mut self.upkeep.state().rewrap {
                status.keys_done += 1;
            }
        }
        let transaction = Transaction::new()
            .only_if(name.clone(), Expectation::WrittenAt(task.revision))
            .remove(name);
        match self.store.commit(transaction).await {
            Ok(_) => {
                self.upkeep.state().rewrap = None;
                tracing::info!(
                    keys = due.len(),
                    "every key is wrapped by the key-encryption key that is configured"
                );
                Ok(())
            }
            // It was asked for once more.
            Err(CommitError::Conflict { .. }) => {
                self.upkeep.nudge();
                Ok(())
            }
            Err(error) => Err(VaultError::from_commit(error)),
        }
    }
}
