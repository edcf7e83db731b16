//! Keys that are only looked at: those of a backup, or of a store that nobody serves. Nothing is written.

use std::collections::HashMap;
use std::sync::Arc;

use super::kek::KekSource;
use super::loading::parse_data_key;
use super::signing::{PublicKey, SigningKey};
use super::wrapped::{self, Unwrapped};
use super::{DATA_KEY_PREFIX, DataKey, DataKeyId, KeyringError, SIGNING_KEY_PREFIX};
use crate::store::Key;
use crate::time::Timestamp;
use crate::vault::ids::TenantId;

/// Whether what stands under a name is a wrapped key.
#[must_use]
pub fn is_key(name: &str) -> bool {
    [DATA_KEY_PREFIX, SIGNING_KEY_PREFIX]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// The keys that a key-encryption key opens.
#[derive(Default)]
pub struct OpenedKeys {
    data_keys: HashMap<(TenantId, DataKeyId), Arc<DataKey>>,
    signing_keys: Vec<Arc<SigningKey>>,
    public_keys: Vec<PublicKey>,
    /// Those that do not open, and why.
    refused: Vec<(Key, KeyringError)>,
}

impl OpenedKeys {
    /// Unwraps the keys among some records, whose names and values these are.
    ///
    /// # Errors
    /// That the key-encryption key is not at hand. A key that does not open is [refused](Self::refused).
    pub async fn open(kek: &dyn KekSource, records: &[(&Key, &[u8])]) -> Result<Self, KeyringError> {
        let mut opened = Self::default();
        for (name, value) in records {
            let added = match wrapped::unwrap(kek, name, value).await {
                Ok(unwrapped) => opened.add(name, &unwrapped),
                Err(error @ KeyringError::Kek(_)) => return Err(error),
                Err(error) => Err(error),
            };
            opened
                .refused
                .extend(added.err().map(|error| (Key::clone(name), error)));
        }
        Ok(opened)
    }

    fn add(&mut self, name: &Key, unwrapped: &Unwrapped) -> Result<(), KeyringError> {
        let corrupt = || KeyringError::Corrupt(name.clone());
        let Unwrapped { key, facts, .. } = unwrapped;
        if let Some(kid) = name.as_str().strip_prefix(SIGNING_KEY_PREFIX) {
            let public = if let Some(public) = facts.public_key {
                public
            } else {
                let pair = SigningKey::from_seed(key, facts.created_at, facts.use_from).ok_or_else(corrupt)?;
                let public = pair.public().bytes();
                if pair.public().kid() == kid {
                    self.signing_keys.push(Arc::new(pair));
                }
                public
            };
            let public = PublicKey::new(public, facts.created_at);
            if public.kid() != kid {
                return Err(corrupt());
            }
            self.public_keys.push(public);
        } else {
            let (tenant, id) = parse_data_key(name.as_str()).ok_or_else(corrupt)?;
            let key = DataKey::new(id, key, facts.created_at, facts.seals_reserved).ok_or_else(corrupt)?;
            self.data_keys.insert((tenant, id), Arc::new(key));
        }
        Ok(())
    }

    /// The keys that did not open, and why.
    #[must_use]
    pub fn refused(&self) -> &[(Key, KeyringError)] {
        &self.refused
    }

    /// These, unless there are keys and not one of them opens.
    ///
    /// # Errors
    /// Why the first does not.
    pub fn unless_none_opens(self) -> Result<Self, KeyringError> {
        if self.count() > 0 {
            return Ok(self);
        }
        match self.into_refused() {
            Some(error) => Err(error),
            None => Ok(Self::default()),
        }
    }

    /// Why the first key did not open that did not.
    pub(super) fn into_refused(self) -> Option<KeyringError> {
        self.refused.into_iter().next().map(|(_, error)| error)
    }

    /// How many opened.
    #[must_use]
    pub fn count(&self) -> usize {
        self.data_keys.len() + self.public_keys.len()
    }

    /// A data key.
    #[must_use]
    pub fn data_key(&self, tenant: &TenantId, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.data_keys.get(&(tenant.clone(), id)).map(Arc::clone)
    }

    /// The signing key that signs at a time; none if no key signs yet.
    #[must_use]
    pub fn signing_key(&self, now: Timestamp) -> Option<Arc<SigningKey>> {
        let begun = self.signing_keys.iter().filter(|key| key.use_from() <= now);
        let newest = begun.max_by_key(|key| key.use_from());
        newest.or(self.signing_keys.first()).map(Arc::clone)
    }

    /// The public half with this id, of a key that signs or has signed.
    #[must_use]
    pub fn public_key(&self, kid: &str) -> Option<&PublicKey> {
        self.public_keys.iter().find(|key| key.kid() == kid)
    }
}
