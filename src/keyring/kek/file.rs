//! A key-encryption key in a file.

use std::collections::BTreeMap;
use std::path::Path;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{KekError, KekId, KekSource, Wrapped, read_secret_file};

/// A key-encryption key from a file: 32 bytes, raw or in base64, readable by its owner alone.
pub struct KeyFile {
    id: KekId,
    cipher: Aes256Gcm,
}

const NONCE_LENGTH: usize = 12;
const ASSOCIATED_DATA: &[u8] = b"tresor wrapped key v1";
const EXPECTED: &str = "32 bytes, raw or in base64";

impl KeyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`KekError`] if it is missing, not a regular file, open to others, of a user who is neither root nor that of this process,
    /// or holds no key.
    pub fn read(path: &Path) -> Result<Self, KekError> {
        let content = read_secret_file(path, EXPECTED)?;
        let key = parse_key(&content).ok_or_else(|| KekError::NotAKey {
            path: path.into(),
            expected: EXPECTED,
        })?;
        Ok(Self::new(&key))
    }

    fn new(key: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tresor kek id");
        hash.update(key);
        Self {
            id: KekId(format!("file:{}", hex::encode(&hash.finalize()[..8]))),
            cipher: Aes256Gcm::new(key.into()),
        }
    }

    /// Whether this is the key that wrapped it.
    pub(super) fn has_wrapped(&self, wrapped: &Wrapped) -> bool {
        wrapped.kek_id == self.id
    }
}

fn parse_key(content: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if let Ok(raw) = <[u8; 32]>::try_from(content) {
        return Some(Zeroizing::new(raw));
    }
    let decoded = Zeroizing::new(STANDARD.decode(content.trim_ascii()).ok()?);
    <[u8; 32]>::try_from(&decoded[..]).ok().map(Zeroizing::new)
}

#[async_trait]
impl KekSource for KeyFile {
    fn id(&self) -> Option<KekId> {
        Some(self.id.clone())
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    async fn refresh(&self) -> Result<KekId, KekError> {
        Ok(self.id.clone())
    }

    async fn wrap(&self, key: &[u8]) -> Result<Wrapped, KekError> {
        let mut nonce = [0; NONCE_LENGTH];
        getrandom::fill(&mut nonce).map_err(|_| KekError::CannotWrap)?;
        let mut buffer = Zeroizing::new(Vec::with_capacity(key.len() + 16));
        buffer.extend_from_slice(key);
        self.cipher
            .encrypt_in_place(&Nonce::from(nonce), ASSOCIATED_DATA, &mut *buffer)
            .map_err(|_| KekError::CannotWrap)?;
        Ok(Wrapped {
            kek_id: self.id.clone(),
            ciphertext: [&nonce[..], &buffer].concat(),
            annotations: BTreeMap::new(),
        })
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>, KekError> {
        if !self.has_wrapped(wrapped) {
            return Err(KekError::Other {
                wrapped_by: wrapped.kek_id.to_string(),
                configured: self.id.to_string(),
            });
        }
        let (nonce, ciphertext) = wrapped
            .ciphertext
            .split_first_chunk::<NONCE_LENGTH>()
            .ok_or(KekError::NotAuthentic)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        self.cipher
            .decrypt_in_place(&Nonce::from(*nonce), ASSOCIATED_DATA, &mut *buffer)
            .map_err(|_| KekError::NotAuthentic)?;
        Ok(buffer)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// A key-encryption key for tests.
    pub(crate) fn kek(byte: u8) -> KeyFile {
        KeyFile::new(&[byte; 32])
    }

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek.key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_key_is_read_raw_or_in_base64() {
        let (_raw_dir, raw) = file(&[7; 32], 0o600);
        let (_text_dir, text) = file(format!("{}\n", STANDARD.encode([7; 32])).as_bytes(), 0o400);
        assert_eq!(KeyFile::read(&raw).unwrap().id(), kek(7).id());
        assert_eq!(KeyFile::read(&text).unwrap().id(), kek(7).id());
        assert_ne!(kek(7).id(), kek(8).id());
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_and_the_error_says_how_to_mend_it() {
        let (_dir, path) = file(&[7; 32], 0o640);
        let error = KeyFile::read(&path).err().unwrap().to_string();
        assert!(
            error.contains("mode is 640") && error.contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for content in [&b""[..], &[7; 31], &[7; 33], b"not a key", &[b'A'; 2000]] {
            let (_dir, path) = file(content, 0o600);
            assert!(
                matches!(KeyFile::read(&path), Err(KekError::NotAKey { .. })),
                "{} bytes",
                content.len()
            );
        }
        assert!(matches!(
            KeyFile::read(Path::new("/nonexistent")),
            Err(KekError::Unreadable { .. })
        ));
    }

    #[tokio::test]
    async fn only_the_same_key_unwraps() {
        let mut wrapped = kek(7).wrap(b"data key").await.unwrap();
        assert_eq!(&kek(7).unwrap(&wrapped).await.unwrap()[..], b"data key");
        assert!(matches!(kek(8).unwrap(&wrapped).await, Err(KekError::Other { .. })));
        wrapped.kek_id = kek(8).id;
        assert!(matches!(kek(8).unwrap(&wrapped).await, Err(KekError::NotAuthentic)));
        wrapped.kek_id = kek(7).id;
        let whole = wrapped.ciphertext.clone();
        for length in 0..whole.len() {
            wrapped.ciphertext = whole[..length].to_vec();
            assert!(kek(7).unwrap(&wrapped).await.is_err());
        }
    }
}
