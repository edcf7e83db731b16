//! A vault in a directory of its own, with a clock that is set by hand.

use std::collections::HashMap;
use std::io::Write as _;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tempfile::{NamedTempFile, TempDir};

use super::builders::{Credential, TENANT, tenant};
use crate::access::{Action, Caller, Policy, Reach, Reveal};
use crate::keyring::{KekSource, KeyFile};
use crate::store::{Key, Record, Revision, Scan, SledStore, Store, Transaction};
use crate::time::{Clock, Timestamp};
use crate::vault::assignment::{Assignment, Choice, Mode};
use crate::vault::catalogue::Catalogue;
use crate::vault::credential::{Login, MailAccount, Secret, Version};
use crate::vault::ids::ProviderId;
use crate::vault::record::{Content, Payload, VersionHeader};
use crate::vault::resolve::Order;
use crate::vault::scope::CredentialRef;
use crate::vault::signature;
use crate::vault::warning::Warning;
use crate::vault::{
    Ask, Asker, CoverageQuery, CredentialInfo, Explanation, Gap, Granted, HandOut, KeyAges, ListQuery, OpenError, Page,
    Refused, Saved, SetAssignment, Settings, Vault, VaultError,
};

pub(crate) const ISSUER: &str = "tresor-test";
pub(crate) const ADMIN: &str = "spiffe://test/admin";
pub(crate) const CACHE_FOR: Duration = Duration::from_mins(1);
/// What a caller sees who may do everything.
pub(crate) const EVERYTHING: Granted = Granted {
    wanted: Some(Reveal::Full),
    general: Some(Reveal::Full),
};
pub(crate) const YEAR: Duration = Duration::from_hours(365 * 24);
pub(crate) const RECEIPT_LIFETIME: Duration = Duration::from_hours(24);

/// When every test begins: the first millisecond of one of DAT's 10-minute frames.
pub(crate) fn start() -> Timestamp {
    Timestamp::from_unix_ms(2_970_000 * 600_000)
}

/// A clock that stands still until it is moved, and knows which threads have asked it how often.
pub(crate) struct ManualClock {
    now: AtomicI64,
    asked_on: Mutex<HashMap<ThreadId, usize>>,
    /// The thread that alone gets an answer.
    held_by: Mutex<Option<ThreadId>>,
    is_free: Condvar,
}

impl ManualClock {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self {
            now: AtomicI64::new(now.unix_ms()),
            asked_on: Mutex::default(),
            held_by: Mutex::default(),
            is_free: Condvar::new(),
        }
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.set(self.now().after(by));
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.now.store(now.unix_ms(), Ordering::Relaxed);
    }

    /// Whether another thread than this one has asked.
    pub(crate) fn was_asked_on_another_thread(&self) -> bool {
        self.asked_on_other_threads() > 0
    }

    /// How often other threads than this one have asked.
    pub(crate) fn asked_on_other_threads(&self) -> usize {
        let this = std::thread::current().id();
        let asked = self.asked_on.lock().unwrap();
        asked
            .iter()
            .filter(|(thread, _)| **thread != this)
            .map(|(_, times)| times)
            .sum()
    }

    /// Other threads than this one get no answer until what is returned is dropped.
    pub(crate) fn hold_other_threads(&self) -> HeldClock<'_> {
        *self.held_by.lock().unwrap() = Some(std::thread::current().id());
        HeldClock(self)
    }
}

/// See [`ManualClock::hold_other_threads`].
pub(crate) struct HeldClock<'a>(&'a ManualClock);

impl Drop for HeldClock<'_> {
    fn drop(&mut self) {
        *self.0.held_by.lock().unwrap() = None;
        self.0.is_free.notify_all();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let this = std::thread::current().id();
        *self.asked_on.lock().unwrap().entry(this).or_default() += 1;
        let is_held = |held_by: &mut Option<ThreadId>| held_by.is_some_and(|holder| holder != this);
        drop(self.is_free.wait_while(self.held_by.lock().unwrap(), is_held).unwrap());
        Timestamp::from_unix_ms(self.now.load(Ordering::Relaxed))
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        issuer: ISSUER.into(),
        cache_for: CACHE_FOR,
        receipt_lifetime: RECEIPT_LIFETIME,
        stale_wait: Duration::from_secs(30),
        allows_plaintext_mail: false,
        recovery_key: None,
        key_ages: KeyAges {
            data_key: YEAR,
            signing_key: YEAR,
            publish_before: Duration::from_hours(1),
        },
    }
}

pub(crate) struct TestVault {
    pub(crate) vault: Arc<Vault>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<dyn Store>,
    _dir: Option<TempDir>,
}

impl Deref for TestVault {
    type Target = Arc<Vault>;

