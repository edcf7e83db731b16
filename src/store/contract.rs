//! What every store must do. Each test runs against each store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{CommitError, Expectation, Key, Revision, Scan, SledStore, Store, StoreError, Transaction};

fn key(text: &str) -> Key {
    Key::new(text)
}

fn put(text: &str, value: &[u8]) -> Transaction {
    Transaction::new().put(key(text), value)
}

fn all(prefix: &str) -> Scan {
    Scan {
        prefix: prefix.into(),
        after: None,
        limit: 100,
    }
}

async fn keys(store: &impl Store, scan: Scan) -> Vec<String> {
    store
        .scan(scan)
        .await
        .unwrap()
        .iter()
        .map(|record| record.key.to_string())
        .collect()
}

async fn revisions_grow_and_records_carry_them(store: impl Store) {
    let first = store.commit(put("a", b"1")).await.unwrap();
    let second = store.commit(put("b", b"2")).await.unwrap();
    assert!(first < second);
    assert_eq!(store.revision(), second);
    let record = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((record.revision, &*record.value), (first, &b"1"[..]));
}

async fn a_failed_expectation_changes_nothing(store: impl Store) {
    let written = store.commit(put("a", b"1")).await.unwrap();
    for (name, expectation) in [
        ("a", Expectation::Absent),
        ("a", Expectation::WrittenAt(Revision(written.0 + 1))),
        ("missing", Expectation::WrittenAt(written)),
        ("missing", Expectation::Present),
    ] {
        let transaction = put("b", b"2").remove(key("a")).only_if(key(name), expectation);
        let refused = store.commit(transaction).await.unwrap_err();
        assert!(matches!(refused, CommitError::Conflict { .. }), "{expectation:?}");
    }
    assert_eq!(keys(&store, all("")).await, ["a"]);
    assert_eq!(store.revision(), written);
    let transaction = put("a", b"3")
        .only_if(key("a"), Expectation::WrittenAt(written))
        .only_if(key("a"), Expectation::Present)
        .only_if(key("missing"), Expectation::Absent);
    store.commit(transaction).await.unwrap();
}

async fn a_scan_is_ordered_bounded_and_goes_on_where_it_stopped(store: impl Store) {
    for name in ["x/2", "x/1", "x/3", "y/1", "w"] {
        store.commit(put(name, b"")).await.unwrap();
    }
    assert_eq!(keys(&store, all("x/")).await, ["x/1", "x/2", "x/3"]);
    let scan = Scan {
        prefix: "x/".into(),
        after: Some(key("x/1")),
        limit: 1,
    };
    assert_eq!(keys(&store, scan).await, ["x/2"]);
    // The place to go on from need not exist any more.
    let scan = Scan {
        prefix: "x/".into(),
        after: Some(key("x/11")),
        limit: 9,
    };
    assert_eq!(keys(&store, scan).await, ["x/2", "x/3"]);
}

