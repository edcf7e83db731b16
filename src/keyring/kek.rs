//! Key-encryption keys: what wraps all other keys. A key file today; the seam is [`KekSource`].

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Tells key-encryption keys apart and says nothing about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekId(String);

impl KekId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KekId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What wraps and unwraps keys.
#[async_trait]
pub trait KekSource: Send + Sync + 'static {
    /// Which key it wraps with.
    fn id(&self) -> &KekId;

    /// Encrypts and authenticates a key.
    async fn wrap(&self, key: &[u8]) -> Result<Vec<u8>, KekError>;

    /// Gives back what was wrapped.
    async fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KekError>;
}

/// Why a key-encryption key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    /// The file cannot be read.
    #[error(
        "key file {}: {detail}; a store opens only with the key that it was made with; for a new one `tresor init` makes a key",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        detail: String,
    },
    /// Others may read the file.
    #[error("key file {0}: mode is {mode:03o}, others may read it; run: chmod 600 {0}", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else could change the file.
    #[error(
        "key file {path}: belongs to user {owner}, who could put another key in its place; run: chown {user} {path}",
        path = path.display()
    )]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// The user that it belongs to.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// The file holds something else.
    #[error("key file {}: holds no key; it must be 32 bytes, raw or in base64", .0.display())]
    NotAKey(PathBuf),
    /// What is to be unwrapped was not wrapped by this key, or was changed.
    #[error("the wrapped key is not authentic")]
    NotAuthentic,
    /// The key could not be wrapped.
    #[error("the key could not be wrapped")]
    CannotWrap,
}

/// A key-encryption key from a file: 32 bytes, raw or in base64, readable by its owner alone.
pub struct KeyFile {
    id: KekId,
    cipher: Aes256Gcm,
}

const NONCE_LENGTH: usize = 12;
const ASSOCIATED_DATA: &[u8] = b"tresor wrapped key v1";

impl KeyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`KekError`] if it is missing, not a regular file, open to others, of a user who is neither root nor that of this process,
    /// or holds no key.
    pub fn read(path: &Path) -> Result<Self, KekError> {
        let unreadable = |error: std::io::Error| KekError::Unreadable {
            path: path.into(),
            detail: error.to_string(),
        };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(KekError::NotAKey(path.into()));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KekError::TooOpen {
                path: path.into(),
                mode,
            });
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if !is_trusted(owner, user) {
            return Err(KekError::ForeignOwner {
                path: path.into(),
                owner,
                user,
            });
        }
        // Longer than any key: not worth reading.
        if metadata.len() > 1024 {
            return Err(KekError::NotAKey(path.into()));
        }
        let content = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
        let key = parse_key(&content).ok_or_else(|| KekError::NotAKey(path.into()))?;
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
}

/// Root owns what an operator or Kubernetes hands to a process of another user.
fn is_trusted(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
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
    fn id(&self) -> &KekId {
        &self.id
    }

    async fn wrap(&self, key: &[u8]) -> Result<Vec<u8>, KekError> {
        let mut nonce = [0; NONCE_LENGTH];
        getrandom::fill(&mut nonce).map_err(|_| KekError::CannotWrap)?;
        let mut buffer = Zeroizing::new(Vec::with_capacity(key.len() + 16));
        buffer.extend_from_slice(key);
        self.cipher
            .encrypt_in_place(&Nonce::from(nonce), ASSOCIATED_DATA, &mut *buffer)
            .map_err(|_| KekError::CannotWrap)?;
        Ok([&nonce[..], &buffer].concat())
    }

    async fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KekError> {
        let (nonce, ciphertext) = wrapped
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
    fn a_file_of_another_user_is_refused_unless_that_is_root() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for content in [&b""[..], &[7; 31], &[7; 33], b"not a key", &[b'A'; 2000]] {
            let (_dir, path) = file(content, 0o600);
            assert!(
                matches!(KeyFile::read(&path), Err(KekError::NotAKey(_))),
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
        let wrapped = kek(7).wrap(b"data key").await.unwrap();
        assert_eq!(&kek(7).unwrap(&wrapped).await.unwrap()[..], b"data key");
        assert!(matches!(kek(8).unwrap(&wrapped).await, Err(KekError::NotAuthentic)));
        for length in 0..wrapped.len() {
            assert!(kek(7).unwrap(&wrapped[..length]).await.is_err());
        }
    }
}
