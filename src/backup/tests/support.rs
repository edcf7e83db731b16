//! A store, what is backed up of it, and what is read again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::backup::{BackupError, Made, make};
use crate::keyring::SigningKey;
use crate::store::{Key, Scan, SledStore, Store, Transaction};
use crate::time::{SystemClock, Timestamp};

pub(super) fn signing_key(seed: u8) -> Arc<SigningKey> {
    Arc::new(SigningKey::from_seed(&[seed; 32], Timestamp::EPOCH, Timestamp::EPOCH).unwrap())
}

/// Key, revision and value of every record.
pub(super) type Content = BTreeMap<String, (u64, Vec<u8>)>;

pub(super) async fn content(store: &dyn Store) -> Content {
    let all = Scan {
        prefix: String::new(),
        after: None,
        limit: usize::MAX,
    };
    let records = store.scan(all).await.unwrap().into_iter();
    records
        .map(|record| (record.key.to_string(), (record.revision.0, record.value.to_vec())))
        .collect()
}

pub(super) async fn put(store: &dyn Store, key: &str, value: &[u8]) {
    let transaction = Transaction::new().put(Key::new(key), value);
    store.commit(transaction).await.unwrap();
}

/// A store with as many records.
pub(super) async fn filled(path: &Path, records: usize) -> Arc<dyn Store> {
    let store = SledStore::open(path).unwrap();
    let transactions = (0..records).map(|n| {
        let value = format!("value {n} {}", "x".repeat(n % 700));
        Transaction::new().put(Key::new(&format!("head/{n:06}")), value.into_bytes())
    });
    for outcome in store.commit_all(transactions.collect()).await {
        outcome.unwrap();
    }
    Arc::new(store)
}

/// The whole backup as bytes.
pub(super) async fn backed_up(store: &Arc<dyn Store>) -> (Made, Vec<u8>) {
    let (out, mut parts) = mpsc::channel::<Bytes>(4);
    let store = Arc::clone(store);
    let making = tokio::spawn(async move { make_to(store, &out).await });
    let mut bytes = Vec::new();
    while let Some(part) = parts.recv().await {
        bytes.extend_from_slice(&part);
    }
    (making.await.unwrap().unwrap(), bytes)
}

pub(super) async fn make_to(store: Arc<dyn Store>, out: &mpsc::Sender<Bytes>) -> Result<Made, BackupError> {
    make(store, signing_key(7), &SystemClock, "the newest line".into(), out).await
}
