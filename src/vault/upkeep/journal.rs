//! Telling what the vault is about to change by itself, before it does.

use std::pin::Pin;

use crate::vault::ids::TenantId;
use crate::vault::{Vault, VaultError};

/// What the vault does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Notes that data keys have become old, then replaces them.
    ReplaceOldDataKeys,
    /// Makes a signing key, because the one in use has become old.
    ReplaceOldSigningKey,
    /// Seals a tenant's records by a new data key and removes the old ones.
    RotateDataKey,
    /// Removes what is left of an erased tenant.
    EraseTenant,
    /// Wraps keys by the key-encryption key that is configured.
    RewrapKeys,
    /// Destroys the private halves of signing keys that sign no more.
    RetireSigningKeys,
}

/// The deed could not be told, so it must not be done.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("what is to be done could not be announced")]
pub struct Untold;

/// What comes of telling.
pub type Telling<'a> = Pin<Box<dyn Future<Output = Result<(), Untold>> + Send + 'a>>;

/// Where it is told.
pub trait Journal: Send + Sync {
    /// Is done once that is written.
    fn announce<'a>(&'a self, deed: Deed, tenant: Option<&'a TenantId>) -> Telling<'a>;
}

impl Vault {
    /// Announces a deed, if there is a journal.
    pub(super) async fn announce(&self, deed: Deed, tenant: Option<&TenantId>) -> Result<(), VaultError> {
        let Some(journal) = self.upkeep.journal.get() else {
            return Ok(());
        };
        // If it is gone the process ends.
        let journal = journal.upgrade().ok_or(Untold)?;
        Ok(journal.announce(deed, tenant).await?)
    }
}
