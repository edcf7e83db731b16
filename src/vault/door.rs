//! The way to the vault, which is closed for as long as its keys are not at hand.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Vault;
use crate::telemetry::metrics;

/// The vault is sealed: its keys are not at hand yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vault is sealed: its keys are not at hand; it goes on trying to get them")]
pub struct Sealed;

/// The way to the vault. Once open it stays open: keys that were unwrapped stay in memory.
#[derive(Default)]
pub struct Door {
    vault: OnceLock<Arc<Vault>>,
    /// Why it is not open.
    why: Mutex<String>,
    /// Why the store behind it takes no writes; none if it does.
    store_trouble: Mutex<Option<String>>,
}

impl Door {
    /// A door that is open already.
    #[must_use]
    pub fn open_to(vault: Arc<Vault>) -> Arc<Self> {
        let door = Self::default();
        door.open(vault);
        Arc::new(door)
    }

    /// Opens it. Only the first vault counts.
    pub fn open(&self, vault: Arc<Vault>) {
        if self.vault.set(vault).is_ok() {
            metrics::sealed(false);
        }
    }

    /// Notes why it does not open yet. For operators alone.
    pub fn stays_closed(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why it does not open yet; empty once it has.
    #[must_use]
    pub fn why_closed(&self) -> String {
        match self.vault() {
            Ok(_) => String::new(),
            Err(Sealed) => self.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Notes why the store takes no writes, or that it does. For operators alone.
    pub fn note_store(&self, trouble: Option<String>) {
        *self.store_trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Why the store takes no writes, so that nothing can be changed; none if it does.
    #[must_use]
    pub fn store_trouble(&self) -> Option<String> {
        let trouble = self.store_trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    /// The vault.
    ///
    /// # Errors
    /// [`Sealed`] while it is not open.
    pub fn vault(&self) -> Result<&Arc<Vault>, Sealed> {
        self.vault.get().ok_or(Sealed)
    }
}
