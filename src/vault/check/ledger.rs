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

/// What is known of when a change was made. Who keeps the ledger may have heard of two changes the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// The revision that has it; 0: nobody has said.
    pub revision: u64,
    /// The number under which it was announced.
    pub announced: u64,
    /// The number under which it was told.
    pub told: u64,
}

impl When {
    /// Whether it may have been made before another one.
    fn may_be_before(self, other: Self) -> bool {
        if self.revision > 0 && other.revision > 0 {
            self.revision < other.revision
        } else {
            self.announced < other.told
        }
    }
}

/// Heads and assignments that must be there, and what of them at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    written: HashMap<Key, Written>,
    purged: HashMap<Key, When>,
    erased: HashMap<TenantId, When>,
}

impl Ledger {
    /// A credential was saved, or its state changed.
    pub fn saved(&mut self, credential: &CredentialRef, version: u64, when: When) {
        let key = head_key(credential);
        let is_gone = |gone: Option<&When>| gone.is_some_and(|gone| when.may_be_before(*gone));
        if is_gone(self.purged.get(&key)) || is_gone(self.erased.get(&credential.tenant)) {
            return;
        }
        let written = self.written.entry(key).or_default();
        // Not the greatest: what was set aside and is saved anew begins at 1.
        written.version = version;
        written.revision = written.revision.max(when.revision);
    }

    /// An assignment was chosen.
    pub fn assigned(&mut self, tenant: &TenantId, provider: &ProviderId, when: When) {
        if self.erased.get(tenant).is_some_and(|gone| when.may_be_before(*gone)) {
            return;
        }
        let written = self.written.entry(assignment_key(tenant, provider)).or_default();
        written.revision = written.revision.max(when.revision);
    }

    /// A credential is gone.
    pub fn purged(&mut self, credential: &CredentialRef, when: When) {
        let key = head_key(credential);
        self.written.remove(&key);
        self.purged.insert(key, when);
    }

    /// Everything of a tenant is gone.
    pub fn erased(&mut self, tenant: &TenantId, when: When) {
        let prefixes = [HEAD_PREFIX, ASSIGNMENT_PREFIX].map(|prefix| format!("{prefix}{tenant}/"));
        let is_its_own = |key: &Key| prefixes.iter().any(|prefix| key.as_str().starts_with(prefix.as_str()));
        self.written.retain(|key, _| !is_its_own(key));
        self.purged.retain(|key, _| !is_its_own(key));
        self.erased.insert(tenant.clone(), when);
    }

    /// The store was put back to this revision on purpose. What it had of what was written since, nobody knows.
    pub fn went_back_to(&mut self, revision: u64) {
        self.written
            .retain(|_, written| (1..=revision).contains(&written.revision));
        // What comes now has revisions that others had before.
        self.purged.clear();
        self.erased.clear();
    }

    pub(super) fn get(&self, key: &Key) -> Option<Written> {
        self.written.get(key).copied()
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Written> {
        self.written.remove(key)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.written.keys().cloned().collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> CredentialRef {
        CredentialRef::from_path("demo/wom/general").unwrap()
    }

    fn when(revision: u64, announced: u64, told: u64) -> When {
        When {
            revision,
            announced,
            told,
        }
    }

    /// What is expected after something was done away with and a save was told of later.
    fn expected(gone: fn(&mut Ledger), save: When) -> bool {
        let mut ledger = Ledger::default();
        ledger.saved(&credential(), 1, when(3, 1, 2));
        gone(&mut ledger);
        ledger.saved(&credential(), 2, save);
        !ledger.keys().is_empty()
    }

    #[test]
    fn what_may_have_been_saved_before_it_was_done_away_with_is_not_expected() {
        let purged = |ledger: &mut Ledger| ledger.purged(&credential(), when(7, 10, 20));
        let erased = |ledger: &mut Ledger| ledger.erased(&credential().tenant, when(7, 10, 20));
        for gone in [purged, erased] {
            assert!(!expected(gone, when(6, 9, 21)), "its line came later");
            assert!(expected(gone, when(8, 9, 21)));
            // Lines of imports have no revision.
            assert!(!expected(gone, when(0, 9, 21)));
            assert!(!expected(gone, when(0, 15, 21)));
            assert!(expected(gone, when(0, 21, 22)));
        }
        let restored = |ledger: &mut Ledger| {
            ledger.purged(&credential(), when(7, 10, 20));
            ledger.went_back_to(2);
        };
        assert!(expected(restored, when(3, 21, 22)), "the revisions begin anew");
    }
}
