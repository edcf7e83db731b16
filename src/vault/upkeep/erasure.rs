//! Erasing a tenant by destroying its data keys (crypto-shredding).
//!
//! One transaction removes the keys and marks the tenant: from then on nothing of it opens, and it is as if it had nothing. Its
//! records, which nobody can open any more, are removed afterwards. Only then may it begin anew, with a key of a later number.

use prost::Message as _;
use tokio::time::Instant;

use super::{Deed, ROTATE_PREFIX};
use crate::keyring::ERASE_PREFIX;
use crate::pb::storage;
use crate::store::{CommitError, Expectation, Key, Revision, StoreError, Transaction};
use crate::vault::ids::TenantId;
use crate::vault::record::{ASSIGNMENT_PREFIX, HEAD_PREFIX, VERSION_PREFIX};
use crate::vault::{Vault, VaultError};

/// How many records are removed in one transaction.
const BATCH: usize = 256;

impl Vault {
    /// Destroys the tenant's data keys. When it returns, nothing of the tenant can be opened; its records are removed soon
    /// after. Must not be dropped before it returns.
    ///
    /// # Errors
    /// [`VaultError::NoSuchTenant`], and what every change may answer.
    pub async fn erase_tenant(&self, tenant: &TenantId) -> Result<Revision, VaultError> {
        if self.keyring.is_erasing(tenant.as_str()) && self.keyring.erasure_is_durable(tenant).await {
            return self.told(self.store.revision()).await;
        }
        if self.keyring.newest_data_key(tenant).is_none() && !self.has_records(tenant).await? {
            return Err(VaultError::NoSuchTenant(tenant.clone()));
        }
        let mark = storage::EraseTask {
            requested_at_ms: self.clock.now().unix_ms(),
        };
        let revision = self.keyring.destroy_data_keys(tenant, mark.encode_to_vec()).await?;
        // Memory forgets the records first: a call finds none, rather than one that does not open.
        let revision = self.told(revision).await?;
        self.keyring.forget_tenant(tenant);
        tracing::warn!(%tenant, "a tenant is erased: its data keys are destroyed, its records are being removed");
        let mut state = self.upkeep.state();
        state.rotations.remove(tenant);
        state.erasures.push(tenant.clone());
        drop(state);
        self.upkeep.nudge();
        Ok(revision)
    }

    /// Removes what is left of a tenant whose keys are destroyed.
    pub(super) async fn remove_erased(&self, tenant: &TenantId) -> Result<(), VaultError> {
        self.keyring.forget_tenant(tenant);
        self.announce(Deed::EraseTenant, Some(tenant)).await?;
        for prefix in prefixes(tenant) {
            loop {
                let started = Instant::now();
                // Always the first ones: those before are gone.
                let Some(page) = self.pages(&prefix, BATCH).next().await? else {
                    break;
                };
                let transaction = page
                    .into_iter()
                    .fold(Transaction::new(), |rest, record| rest.remove(record.key));
                self.store.commit(transaction).await.map_err(VaultError::from_commit)?;
                Self::rest(started).await;
            }
        }
        let mark = Key::new(&format!("{ERASE_PREFIX}{tenant}"));
        let Some(record) = self.store.get(&mark).await? else {
            return Ok(());
        };
        let transaction = Transaction::new()
            .only_if(mark.clone(), Expectation::WrittenAt(record.revision))
            .remove(mark)
            .remove(Key::new(&format!("{ROTATE_PREFIX}{tenant}")));
        match self.store.commit(transaction).await {
            Ok(revision) => {
                self.told(revision).await?;
                self.keyring.end_erasure(tenant);
                let mut state = self.upkeep.state();
                state.erasures.retain(|erased| erased != tenant);
                state.rotations.remove(tenant);
                drop(state);
                tracing::info!(%tenant, "nothing is left of the erased tenant");
                Ok(())
            }
            Err(CommitError::Conflict { .. }) => Ok(()),
            Err(error) => Err(VaultError::from_commit(error)),
        }
    }

    async fn has_records(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        for prefix in prefixes(tenant) {
            if self.pages(&prefix, 1).next().await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where everything stands that is sealed by a tenant's data keys.
pub(super) fn prefixes(tenant: &TenantId) -> [String; 3] {
    [HEAD_PREFIX, VERSION_PREFIX, ASSIGNMENT_PREFIX].map(|prefix| format!("{prefix}{tenant}/"))
}
