use std::collections::BTreeSet;
use std::sync::Barrier;

use proptest::prelude::*;

use super::*;
use crate::store::{SledStore, Transaction};

async fn store_of(keys: &BTreeSet<String>) -> (tempfile::TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let put = |transaction: Transaction, key: &String| transaction.put(Key::new(key), *b"value");
    store.commit(keys.iter().fold(Transaction::new(), put)).await.unwrap();
    (dir, Arc::new(store))
}

/// The keys that all readers together have taken.
async fn loaded(store: &Arc<dyn Store>, prefix: &str, loading: Loading) -> Vec<String> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&taken);
    let take = move |records: &[Record]| {
        assert!(records.len() <= loading.page);
        let keys = records.iter().map(|record| record.key.to_string());
        shared.lock().unwrap().extend(keys);
    };
    load(store, prefix, loading, take).await.unwrap();
    let mut taken = std::mem::take(&mut *taken.lock().unwrap());
    taken.sort_unstable();
    taken
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_record_is_taken_once_by_any_number_of_readers(
        ids in proptest::collection::btree_set("[ab][a-c.~ü\u{1}]{0,6}(/[0-9]{1,12})?", 0..200),
        readers in 1..5_usize,
        page in 1..20_usize,
    ) {
        let others = ["head", "head.", "head0", "version/a"].map(str::to_owned);
        let keys: BTreeSet<_> = ids.iter().map(|id| format!("head/{id}")).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let taken = runtime.block_on(async {
            let (_dir, store) = store_of(&keys.iter().cloned().chain(others).collect()).await;
            loaded(&store, "head/", Loading { readers, page }).await
        });
        prop_assert_eq!(taken, keys.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_between_two_texts_is_greater_than_the_one_and_less_than_the_other(one in ".{0,12}", other in ".{0,12}") {
        if let Some(middle) = between(&one, &other) {
            prop_assert!(one < middle && middle < other, "{:?} < {:?} < {:?}", one, middle, other);
        }
    }

    #[test]
    fn between_two_keys_there_is_always_something(one in "[ -~]{0,12}", other in "[ -~]{0,12}") {
        prop_assert_eq!(between(&one, &other).is_some(), one < other, "{:?} {:?}", one, other);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_credentials_of_one_large_tenant_are_taken_by_all_readers_at_once() {
    const READERS: usize = 3;
    let keys = (0..2000).map(|number| format!("head/firm-with-a-long-name/wom/user/u-{number:07}"));
    let (_dir, store) = store_of(&keys.collect()).await;
    let threads: Arc<Mutex<BTreeSet<_>>> = Arc::default();
    let (met, known) = (Arc::new(Barrier::new(READERS)), Arc::clone(&threads));
    // The first page each thread takes waits until as many others take one: with fewer readers at work this never ends.
    let take = move |_: &[Record]| {
        let is_new = known
            .lock()
            .unwrap()
            .insert(format!("{:?}", std::thread::current().id()));
        if is_new && known.lock().unwrap().len() <= READERS {
            met.wait();
        }
    };
    let loading = Loading {
        readers: READERS,
        page: 10,
    };
    load(&store, "head/", loading, take).await.unwrap();
    assert!(threads.lock().unwrap().len() >= READERS);
}
