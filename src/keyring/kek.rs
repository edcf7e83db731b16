//! Key-encryption keys: what wraps all other keys. The seam is [`KekSource`]; behind it a key file or a KMS plugin.

mod file;
mod kms;
mod secret_file;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::hardening::Exposure;

pub use self::file::KeyFile;
pub use self::kms::KmsPlugin;
pub(super) use self::secret_file::read_secret_file;

/// Tells key-encryption keys apart and says nothing about them: `file:` or `kms:`, and what follows tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekId(String);

impl KekId {
    /// An id that was written down before.
    pub(super) fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

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

/// A wrapped key, and what its source needs to unwrap it.
pub struct Wrapped {
    /// Which key wrapped it.
    pub kek_id: KekId,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// What a KMS wants to see again.
    pub annotations: BTreeMap<String, Vec<u8>>,
}

/// What wraps and unwraps keys.
#[async_trait]
pub trait KekSource: Send + Sync + 'static {
    /// Which key it wraps with now; none if it has not been able to tell yet. It can change: then every key is due to be
    /// wrapped again.
    fn id(&self) -> Option<KekId>;

    /// What keeps it from wrapping and unwrapping now, as far as that is known.
    fn trouble(&self) -> Option<String>;

    /// Asks it which key it wraps with.
    async fn refresh(&self) -> Result<KekId, KekError>;

    /// Encrypts and authenticates a key.
    async fn wrap(&self, key: &[u8]) -> Result<Wrapped, KekError>;

    /// Gives back what was wrapped.
    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>, KekError>;
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
    /// Others may read the file, or could change it.
    #[error("key file {}: {exposure}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// How.
        exposure: Exposure,
    },
    /// The file holds something else.
    #[error("key file {}: holds no key; it must be {expected}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Another key wrapped it.
    #[error("wrapped by {wrapped_by}, not by {configured}")]
    Other {
        /// Who wrapped it.
        wrapped_by: String,
        /// Who is at hand.
        configured: String,
    },
    /// What is to be unwrapped was changed.
    #[error("the wrapped key is not authentic")]
    NotAuthentic,
    /// The key could not be wrapped.
    #[error("the key could not be wrapped")]
    CannotWrap,
    /// The KMS plugin does not answer, or answers that it cannot. It may be able to later.
    #[error("the KMS plugin {}: {detail}", socket.display())]
    Plugin {
        /// Its socket.
        socket: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

impl KekError {
    /// Whether it may be otherwise later, without anybody changing the configuration.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Plugin { .. })
    }
}

/// A source that wraps, and a key file that only unwraps what it wrapped before.
pub struct Replacing {
    current: Arc<dyn KekSource>,
    previous: KeyFile,
}

impl Replacing {
    /// `current` wraps from now on; what `previous` has wrapped can still be unwrapped.
    #[must_use]
    pub fn new(current: Arc<dyn KekSource>, previous: KeyFile) -> Self {
        Self { current, previous }
    }
}

#[async_trait]
impl KekSource for Replacing {
    fn id(&self) -> Option<KekId> {
        self.current.id()
    }

    fn trouble(&self) -> Option<String> {
        self.current.trouble()
    }

    async fn refresh(&self) -> Result<KekId, KekError> {
        self.current.refresh().await
    }

    async fn wrap(&self, key: &[u8]) -> Result<Wrapped, KekError> {
        self.current.wrap(key).await
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>, KekError> {
        if self.previous.has_wrapped(wrapped) {
            self.previous.unwrap(wrapped).await
        } else {
            self.current.unwrap(wrapped).await
        }
    }
}

/// A name for what is at hand, in errors.
fn name_of(id: Option<KekId>, otherwise: &Path) -> String {
    id.map_or_else(|| otherwise.display().to_string(), |id| id.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) use super::file::tests::kek;
    pub(crate) use super::kms::tests::Plugin;

    #[tokio::test]
    async fn what_the_previous_key_wrapped_can_be_unwrapped_and_the_new_one_wraps() {
        let old = kek(7).wrap(b"data key").await.unwrap();
        let replacing = Replacing::new(Arc::new(kek(8)), kek(7));
        assert_eq!(&replacing.unwrap(&old).await.unwrap()[..], b"data key");
        let new = replacing.wrap(b"data key").await.unwrap();
        assert_eq!(Some(&new.kek_id), kek(8).id().as_ref());
        assert!(kek(8).unwrap(&new).await.is_ok() && kek(7).unwrap(&new).await.is_err());
        let foreign = kek(9).wrap(b"data key").await.unwrap();
        assert!(matches!(replacing.unwrap(&foreign).await, Err(KekError::Other { .. })));
    }
}
