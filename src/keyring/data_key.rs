//! A data key: seals and opens one tenant's records with AES-256-GCM.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

use super::wrapped::ProofKey;
use crate::time::Timestamp;

/// How often one key may seal with random nonces: 2^32 (NIST SP 800-38D, 8.3).
pub(super) const MAX_SEALS: u64 = 1 << 32;
/// How many seals are set aside in the store at a time. A crash loses the rest of a block, never the count.
pub(super) const SEALS_AT_ONCE: u64 = 1 << 16;

const NONCE_LENGTH: usize = 12;

/// The number of a data key among its tenant's. The first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataKeyId(pub u32);

impl DataKeyId {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for DataKeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A sealed record.
#[derive(Clone)]
pub struct Sealed {
    /// The key that sealed it.
    pub data_key_id: DataKeyId,
    /// The random nonce.
    pub nonce: [u8; NONCE_LENGTH],
    /// The ciphertext, the tag at its end.
    pub ciphertext: Box<[u8]>,
}

/// The record, its place or its header is not what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record is not authentic")]
pub struct OpenError;

/// The record could not be sealed: it is larger than 64 GiB, or there are no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record could not be sealed")]
pub struct SealError;

/// A key with its schedule worked out. The key itself is not kept.
pub struct DataKey {
    id: DataKeyId,
    cipher: Aes256Gcm,
    created_at: Timestamp,
    proof_key: ProofKey,
    /// Seals set aside in all, as the store has it.
    seals_reserved: AtomicU64,
    /// Seals set aside and not used yet.
    seals_left: AtomicU64,
}

impl DataKey {
    /// A key that has no seals set aside yet, so it opens and does not seal. None if its seals are used up beyond the limit.
    pub(super) fn new(id: DataKeyId, key: &[u8; 32], created_at: Timestamp, seals_reserved: u64) -> Option<Self> {
        (seals_reserved <= MAX_SEALS).then(|| Self {
            id,
            cipher: Aes256Gcm::new(key.into()),
            created_at,
            proof_key: ProofKey::of(key),
            seals_reserved: AtomicU64::new(seals_reserved),
            seals_left: AtomicU64::new(0),
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> DataKeyId {
        self.id
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Uses up so many seals of those set aside; false, and none, if there are less.
    pub(super) fn take_seals(&self, count: u64) -> bool {
        self.seals_left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count))
            .is_ok()
    }

    /// Notes that a block was set aside, after which there are `reserved` in all.
    pub(super) fn add_seals(&self, seals: u64, reserved: u64) {
        self.seals_reserved.store(reserved, Ordering::Relaxed);
        self.seals_left.fetch_add(seals, Ordering::Relaxed);
    }

    /// How many seals have been set aside so far.
    pub(super) fn seals_reserved(&self) -> u64 {
        self.seals_reserved.load(Ordering::Relaxed)
    }

    /// How often it may seal still.
    pub(super) fn seals_left(&self) -> u64 {
        MAX_SEALS - self.seals_reserved() + self.seals_left.load(Ordering::Relaxed)
    }

    /// What the facts beside it in the store are proven with.
    pub(super) fn proof_key(&self) -> &ProofKey {
        &self.proof_key
    }

    /// Seals `plaintext` for the record `name`, which is bound in with `header` as associated data. Each time takes one of
    /// the [`Seals`](super::Seals) that were asked for.
    ///
    /// # Errors
    /// [`SealError`] if the operating system gives no random bytes.
    pub fn seal(&self, name: &str, header: &[u8], plaintext: &[u8]) -> Result<Sealed, SealError> {
        let mut nonce = [0; NONCE_LENGTH];
        getrandom::fill(&mut nonce).map_err(|_| SealError)?;
        // Room for the tag, so that no copy of the plaintext stays behind in a smaller buffer.
        let mut buffer = Zeroizing::new(Vec::with_capacity(plaintext.len() + 16));
        buffer.extend_from_slice(plaintext);
        self.cipher
            .encrypt_in_place(&Nonce::from(nonce), &self.associated_data(name, header), &mut *buffer)
            .map_err(|_| SealError)?;
        Ok(Sealed {
            data_key_id: self.id,
            nonce,
            ciphertext: buffer.as_slice().into(),
        })
    }

    /// Opens a record that was sealed under `name` with `header`.
    ///
    /// # Errors
    /// [`OpenError`] if a byte of it differs; nothing of it is told then.
    pub fn open(&self, name: &str, header: &[u8], sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open_parts(name, header, sealed.nonce, &sealed.ciphertext)
    }

    /// The same where nonce and ciphertext stand elsewhere.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub fn open_parts(
        &self,
        name: &str,
        header: &[u8],
        nonce: [u8; NONCE_LENGTH],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        self.cipher
            .decrypt_in_place(&Nonce::from(nonce), &self.associated_data(name, header), &mut *buffer)
            .map_err(|_| OpenError)?;
        Ok(buffer)
    }

    /// Key id, length of the name, name, header: no two records share it.
    fn associated_data(&self, name: &str, header: &[u8]) -> Vec<u8> {
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        let mut data = Vec::with_capacity(8 + name.len() + header.len());
        data.extend_from_slice(&self.id.0.to_be_bytes());
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(name.as_bytes());
        data.extend_from_slice(header);
        data
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "DataKey({}, [redacted])", self.id.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(id: u32, byte: u8) -> DataKey {
        DataKey::new(DataKeyId(id), &[byte; 32], Timestamp::from_unix_ms(0), 0).unwrap()
    }

    #[test]
    fn a_record_opens_only_in_its_place_with_its_header_and_key() {
        let sealed = key(1, 7).seal("head/demo/dat/general", b"v1", b"secret").unwrap();
        assert_eq!(
            &key(1, 7).open("head/demo/dat/general", b"v1", &sealed).unwrap()[..],
            b"secret"
        );
        assert!(key(1, 7).open("head/other/dat/general", b"v1", &sealed).is_err());
        assert!(key(1, 7).open("head/demo/dat/general", b"v2", &sealed).is_err());
        assert!(key(1, 7).open("head/demo/dat/generalv", b"1", &sealed).is_err());
        assert!(key(2, 7).open("head/demo/dat/general", b"v1", &sealed).is_err());
        assert!(key(1, 8).open("head/demo/dat/general", b"v1", &sealed).is_err());
    }

    #[test]
    fn seals_are_counted() {
        let key = key(1, 7);
        assert!(!key.take_seals(1));
        key.add_seals(3, 3);
        assert!(key.take_seals(1) && !key.take_seals(3));
        assert!(key.take_seals(2) && !key.take_seals(1));
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", key(3, 7)), "DataKey(3, [redacted])");
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed(plaintext in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let key = key(1, 7);
            let mut sealed = key.seal("name", b"header", &plaintext).unwrap();
            let at = at.index(sealed.ciphertext.len());
            sealed.ciphertext[at] ^= flip;
            prop_assert!(key.open("name", b"header", &sealed).is_err());
        }
    }
}