    fn deref(&self) -> &Arc<Vault> {
        &self.vault
    }
}

impl TestVault {
    /// A page of a list, for somebody who waits for it.
    pub(crate) fn list(&self, query: &ListQuery) -> Result<Page, VaultError> {
        self.vault.list(query, &Asker::default())
    }

    /// Who has no usable credential, for somebody who waits for it.
    pub(crate) fn coverage(&self, query: &CoverageQuery) -> Result<Vec<Gap>, VaultError> {
        self.vault.coverage(query, &Asker::default())
    }

    /// An empty one.
    pub(crate) async fn new() -> Self {
        Self::with(Catalogue::built_in(), settings()).await
    }

    /// An empty one for another deployment.
    pub(crate) async fn with(catalogue: Catalogue, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(dir.path()).unwrap());
        let vault = Self::over(store, catalogue, settings).await.unwrap();
        Self {
            _dir: Some(dir),
            ..vault
        }
    }

    /// One over a store that may hold something already. Every vault of these tests has the same key-encryption key.
    pub(crate) async fn over(
        store: Arc<dyn Store>,
        catalogue: Catalogue,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        // Made with mode 0600.
        let mut kek = NamedTempFile::new().unwrap();
        kek.write_all(&[7; 32]).unwrap();
        let kek = Arc::new(KeyFile::read(kek.path()).unwrap());
        Self::with_kek(store, kek, catalogue, settings).await
    }

    pub(crate) async fn with_kek(
        store: Arc<dyn Store>,
        kek: Arc<dyn KekSource>,
        catalogue: Catalogue,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let clock = Arc::new(ManualClock::at(start()));
        let (shared, time) = (Arc::clone(&store), Arc::clone(&clock) as Arc<dyn Clock>);
        Ok(Self {
            vault: Vault::open(shared, kek, time, catalogue, settings).await?,
            clock,
            store,
            _dir: None,
        })
    }

    /// Another process over the same store.
    pub(crate) async fn reopened(&self) -> Self {
        let store = Arc::clone(&self.store);
        Self::over(store, Catalogue::built_in(), settings()).await.unwrap()
    }

    pub(crate) async fn save(&self, credential: Credential) -> Saved {
        self.put(credential.put()).await.unwrap()
    }

    pub(crate) async fn try_save(&self, credential: Credential) -> Result<Saved, VaultError> {
        self.put(credential.put()).await
    }

    pub(crate) async fn assign(&self, provider: &str, mode: Mode) {
        self.choose(provider, assigned(mode)).await;
    }

    pub(crate) async fn set_assignment(&self, set: SetAssignment) -> Result<(Choice, Vec<Warning>), VaultError> {
        let warnings = self.warnings_of(&set).await?;
        Ok((Vault::choose(self, set).await?, warnings))
    }

    pub(crate) async fn choose(&self, provider: &str, assignment: Assignment) -> Vec<String> {
        let (_, warnings) = self.set_assignment(set(provider, assignment)).await.unwrap();
        warnings.iter().map(Warning::message).collect()
    }

    pub(crate) fn resolve(&self, provider: &str, order: impl Into<Order>) -> Result<HandOut, VaultError> {
        self.resolve_as(provider, order, Reveal::Full, None)
    }

    pub(crate) fn resolve_as(
        &self,
        provider: &str,
        order: impl Into<Order>,
        reveal: Reveal,
        receipt_for: Option<&str>,
    ) -> Result<HandOut, VaultError> {
        let (tenant, provider) = (tenant(TENANT), ProviderId::parse(provider).unwrap());
        let ask = Ask {
            tenant: &tenant,
            provider: &provider,
            order: &order.into(),
        };
        let granted = Granted {
            wanted: Some(reveal),
            general: Some(reveal),
        };
        self.vault.resolve(&self.vault.ask(&ask)?, granted, receipt_for)
    }

    pub(crate) fn explain(&self, provider: &str, order: impl Into<Order>) -> Explanation {
        let (tenant, provider) = (tenant(TENANT), ProviderId::parse(provider).unwrap());
        let ask = Ask {
            tenant: &tenant,
            provider: &provider,
            order: &order.into(),
        };
        self.vault.explain(&self.vault.ask(&ask).unwrap(), EVERYTHING)
    }

    /// Insists that the decision gives no credential, and returns why.
    pub(crate) fn refusal(&self, provider: &str, order: impl Into<Order>) -> Refused {
        match self.resolve(provider, order) {
            Err(VaultError::Refused(refused)) => *refused,
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("it was handed out"),
        }
    }

    pub(crate) async fn record(&self, key: &Key) -> Record {
        self.store.get(key).await.unwrap().expect("the record is there")
    }

    /// Writes a record behind the vault's back and waits until the vault has seen it.
    pub(crate) async fn overwrite(&self, key: &Key, value: &[u8]) {
        let transaction = Transaction::new().put(key.clone(), value);
        self.seen(self.store.commit(transaction).await.unwrap()).await;
    }

    pub(crate) async fn seen(&self, revision: Revision) {
        self.at_least(revision).await.unwrap();
    }

    /// The keys of all records.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let all = Scan {
            prefix: String::new(),
            after: None,
            limit: usize::MAX,
        };
        let records = self.store.scan(all).await.unwrap();
        records.iter().map(|record| record.key.to_string()).collect()
    }

    /// Works on what is to be done in the background until nothing is left of it.
    pub(crate) async fn settle(&self) {
        loop {
            self.work_off().await;
            let tasks = self.tasks();
            assert!(
                tasks.rotations.iter().all(|rotation| rotation.trouble.is_none()),
                "{tasks:?}"
            );
            if self.all_tasks().await.is_empty() {
                return;
            }
        }
    }

    /// What is to be done in the background, as the store has it.
    pub(crate) async fn all_tasks(&self) -> Vec<String> {
        let mut keys = self.keys().await;
        keys.retain(|key| key.starts_with("task/"));
        keys
    }

    pub(crate) fn info(&self, credential: &Credential) -> CredentialInfo {
        self.get(&credential.name()).unwrap()
    }
}