async fn a_watcher_sees_every_transaction_in_order(store: impl Store) {
    let mut changes = store.watch().await.unwrap();
    let store = Arc::new(store);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..16 {
                    store
                        .commit(put(&format!("{writer}/{n}"), b"x").remove(key("never")))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for expected in 1..=128 {
        let change = changes.recv().await.unwrap();
        assert_eq!(change.revision, Revision(expected));
        assert_eq!(change.writes.len(), 2);
    }
}

async fn concurrent_writers_of_one_record_do_not_lose_updates(store: impl Store) {
    store.commit(put("counter", b"0")).await.unwrap();
    let store = Arc::new(store);
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut done = 0;
                while done < 10 {
                    let record = store.get(&key("counter")).await.unwrap().unwrap();
                    let next: u32 = std::str::from_utf8(&record.value).unwrap().parse::<u32>().unwrap() + 1;
                    let transaction = put("counter", next.to_string().as_bytes())
                        .only_if(key("counter"), Expectation::WrittenAt(record.revision));
                    done += u32::from(store.commit(transaction).await.is_ok());
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(&*store.get(&key("counter")).await.unwrap().unwrap().value, b"80");
}

async fn of_many_transactions_each_is_done_or_refused_in_their_order(store: impl Store) {
    let taken = store.commit(put("taken", b"0")).await.unwrap();
    let only_new = |name: &str, value: &[u8]| put(name, value).only_if(key(name), Expectation::Absent);
    let outcomes = store
        .commit_all(vec![
            only_new("a", b"1"),
            only_new("taken", b"1"),
            only_new("a", b"2"),
            put("a", b"3").only_if(key("a"), Expectation::WrittenAt(Revision(taken.0 + 1))),
            Transaction::new().remove(key("taken")),
            only_new("taken", b"2"),
        ])
        .await;
    let done = |number: usize| outcomes[number].as_ref().ok().map(|revision| revision.0 - taken.0);
    assert_eq!(
        [0, 1, 2, 3, 4, 5].map(done),
        [Some(1), None, None, Some(2), Some(3), Some(4)]
    );
    for refused in [1, 2] {
        assert!(matches!(outcomes[refused], Err(CommitError::Conflict { .. })));
    }
    let values = [("a", b"3"), ("taken", b"2")];
    for (name, value) in values {
        assert_eq!(&*store.get(&key(name)).await.unwrap().unwrap().value, value);
    }
    assert_eq!(store.revision().0, taken.0 + 4);
}

async fn more_transactions_than_one_sync_takes_are_all_done(store: impl Store) {
    let mut changes = store.watch().await.unwrap();
    let many = (0..3000).map(|n| put(&format!("many/{n:05}"), b"x").remove(key("none")));
    let outcomes = store.commit_all(many.collect()).await;
    for (expected, outcome) in (1..).zip(outcomes) {
        assert_eq!(outcome.unwrap(), Revision(expected));
        assert_eq!(changes.recv().await.unwrap().revision, Revision(expected));
    }
    assert_eq!(store.revision(), Revision(3000));
    let last = store.get(&key("many/02999")).await.unwrap().unwrap();
    assert_eq!(last.revision, Revision(3000));
}

async fn what_can_be_read_is_never_newer_than_what_is_applied(store: impl Store) {
    assert_eq!(store.applied().await.unwrap(), Revision(0));
    let store = Arc::new(store);
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for _ in 0..300 {
                store.commit(put("a", b"1")).await.unwrap();
            }
        }
    });
    let mut seen = Revision(0);
    while seen < Revision(300) {
        seen = store
            .get(&key("a"))
            .await
            .unwrap()
            .map_or(seen, |record| record.revision);
        assert!(store.applied().await.unwrap() >= seen);
    }
    writer.await.unwrap();
    assert_eq!(store.applied().await.unwrap(), store.revision());
}

macro_rules! against_sled {
    ($($test:ident),* $(,)?) => {
        mod sled {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    let dir = tempfile::tempdir().unwrap();
                    super::$test(super::SledStore::open(dir.path()).unwrap()).await;
                }
            )*
        }
    };
}

against_sled!(
    revisions_grow_and_records_carry_them,
    a_failed_expectation_changes_nothing,
    a_scan_is_ordered_bounded_and_goes_on_where_it_stopped,
    a_watcher_sees_every_transaction_in_order,
    concurrent_writers_of_one_record_do_not_lose_updates,
    of_many_transactions_each_is_done_or_refused_in_their_order,
    more_transactions_than_one_sync_takes_are_all_done,
    what_can_be_read_is_never_newer_than_what_is_applied,
);

#[tokio::test(flavor = "multi_thread")]
async fn sled_keeps_everything_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let written = store.commit(put("a", b"1")).await.unwrap();
    drop(store);
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!(store.revision(), written);
    assert_eq!(&*store.get(&key("a")).await.unwrap().unwrap().value, b"1");
}

/// A process that is being started has all files open that this one has, for a moment, and what they have locked.
#[test]
fn a_store_is_opened_again_and_again_while_other_threads_start_processes() {
    let dir = tempfile::tempdir().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = std::process::Command::new("true").status();
                }
            });
        }
        let opened = (0..25).try_for_each(|_| SledStore::open(dir.path()).map(drop));
        is_over.store(true, Ordering::Relaxed);
        opened.unwrap();
    });
}

#[test]
fn two_owners_of_one_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = SledStore::open(dir.path()).unwrap();
    let refused = SledStore::open(dir.path()).err().unwrap();
    assert!(matches!(&refused, StoreError::InUse { holder: Some(pid), .. } if *pid == std::process::id().to_string()));
    assert!(refused.to_string().contains("in use by another process"));
}

