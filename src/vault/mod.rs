//! The domain: which credential an order gets, and how credentials and assignments are kept.
//!
//! [`Vault`] ties the rules to the keyring and the store. Domain types come in and go out; wire types and callers' rights
//! are the business of [`crate::api`].

mod asker;
pub mod assignment;
mod assignments;
mod backup;
pub mod catalogue;
mod census;
pub mod check;
mod checkpoint;
mod content;
mod coverage;
pub mod credential;
mod door;
mod error;
pub mod examine;
pub mod feed;
mod figures;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handout;
mod heads;
pub mod ids;
mod import;
mod lifecycle;
mod loading;
mod pages;
mod primitives;
mod provider;
mod ranges;
mod read;
mod receipt;
pub mod record;
pub mod replica;
pub mod resolve;
mod save;
pub mod scope;
pub mod signature;
mod sorted;
mod tally;
pub mod upkeep;
pub mod warning;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

pub use self::asker::{Asker, Gone, work_out};
pub use self::assignments::SetAssignment;
use self::catalogue::Catalogue;
pub use self::census::ProviderCount;
pub use self::coverage::{CoverageQuery, Gap};
pub use self::door::{Door, Sealed};
pub use self::error::{Refused, VaultError};
use self::feed::Subscription;
pub use self::figures::Figures;
pub use self::handout::{Ask, Asked, Explanation, Granted, HandOut, Lack, Resolution};
use self::ids::TenantId;
pub use self::import::Imported;
pub use self::read::{CredentialInfo, ListQuery, Masked, Page, StateFilter, VersionInfo};
use self::record::Corrupt;
pub use self::replica::Counts;
use self::replica::{Others, Replica};
pub use self::save::{Prepared, Put, Rollback, Saved};
pub(crate) use self::tally::Tally;
pub use self::tally::{Decisions, Outcome};
use self::upkeep::Upkeep;
pub use self::upkeep::{KeyAges, RewrapStatus, RotationStatus, TasksStatus};
use crate::keyring::{KekSource, Keyring, KeyringError, NewSigningKey, PublicKey, RecoveryKey, WrappingStatus};
use crate::store::{Revision, Store, StoreError};
use crate::time::{Clock, Timestamp};

/// What a deployment chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who signs: `iss` in signatures and receipts.
    pub issuer: String,
    /// How long a caller may keep what it got.
    pub cache_for: Duration,
    /// How long a receipt is valid.
    pub receipt_lifetime: Duration,
    /// How long a resolve waits for a revision that this process has not seen yet.
    pub stale_wait: Duration,
    /// Whether mail accounts may be used without TLS.
    pub allows_plaintext_mail: bool,
    /// The recovery key, which keys are wrapped for as well.
    pub recovery_key: Option<RecoveryKey>,
    /// When keys are replaced.
    pub key_ages: KeyAges,
}

/// Why the vault does not open. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The keys are not at hand.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The store is in trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalogue lacks what is in use.
    #[error(
        "the configuration lacks what credentials are kept for: {}; put it back, or purge the credentials first",
        lacking.join("; ")
    )]
    InUse {
        /// `what (how many: the first few)`.
        lacking: Vec<String>,
    },
}

impl OpenError {
    /// Whether it may open later, without anybody changing the configuration.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Keyring(error) if error.is_passing())
    }
}

/// The vault.
pub struct Vault {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    replica: Arc<Replica>,
    catalogue: Catalogue,
    clock: Arc<dyn Clock>,
    settings: Settings,
    upkeep: Arc<Upkeep>,
    /// How resolves were decided.
    tally: Tally,
    opened_at: Timestamp,
    /// The store's revision then.
    opened_at_revision: Revision,
    /// A place for each work that is done [apart](Self::apart).
    apart: Arc<Semaphore>,
    /// The one place for a backup.
    backup_place: Arc<Semaphore>,
    /// When the newest backup was begun that somebody has taken.
    backups_taken: watch::Sender<Option<Timestamp>>,
}

/// How the vault is doing.
#[derive(Clone, Debug)]
pub struct Status {
    /// When it was opened.
    pub opened_at: Timestamp,
    /// What kind of store it has.
    pub store: &'static str,
    /// The store's newest revision.
    pub revision: Revision,
    /// The newest revision in memory.
    pub replica_revision: Revision,
    /// How the keys are wrapped.
    pub wrapping: WrappingStatus,
    /// The signing key that is published and does not sign yet.
    pub next_signing_key: Option<NewSigningKey>,
    /// Signing keys that are published, those included that sign no more.
    pub published_keys: u64,
    /// What is under way.
    pub tasks: TasksStatus,
    /// How old each data key is.
    pub data_key_ages: Vec<Duration>,
    /// How old each signing key is.
    pub signing_key_ages: Vec<Duration>,
    /// Tenants with a data key.
    pub tenants: u64,
    /// Credentials and assignments.
    pub counts: Counts,
}

