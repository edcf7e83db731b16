//! How many credentials there are of each provider, in which states, and when they end. It is kept with every change, so that
//! nobody has to walk over all of them to count.

use std::collections::BTreeMap;
use std::time::Duration;

use super::credential::State;
use super::read::StateFilter;
use super::record::{HEAD_PREFIX, HeadHeader, SealedHead};
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_hours(1);

/// The counts, over all tenants. They take the heads' headers at their word.
#[derive(Default)]
pub(super) struct Census {
    /// A dozen: comparing them is faster than hashing.
    providers: Vec<(Box<[u8]>, Tally)>,
}

/// The counts of one provider.
#[derive(Default)]
struct Tally {
    states: [u64; StateFilter::ALL.len()],
    /// How many enabled ones end in each hour since 1970.
    ends: BTreeMap<i64, u64>,
}

/// How many credentials of a provider there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderCount {
    /// The provider's id.
    pub provider: String,
    /// How many are in each state; by the places in [`StateFilter::ALL`].
    pub states: [u64; StateFilter::ALL.len()],
    /// How many of the enabled ones have ended, to the hour.
    pub expired: u64,
    /// How many of them end within each time that was asked for, to the hour.
    pub expiring: Vec<u64>,
}

impl ProviderCount {
    pub(super) fn none_of(provider: &str, times: usize) -> Self {
        Self {
            provider: provider.to_owned(),
            states: Default::default(),
            expired: 0,
            expiring: vec![0; times],
        }
    }
}

impl Census {
    pub(super) fn add(&mut self, head: &SealedHead) {
        let tally = self.of(head);
        tally.states[place_of(head.header.state)] += 1;
        if let Some(hour) = end_of(&head.header) {
            *tally.ends.entry(hour).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, head: &SealedHead) {
        let tally = self.of(head);
        tally.states[place_of(head.header.state)] -= 1;
        if let Some(hour) = end_of(&head.header)
            && let Some(count) = tally.ends.get_mut(&hour)
        {
            *count -= 1;
            if *count == 0 {
                tally.ends.remove(&hour);
            }
        }
    }

    /// How many there are in this state.
    pub(super) fn count(&self, state: StateFilter) -> u64 {
        let counts = self.providers.iter().map(|(_, tally)| tally.states[state as usize]);
        counts.sum()
    }

    /// The counts of each provider that there was a credential of.
    pub(super) fn by_provider(&self, now: Timestamp, within: &[Duration]) -> Vec<ProviderCount> {
        let count = |(provider, tally): &(Box<[u8]>, Tally)| {
            let this_hour = hour_of(now);
            let end_before = |hour: i64| tally.ends.range(..hour).map(|(_, count)| count).sum::<u64>();
            let expired = end_before(this_hour);
            let expiring = within.iter().map(|within| end_before(hour_of(now.after(*within))));
            ProviderCount {
                provider: String::from_utf8_lossy(provider).into_owned(),
                states: tally.states,
                expired,
                expiring: expiring.map(|count| count - expired).collect(),
            }
        };
        self.providers.iter().map(count).collect()
    }

    fn of(&mut self, head: &SealedHead) -> &mut Tally {
        // `head/{tenant}/{provider}/…`
        let path = head.key_bytes().get(HEAD_PREFIX.len()..).unwrap_or_default();
        let provider = path.split(|byte| *byte == b'/').nth(1).unwrap_or_default();
        let known = self.providers.iter().position(|(known, _)| **known == *provider);
        let at = known.unwrap_or_else(|| {
            self.providers.push((provider.into(), Tally::default()));
            self.providers.len() - 1
        });
        &mut self.providers[at].1
    }
}

pub(super) fn place_of(state: State) -> usize {
    StateFilter::from(state) as usize
}

/// In which hour it ends; none if it does not, or is not handed out anyway.
fn end_of(header: &HeadHeader) -> Option<i64> {
    let is_enabled = matches!(header.state, State::Enabled);
    header.valid_until.filter(|_| is_enabled).map(hour_of)
}

fn hour_of(time: Timestamp) -> i64 {
    time.unix_seconds().div_euclid(HOUR.as_secs().cast_signed())
}
