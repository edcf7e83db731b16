//! What somebody else knows of what was written, by which a record shows that was put back to an older state, or removed.

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;

use crate::store::{Key, Revision};
use crate::vault::ids::{ProviderId, TenantId};
use crate::vault::record::{ASSIGNMENT_PREFIX, HEAD_PREFIX, assignment_key, head_key};
use crate::vault::scope::CredentialRef;

/// Who keeps a ledger.
#[async_trait]
pub trait Log: Send + Sync {
    /// The ledger as it is now.
    ///
    /// # Errors
    /// Why it cannot be read.
    async fn ledger(&self) -> Result<Ledger, String>;
}

/// What was written last under a name. What is not known is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The credential's version.
    pub version: u64,
    /// The revision that wrote it.
    pub revision: u64,
}

impl fmt::Display for Written {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { version: 0, revision } => write!(out, "revision {revision}"),
            Self { version, revision: 0 } => write!(out, "version {version}"),
            Self { version, revision } => write!(out, "version {version}, revision {revision}"),
        }
    }
}

/// Heads and assignments that must be there, and what of them at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger(HashMap<Key, Written>);

impl Ledger {
    /// A credential was saved, or its state changed.
    pub fn saved(&mut self, credential: &CredentialRef, version: u64, revision: u64) {
        let written = self.0.entry(head_key(credential)).or_default();
        written.version = written.version.max(version);
        written.revision = written.revision.max(revision);
    }

    /// An assignment was chosen.
    pub fn assigned(&mut self, tenant: &str, provider: &str, revision: u64) {
        if let (Ok(tenant), Ok(provider)) = (TenantId::parse(tenant), ProviderId::parse(provider)) {
            let written = self.0.entry(assignment_key(&tenant, &provider)).or_default();
            written.revision = written.revision.max(revision);
        }
    }

    /// A credential is gone.
    pub fn purged(&mut self, credential: &CredentialRef) {
        self.0.remove(&head_key(credential));
    }

    /// Everything of a tenant is gone.
    pub fn erased(&mut self, tenant: &TenantId) {
        let prefixes = [HEAD_PREFIX, ASSIGNMENT_PREFIX].map(|prefix| format!("{prefix}{tenant}/"));
        self.0
            .retain(|key, _| !prefixes.iter().any(|prefix| key.as_str().starts_with(prefix.as_str())));
    }

    /// The store was put back to this revision on purpose. What it had of what was written since, nobody knows.
    pub fn went_back_to(&mut self, revision: u64) {
        self.0.retain(|_, written| (1..=revision).contains(&written.revision));
    }

    pub(super) fn get(&self, key: &Key) -> Option<Written> {
        self.0.get(key).copied()
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Written> {
        self.0.remove(key)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.0.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }
}

impl Written {
    /// Whether a record of this revision, and of this version if it is a credential, is older.
    pub(super) fn is_newer_than(self, revision: Revision, version: Option<u64>) -> bool {
        self.revision > revision.0 || version.is_some_and(|version| self.version > version)
    }
}
