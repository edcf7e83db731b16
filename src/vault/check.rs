//! Walking over everything in a store: does each record open, is it signed, and is everything there that it refers to?
//!
//! It may be done while the vault serves: what looks wrong is looked at again, if it has changed meanwhile.

mod ledger;

use std::time::{Duration, Instant};

pub use self::ledger::{Ledger, Log, When, Written};
use super::Vault;
use super::credential::Version;
use super::examine::{Defect, KeySource, Sound, examine, examine_unsigned_version};
use super::record::{Content, HEAD_PREFIX, SealedHead, VERSION_PREFIX, VersionHeader, head_key, version_key};
use super::scope::CredentialRef;
use crate::keyring::{ERASE_PREFIX, KeyringError, is_key};
use crate::store::{Key, Record, Revision, Scan, Store, StoreError};

/// How many records are read at once.
const PAGE: usize = 256;
/// How often a record is looked at that changes all the time.
const TRIES: usize = 5;
/// It rests as long as it works, so that it takes half a core at most.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The record.
    pub key: Key,
    /// The revision that wrote it.
    pub revision: Revision,
    /// What is wrong with it.
    pub defect: Defect,
}

/// Where findings go, and who looks into wrapped keys.
#[async_trait::async_trait]
pub trait Inspector: Send + Sync {
    /// A page was looked at; so many records are by now.
    ///
    /// # Errors
    /// [`Stop`]
    async fn looked_at(&mut self, records: u64) -> Result<(), Stop>;

    /// Something is wrong.
    ///
    /// # Errors
    /// [`Stop`]
    async fn found(&mut self, finding: Finding) -> Result<(), Stop>;
}

/// It is not to be gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody wants to know any more")]
pub struct Stop;

/// Why not everything was looked at.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The store is in trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key-encryption key is not at hand.
    #[error(transparent)]
    Kek(#[from] KeyringError),
    /// What it is to be compared with cannot be read.
    #[error("the audit log cannot be read, so the store was not compared with it: {0}")]
    Log(String),
    /// It was stopped.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

/// One walk.
struct Walk<'a> {
    store: &'a dyn Store,
    keys: &'a dyn KeySource,
    inspector: &'a mut dyn Inspector,
    /// Keys that do not open, where it was tried before.
    refused: Option<&'a [(Key, KeyringError)]>,
    vault: Option<&'a Vault>,
    log: Option<&'a dyn Log>,
    /// What the log says was written; as far as the walk has come, what of it was not met.
    expected: Ledger,
    records: u64,
    /// The credential whose version was looked at last, and its current version if its head is there.
    last: Option<(CredentialRef, Option<u64>)>,
    /// The record that was looked at before.
    before: Option<Key>,
}

/// Looks at everything in a store that nobody serves, and compares it with a log, if there is one. `refused` are the wrapped keys
/// that do not open. Says how many records there are.
///
/// # Errors
/// [`CheckError`]
pub async fn check(
    store: &dyn Store,
    keys: &dyn KeySource,
    refused: &[(Key, KeyringError)],
    log: Option<&dyn Log>,
    inspector: &mut dyn Inspector,
) -> Result<u64, CheckError> {
    let walk = Walk {
        store,
        keys,
        inspector,
        refused: Some(refused),
        vault: None,
        log,
        expected: Ledger::default(),
        records: 0,
        last: None,
        before: None,
    };
    walk.everything().await
}

impl Vault {
    /// Looks at everything in the store while the vault serves, and compares it with a log, if there is one. Says how many records
    /// there are.
    ///
    /// # Errors
    /// [`CheckError`]
    pub async fn check(&self, log: Option<&dyn Log>, inspector: &mut dyn Inspector) -> Result<u64, CheckError> {
        let walk = Walk {
            store: &*self.store,
            keys: &*self.keyring,
            inspector,
            refused: None,
            vault: Some(self),
            log,
            expected: Ledger::default(),
            records: 0,
            last: None,
            before: None,
        };
        walk.everything().await
    }
}

