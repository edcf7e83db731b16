//! Making a recovery key, and opening a store with it whose key-encryption key is lost.

use std::path::{Path, PathBuf};

use crate::backup::Note;
use crate::config::{Config, ConfigErrors, Kek};
use crate::init::{self, InitError};
use crate::keyring::{self, KekError, KekSource, KeyringError, Recovered, RecoveryKey, RecoverySecret};
use crate::store::{Key, SledStore, Store as _, StoreError};
use crate::time::{Clock as _, SystemClock};

/// How many records an error names.
const NAMED: usize = 5;

/// Why a recovery key was not made, or a store not recovered. Nothing has changed then, but for [`RecoveryError::Unsigned`].
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The keys are recovered, and what a restore has left is not signed.
    #[error(
        "the keys are recovered, but what says that the store was restored could not be signed ({0}): the next start takes it for \
         one that was put back to an older state"
    )]
    Unsigned(String),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The file for the secret half.
    #[error(transparent)]
    File(#[from] InitError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The new key-encryption key, or the file with the secret half.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no store.
    #[error("{}: there is no store; the configuration must name the one to recover", .0.display())]
    NoStore(PathBuf),
    /// A key in the store.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Keys were never wrapped for this recovery key.
    #[error(
        "{} of the store's keys are not wrapped for this recovery key: {}; nothing was changed; use the secret half of the key \
         that recovery_public_key named",
        .0.len(), named(.0)
    )]
    Lacking(Vec<Key>),
}

fn named(keys: &[Key]) -> String {
    let first: Vec<_> = keys.iter().take(NAMED).map(Key::as_str).collect();
    let more = if keys.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

/// Writes the secret half of a new recovery key to a file, for its owner only, and returns the public half.
///
/// # Errors
/// [`RecoveryError`]; a file that is there is not overwritten.
pub fn keygen(file: &Path) -> Result<RecoveryKey, RecoveryError> {
    let secret = RecoverySecret::generate().ok_or(RecoveryError::NoRandomness)?;
    let public = secret.public().ok_or(RecoveryError::NoRandomness)?;
    init::write_secret(file, &secret.expose())?;
    Ok(public)
}

/// What was recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// How many keys.
    pub keys: usize,
    /// The ids of the signing keys among them. Whoever could write to the store while the key-encryption key was lost could
    /// have added one, so they are to be compared with those that verifiers know.
    pub signing_keys: Vec<String>,
}

/// Wraps every key of the store that `config` names by the key-encryption key that it names, and for its recovery key; says which.
/// All of them or none.
///
/// # Errors
/// [`RecoveryError`] says what is in the way.
pub async fn restore(config: &Config, secret_file: &Path) -> Result<Restored, RecoveryError> {
    let secret = RecoverySecret::read(secret_file)?;
    let kek = Kek::new(&config.keys)?;
    if !config.store.path.join("db").exists() {
        return Err(RecoveryError::NoStore(config.store.path.clone()));
    }
    let path = config.store.path.clone();
    let store = tokio::task::spawn_blocking(move || SledStore::open(&path))
        .await
        .map_err(|_| StoreError::Closed)??;
    let recovery = config.keys.recovery_public_key.as_ref();
    match keyring::recover(&store, &secret, &*kek.source, recovery).await? {
        Recovered::All { keys, signing_keys } => {
            sign_note(&store, config, &*kek.source).await?;
            Ok(Restored { keys, signing_keys })
        }
        Recovered::Lacking(keys) => Err(RecoveryError::Lacking(keys)),
    }
}

/// A restore without the key-encryption key could not sign what it has left.
async fn sign_note(store: &SledStore, config: &Config, kek: &dyn KekSource) -> Result<(), RecoveryError> {
    let unsigned = |error: &dyn std::fmt::Display| RecoveryError::Unsigned(error.to_string());
    let opened = super::opened(store, kek).await.map_err(|error| unsigned(&error))?;
    match opened.signing_key(SystemClock.now()) {
        Some(key) => Note::sign_beside(&config.store.path, store.revision(), &key).map_err(|error| unsigned(&error)),
        None => Ok(()),
    }
}
