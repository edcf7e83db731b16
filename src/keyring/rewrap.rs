//! Wrapping keys anew: after the key-encryption key was replaced, and when it is lost.

use super::kek::KekSource;
use super::opened::OpenedKeys;
use super::recovery::{RecoveryKey, RecoverySecret};
use super::wrapped;
use super::{DATA_KEY_PREFIX, Keyring, KeyringError, SIGNING_KEY_PREFIX};
use crate::store::{CommitError, Expectation, Key, Scan, Store, Transaction};

/// How often one key starts over because somebody else has written its record.
const TRIES: usize = 32;

impl Keyring {
    /// The records whose key another key-encryption key has wrapped, or that is not wrapped for the recovery key that is
    /// configured, or for one although none is. Asks the source which key it has.
    pub async fn due_for_rewrap(&self) -> Result<Vec<Key>, KeyringError> {
        let kek_id = self.kek.refresh().await?;
        let recipient = self.recovery.as_ref().map(ToString::to_string);
        let is_due = |wrapping: &wrapped::Wrapping| wrapping.kek_id != kek_id || wrapping.recipient != recipient;
        let mut due: Vec<_> = self
            .wrappings
            .iter()
            .filter(|entry| is_due(entry.value()))
            .map(|entry| entry.key().clone())
            .collect();
        due.sort_unstable();
        Ok(due)
    }

    /// Whether the key under a record's name opens, by the key-encryption key, and is what belongs there.
    ///
    /// # Errors
    /// [`KeyringError`]
    pub async fn check(&self, name: &Key, value: &[u8]) -> Result<(), KeyringError> {
        let opened = OpenedKeys::open(&*self.kek, &[(name, value)]).await?;
        opened.into_refused().map_or(Ok(()), Err)
    }

    /// Wraps one key anew. Nothing to do if its record has gone.
    pub async fn rewrap(&self, name: &Key) -> Result<(), KeyringError> {
        for _ in 0..TRIES {
            let Some(record) = self.store.get(name).await? else {
                self.wrappings.remove(name);
                return Ok(());
            };
            let unwrapped = wrapped::unwrap(&*self.kek, name, &record.value).await?;
            let recovery = self.recovery.as_ref();
            let (bytes, wrapping) = wrapped::wrap(&*self.kek, recovery, name, &unwrapped.key, &unwrapped.facts).await?;
            let transaction = Transaction::new()
                .only_if(name.clone(), Expectation::WrittenAt(record.revision))
                .put(name.clone(), bytes);
            match self.store.commit(transaction).await {
                Ok(_) => {
                    self.wrappings.insert(name.clone(), wrapping);
                    return Ok(());
                }
                // Seals were set aside meanwhile.
                Err(CommitError::Conflict { .. }) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        Err(KeyringError::Corrupt(name.clone()))
    }
}

/// What a recovery has done, or why it has done nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Every key is wrapped by the new key-encryption key.
    All {
        /// How many.
        keys: usize,
        /// The ids of the signing keys among them, those included that only verify.
        signing_keys: Vec<String>,
    },
    /// These are not wrapped for the recovery key. Nothing was changed.
    Lacking(Vec<Key>),
}

/// Wraps every key of a store by `kek`, with the recovery key in the place of the key-encryption key that is lost: in one
/// transaction, so all of them or none. Nobody else has the store open.
///
/// # Errors
/// [`KeyringError`], also if a record is damaged. Nothing was changed then.
pub async fn recover(
    store: &dyn Store,
    secret: &RecoverySecret,
    kek: &dyn KekSource,
    recovery: Option<&RecoveryKey>,
) -> Result<Recovered, KeyringError> {
    let mut transaction = Transaction::new();
    let (mut keys, mut signing_keys, mut lacking) = (0, Vec::new(), Vec::new());
    for prefix in [SIGNING_KEY_PREFIX, DATA_KEY_PREFIX] {
        let all = Scan {
            prefix: prefix.into(),
            after: None,
            limit: usize::MAX,
        };
        for record in store.scan(all).await? {
            let name = record.key;
            let Some(unwrapped) = wrapped::recover(secret, &name, &record.value)? else {
                lacking.push(name);
                continue;
            };
            let (bytes, _) = wrapped::wrap(kek, recovery, &name, &unwrapped.key, &unwrapped.facts).await?;
            keys += 1;
            signing_keys.extend(name.as_str().strip_prefix(SIGNING_KEY_PREFIX).map(str::to_owned));
            transaction = transaction
                .only_if(name.clone(), Expectation::WrittenAt(record.revision))
                .put(name, bytes);
        }
    }
    if !lacking.is_empty() {
        return Ok(Recovered::Lacking(lacking));
    }
    match store.commit(transaction).await {
        Ok(_) => Ok(Recovered::All { keys, signing_keys }),
        Err(CommitError::Conflict { key, .. }) => Err(KeyringError::Corrupt(key)),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}
