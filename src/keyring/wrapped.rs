//! A wrapped key as it stands in the store, and how it is proven.
//!
//! What is wrapped is bound to its record's key. Everything that stands beside it in the clear (times, counts, the wrapping for
//! the recovery key) is proven by a MAC whose key is derived from the wrapped key; so it can be written anew without the
//! key-encryption key, and not without the wrapped one.

use aws_lc_rs::hmac;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::KeyringError;
use super::kek::{KekError, KekId, KekSource, Wrapped};
use super::recovery::{RecoveryKey, RecoverySecret};
use crate::pb::storage;
use crate::store::Key;
use crate::time::Timestamp;

const PROOF_LABEL: &[u8] = b"tresor wrapped key proof v1";

/// What stands beside a wrapped key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// When the key was made.
    pub(super) created_at: Timestamp,
    /// Data keys: how many seals have been set aside.
    pub(super) seals_reserved: u64,
    /// Signing keys: from when on it signs.
    pub(super) use_from: Timestamp,
    /// Signing keys that sign no more: the public half.
    pub(super) public_key: Option<[u8; 32]>,
}

/// How a key is wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrapping {
    /// Which key-encryption key wrapped it.
    pub(super) kek_id: KekId,
    /// For which recovery key it is wrapped as well.
    pub(super) recipient: Option<String>,
}

/// A key that was unwrapped.
pub(super) struct Unwrapped {
    pub(super) key: Zeroizing<[u8; 32]>,
    pub(super) facts: Facts,
    pub(super) wrapping: Wrapping,
    /// Whether it stands there without a proof, as older programs wrote it.
    pub(super) is_unproven: bool,
}

/// What a key's facts are proven with. Derived from the key, and tells nothing of it.
pub(super) struct ProofKey(Zeroizing<[u8; 32]>);

impl ProofKey {
    pub(super) fn of(key: &[u8; 32]) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), PROOF_LABEL);
        let mut derived = Zeroizing::new([0; 32]);
        derived.copy_from_slice(tag.as_ref());
        Self(derived)
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0[..])
    }

    /// Writes a record whose facts have changed.
    pub(super) fn prove(&self, name: &Key, mut record: storage::WrappedKey) -> Vec<u8> {
        let tag = hmac::sign(&self.hmac(), &proven_bytes(name, &record));
        record.proof = tag.as_ref().to_vec();
        record.encode_to_vec()
    }

    pub(super) fn is_proven(&self, name: &Key, record: &storage::WrappedKey) -> bool {
        hmac::verify(&self.hmac(), &proven_bytes(name, record), &record.proof).is_ok()
    }
}

