//! Work on a store that nobody serves, and on backups, with the keys of a configuration.

mod opening;
pub mod recovery;
mod rescue;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::opening::{Damaged, Opened, open_all};
pub use self::rescue::{Rescued, rescue};
use crate::audit::{self, Keys, LogFolder};
use crate::backup::{self, BackupError, Flaw, NewFile, Unsigned};
use crate::config::{Config, ConfigErrors, Kek};
use crate::keyring::{DATA_KEY_PREFIX, KekError, KekSource, KeyringError, OpenedKeys, SIGNING_KEY_PREFIX};
use crate::store::{CommitError, Expectation, Key, Record, Scan, SledStore, Store, StoreError, Transaction};
use crate::time::{Clock as _, SystemClock};
use crate::vault::check::{self, CheckError, Finding, Inspector, Stop};
use crate::vault::examine;

/// How many records are removed in one transaction.
const AT_ONCE: usize = 256;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// A key in the store.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// All keys of a backup are wrapped by another key-encryption key.
    #[error(
        "its keys are wrapped by the key-encryption key {wrapped_by}, and this configuration has {configured}: it is another \
         vault's, or older than a change of that key; then name the key of then as keys.previous_kek_file, or verify it by the \
         public keys (--jwks FILE)"
    )]
    OtherKek {
        /// Who wrapped them.
        wrapped_by: String,
        /// Who is at hand.
        configured: String,
    },
    /// A server writes the audit log.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// There is no store.
    #[error("{}: there is no store; the configuration must name one", .0.display())]
    NoStore(PathBuf),
    /// A store is to be saved into itself.
    #[error("{}: is the folder that the configuration names for the new store; move it away first", .0.display())]
    SameFolder(PathBuf),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing that could sign.
    #[error("the store has no signing key that opens; start the server once, or restore a backup")]
    NoSigningKey,
    /// The backup was not made.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something is wrong with a backup.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// The store was not looked at to its end.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A record changed, although nobody else has the store open.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Nobody vouches for a backup.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    /// A store was saved, and what is in it is not known.
    #[error("the store was saved and is in {}, but it was not checked: {error}; run `tresor check --config FILE`", path.display())]
    NotChecked {
        /// Where it is.
        path: PathBuf,
        /// What was in the way.
        error: Box<OfflineError>,
    },
}

/// Opens the store that a configuration names, and its keys. No record is written.
///
/// # Errors
/// [`OfflineError`]
pub async fn open(config: &Config) -> Result<(Arc<dyn Store>, OpenedKeys), OfflineError> {
    let kek = Kek::new(&config.keys)?;
    let path = config.store.path.clone();
    if !path.join("db").exists() {
        return Err(OfflineError::NoStore(path));
    }
    let store = tokio::task::spawn_blocking(move || SledStore::open(&path))
        .await
        .map_err(|_| StoreError::Closed)??;
    let keys = opened(&store, &*kek.source).await?;
    // With another key than the store's, nothing of it opens.
    let keys = keys.unless_none_opens()?;
    Ok((Arc::new(store), keys))
}

/// The keys in a store, as far as they open.
async fn opened(store: &dyn Store, kek: &dyn KekSource) -> Result<OpenedKeys, KeyringError> {
    let mut records = Vec::<Record>::new();
    for prefix in [SIGNING_KEY_PREFIX, DATA_KEY_PREFIX] {
        let all = Scan {
            prefix: prefix.into(),
            after: None,
            limit: usize::MAX,
        };
        records.extend(store.scan(all).await?);
    }
    let wrapped: Vec<_> = records.iter().map(|record| (&record.key, &*record.value)).collect();
    OpenedKeys::open(kek, &wrapped).await
}