pub(crate) fn assigned(mode: Mode) -> Assignment {
    Assignment {
        mode,
        ..Assignment::default()
    }
}

pub(crate) fn with_fallback(mode: Mode) -> Assignment {
    Assignment {
        fallback_to_general: true,
        ..assigned(mode)
    }
}

pub(crate) fn set(provider: &str, assignment: Assignment) -> SetAssignment {
    SetAssignment {
        tenant: tenant(TENANT),
        provider: ProviderId::parse(provider).unwrap(),
        assignment,
        expected_revision: None,
        readable: reach(&["*"], &["*"]),
        by: ADMIN.into(),
    }
}

/// What a caller who may do everything with these providers and scopes may read.
pub(crate) fn reach(providers: &[&str], scopes: &[&str]) -> Reach {
    let policy = format!(
        "[[grant]]\nwho = \"test\"\nmay = [\"credentials.read\"]\ntenants = [\"*\"]\nproviders = {providers:?}\n\
         scopes = {scopes:?}\nreveal = \"full\"\n"
    );
    let policy = Policy::parse(&policy, "test").unwrap();
    let permissions = policy.permissions(&Caller::parse("test").unwrap());
    permissions.reach(Action::CredentialsRead)
}

/// The login that was handed out.
pub(crate) fn login(hand_out: &HandOut) -> &Login {
    match hand_out.secret.as_ref().expect("something is revealed") {
        Secret::Login(login) => login,
        Secret::MailAccount(_) => panic!("this is a mail account"),
    }
}

pub(crate) fn account(hand_out: &HandOut) -> &MailAccount {
    match hand_out.secret.as_ref().expect("something is revealed") {
        Secret::MailAccount(account) => account,
        Secret::Login(_) => panic!("this is a login"),
    }
}

pub(crate) fn password(hand_out: &HandOut) -> &str {
    let secret = hand_out.secret.as_ref().expect("something is revealed");
    secret.password().expect("there is a password").expose_secret()
}

pub(crate) fn signature(hand_out: &HandOut) -> &str {
    let signature = login(hand_out).customer_signature.as_ref();
    signature.expect("there is a signature").value().expose_secret()
}

/// Everything that a version's content consists of, to be compared.
pub(crate) fn everything_of(content: &Content) -> serde_json::Value {
    let given = matches!(
        &content.secret,
        Secret::Login(Login {
            customer_signature: Some(crate::vault::credential::CustomerSignature::Given(_)),
            ..
        })
    );
    let named = CredentialRef::from_path("demo/dat/general").unwrap();
    let dates = VersionHeader {
        version: Version(1),
        saved_at: Timestamp::EPOCH,
        valid_until: None,
    };
    let signed = signature::payload("", (&named).into(), &dates, &content.secret);
    serde_json::json!({
        "secret": serde_json::from_str::<serde_json::Value>(&signed).unwrap(),
        "signature is given": given,
        "note": content.note,
        "saved by": content.saved_by,
        "changed fields": content.changed_fields,
        "kid": content.signature.kid,
        "payload": match &content.payload {
            Payload::Of { issuer } => serde_json::json!({ "issuer": issuer }),
            Payload::Kept(payload) => serde_json::json!(payload.to_vec()),
        },
        "bytes": content.signature.bytes.to_vec(),
    })
}
