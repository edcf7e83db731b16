//! The signing keys: one signs, one may be published already and sign soon, and of all others the public half is kept.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::data_keys::random_key;
use super::signing::{PublicKey, SigningKey};
use super::wrapped::{self, Facts};
use super::{Keyring, KeyringError, SIGNING_KEY_PREFIX};
use crate::store::{CommitError, Expectation, Key, Transaction};
use crate::time::Timestamp;

/// The keys that this process knows.
#[derive(Default)]
pub(super) struct SigningKeys {
    /// The pairs, by when they begin to sign.
    pairs: Vec<Arc<SigningKey>>,
    /// The public halves of all, the oldest first.
    published: Vec<Arc<PublicKey>>,
}

impl SigningKeys {
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The key that signs at a time: the one that began last.
    pub(super) fn at(&self, now: Timestamp) -> Arc<SigningKey> {
        let begun = self.pairs.iter().rev().find(|pair| pair.use_from() <= now);
        let pair = begun.or_else(|| self.pairs.first());
        Arc::clone(pair.expect("open makes a signing key when there is none, and the one that signs is never removed"))
    }

    pub(super) fn public_key(&self, kid: &str) -> Option<Arc<PublicKey>> {
        self.published.iter().find(|key| key.kid() == kid).map(Arc::clone)
    }

    pub(super) fn jwks(&self) -> String {
        let keys: Vec<_> = self.published.iter().rev().map(|key| key.jwk()).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    pub(super) fn times(&self) -> Vec<Timestamp> {
        self.pairs.iter().map(|pair| pair.public().created_at()).collect()
    }

    pub(super) fn published(&self) -> usize {
        self.published.len()
    }

    fn publish(&mut self, key: Arc<PublicKey>) {
        self.published.retain(|known| known.kid() != key.kid());
        self.published.push(key);
        self.published
            .sort_by(|a, b| (a.created_at(), a.kid()).cmp(&(b.created_at(), b.kid())));
    }
}

impl Clone for SigningKeys {
    fn clone(&self) -> Self {
        Self {
            pairs: self.pairs.clone(),
            published: self.published.clone(),
        }
    }
}

/// A signing key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSigningKey {
    /// Its id.
    pub kid: String,
    /// From when on it signs.
    pub use_from: Timestamp,
}

impl Keyring {
    /// Makes the next signing key. It is published at once and signs after `publish_before`, so that whoever verifies has it
    /// by then. If one is waiting already, that one is it, unless one is to sign at once.
    pub async fn rotate_signing_key(&self, publish_before: Duration) -> Result<NewSigningKey, KeyringError> {
        let _guard = self.making_signing.lock().await;
        let waiting = self.waiting_signing_key().filter(|_| !publish_before.is_zero());
        if let Some(waiting) = waiting {
            return Ok(NewSigningKey {
                kid: waiting.public().kid().to_owned(),
                use_from: waiting.use_from(),
            });
        }
        self.make_signing_key(publish_before).await
    }

    /// Destroys the private halves of keys that sign no more; their public halves stay published. Says how many.
    pub async fn retire_signing_keys(&self) -> Result<usize, KeyringError> {
        let _guard = self.making_signing.lock().await;
        let keys = Arc::clone(&self.signing.borrow());
        let signing = keys.at(self.clock.now());
        let before: Vec<_> = keys
            .pairs
            .iter()
            .take_while(|pair| !Arc::ptr_eq(pair, &signing))
            .collect();
        for pair in &before {
            self.retire_signing_key(pair.public()).await?;
        }
        Ok(before.len())
    }

    /// Whether there are signing keys to retire.
    #[must_use]
    pub fn has_signing_keys_to_retire(&self) -> bool {
        let keys = Arc::clone(&self.signing.borrow());
        let signing = keys.at(self.clock.now());
        keys.pairs.first().is_some_and(|oldest| !Arc::ptr_eq(oldest, &signing))
    }

    /// When the next signing key begins to sign; none if none is waiting.
    #[must_use]
    pub fn next_signing_key(&self) -> Option<NewSigningKey> {
        self.waiting_signing_key().map(|waiting| NewSigningKey {
            kid: waiting.public().kid().to_owned(),
            use_from: waiting.use_from(),
        })
    }

    /// Whether the newest signing key is older than `max_age`.
    #[must_use]
    pub fn is_signing_key_overdue(&self, max_age: Duration) -> bool {
        let newest = self.signing.borrow().times().into_iter().max();
        newest.is_some_and(|made| self.clock.now().since(made) > max_age)
    }

