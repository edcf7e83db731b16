//! The vault in numbers, for whoever watches over it.

use std::time::Duration;

use super::Vault;
use super::census::ProviderCount;
use super::replica::Counts;
use super::tally::Decisions;
use super::upkeep::TasksStatus;
use crate::keyring::WrappingStatus;
use crate::store::Revision;
use crate::time::Timestamp;

/// The vault in numbers. None of them names a tenant.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The store's newest revision.
    pub revision: Revision,
    /// The newest one that answers are from.
    pub replica_revision: Revision,
    /// Transactions, and batches of them, that wait for the store's writer.
    pub store_queue: u64,
    /// Credentials of each provider.
    pub credentials: Vec<ProviderCount>,
    /// Records in memory of whose headers there is no proof.
    pub doubtful: u64,
    /// Credentials and assignments.
    pub counts: Counts,
    /// How resolves were decided.
    pub decisions: Vec<Decisions>,
    /// Tenants with a data key.
    pub tenants: u64,
    /// Data keys.
    pub data_keys: u64,
    /// When the oldest data key that seals was made; none without any.
    pub oldest_data_key: Option<Timestamp>,
    /// How often the data key that has sealed most may seal still; none without any.
    pub fewest_seals_left: Option<u64>,
    /// When the newest signing key was made.
    pub newest_signing_key: Option<Timestamp>,
    /// Signing keys that are published.
    pub published_keys: u64,
    /// How the keys are wrapped.
    pub wrapping: WrappingStatus,
    /// What is under way.
    pub tasks: TasksStatus,
}

impl Vault {
    /// The vault in numbers, and how many credentials end within each of these times. Walks over all keys: not for a thread that
    /// serves others.
    #[must_use]
    pub fn figures(&self, within: &[Duration]) -> Figures {
        let signing_keys = self.keyring.signing_key_times();
        Figures {
            // First, so that it is never ahead.
            replica_revision: self.replica.feed().revision(),
            revision: self.store.revision(),
            store_queue: self.store.waiting() as u64,
            credentials: self.credentials(within),
            doubtful: self.replica.doubtful(),
            counts: self.replica.counts(),
            decisions: self.tally.all(&self.catalogue),
            tenants: self.keyring.tenant_count() as u64,
            data_keys: self.keyring.data_key_count() as u64,
            oldest_data_key: self.keyring.oldest_sealing_key(),
            fewest_seals_left: self.keyring.fewest_seals_left(),
            newest_signing_key: signing_keys.into_iter().max(),
            published_keys: self.keyring.published_keys(),
            wrapping: self.keyring.wrapping_status(),
            tasks: self.tasks(),
        }
    }

    /// Of each provider in the catalogue, whether there are any or not.
    fn credentials(&self, within: &[Duration]) -> Vec<ProviderCount> {
        let mut counts = self.replica.by_provider(self.clock.now(), within);
        for id in self.catalogue.ids() {
            if !counts.iter().any(|count| count.provider == id.as_str()) {
                counts.push(ProviderCount::none_of(id.as_str(), within.len()));
            }
        }
        counts
    }
}
