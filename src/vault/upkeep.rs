//! What the vault does by itself, beside its calls: data keys are rotated, erased tenants removed, keys wrapped anew, signing keys
//! retired, and all of that begun when a key has become old.
//!
//! What is to be done stands in the store (`task/…`), so that a process which ends in the middle goes on after its next start.
//! Each step is one transaction that happens only if nothing else has changed what it is about; so it does not matter where it is
//! interrupted, nor what callers do meanwhile. One task is worked on at a time, and no longer than it rests.

mod erasure;
mod journal;
mod rewrap;
mod rotation;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::journal::{Deed, Journal, Telling, Untold};
use super::ids::TenantId;
use super::{Vault, VaultError};
use crate::keyring::{DataKeyId, ERASE_PREFIX, NewSigningKey};
use crate::store::{Key, Record, Revision, StoreError};
use crate::time::Timestamp;

pub(super) const ROTATE_PREFIX: &str = "task/rotate/";
pub(super) const REWRAP: &str = "task/rewrap";

/// How often to look whether something has become old.
const ROUND: Duration = Duration::from_mins(1);
/// When to try again what failed for a passing reason.
const SOON: Duration = Duration::from_secs(10);
/// When to try again what somebody has to mend first.
const LATER: Duration = Duration::from_hours(1);
/// How long a retired data key still opens what was read before: longer than any call lasts.
const GRACE: Duration = Duration::from_mins(1);
const PAGE: usize = 1000;

/// When keys are replaced without anybody asking for it.
#[derive(Clone, Debug)]
pub struct KeyAges {
    /// The age at which a tenant's data key is.
    pub data_key: Duration,
    /// The age at which the signing key is.
    pub signing_key: Duration,
    /// How long a signing key is published before it signs.
    pub publish_before: Duration,
}

/// The rotation of a tenant's data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationStatus {
    /// The tenant.
    pub tenant: TenantId,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// The new data key; none if it is not made yet.
    pub data_key_id: Option<DataKeyId>,
    /// How many records there were to seal anew; none if they are not counted yet.
    pub records: Option<u64>,
    /// How many are sealed anew.
    pub records_done: u64,
    /// Why it does not go on; it tries again.
    pub trouble: Option<String>,
}

/// The wrapping of all keys by another key-encryption key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RewrapStatus {
    /// How many keys there were to wrap; none if they are not counted yet.
    pub keys: Option<u64>,
    /// How many are wrapped.
    pub keys_done: u64,
    /// Why it does not go on; it tries again.
    pub trouble: Option<String>,
}

/// What is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TasksStatus {
    /// By tenant.
    pub rotations: Vec<RotationStatus>,
    /// The tenants that are being removed.
    pub erasures: Vec<TenantId>,
    /// None if no rewrapping is under way.
    pub rewrap: Option<RewrapStatus>,
}

/// What is known of the tasks in memory.
#[derive(Default)]
pub(super) struct Upkeep {
    /// Wakes whoever tends the vault.
    nudge: Notify,
    /// Where it is told what is about to be done.
    /// Whoever tends the vault holds it: it may hold the vault in turn.
    journal: OnceLock<Weak<dyn Journal>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rotations: BTreeMap<TenantId, Rotation>,
    erasures: Vec<TenantId>,
    rewrap: Option<RewrapStatus>,
    /// Data keys that are retired in the store and still open what was read before.
    retired: Vec<(Instant, TenantId, DataKeyId)>,
}

struct Rotation {
    status: RotationStatus,
    /// Not before this.
    due: Option<Instant>,
}

impl Upkeep {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nudge(&self) {
        self.nudge.notify_one();
    }
}

/// Tends the vault for as long as it lives, and tells what it is about to do before it does it. May be dropped at any point.
pub async fn tend(vault: Weak<Vault>, journal: Arc<dyn Journal>) {
    if let Some(vault) = vault.upgrade() {
        let _ = vault.upkeep.journal.set(Arc::downgrade(&journal));
    }
    loop {
        let (upkeep, pause) = {
            let Some(vault) = vault.upgrade() else { return };
            let pause = vault.work_off().await;
            (Arc::clone(&vault.upkeep), pause)
        };
        let _ = tokio::time::timeout(pause, upkeep.nudge.notified()).await;
    }
}

impl Vault {
    /// What is under way.
    #[must_use]
    pub fn tasks(&self) -> TasksStatus {
        let state = self.upkeep.state();
        TasksStatus {
            rotations: state
                .rotations
                .values()
                .map(|rotation| rotation.status.clone())
                .collect(),
            erasures: state.erasures.clone(),
            rewrap: state.rewrap.clone(),
        }
    }

    /// Makes the next signing key, which is published at once and signs when verifiers have had the time to fetch it; at once if
    /// that cannot wait.
    ///
    /// # Errors
    /// That the key-encryption key or the store is not at hand.
    pub async fn rotate_signing_key(&self, at_once: bool) -> Result<NewSigningKey, VaultError> {
        let publish_before = if at_once {
            Duration::ZERO
        } else {
            self.settings.key_ages.publish_before
        };
        let made = self.keyring.rotate_signing_key(publish_before).await?;
        tracing::info!(kid = made.kid, use_from = %made.use_from, "a new signing key is published");
        self.upkeep.nudge();
        Ok(made)
    }