impl Walk<'_> {
    async fn everything(mut self) -> Result<u64, CheckError> {
        self.expected = self.ledger().await?;
        let mut after: Option<Key> = None;
        let mut limit = PAGE;
        loop {
            let since = Instant::now();
            let scan = Scan {
                prefix: String::new(),
                after: after.clone(),
                limit,
            };
            let page = match self.store.scan(scan).await {
                Ok(page) => page,
                // One by one, up to the record that cannot be read.
                Err(_) if limit > 1 => {
                    limit = 1;
                    continue;
                }
                Err(error) => {
                    let key = after.unwrap_or_else(|| Key::new(""));
                    self.report(&key, Revision(0), Defect::Unreadable(error.to_string()))
                        .await?;
                    return Ok(self.records);
                }
            };
            let Some(last) = page.last() else {
                self.look_for_lost().await?;
                return Ok(self.records);
            };
            after = Some(last.key.clone());
            for record in page {
                self.records += 1;
                let key = record.key.clone();
                self.look_at(record).await?;
                self.before = Some(key);
            }
            self.inspector.looked_at(self.records).await?;
            if self.vault.is_some() {
                tokio::time::sleep(since.elapsed().min(LONGEST_REST)).await;
            }
        }
    }

    async fn ledger(&self) -> Result<Ledger, CheckError> {
        match self.log {
            Some(log) => log.ledger().await.map_err(CheckError::Log),
            None => Ok(Ledger::default()),
        }
    }

    /// What the log says was written, and was not met.
    async fn look_for_lost(&mut self) -> Result<(), CheckError> {
        let mut lost = Vec::new();
        for key in self.expected.keys() {
            if self.store.get(&key).await?.is_none() && !self.is_being_erased(&key).await? {
                lost.push(key);
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        // It may have been purged meanwhile.
        let now = self.ledger().await?;
        for key in lost {
            if let Some(written) = now.get(&key) {
                self.report(&key, Revision(0), Defect::Lost(written)).await?;
            }
        }
        Ok(())
    }

    async fn look_at(&mut self, mut record: Record) -> Result<(), CheckError> {
        let expected = self.expected.take(&record.key);
        if let Some(written) = expected.filter(|written| written.is_newer_than(record.revision, version_of(&record))) {
            // Not if it was only read before it was written.
            let now = self.store.get(&record.key).await?;
            if now.is_some_and(|now| written.is_newer_than(now.revision, version_of(&now))) {
                let defect = Defect::OlderThanLogged(written);
                self.report(&record.key, record.revision, defect).await?;
            }
        }
        for _ in 0..TRIES {
            let Some(defect) = self.defect(&record).await? else {
                return Ok(());
            };
            // It may have been written, rotated or removed since it was read, or what it refers to may have been.
            match self.store.get(&record.key).await? {
                None => return Ok(()),
                Some(now) if now.revision == record.revision => {
                    if self.is_being_erased(&record.key).await? {
                        return Ok(());
                    }
                    // Once more: what it refers to may have changed between two looks, but not between these two.
                    if self.defect(&now).await?.as_ref() == Some(&defect) {
                        return self.report(&now.key, now.revision, defect).await;
                    }
                    record = now;
                }
                Some(now) => record = now,
            }
        }
        Ok(())
    }

    async fn report(&mut self, key: &Key, revision: Revision, defect: Defect) -> Result<(), CheckError> {
        let key = key.clone();
        Ok(self.inspector.found(Finding { key, revision, defect }).await?)
    }

    /// What is wrong with a record, by itself or with what it refers to.
    async fn defect(&mut self, record: &Record) -> Result<Option<Defect>, CheckError> {
        if is_key(record.key.as_str()) {
            return self.defect_of_key(record).await;
        }
        match examine(record, self.keys) {
            Err(defect) => Ok(Some(defect)),
            Ok(Sound::Other) => Ok(None),
            Ok(Sound::Head(dates, content)) => self.defect_of_head(&record.key, &dates, &content).await,
            Ok(Sound::Version(dates)) => self.defect_of_version(&record.key, &dates).await,
        }
    }

    async fn defect_of_key(&self, record: &Record) -> Result<Option<Defect>, CheckError> {
        let refused = match (self.refused, self.vault) {
            (Some(refused), _) => {
                let own = refused.iter().find(|(key, _)| *key == record.key);
                return Ok(own.map(|(_, error)| Defect::Key(error.to_string())));
            }
            (None, Some(vault)) => vault.keyring.check(&record.key, &record.value).await.err(),
            (None, None) => None,
        };
        match refused {
            // The key-encryption key is away, which says nothing about the record.
            Some(error @ KeyringError::Kek(_)) => Err(error.into()),
            refused => Ok(refused.map(|error| Defect::Key(error.to_string()))),
        }
    }

    async fn defect_of_head(
        &self,
        key: &Key,
        dates: &VersionHeader,
        content: &Content,
    ) -> Result<Option<Defect>, CheckError> {
        let Some(credential) = key
            .as_str()
            .strip_prefix(HEAD_PREFIX)
            .and_then(CredentialRef::from_path)
        else {
            return Ok(Some(Defect::UnknownKey));
        };
        let number = dates.version.0;
        let Some(version) = self.store.get(&version_key(&credential, dates.version)).await? else {
            return Ok(Some(Defect::NoVersion(number)));
        };
        Ok(match examine_unsigned_version(&version, self.keys) {
            // The signature is over name, dates and secret.
            Ok((its_dates, its_content))
                if its_dates != *dates
                    || its_content.signature.bytes != content.signature.bytes
                    || its_content.note != content.note
                    || its_content.saved_by != content.saved_by =>
            {
                Some(Defect::OtherThanVersion(number))
            }
            // What is wrong with the version itself is told when it is its turn.
            _ => None,
        })
    }

    async fn defect_of_version(&mut self, key: &Key, dates: &VersionHeader) -> Result<Option<Defect>, CheckError> {
        let path = key
            .as_str()
            .strip_prefix(VERSION_PREFIX)
            .and_then(|path| path.rsplit_once('/'));
        let Some(credential) = path.and_then(|(path, _)| CredentialRef::from_path(path)) else {
            return Ok(Some(Defect::UnknownKey));
        };
        let number = dates.version.0;
        let known = self.last.as_ref().filter(|(last, _)| *last == credential);
        let mut current = known.and_then(|(_, current)| *current);
        // Asked for anew if what is known would be a defect: it may have changed.
        if current.is_none_or(|current| number > current) {
            let head = self.store.get(&head_key(&credential)).await?;
            current = head.map(|head| match SealedHead::decode(&head) {
                Ok(head) => head.header.version.0,
                // The head's own finding.
                Err(_) => u64::MAX,
            });
            self.last = Some((credential.clone(), current));
        }
        match current {
            None => Ok(Some(Defect::NoHead)),
            Some(current) if number > current => Ok(Some(Defect::NewerThanHead(current))),
            Some(_) => self.lacks_version_before(&credential, number).await,
        }
    }

    async fn lacks_version_before(
        &self,
        credential: &CredentialRef,
        number: u64,
    ) -> Result<Option<Defect>, CheckError> {
        if number <= 1 {
            return Ok(None);
        }
        let before = version_key(credential, Version(number - 1));
        let is_there = self.before.as_ref() == Some(&before) || self.store.get(&before).await?.is_some();
        Ok((!is_there).then_some(Defect::NoVersionBefore(number - 1)))
    }

    /// Whether the record is one of a tenant that is being erased, and so need not open any more.
    async fn is_being_erased(&self, key: &Key) -> Result<bool, CheckError> {
        let mut parts = key.as_str().split('/');
        let (Some("head" | "version" | "assignment"), Some(tenant)) = (parts.next(), parts.next()) else {
            return Ok(false);
        };
        let task = Key::new(&format!("{ERASE_PREFIX}{tenant}"));
        Ok(self.store.get(&task).await?.is_some())
    }
}

/// The version that a head says it has; none for another record, and for a head that does not open.
fn version_of(record: &Record) -> Option<u64> {
    let is_head = record.key.as_str().starts_with(HEAD_PREFIX);
    let head = is_head.then(|| SealedHead::decode(record).ok()).flatten();
    head.map(|head| head.header.version.0)
}