/// Looks at the store behind its back, while nobody has it open.
fn in_sled<T>(dir: &std::path::Path, look: impl FnOnce(&::sled::Tree) -> T) -> T {
    super::sled::wait_for_release(dir);
    let database = ::sled::Config::default()
        .path(dir)
        .segment_size(16 << 20)
        .open()
        .unwrap();
    let told = look(&database.open_tree("records").unwrap());
    database.flush().unwrap();
    told
}

/// Makes the store one of another format.
pub(crate) fn set_format(dir: &std::path::Path, format: u32) {
    in_sled(dir, |tree| tree.insert("meta/format", &format.to_be_bytes()).unwrap());
}

pub(crate) fn format(dir: &std::path::Path) -> u32 {
    let stored = in_sled(dir, |tree| tree.get("meta/format").unwrap().unwrap());
    u32::from_be_bytes((*stored).try_into().unwrap())
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStore::open(dir.path()).unwrap());
    assert_eq!(format(dir.path()), super::FORMAT);
    set_format(dir.path(), super::FORMAT + 1);
    let refused = SledStore::open(dir.path()).err().unwrap();
    assert!(
        matches!(refused, StoreError::NewerFormat { found, .. } if found == super::FORMAT + 1),
        "{refused}"
    );
    assert_eq!(format(dir.path()), super::FORMAT + 1);
}

#[test]
fn a_format_that_is_none_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStore::open(dir.path()).unwrap());
    for spoil in [Some(&[0; 4][..]), Some(&[1]), None] {
        in_sled(dir.path(), |tree| {
            tree.insert("head/a", b"").unwrap();
            match spoil {
                Some(bytes) => tree.insert("meta/format", bytes).unwrap(),
                None => tree.remove("meta/format").unwrap(),
            }
        });
        let refused = SledStore::open(dir.path()).err().unwrap();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    }
}

#[test]
fn an_older_store_that_cannot_be_used_is_not_raised() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(store.commit(put("a", b"1"))).unwrap();
    drop(store);
    set_format(dir.path(), 1);
    in_sled(dir.path(), |tree| {
        tree.insert("meta/revision", &0_u64.to_be_bytes()).unwrap()
    });
    let refused = SledStore::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StoreError::LostWrites { .. }), "{refused}");
    assert_eq!(format(dir.path()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lost_its_file_or_its_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    for n in 0..50 {
        store.commit(put(&format!("a/{n}"), &[7; 4000])).await.unwrap();
    }
    drop(store);
    let file = dir.path().join("db");
    let whole = std::fs::read(&file).unwrap();
    for length in [0, whole.len() / 4, whole.len() / 2] {
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("acknowledged"), other.path().join("acknowledged")).unwrap();
        std::fs::copy(dir.path().join("conf"), other.path().join("conf")).unwrap();
        std::fs::write(other.path().join("db"), &whole[..length]).unwrap();
        let refused = SledStore::open(other.path()).err().unwrap();
        let StoreError::LostWrites {
            found, acknowledged, ..
        } = &refused
        else {
            panic!("cut to {length} of {} bytes: {refused}", whole.len());
        };
        assert!(
            *found < Revision(50) && *acknowledged == Revision(50),
            "cut to {length} bytes: {refused}"
        );
        let said = format!(
            "the store {} is at revision {found} but had acknowledged revision 50; it was cut short",
            other.path().display()
        );
        assert!(refused.to_string().starts_with(&said), "{refused}");
    }
    std::fs::remove_file(file).unwrap();
    let refused = SledStore::open(dir.path()).err().unwrap();
    assert!(matches!(refused, StoreError::LostWrites { .. }), "{refused}");
}

/// sled moves large pages to files that it never syncs, so a power cut could lose what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_records_stay_in_the_file_that_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    // More than the largest credential: three secrets of 4 KiB, escaped sixfold in the signed JSON, and the rest.
    let largest = vec![7; 128 * 1024];
    for n in 0..64 {
        for _ in 0..2 {
            store.commit(put(&format!("head/{n:03}"), &largest)).await.unwrap();
        }
    }
    let blobs = std::fs::read_dir(dir.path().join("blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0);
}