/// Writes a backup of the store that a configuration names, and returns the key that has signed it.
///
/// # Errors
/// [`OfflineError`]
pub async fn back_up(config: &Config, out: &mpsc::Sender<Bytes>) -> Result<Keys, OfflineError> {
    let (store, keys) = open(config).await?;
    let signing_key = keys.signing_key(SystemClock.now()).ok_or(OfflineError::NoSigningKey)?;
    let checkpoint = match std::fs::read_to_string(config.store.path.join(backup::CHECKPOINT)) {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let public = Keys::of(&[signing_key.public()]);
    backup::make(store, signing_key, &SystemClock, checkpoint, out).await?;
    Ok(public)
}

/// What a check of a store that nobody serves has found.
#[derive(Debug)]
pub struct Checked {
    /// How many records there are.
    pub records: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The records that were set aside.
    pub set_aside: Vec<Key>,
}

struct Noting(Vec<Finding>);

#[async_trait]
impl Inspector for Noting {
    async fn looked_at(&mut self, _: u64) -> Result<(), Stop> {
        Ok(())
    }

    async fn found(&mut self, finding: Finding) -> Result<(), Stop> {
        self.0.push(finding);
        Ok(())
    }
}

/// Looks at everything in the store that a configuration names, and compares it with the audit log. What is broken by itself is then set aside, if a file is named for
/// it: written there, a line of JSON each, and removed from the store when it is on the disk.
///
/// # Errors
/// [`OfflineError`]; nothing was removed then that is not in the file.
pub async fn check(config: &Config, set_aside: Option<&Path>) -> Result<Checked, OfflineError> {
    let (store, keys) = open(config).await?;
    let mut noting = Noting(Vec::new());
    let log = LogFolder(config.audit.directory.clone());
    let records = check::check(&*store, &keys, keys.refused(), Some(&log), &mut noting).await?;
    let findings = noting.0;
    let set_aside = match set_aside {
        Some(file) => self::set_aside(&*store, &findings, file).await?,
        None => Vec::new(),
    };
    Ok(Checked {
        records,
        findings,
        set_aside,
    })
}

async fn set_aside(store: &dyn Store, findings: &[Finding], file: &Path) -> Result<Vec<Key>, OfflineError> {
    let broken = findings.iter().filter(|finding| finding.defect.is_of_the_record());
    let mut all = BTreeMap::<Key, (Record, String)>::new();
    for finding in broken {
        if let Some(record) = store.get(&finding.key).await? {
            all.insert(record.key.clone(), (record, finding.defect.to_string()));
        }
        // Without its head nobody gets at them, and a later save would begin among them.
        for version in examine::versions_of_head(store, &finding.key).await? {
            let why = "a version of a credential that was set aside".to_owned();
            all.entry(version.key.clone()).or_insert((version, why));
        }
    }
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let mut aside = Aside::create(file)?;
    for (record, defect) in all.values() {
        aside.add(record, defect)?;
    }
    aside.finish()?;
    let records: Vec<_> = all.into_values().map(|(record, _)| record).collect();
    for some in records.chunks(AT_ONCE) {
        let transaction = some.iter().fold(Transaction::new(), |transaction, record| {
            transaction
                .only_if(record.key.clone(), Expectation::WrittenAt(record.revision))
                .remove(record.key.clone())
        });
        store.commit(transaction).await?;
    }
    Ok(records.into_iter().map(|record| record.key).collect())
}

/// A file with records that were set aside, a line of JSON each.
struct Aside<'a> {
    file: NewFile,
    path: &'a Path,
}

impl<'a> Aside<'a> {
    fn create(path: &'a Path) -> io::Result<Self> {
        let file = NewFile::create(path, &[])?;
        Ok(Self { file, path })
    }

    fn add(&mut self, record: &Record, defect: &str) -> io::Result<()> {
        let line = serde_json::json!({
            "key": record.key.as_str(),
            "revision": record.revision.0,
            "defect": defect,
            "value": STANDARD.encode(&record.value),
        });
        writeln!(self.file, "{line}")
    }

    fn finish(self) -> io::Result<()> {
        self.file.finish(self.path)
    }
}
