//! A backup is of one revision, whatever is written while it is made.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::support::{Content, backed_up, content, filled, make_to, put};
use crate::backup::{BackupError, Made, SnapshotError, read};
use crate::store::{Filling, Key, Revision, SledStore, Store, Transaction};

/// What a backup holds, with the rule that its reader follows.
fn held(bytes: &[u8]) -> (Revision, Content) {
    let mut content = Content::new();
    let backup = read(bytes, None, |writes| {
        for (key, revision, value) in writes {
            let is_older = content.get(key.as_str()).is_some_and(|(known, _)| *known >= revision.0);
            match value {
                _ if is_older => {}
                Some(value) => drop(content.insert(key.to_string(), (revision.0, value.to_vec()))),
                None => drop(content.remove(key.as_str())),
            }
        }
        Ok::<_, Infallible>(())
    });
    (backup.unwrap().end.revision, content)
}

/// A backup whose walk over the store is under way: its header has come, and no more is read than has room.
struct Begun {
    bytes: Vec<u8>,
    parts: mpsc::Receiver<Bytes>,
    making: JoinHandle<Result<Made, BackupError>>,
}

impl Begun {
    async fn of(store: &Arc<dyn Store>) -> Self {
        let (out, mut parts) = mpsc::channel(1);
        let store = Arc::clone(store);
        let making = tokio::spawn(async move { make_to(store, &out).await });
        let bytes = parts.recv().await.unwrap().to_vec();
        Self { bytes, parts, making }
    }

    async fn finished(mut self) -> Vec<u8> {
        while let Some(part) = self.parts.recv().await {
            self.bytes.extend_from_slice(&part);
        }
        self.making.await.unwrap().unwrap();
        self.bytes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_has_a_backup_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 0).await;
    let (made, bytes) = backed_up(&store).await;
    assert_eq!((made.revision, made.entries), (Revision(0), 0));
    assert_eq!(held(&bytes), (Revision(0), Content::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_store_at_rest_is_what_the_store_holds() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 3000).await;
    let (made, bytes) = backed_up(&store).await;
    let (revision, held) = held(&bytes);
    assert_eq!(held, content(&*store).await);
    assert_eq!((revision, made.bytes), (store.revision(), bytes.len() as u64));
}

/// What is imported meanwhile may be far more than one part of a backup holds.
#[tokio::test(flavor = "multi_thread")]
async fn very_many_changes_meanwhile_are_given_in_parts() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 3000).await;
    let begun = Begun::of(&store).await;
    let large = vec![7; 512 * 1024];
    let transactions = (0..80).map(|n| Transaction::new().put(Key::new(&format!("head/large-{n}")), large.clone()));
    for outcome in store.commit_all(transactions.collect()).await {
        outcome.unwrap();
    }
    assert_eq!(held(&begun.finished().await).1, content(&*store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_writes_of_a_record_in_one_transaction_the_last_one_counts() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 3000).await;
    let begun = Begun::of(&store).await;
    let key = || Key::new("head/000000");
    let put = |value: &[u8]| Transaction::new().put(key(), value).put(key(), b"last".to_vec());
    store.commit(put(b"first")).await.unwrap();
    store
        .commit(
            Transaction::new()
                .put(Key::new("head/a"), b"x".to_vec())
                .remove(Key::new("head/a")),
        )
        .await
        .unwrap();
    assert_eq!(held(&begun.finished().await).1, content(&*store).await);
}

/// Writers change, remove and bring back records, several in a transaction, while backups are made one after the other; each
/// must be exactly what the transactions up to its revision have made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_of_one_revision_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 2500).await;
    let mut history = store.watch().await.unwrap();
    let before = content(&*store).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4_usize)
        .map(|writer| {
            let (store, is_over) = (Arc::clone(&store), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut number = writer;
                while !is_over.load(Ordering::Relaxed) {
                    number = (number * 1_103_515_245 + 12345) % 2_147_483_648;
                    // The same records again and again, at both ends of the walk.
                    let key = |n: usize| Key::new(&format!("head/{:06}", (n / 7) % 2600));
                    let (first, second) = (key(number), key(number / 3));
                    let transaction = match number % 5 {
                        0 => Transaction::new().remove(first),
                        1 => Transaction::new().remove(first.clone()).put(second, b"moved".to_vec()),
                        _ => Transaction::new()
                            .put(first, number.to_be_bytes().to_vec())
                            .put(second, b"with it".to_vec()),
                    };
                    store.commit(transaction).await.unwrap();
                }
            })
        })
        .collect();
    let mut backups = Vec::new();
    for _ in 0..8 {
        backups.push(held(&backed_up(&store).await.1));
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let mut changes = BTreeMap::new();
    while let Ok(change) = history.try_recv() {
        changes.insert(change.revision, change);
    }
    let mut had_changes = 0;
    for (revision, held) in backups {
        let mut expected = before.clone();
        for (at, change) in changes.range(..=revision) {
            for (key, value) in &change.writes {
                match value {
                    Some(value) => drop(expected.insert(key.to_string(), (at.0, value.to_vec()))),
                    None => drop(expected.remove(key.as_str())),
                }
            }
        }
        let differs: Vec<_> = held
            .keys()
            .chain(expected.keys())
            .filter(|key| held.get(*key) != expected.get(*key))
            .map(|key| (key, held.get(key), expected.get(key)))
            .take(3)
            .collect();
        assert!(differs.is_empty(), "the backup of {revision} differs: {differs:?}");
        had_changes += usize::from(held != before);
    }
    assert!(had_changes > 1, "nothing was written while backups were made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_is_the_one_that_was_backed_up_with_every_revision() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 1500).await;
    put(&*store, "head/000003", b"changed").await;
    store
        .commit(Transaction::new().remove(Key::new("head/000004")))
        .await
        .unwrap();
    let (_, bytes) = backed_up(&store).await;
    let other = tempfile::tempdir().unwrap();
    let mut filling = Filling::begin(other.path()).unwrap();
    let backup = read(&bytes[..], None, |writes| filling.apply(writes)).unwrap();
    filling
        .finish(backup.end.revision, backup.header.store_format, &[])
        .unwrap();
    let restored = SledStore::open(other.path()).unwrap();
    assert_eq!(content(&restored).await, content(&*store).await);
    assert_eq!(restored.revision(), store.revision());
    put(&restored, "a", b"goes on").await;
    assert_eq!(restored.revision().0, store.revision().0 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_take_a_backup_holds_nobody_up_and_loses_it_when_too_much_changes() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 3000).await;
    let (out, mut parts) = mpsc::channel::<Bytes>(1);
    let making = tokio::spawn({
        let store = Arc::clone(&store);
        async move { make_to(store, &out).await }
    });
    assert!(parts.recv().await.is_some());
    // 96 MiB, more than is kept for anybody; every save is done.
    for n in 0..96 {
        put(&*store, &format!("head/{n:06}"), &vec![7; 1 << 20]).await;
    }
    let refused = making.await.unwrap().unwrap_err();
    assert!(
        matches!(refused, BackupError::Snapshot(SnapshotError::TooSlow)),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_nobody_takes_any_more_ends() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 3000).await;
    let (out, parts) = mpsc::channel::<Bytes>(1);
    drop(parts);
    let refused = make_to(store, &out).await.unwrap_err();
    assert!(matches!(refused, BackupError::Abandoned), "{refused}");
}
