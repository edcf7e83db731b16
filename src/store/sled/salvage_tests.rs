//! What is told of a store of which something is gone that leaves nothing unreadable behind.

use std::fs::OpenOptions;

use super::*;
use crate::store::{SledStore, Store as _, Transaction};

/// Bounds of leaves, as `low..high`.
fn bounds(leaves: &[&str]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let of = |leaf: &&str| {
        let (low, high) = leaf.split_once("..").unwrap();
        (low.into(), high.into())
    };
    leaves.iter().map(of).collect()
}

#[test]
fn what_no_leaf_is_for_is_missing() {
    let written = BTreeMap::from([(FORMAT_KEY.into(), Vec::new())]);
    for (leaves, expected) in [
        (&["..", ".."][..], 0),
        (&["..", "..g", "g..p", "p.."], 0),
        // As while leaves are split and merged.
        (&["..", "..", "p.."], 0),
        (&["..", "p..", "..p", "..g", "g.."], 0),
        (&["..", "g..p", "p.."], 1),
        (&["..", "..g", "p.."], 1),
        (&["..", "..g", "g..p"], 1),
        (&["..", "g..p"], 2),
        (&["g..h", "p..q"], 3),
        (&[".."], 1),
        (&[], 1),
    ] {
        assert_eq!(missing(&written, bounds(leaves)), expected, "{leaves:?}");
    }
    assert_eq!(missing(&BTreeMap::new(), bounds(&[".."])), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_cut_off_lacks_something_wherever_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path()).unwrap();
    for number in 0..180 {
        let key = Key::new(&format!("record/{number:03}"));
        let transaction = Transaction::new().put(key, vec![1; 100_000]);
        store.commit(transaction).await.unwrap();
    }
    drop(store);
    let whole = salvage(folder.path()).unwrap();
    assert_eq!((whole.records.len(), whole.gaps), (180, 0));
    let end = end_of_log(folder.path());
    let file = OpenOptions::new().write(true).open(folder.path().join("db")).unwrap();
    for part in (0..20).rev() {
        file.set_len(end * part / 20).unwrap();
        let left = salvage(folder.path()).unwrap();
        // The journal has what was written last.
        let is_whole = left.records.len() == 180 && part > 10;
        assert!(
            left.gaps > 0 || is_whole,
            "{} records are left of {part} of 20 parts",
            left.records.len()
        );
    }
}

/// Where the last message ends of a log that was written from the file's beginning to its end.
fn end_of_log(folder: &Path) -> u64 {
    let mut file = LogFile::open(folder).unwrap();
    let mut end = 0;
    for segment in file.segments() {
        let messages = file.read(segment).unwrap().messages;
        let ends = messages.iter().map(|message| message.body_at + message.length as u64);
        end = ends.max().unwrap_or(0).max(end);
    }
    end
}

/// What was written last is in the journal alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_has_is_saved_also_without_the_file() {
    let [folder, left] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let store = SledStore::open(folder.path()).unwrap();
    for number in 0..10 {
        let key = Key::new(&format!("record/{number}"));
        store
            .commit(Transaction::new().put(key, b"value".to_vec()))
            .await
            .unwrap();
    }
    fs::copy(folder.path().join(journal::NAME), left.path().join(journal::NAME)).unwrap();
    assert!(leaves_something(left.path()));
    let saved = salvage(left.path()).unwrap();
    assert_eq!((saved.records.len(), saved.gaps > 0), (10, true));
    assert_eq!(saved.revision, store.revision());
}

#[test]
fn what_a_restore_has_left_that_was_cut_off_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    drop(SledStore::open(folder.path()).unwrap());
    fs::write(folder.path().join("restoring"), b"").unwrap();
    let refused = salvage(folder.path()).err().unwrap();
    assert!(matches!(refused, StoreError::Unfinished { .. }), "{refused}");
}