    fn waiting_signing_key(&self) -> Option<Arc<SigningKey>> {
        let now = self.clock.now();
        let keys = self.signing.borrow();
        keys.pairs.iter().find(|pair| pair.use_from() > now).map(Arc::clone)
    }

    pub(super) async fn make_signing_key(&self, publish_before: Duration) -> Result<NewSigningKey, KeyringError> {
        let seed = random_key()?;
        let now = self.clock.now();
        let use_from = now.after(publish_before);
        let pair = SigningKey::from_seed(&seed, now, use_from).ok_or(KeyringError::NoRandomness)?;
        let kid = pair.public().kid().to_owned();
        let name = signing_key_name(&kid);
        let facts = Facts {
            created_at: now,
            seals_reserved: 0,
            use_from,
            public_key: None,
        };
        let (record, wrapping) = wrapped::wrap(&*self.kek, self.recovery.as_ref(), &name, &seed, &facts).await?;
        let transaction = Transaction::new()
            .only_if(name.clone(), Expectation::Absent)
            .put(name.clone(), record);
        match self.store.commit(transaction).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Store(error)) => {
                self.doubtful_signing().push(name);
                return Err(error.into());
            }
        }
        self.wrappings.insert(name, wrapping);
        self.add_signing_key(pair);
        Ok(NewSigningKey { kid, use_from })
    }

    /// Takes in signing keys whose transaction seemed to fail, if the store has them: what signs after the next start has to be
    /// published before.
    pub async fn learn_doubtful_signing_keys(&self) -> Result<(), KeyringError> {
        let doubtful = std::mem::take(&mut *self.doubtful_signing());
        let mut doubtful = doubtful.into_iter();
        while let Some(name) = doubtful.next() {
            if let Err(error) = self.learn(&name).await {
                self.doubtful_signing().extend(std::iter::once(name).chain(doubtful));
                return Err(error);
            }
        }
        Ok(())
    }

    fn doubtful_signing(&self) -> MutexGuard<'_, Vec<Key>> {
        self.doubtful_signing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn retire_signing_key(&self, public: &PublicKey) -> Result<(), KeyringError> {
        let name = signing_key_name(public.kid());
        let Some(record) = self.store.get(&name).await? else {
            return Err(KeyringError::Corrupt(name));
        };
        // In the seed's place stands a key that is good for nothing but the proof.
        let key = random_key()?;
        let facts = Facts {
            created_at: public.created_at(),
            seals_reserved: 0,
            use_from: Timestamp::EPOCH,
            public_key: Some(public.bytes()),
        };
        let (bytes, wrapping) = wrapped::wrap(&*self.kek, self.recovery.as_ref(), &name, &key, &facts).await?;
        let transaction = Transaction::new()
            .only_if(name.clone(), Expectation::WrittenAt(record.revision))
            .put(name.clone(), bytes);
        match self.store.commit(transaction).await {
            Ok(_) => {}
            // It was wrapped anew, or another process does the same: the next round sees what is there.
            Err(CommitError::Conflict { .. }) => return Ok(()),
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
        self.wrappings.insert(name, wrapping);
        self.signing.send_modify(|keys| {
            let mut all = SigningKeys::clone(keys);
            all.pairs.retain(|pair| pair.public().kid() != public.kid());
            *keys = Arc::new(all);
        });
        Ok(())
    }

    pub(super) fn add_signing_key(&self, pair: SigningKey) {
        self.signing.send_modify(|keys| {
            let mut all = SigningKeys::clone(keys);
            all.pairs.retain(|known| known.public().kid() != pair.public().kid());
            all.publish(Arc::clone(pair.public()));
            all.pairs.push(Arc::new(pair));
            all.pairs
                .sort_by(|a, b| (a.use_from(), a.public().kid()).cmp(&(b.use_from(), b.public().kid())));
            *keys = Arc::new(all);
        });
    }

    pub(super) fn add_public_key(&self, key: PublicKey) {
        self.signing.send_modify(|keys| {
            let mut all = SigningKeys::clone(keys);
            all.publish(Arc::new(key));
            *keys = Arc::new(all);
        });
    }
}

fn signing_key_name(kid: &str) -> Key {
    Key::new(&format!("{SIGNING_KEY_PREFIX}{kid}"))
}
