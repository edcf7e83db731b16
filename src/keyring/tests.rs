mod seals;
mod signing;

use std::time::Duration;

use prost::Message as _;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::data_key;
use super::loading::data_key_name;
use super::*;
use crate::keyring::kek::Wrapped;
use crate::keyring::kek::tests::kek;
use crate::pb::storage;
use crate::store::SledStore;
use crate::store::{CommitError, Record, Scan, Transaction};
use crate::time::SystemClock;

const PATIENCE: Duration = Duration::from_mins(1);

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

async fn open(store: &Arc<SledStore>, byte: u8) -> Result<Keyring, KeyringError> {
    open_with(store, byte, None).await
}

async fn open_with(store: &Arc<SledStore>, byte: u8, recovery: Option<RecoveryKey>) -> Result<Keyring, KeyringError> {
    Keyring::open(
        Arc::new(kek(byte)),
        recovery,
        Arc::clone(store) as Arc<dyn Store>,
        Arc::new(SystemClock),
    )
    .await
}

fn store() -> (tempfile::TempDir, Arc<SledStore>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SledStore::open(dir.path()).unwrap());
    (dir, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_the_same_after_a_restart() {
    let (_dir, store) = store();
    let before = open(&store, 1).await.unwrap();
    let sealed = before
        .sealing_key(&tenant("demo"), 1)
        .await
        .unwrap()
        .seal("name", b"", b"text")
        .unwrap();
    let after = open(&store, 1).await.unwrap();
    let key = after.data_key(&tenant("demo"), sealed.data_key_id).unwrap();
    assert_eq!(&key.open("name", b"", &sealed).unwrap()[..], b"text");
    assert_eq!(after.jwks(), before.jwks());
    assert_eq!(after.data_key_times().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_a_key_of_its_own() {
    let (_dir, store) = store();
    let keyring = open(&store, 1).await.unwrap();
    let sealed = keyring
        .sealing_key(&tenant("one"), 1)
        .await
        .unwrap()
        .seal("name", b"", b"text")
        .unwrap();
    let other = keyring.sealing_key(&tenant("other"), 1).await.unwrap();
    assert!(other.open("name", b"", &sealed).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_kek_is_refused_and_writes_nothing() {
    let (_dir, store) = store();
    open(&store, 1).await.unwrap();
    let revision = store.revision();
    let refused = open(&store, 2).await.err().unwrap();
    assert!(matches!(refused, KeyringError::OtherKek { .. }), "{refused}");
    assert_eq!(store.revision(), revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_key_in_anothers_place_is_refused() {
    let (_dir, store) = store();
    let keyring = open(&store, 1).await.unwrap();
    keyring.sealing_key(&tenant("demo"), 1).await.unwrap();
    let stored = store
        .get(&data_key_name(&tenant("demo"), DataKeyId(1)))
        .await
        .unwrap()
        .unwrap();
    let moved = data_key_name(&tenant("thief"), DataKeyId(1));
    store
        .commit(Transaction::new().put(moved.clone(), stored.value))
        .await
        .unwrap();
    let refused = open(&store, 1).await.err().unwrap();
    assert!(matches!(refused, KeyringError::Corrupt(key) if key == moved));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_writers_make_one_key() {
    let (_dir, store) = store();
    let keyring = Arc::new(open(&store, 1).await.unwrap());
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let keyring = Arc::clone(&keyring);
            tokio::spawn(async move { keyring.sealing_key(&tenant("demo"), 1).await.unwrap().id() })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.await.unwrap(), DataKeyId(1));
    }
}

/// A KMS that wraps so many keys and then does not answer.
struct Slow {
    kek: KeyFile,
    answers: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl KekSource for Slow {
    fn id(&self) -> Option<KekId> {
        self.kek.id()
    }

    fn trouble(&self) -> Option<String> {
        self.kek.trouble()
    }

    async fn refresh(&self) -> Result<KekId, KekError> {
        self.kek.refresh().await
    }

    async fn wrap(&self, key: &[u8]) -> Result<Wrapped, KekError> {
        self.answers.acquire().await.unwrap().forget();
        self.kek.wrap(key).await
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>, KekError> {
        self.kek.unwrap(wrapped).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_key_is_long_in_coming_holds_up_no_other() {
    let (_dir, store) = store();
    let before = open(&store, 1).await.unwrap();
    before.sealing_key(&tenant("known"), 1).await.unwrap();
    let answers = Arc::new(Semaphore::new(0));
    let slow = Slow {
        kek: kek(1),
        answers: Arc::clone(&answers),
    };
    let clock = Arc::new(SystemClock);
    let keyring = Keyring::open(Arc::new(slow), None, Arc::clone(&store) as Arc<dyn Store>, clock);
    let keyring = Arc::new(keyring.await.unwrap());
    let new = tokio::spawn({
        let keyring = Arc::clone(&keyring);
        async move { keyring.sealing_key(&tenant("new"), 1).await.unwrap().id() }
    });
    while !keyring.making.contains_key(&tenant("new")) {
        tokio::task::yield_now().await;
    }
    // It has seals to set aside, which is a wait for the disk and none for the KMS.
    let known = tenant("known");
    let known = tokio::time::timeout(PATIENCE, keyring.sealing_key(&known, 1)).await;
    assert_eq!(known.expect("it waits for nobody").unwrap().id(), DataKeyId(1));
    assert!(!new.is_finished());
    answers.add_permits(1);
    assert_eq!(new.await.unwrap(), DataKeyId(1));
}

/// Every wrapped key in the store.
async fn records(store: &SledStore) -> Vec<Record> {
    let mut all = Vec::new();
    for prefix in [SIGNING_KEY_PREFIX, DATA_KEY_PREFIX] {
        let scan = Scan {
            prefix: prefix.into(),
            after: None,
            limit: usize::MAX,
        };
        all.extend(store.scan(scan).await.unwrap());
    }
    all
}

fn decoded(record: &Record) -> storage::WrappedKey {
    storage::WrappedKey::decode(&*record.value).unwrap()
}

/// Writes the store's keys as programs did before there were proofs.
async fn write_as_before(store: &SledStore, kek: &KeyFile) {
    for record in records(store).await {
        let unwrapped = wrapped::unwrap(kek, &record.key, &record.value).await.unwrap();
        let plaintext = storage::WrappedKeyPlaintext {
            purpose: record.key.to_string(),
            key: unwrapped.key.to_vec(),
            binding: Vec::new(),
        };
        let rewrapped = kek.wrap(&plaintext.encode_to_vec()).await.unwrap();
        let old = storage::WrappedKey {
            kek_id: rewrapped.kek_id.to_string(),
            ciphertext: rewrapped.ciphertext,
            created_at_ms: unwrapped.facts.created_at.unix_ms(),
            seals_reserved: unwrapped.facts.seals_reserved,
            ..storage::WrappedKey::default()
        };
        let transaction = Transaction::new().put(record.key, old.encode_to_vec());
        store.commit(transaction).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_proofs_is_read_and_gets_them() {
    let (_dir, store) = store();
    let before = open(&store, 1).await.unwrap();
    let key = before.sealing_key(&tenant("demo"), 1).await.unwrap();
    let sealed = key.seal("name", b"", b"text").unwrap();
    write_as_before(&store, &kek(1)).await;
    assert!(
        records(&store)
            .await
            .iter()
            .all(|record| decoded(record).proof.is_empty())
    );

    let after = open(&store, 1).await.unwrap();
    let opened = after.data_key(&tenant("demo"), DataKeyId(1)).unwrap();
    assert_eq!(&opened.open("name", b"", &sealed).unwrap()[..], b"text");
    assert_eq!(
        (opened.created_at(), opened.seals_reserved()),
        (key.created_at(), key.seals_reserved())
    );
    assert_eq!(after.jwks(), before.jwks());
    assert!(
        records(&store)
            .await
            .iter()
            .all(|record| !decoded(record).proof.is_empty())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_beside_a_wrapped_key_is_noticed() {
    let (_dir, store) = store();
    let recovery = RecoverySecret::generate().unwrap().public();
    let keyring = open_with(&store, 1, recovery.clone()).await.unwrap();
    keyring.sealing_key(&tenant("demo"), 1).await.unwrap();
    drop(keyring);
    let changes: [fn(&mut storage::WrappedKey); 7] = [
        |key| key.created_at_ms += 1,
        |key| key.seals_reserved = 0,
        |key| key.use_from_ms += 1,
        |key| key.public_key = vec![7; 32],
        |key| key.recovery.as_mut().unwrap().ciphertext[0] ^= 1,
        |key| key.recovery = None,
        |key| key.proof.clear(),
    ];
    for record in records(&store).await {
        for change in changes {
            let mut forged = decoded(&record);
            change(&mut forged);
            if forged == decoded(&record) {
                continue;
            }
            let transaction = Transaction::new().put(record.key.clone(), forged.encode_to_vec());
            store.commit(transaction).await.unwrap();
            let refused = open_with(&store, 1, recovery.clone()).await.err().unwrap();
            assert!(matches!(refused, KeyringError::Corrupt(key) if key == record.key));
        }
        let transaction = Transaction::new().put(record.key, record.value);
        store.commit(transaction).await.unwrap();
    }
    assert!(open_with(&store, 1, recovery).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_wrapped_for_the_recovery_key_also_those_that_were_there_before_it() {
    let (_dir, store) = store();
    let secret = RecoverySecret::generate().unwrap();
    open(&store, 1)
        .await
        .unwrap()
        .sealing_key(&tenant("before"), 1)
        .await
        .unwrap();
    let keyring = open_with(&store, 1, secret.public()).await.unwrap();
    keyring.sealing_key(&tenant("after"), 1).await.unwrap();
    let status = keyring.wrapping_status();
    assert_eq!((status.keys, status.lacking_recovery), (3, 0));

    // The key-encryption key is lost.
    let recovered = recover(&*store, &secret, &kek(2), secret.public().as_ref())
        .await
        .unwrap();
    let kid = keyring.signing_key().public().kid().to_owned();
    let (keys, signing_keys) = (3, vec![kid]);
    assert_eq!(recovered, Recovered::All { keys, signing_keys });
    let again = open(&store, 2).await.unwrap();
    assert_eq!(again.jwks(), keyring.jwks());
    let key = keyring.sealing_key(&tenant("after"), 1).await.unwrap();
    let sealed = key.seal("name", b"", b"text").unwrap();
    assert!(
        again
            .data_key(&tenant("after"), key.id())
            .unwrap()
            .open("name", b"", &sealed)
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_cannot_open_every_key_changes_nothing() {
    let (_dir, store) = store();
    let secret = RecoverySecret::generate().unwrap();
    let keyring = open_with(&store, 1, secret.public()).await.unwrap();
    keyring.sealing_key(&tenant("demo"), 1).await.unwrap();
    // Another process has made a key without knowing of the recovery key.
    open(&store, 1)
        .await
        .unwrap()
        .sealing_key(&tenant("other"), 1)
        .await
        .unwrap();
    let before = store.revision();
    let lacking = Recovered::Lacking(vec![data_key_name(&tenant("other"), DataKeyId(1))]);
    assert_eq!(recover(&*store, &secret, &kek(2), None).await.unwrap(), lacking);
    let stranger = RecoverySecret::generate().unwrap();
    let Recovered::Lacking(all) = recover(&*store, &stranger, &kek(2), None).await.unwrap() else {
        panic!("a stranger's key recovers it");
    };
    assert_eq!(all.len(), 3);
    assert_eq!(store.revision(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_move_to_another_kek_one_by_one_and_the_old_one_is_needed_no_more() {
    let (_dir, store) = store();
    let before = open(&store, 1).await.unwrap();
    before.sealing_key(&tenant("demo"), 1).await.unwrap();
    let replacing = Arc::new(Replacing::new(Arc::new(kek(2)), kek(1)));
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let keyring = Keyring::open(replacing, None, shared, Arc::new(SystemClock))
        .await
        .unwrap();
    let due = keyring.due_for_rewrap().await.unwrap();
    assert_eq!(keyring.wrapping_status().wrapped_by_another, 2);
    for name in &due {
        keyring.rewrap(name).await.unwrap();
    }
    assert_eq!(keyring.wrapping_status().wrapped_by_another, 0);
    assert!(keyring.due_for_rewrap().await.unwrap().is_empty());
    assert_eq!(open(&store, 2).await.unwrap().jwks(), before.jwks());
    assert!(matches!(open(&store, 1).await, Err(KeyringError::OtherKek { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_by_a_key_that_was_replaced_or_destroyed_since_is_not_written() {
    let (_dir, store) = store();
    let keyring = open(&store, 1).await.unwrap();
    let demo = tenant("demo");
    let put = |key: &DataKey| keyring.while_newest(Transaction::new().put(Key::new("record"), *b"x"), &demo, key);
    let first = keyring.sealing_key(&demo, 1).await.unwrap();
    store.commit(put(&first)).await.unwrap();
    keyring.replace_data_key(&demo, |_| Transaction::new()).await.unwrap();
    assert!(matches!(
        store.commit(put(&first)).await,
        Err(CommitError::Conflict { .. })
    ));
    let second = keyring.sealing_key(&demo, 1).await.unwrap();
    store.commit(put(&second)).await.unwrap();

    keyring.destroy_data_keys(&demo, Vec::new()).await.unwrap();
    keyring.forget_tenant(&demo);
    assert!(matches!(
        store.commit(put(&second)).await,
        Err(CommitError::Conflict { .. })
    ));
    assert!(matches!(
        keyring.sealing_key(&demo, 1).await,
        Err(KeyringError::Erasing(_))
    ));
    let mark = data_keys::erase_name(&demo);
    store.commit(Transaction::new().remove(mark)).await.unwrap();
    keyring.end_erasure(&demo);
    // The tenant's next key has another number, so what was sealed before does not pass for its own.
    assert_eq!(keyring.sealing_key(&demo, 1).await.unwrap().id(), DataKeyId(3));
    assert!(matches!(
        store.commit(put(&second)).await,
        Err(CommitError::Conflict { .. })
    ));
}