    /// Does everything that is due now, and says how long to wait before looking again.
    pub(super) async fn work_off(&self) -> Duration {
        self.forget_retired();
        let mut pause = ROUND;
        let mut note = |what: &str, done: Result<(), VaultError>| {
            if let Err(error) = done {
                tracing::warn!(%error, "{what} does not go on; it is tried again");
                pause = SOON;
            }
        };
        note("what has become old", self.replace_what_is_old().await);
        match self.read_tasks().await {
            Err(error) => note("the work on keys", Err(error.into())),
            Ok(tasks) => {
                for tenant in &tasks.erasures {
                    note("the erasure of a tenant", self.remove_erased(tenant).await);
                }
                if tasks.is_rewrapping {
                    note("the wrapping of keys", self.rewrap_keys().await);
                }
                for tenant in &tasks.rotations {
                    note("the rotation of a data key", self.rotate(tenant).await);
                }
            }
        }
        note("the retirement of signing keys", self.retire_signing_keys().await);
        match self.keyring.next_signing_key() {
            Some(next) => pause.min(next.use_from.since(self.clock.now()).max(Duration::from_millis(100))),
            None => pause,
        }
    }

    async fn retire_signing_keys(&self) -> Result<(), VaultError> {
        if self.keyring.has_signing_keys_to_retire() {
            self.announce(Deed::RetireSigningKeys, None).await?;
            self.keyring.retire_signing_keys().await?;
        }
        Ok(())
    }

    async fn replace_what_is_old(&self) -> Result<(), VaultError> {
        let ages = &self.settings.key_ages;
        let mut overdue = self.keyring.overdue(ages.data_key);
        overdue.retain(|tenant| !self.upkeep.state().rotations.contains_key(tenant));
        if !overdue.is_empty() {
            tracing::info!(tenants = overdue.len(), "data keys are old: they are replaced");
            self.announce(Deed::ReplaceOldDataKeys, None).await?;
            self.request_rotations(&overdue).await?;
        }
        if self.keyring.is_signing_key_overdue(ages.signing_key) {
            tracing::info!("the signing key is old: it is replaced");
            self.announce(Deed::ReplaceOldSigningKey, None).await?;
            self.rotate_signing_key(false).await?;
        }
        Ok(())
    }

    fn forget_retired(&self) {
        let now = Instant::now();
        let mut state = self.upkeep.state();
        let (over, left) = state.retired.drain(..).partition(|(until, ..)| *until <= now);
        state.retired = left;
        drop(state);
        let over: Vec<(Instant, TenantId, DataKeyId)> = over;
        for (_, tenant, kept) in over {
            self.keyring.forget_data_keys(&tenant, kept);
        }
    }

    /// What is to be done, as the store has it.
    async fn read_tasks(&self) -> Result<Tasks, StoreError> {
        let tenant = |record: &Record, prefix: &str| {
            let tenant = record.key.as_str().strip_prefix(prefix)?;
            TenantId::parse(tenant).ok()
        };
        let rotations = self.all(ROTATE_PREFIX).await?;
        let erasures = self.all(ERASE_PREFIX).await?;
        let tasks = Tasks {
            rotations: rotations
                .iter()
                .filter_map(|record| tenant(record, ROTATE_PREFIX))
                .collect(),
            erasures: erasures
                .iter()
                .filter_map(|record| tenant(record, ERASE_PREFIX))
                .collect(),
            is_rewrapping: self.store.get(&Key::new(REWRAP)).await?.is_some(),
        };
        self.keyring.end_erasures_without_mark().await?;
        if let Err(error) = self.keyring.learn_doubtful_signing_keys().await {
            tracing::warn!(%error, "whether a signing key was made is not known yet");
        }
        let mut state = self.upkeep.state();
        state.erasures.clone_from(&tasks.erasures);
        state.rotations.retain(|tenant, _| tasks.rotations.contains(tenant));
        for record in &rotations {
            if let Some(tenant) = tenant(record, ROTATE_PREFIX) {
                state.note_rotation(tenant, rotation::requested_at(record));
            }
        }
        state.rewrap = tasks.is_rewrapping.then(|| state.rewrap.take().unwrap_or_default());
        Ok(tasks)
    }

    /// Every record with a prefix. Only for those of which there are few.
    async fn all(&self, prefix: &str) -> Result<Vec<Record>, StoreError> {
        let mut found = Vec::new();
        let mut pages = self.pages(prefix, PAGE);
        while let Some(page) = pages.next().await? {
            found.extend(page);
        }
        Ok(found)
    }

    /// Rests as long as the work took, so that it never takes more than half of a core or of the disk from callers.
    async fn rest(since: Instant) {
        tokio::time::sleep(since.elapsed().min(Duration::from_secs(1))).await;
    }

    /// A revision that callers can wait for.
    async fn told(&self, revision: Revision) -> Result<Revision, VaultError> {
        self.applied(revision).await?;
        Ok(revision)
    }
}

impl State {
    fn note_rotation(&mut self, tenant: TenantId, requested_at: Timestamp) {
        self.rotations.entry(tenant.clone()).or_insert(Rotation {
            status: RotationStatus {
                tenant,
                requested_at,
                data_key_id: None,
                records: None,
                records_done: 0,
                trouble: None,
            },
            due: None,
        });
    }
}

/// What is to be done.
struct Tasks {
    rotations: Vec<TenantId>,
    erasures: Vec<TenantId>,
    is_rewrapping: bool,
}
