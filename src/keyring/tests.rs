use super::*;
use crate::keyring::kek::tests::kek;
use crate::store::SledStore;
use crate::time::SystemClock;

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

async fn open(store: &Arc<SledStore>, byte: u8) -> Result<Keyring, KeyringError> {
    Keyring::open(
        Arc::new(kek(byte)),
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
        .sealing_key(&tenant("demo"))
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
        .sealing_key(&tenant("one"))
        .await
        .unwrap()
        .seal("name", b"", b"text")
        .unwrap();
    let other = keyring.sealing_key(&tenant("other")).await.unwrap();
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
    keyring.sealing_key(&tenant("demo")).await.unwrap();
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
async fn the_count_of_seals_survives_a_restart_and_ends_in_a_new_key() {
    let (_dir, store) = store();
    open(&store, 1)
        .await
        .unwrap()
        .sealing_key(&tenant("demo"))
        .await
        .unwrap();
    let name = data_key_name(&tenant("demo"), DataKeyId(1));
    let reserved = async |expected: u64| {
        let record = store.get(&name).await.unwrap().unwrap();
        let wrapped = storage::WrappedKey::decode(&*record.value).unwrap();
        assert_eq!(wrapped.seals_reserved, expected);
        wrapped
    };
    reserved(data_key::SEALS_AT_ONCE).await;
    open(&store, 1)
        .await
        .unwrap()
        .sealing_key(&tenant("demo"))
        .await
        .unwrap();
    let mut wrapped = reserved(2 * data_key::SEALS_AT_ONCE).await;
    wrapped.seals_reserved = data_key::MAX_SEALS;
    store
        .commit(Transaction::new().put(name, wrapped.encode_to_vec()))
        .await
        .unwrap();
    let keyring = open(&store, 1).await.unwrap();
    assert_eq!(keyring.sealing_key(&tenant("demo")).await.unwrap().id(), DataKeyId(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_writers_make_one_key() {
    let (_dir, store) = store();
    let keyring = Arc::new(open(&store, 1).await.unwrap());
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let keyring = Arc::clone(&keyring);
            tokio::spawn(async move { keyring.sealing_key(&tenant("demo")).await.unwrap().id() })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.await.unwrap(), DataKeyId(1));
    }
}
