use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::store::{Expectation, Revision};

/// How many seals the store says have been set aside.
async fn reserved(store: &SledStore, name: &Key) -> u64 {
    let record = store.get(name).await.unwrap().unwrap();
    storage::WrappedKey::decode(&*record.value).unwrap().seals_reserved
}

/// What a keyring has that was opened anew: a key that has sealed before, and no seals at hand.
async fn reopened() -> (tempfile::TempDir, Arc<SledStore>, Keyring, Key) {
    let (dir, store) = store();
    let before = open(&store, 1).await.unwrap();
    before.sealing_key(&tenant("demo"), 1).await.unwrap();
    let keyring = open(&store, 1).await.unwrap();
    (dir, store, keyring, data_key_name(&tenant("demo"), DataKeyId(1)))
}

fn put_record() -> Transaction {
    Transaction::new().put(Key::new("record"), *b"sealed")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_of_seals_survives_a_restart_and_ends_in_a_new_key() {
    let (_dir, store) = store();
    open(&store, 1)
        .await
        .unwrap()
        .sealing_key(&tenant("demo"), 1)
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
        .sealing_key(&tenant("demo"), 1)
        .await
        .unwrap();
    let mut wrapped = reserved(2 * data_key::SEALS_AT_ONCE).await;
    wrapped.seals_reserved = data_key::MAX_SEALS;
    let key = open(&store, 1)
        .await
        .unwrap()
        .data_key(&tenant("demo"), DataKeyId(1))
        .unwrap();
    store
        .commit(Transaction::new().put(name.clone(), key.proof_key().prove(&name, wrapped)))
        .await
        .unwrap();
    let keyring = open(&store, 1).await.unwrap();
    assert_eq!(
        keyring.sealing_key(&tenant("demo"), 1).await.unwrap().id(),
        DataKeyId(2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_seals_is_set_aside_by_the_transaction_that_has_what_the_first_of_it_have_sealed() {
    let (_dir, store, keyring, name) = reopened().await;
    let (demo, before) = (tenant("demo"), store.revision());
    let seals = keyring.seals(&demo, 2).await.unwrap();
    assert_eq!(store.revision(), before);

    // Nobody sets another one aside meanwhile.
    let mut other = pin!(keyring.seals(&demo, 1));
    let mut context = Context::from_waker(Waker::noop());
    assert!(other.as_mut().poll(&mut context).is_pending());

    let committed = keyring.commit(put_record(), seals).await.unwrap();
    assert_eq!(committed, Revision(before.0 + 1));
    assert_eq!(reserved(&store, &name).await, 2 * data_key::SEALS_AT_ONCE);
    assert!(store.get(&Key::new("record")).await.unwrap().is_some());
    let other = other.await.unwrap();
    keyring.commit(Transaction::new(), other).await.unwrap();
    assert_eq!(reserved(&store, &name).await, 2 * data_key::SEALS_AT_ONCE);
    let left = data_key::MAX_SEALS - data_key::SEALS_AT_ONCE - 3;
    assert_eq!(keyring.fewest_seals_left(), Some(left));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_seals_that_was_not_set_aside_is_asked_for_again() {
    let (_dir, store, keyring, name) = reopened().await;
    let demo = tenant("demo");
    // Whoever asked has gone away.
    drop(keyring.seals(&demo, 2).await.unwrap());
    // What it seals is not wanted any more.
    let seals = keyring.seals(&demo, 2).await.unwrap();
    let stale = put_record().only_if(Key::new("record"), Expectation::Present);
    let refused = keyring.commit(stale, seals).await;
    assert!(matches!(refused, Err(CommitError::Conflict { .. })));
    assert_eq!(reserved(&store, &name).await, data_key::SEALS_AT_ONCE);
    // Another process has set one aside.
    let seals = keyring.seals(&demo, 2).await.unwrap();
    let other = open(&store, 1).await.unwrap();
    other.sealing_key(&demo, 1).await.unwrap();
    let refused = keyring.commit(put_record(), seals).await;
    assert!(matches!(refused, Err(CommitError::Conflict { key, .. }) if key == name));
    let seals = keyring.seals(&demo, 2).await.unwrap();
    keyring.commit(put_record(), seals).await.unwrap();
    assert_eq!(reserved(&store, &name).await, 3 * data_key::SEALS_AT_ONCE);
}