impl Vault {
    /// Unwraps the keys, reads everything into memory and begins to follow the store.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way.
    pub async fn open(
        store: Arc<dyn Store>,
        kek: Arc<dyn KekSource>,
        clock: Arc<dyn Clock>,
        catalogue: Catalogue,
        settings: Settings,
    ) -> Result<Arc<Self>, OpenError> {
        let recovery = settings.recovery_key.clone();
        let opened_at_revision = store.revision();
        let keyring = Arc::new(Keyring::open(kek, recovery, Arc::clone(&store), Arc::clone(&clock)).await?);
        let replica = Replica::start(&store, Arc::clone(&keyring)).await?;
        let vault = Self {
            opened_at: clock.now(),
            opened_at_revision,
            store,
            keyring,
            replica,
            tally: Tally::new(&catalogue),
            catalogue,
            clock,
            settings,
            upkeep: Arc::default(),
            apart: Arc::new(Semaphore::new(half_of_the_cores())),
            backup_place: Arc::new(Semaphore::new(1)),
            backups_taken: watch::Sender::new(None),
        };
        vault.check_catalogue()?;
        Ok(Arc::new(vault))
    }

    /// Refuses a catalogue that lacks a provider, a scope or a mode that is in use: what cannot be named any more could neither
    /// be looked at nor revoked.
    fn check_catalogue(&self) -> Result<(), OpenError> {
        let mut lacking = BTreeMap::<String, Vec<String>>::new();
        self.replica.for_each_name(|path| {
            let Some((provider, kind)) = scope::provider_and_kind(path) else {
                return Others::LookAt;
            };
            let what = match self.catalogue.get(provider) {
                None => provider.to_owned(),
                Some(known) if !known.allows(kind) => format!("{provider} per {kind}"),
                Some(_) => return Others::PassOver,
            };
            lacking.entry(what).or_default().push(path.to_owned());
            Others::LookAt
        });
        for (tenant, provider, mode) in self.replica.modes() {
            let kind = mode.scope_kind();
            if self
                .catalogue
                .get(provider.as_str())
                .is_some_and(|known| !known.allows(kind))
            {
                let assignment = format!("the assignment {tenant}/{provider}");
                lacking
                    .entry(format!("{provider} per {kind}"))
                    .or_default()
                    .push(assignment);
            }
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let describe = |(what, mut uses): (String, Vec<String>)| {
            uses.sort_unstable();
            let first = uses.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let more = if uses.len() > 3 { ", …" } else { "" };
            format!("{what} ({}: {first}{more})", uses.len())
        };
        Err(OpenError::InUse {
            lacking: lacking.into_iter().map(describe).collect(),
        })
    }

    /// The providers that credentials can be for.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Whether mail accounts may be used without TLS.
    #[must_use]
    pub fn allows_plaintext_mail(&self) -> bool {
        self.settings.allows_plaintext_mail
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The public half with this id, of a key that signs or has signed.
    pub(crate) fn public_key(&self, kid: &str) -> Option<Arc<PublicKey>> {
        self.keyring.public_key(kid)
    }

    /// The public keys as a JSON Web Key Set.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.keyring.jwks()
    }

    /// The newest revision that answers are from.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.replica.feed().revision()
    }

    /// The revision that the store had when the vault was opened.
    #[must_use]
    pub fn opened_at_revision(&self) -> Revision {
        self.opened_at_revision
    }

    /// Waits until answers are from `wanted` or later.
    ///
    /// # Errors
    /// [`VaultError::Stale`] if that takes longer than the settings allow.
    pub async fn at_least(&self, wanted: Revision) -> Result<(), VaultError> {
        if self.replica.feed().wait(wanted, self.settings.stale_wait).await {
            return Ok(());
        }
        Err(VaultError::Stale {
            seen: self.replica.feed().revision(),
            wanted,
        })
    }

    /// The changes after `from`, the last one that somebody was told of who follows a tenant; without it, those that come.
    #[must_use]
    pub fn subscribe(&self, from: Option<(Revision, &TenantId)>) -> Subscription {
        self.replica.feed().subscribe(from)
    }

    /// How the vault is doing. Walks over all keys: not for a thread that serves others.
    #[must_use]
    pub fn status(&self) -> Status {
        let now = self.clock.now();
        let ages = |times: Vec<Timestamp>| times.into_iter().map(|made| now.since(made)).collect();
        Status {
            opened_at: self.opened_at,
            store: self.store.kind(),
            revision: self.store.revision(),
            replica_revision: self.replica.feed().revision(),
            wrapping: self.keyring.wrapping_status(),
            next_signing_key: self.keyring.next_signing_key(),
            published_keys: self.keyring.published_keys(),
            tasks: self.tasks(),
            data_key_ages: ages(self.keyring.data_key_times()),
            signing_key_ages: ages(self.keyring.signing_key_times()),
            tenants: self.keyring.tenant_count() as u64,
            counts: self.replica.counts(),
        }
    }

    /// Opens a head. Its data key must be there: heads without one are damaged or erased.
    pub(crate) fn open_head(
        &self,
        credential: &scope::CredentialRef,
        head: &record::SealedHead,
    ) -> Result<record::Content, Corrupt> {
        match self.keyring.data_key(&credential.tenant, head.data_key_id()) {
            Some(key) => head.open(&key),
            None => Err(head.corrupt()),
        }
    }
}

fn half_of_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

#[cfg(test)]
mod feed_tests;
#[cfg(test)]
pub(crate) mod tests;
