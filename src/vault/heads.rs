//! All heads in memory, found by the text of their keys. A million of them have to fit, and one look has to be enough: a head
//! holds its own key, so that the table holds pointers alone.

use std::hash::BuildHasher as _;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::record::{Corrupt, SealedHead};
use crate::store::Key;

/// Many, so that whoever reads hardly ever meets the one who writes. A power of two.
const SHARDS: usize = 64;

/// The table.
pub(super) struct Heads {
    shards: Box<[RwLock<Shard>]>,
    hasher: DefaultHashBuilder,
}

#[derive(Default)]
struct Shard {
    heads: HashTable<Arc<SealedHead>>,
    /// Those that cannot be read: hardly ever any.
    damaged: Vec<Key>,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl Heads {
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

    /// Puts a head in the place of what was under its key.
    pub(super) fn put(&self, head: Result<SealedHead, Corrupt>) {
        match head {
            Ok(head) => self.put_readable(Arc::new(head)),
            Err(Corrupt(key)) => {
                let hash = self.hasher.hash_one(key.as_str().as_bytes());
                let mut shard = self.write(hash);
                shard.remove(hash, key.as_str());
                shard.damaged.push(key);
            }
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

    /// Forgets what is under this key.
    pub(super) fn remove(&self, key: &str) {
        let hash = self.hasher.hash_one(key.as_bytes());
        self.write(hash).remove(hash, key);
    }

    /// Forgets everything whose key begins so, and returns the keys.
    pub(super) fn remove_all(&self, prefix: &str) -> Vec<Key> {
        let mut removed = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.heads.retain(|head| {
                let is_kept = !head.key().starts_with(prefix);
                removed.extend((!is_kept).then(|| Key::new(head.key())));
                is_kept
            });
            removed.extend(shard.damaged.extract_if(.., |key| key.as_str().starts_with(prefix)));
        }
        removed
    }

    /// Looks at every head that can be read.
    pub(super) fn for_each(&self, mut look: impl FnMut(&SealedHead)) {
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.heads.iter().for_each(|head| look(head));
        }
    }

    /// Looks at every key, also of what cannot be read.
    pub(super) fn for_each_key(&self, mut look: impl FnMut(&str)) {
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.heads.iter().for_each(|head| look(head.key()));
            shard.damaged.iter().for_each(|key| look(key.as_str()));
        }
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

impl Shard {
    fn remove(&mut self, hash: u64, key: &str) {
        if let Ok(place) = self.heads.find_entry(hash, |head| head.key_bytes() == key.as_bytes()) {
            place.remove();
        }
        self.damaged.retain(|damaged| damaged.as_str() != key);
    }
}
