//! All heads in memory, found by the text of their keys. A million of them have to fit, and one look has to be enough: a head
//! holds its own key, so that the table holds pointers alone. Beside it they stand in the order of their keys, for lists.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::census::ProviderCount;
use super::read::StateFilter;
use super::record::{Corrupt, SealedHead};
use super::sorted::{Filter, Sorted};
use crate::store::Key;
use crate::time::Timestamp;

/// Many, so that whoever reads hardly ever meets the one who writes. A power of two.
const SHARDS: usize = 64;
/// How many heads are forgotten before others get their turn.
const AT_ONCE: usize = 256;

/// The table.
pub(super) struct Heads<S = DefaultHashBuilder> {
    shards: Box<[RwLock<Shard>]>,
    order: RwLock<Order>,
    hasher: S,
}

#[derive(Default)]
struct Shard {
    heads: HashTable<Arc<SealedHead>>,
    /// Those that cannot be read: hardly ever any.
    damaged: Vec<Key>,
}

/// What no resolve waits for.
#[derive(Default)]
struct Order {
    sorted: Sorted,
    /// Of whose headers there is no proof, those that cannot be read included. Hardly ever any.
    doubtful: BTreeSet<Key>,
}

/// A head as it came from the store.
pub(super) struct Arrival {
    /// What could be read.
    pub(super) head: Result<SealedHead, Corrupt>,
    /// Whether its header is proven to be what was written.
    pub(super) is_proven: bool,
}

impl Default for Heads {
    fn default() -> Self {
        Self::with_hasher(DefaultHashBuilder::default())
    }
}

impl<S: BuildHasher> Heads<S> {
    fn with_hasher(hasher: S) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            order: RwLock::default(),
            hasher,
        }
    }

    /// The head under this key; none if there is none.
    ///
    /// # Errors
    /// [`Corrupt`] if it is there and cannot be read.
    pub(super) fn get(&self, key: &str) -> Result<Option<Arc<SealedHead>>, Corrupt> {
        let hash = self.hasher.hash_one(key.as_bytes());
        let shard = self.read(hash);
        if let Some(head) = shard.heads.find(hash, |head| head.key_bytes() == key.as_bytes()) {
            return Ok(Some(Arc::clone(head)));
        }
        match shard.damaged.iter().find(|damaged| damaged.as_str() == key) {
            Some(damaged) => Err(Corrupt(damaged.clone())),
            None => Ok(None),
        }
    }

    /// Puts heads in the place of what was under their keys.
    pub(super) fn put(&self, arrivals: impl IntoIterator<Item = Arrival>) {
        let place = |Arrival { head, is_proven }| match head {
            Ok(head) => {
                let head = Arc::new(head);
                self.put_readable(Arc::clone(&head));
                (Ok(head), is_proven)
            }
            Err(Corrupt(key)) => {
                self.put_damaged(key.clone());
                (Err(key), false)
            }
        };
        let arrivals: Vec<_> = arrivals.into_iter().map(place).collect();
        let mut order = self.order.write().unwrap_or_else(PoisonError::into_inner);
        for (head, is_proven) in arrivals {
            order.put(head, is_proven);
        }
    }

    fn put_readable(&self, head: Arc<SealedHead>) {
        let hash = self.hasher.hash_one(head.key_bytes());
        let mut shard = self.write(hash);
        shard.damaged.retain(|damaged| damaged.as_str() != head.key());
        let rehash = |head: &Arc<SealedHead>| self.hasher.hash_one(head.key_bytes());
        match shard
            .heads
            .entry(hash, |other| other.key_bytes() == head.key_bytes(), rehash)
        {
            Entry::Occupied(mut place) => *place.get_mut() = head,
            Entry::Vacant(place) => drop(place.insert(head)),
        }
    }

    fn put_damaged(&self, key: Key) {
        let hash = self.hasher.hash_one(key.as_str().as_bytes());
        let mut shard = self.write(hash);
        shard.remove(hash, key.as_str());
        shard.damaged.push(key);
    }

    /// Forgets what is under this key.
    pub(super) fn remove(&self, key: &str) {
        let hash = self.hasher.hash_one(key.as_bytes());
        self.write(hash).remove(hash, key);
        let mut order = self.order.write().unwrap_or_else(PoisonError::into_inner);
        order.sorted.remove(key.as_bytes());
        order.doubtful.remove(key);
    }

    /// Forgets everything whose key begins so, and returns the keys.
    pub(super) fn remove_all(&self, prefix: &str) -> Vec<Key> {
        let mut removed = Vec::new();
        loop {
            let keys = self.keys(prefix, None, &Filter::EVERYTHING, AT_ONCE);
            if keys.is_empty() {
                return removed;
            }
            for key in &keys {
                self.remove(key.as_str());
            }
            removed.extend(keys);
        }
    }

    /// The keys after `after` that begin so, in their order, at most `limit`: of the heads that are looked for, and of those that
    /// might be, because nothing proves what their headers say.
    pub(super) fn keys(&self, prefix: &str, after: Option<&str>, filter: &Filter, limit: usize) -> Vec<Key> {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        let found = order.sorted.find(prefix, after, filter, limit);
        let found = found.heads.iter().map(|head| Key::new(head.key()));
        let from = after.filter(|after| *after >= prefix);
        let from = from.map_or(Bound::Included(prefix), Bound::Excluded);
        let doubtful = order.doubtful.range::<str, _>((from, Bound::Unbounded));
        let mut doubtful = doubtful.take_while(|key| key.as_str().starts_with(prefix)).peekable();
        if doubtful.peek().is_none() {
            return found.collect();
        }
        let all: BTreeSet<Key> = found.chain(doubtful.take(limit).cloned()).collect();
        all.into_iter().take(limit).collect()
    }

    /// How many heads that can be read are in this state. Takes their headers' word for it.
    pub(super) fn count(&self, state: StateFilter) -> u64 {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        order.sorted.census().count(state)
    }

    /// How many there are of each provider, and how many of them end within each of these times.
    pub(super) fn by_provider(&self, now: Timestamp, within: &[Duration]) -> Vec<ProviderCount> {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        order.sorted.census().by_provider(now, within)
    }

    /// How many have headers of which there is no proof, those that cannot be read included.
    pub(super) fn doubtful(&self) -> usize {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        order.doubtful.len()
    }

    fn read(&self, hash: u64) -> RwLockReadGuard<'_, Shard> {
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, Shard> {
        self.shard(hash).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// By bits in the middle: the table takes the lowest for the place and the highest to compare.
    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        let index = (hash >> 32) & (SHARDS as u64 - 1);
        &self.shards[usize::try_from(index).expect("it is less than the number of shards")]
    }
}

impl Order {
    fn put(&mut self, head: Result<Arc<SealedHead>, Key>, is_proven: bool) {
        match head {
            Ok(head) => {
                if !is_proven {
                    self.doubtful.insert(Key::new(head.key()));
                } else if !self.doubtful.is_empty() {
                    self.doubtful.remove(head.key());
                }
                self.sorted.put(head);
            }
            Err(key) => {
                self.sorted.remove(key.as_str().as_bytes());
                self.doubtful.insert(key);
            }
        }
    }
}

impl Shard {
    fn remove(&mut self, hash: u64, key: &str) {
        if let Ok(place) = self.heads.find_entry(hash, |head| head.key_bytes() == key.as_bytes()) {
            place.remove();
        }
        self.damaged.retain(|damaged| damaged.as_str() != key);
    }
}

#[cfg(test)]
#[path = "heads_tests.rs"]
mod tests;
