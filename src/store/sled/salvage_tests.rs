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
        (&[".."][..], 0),
        (&["..", ".."], 0),
        (&["..", "..g", "g..p", "p.."], 0),
        // As while leaves are split and merged.
        (&["..", "p..", "..p", "..g", "g.."], 0),
        (&["..", "g..p", "p.."], 1),
        (&["..", "..g", "p.."], 1),
        (&["..", "..g", "g..p"], 1),
        (&["..", "g..p"], 2),
        (&["g..h", "p..q"], 3),
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
    let file = OpenOptions::new().write(true).open(folder.path().join("db")).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(length > SEGMENT_SIZE as u64, "{length} bytes are too few for this");
    for end in (0..length).step_by(SEGMENT_SIZE).collect::<Vec<_>>().into_iter().rev() {
        file.set_len(end).unwrap();
        let left = salvage(folder.path()).unwrap();
        assert!(
            left.gaps > 0,
            "{} records are left of the first {end} bytes",
            left.records.len()
        );
    }
}