/// Length of the record's key, the record's key, the record without its proof: no two records share it.
fn proven_bytes(name: &Key, record: &storage::WrappedKey) -> Vec<u8> {
    let unproven = storage::WrappedKey {
        proof: Vec::new(),
        ..record.clone()
    };
    let length = u32::try_from(name.as_str().len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(name.as_str().as_bytes());
    unproven.encode(&mut bytes).expect("a vector has room");
    bytes
}

fn binding(name: &Key) -> Vec<u8> {
    Sha256::digest(name.as_str()).to_vec()
}

pub(super) fn decode(name: &Key, bytes: &[u8]) -> Result<storage::WrappedKey, KeyringError> {
    storage::WrappedKey::decode(bytes).map_err(|_| KeyringError::Corrupt(name.clone()))
}

impl Facts {
    fn of(record: &storage::WrappedKey) -> Option<Self> {
        let public_key = match &*record.public_key {
            [] => None,
            bytes => Some(bytes.try_into().ok()?),
        };
        Some(Self {
            created_at: Timestamp::from_unix_ms(record.created_at_ms),
            seals_reserved: record.seals_reserved,
            use_from: Timestamp::from_unix_ms(record.use_from_ms),
            public_key,
        })
    }
}

impl Wrapping {
    fn of(record: &storage::WrappedKey) -> Self {
        Self {
            kek_id: KekId::from_stored(&record.kek_id),
            recipient: record.recovery.as_ref().map(|wrapping| wrapping.recipient.clone()),
        }
    }
}

/// Wraps a key for a record: by the key-encryption key and, if there is one, for the recovery key.
pub(super) async fn wrap(
    kek: &dyn KekSource,
    recovery: Option<&RecoveryKey>,
    name: &Key,
    key: &[u8; 32],
    facts: &Facts,
) -> Result<(Vec<u8>, Wrapping), KeyringError> {
    let mut plaintext = storage::WrappedKeyPlaintext {
        purpose: String::new(),
        key: key.to_vec(),
        binding: binding(name),
    };
    let encoded = Zeroizing::new(plaintext.encode_to_vec());
    plaintext.key.zeroize();
    let Wrapped {
        kek_id,
        ciphertext,
        annotations,
    } = kek.wrap(&encoded).await?;
    let record = storage::WrappedKey {
        kek_id: kek_id.to_string(),
        ciphertext,
        created_at_ms: facts.created_at.unix_ms(),
        seals_reserved: facts.seals_reserved,
        annotations: annotations
            .into_iter()
            .map(|(key, value)| storage::Annotation { key, value })
            .collect(),
        recovery: for_recovery(recovery, name, key)?,
        use_from_ms: facts.use_from.unix_ms(),
        public_key: facts.public_key.map(Vec::from).unwrap_or_default(),
        proof: Vec::new(),
    };
    let wrapping = Wrapping::of(&record);
    Ok((ProofKey::of(key).prove(name, record), wrapping))
}

/// Writes the wrapping for the recovery key anew, without the key-encryption key.
pub(super) fn with_recovery(
    recovery: Option<&RecoveryKey>,
    name: &Key,
    bytes: &[u8],
    key: &[u8; 32],
) -> Result<(Vec<u8>, Wrapping), KeyringError> {
    let mut record = decode(name, bytes)?;
    record.recovery = for_recovery(recovery, name, key)?;
    let wrapping = Wrapping::of(&record);
    Ok((ProofKey::of(key).prove(name, record), wrapping))
}

fn for_recovery(
    recovery: Option<&RecoveryKey>,
    name: &Key,
    key: &[u8; 32],
) -> Result<Option<storage::RecoveryWrapping>, KeyringError> {
    recovery
        .map(|recovery| recovery.wrap(name, key))
        .transpose()
        .map_err(|_| KekError::CannotWrap.into())
}

/// Unwraps a record by the key-encryption key.
pub(super) async fn unwrap(kek: &dyn KekSource, name: &Key, bytes: &[u8]) -> Result<Unwrapped, KeyringError> {
    let record = decode(name, bytes)?;
    let corrupt = || KeyringError::Corrupt(name.clone());
    let wrapped = Wrapped {
        kek_id: KekId::from_stored(&record.kek_id),
        ciphertext: record.ciphertext.clone(),
        annotations: record
            .annotations
            .iter()
            .map(|annotation| (annotation.key.clone(), annotation.value.clone()))
            .collect(),
    };
    let encoded = kek.unwrap(&wrapped).await.map_err(|error| match error {
        KekError::NotAuthentic => corrupt(),
        KekError::Other { wrapped_by, configured } => KeyringError::OtherKek {
            record: name.clone(),
            wrapped_by,
            configured,
        },
        error => error.into(),
    })?;
    let mut plaintext = storage::WrappedKeyPlaintext::decode(&encoded[..]).map_err(|_| corrupt())?;
    let key = <[u8; 32]>::try_from(&plaintext.key[..]).map(Zeroizing::new);
    plaintext.key.zeroize();
    let key = key.map_err(|_| corrupt())?;
    let is_unproven = plaintext.binding.is_empty();
    let is_bound = if is_unproven {
        // As older programs wrote it. They never wrote what a proof has to cover.
        plaintext.purpose == name.as_str() && record.proof.is_empty() && record.public_key.is_empty()
    } else {
        plaintext.binding == binding(name) && ProofKey::of(&key).is_proven(name, &record)
    };
    let facts = Facts::of(&record).filter(|_| is_bound).ok_or_else(corrupt)?;
    Ok(Unwrapped {
        key,
        facts,
        wrapping: Wrapping::of(&record),
        is_unproven,
    })
}

/// Unwraps a record by the recovery key. None if it is not wrapped for it.
pub(super) fn recover(secret: &RecoverySecret, name: &Key, bytes: &[u8]) -> Result<Option<Unwrapped>, KeyringError> {
    let record = decode(name, bytes)?;
    let corrupt = || KeyringError::Corrupt(name.clone());
    let own = secret.public().map(|public| public.to_string());
    let Some(wrapping) = record
        .recovery
        .as_ref()
        .filter(|wrapping| Some(&wrapping.recipient) == own.as_ref())
    else {
        return Ok(None);
    };
    let key = secret.unwrap(name, wrapping).map_err(|_| corrupt())?;
    let facts = Facts::of(&record).filter(|_| ProofKey::of(&key).is_proven(name, &record));
    Ok(Some(Unwrapped {
        facts: facts.ok_or_else(corrupt)?,
        key,
        wrapping: Wrapping::of(&record),
        is_unproven: false,
    }))
}
