//! What is told of a store of which whole segments are gone.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::*;
use crate::store::sled::SEGMENT_SIZE;
use crate::store::{SledStore, Store as _, Transaction};

type Found = BTreeSet<(String, u64)>;

/// What is saved, and how many places are missing.
fn saved(path: &Path) -> (Found, u64) {
    let saved = salvage(path).unwrap();
    assert_eq!(saved.unreadable, 0);
    let found = saved
        .records
        .iter()
        .map(|record| (record.key.to_string(), record.revision.0));
    (found.collect(), saved.gaps)
}

/// A store of several segments, which has written everything twice.
async fn large_store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path()).unwrap();
    for round in 0..2 {
        for number in 0..300 {
            let key = Key::new(&format!("record/{:03}", number * 7 % 300));
            let transaction = Transaction::new().put(key, vec![round; 100_000]);
            store.commit(transaction).await.unwrap();
        }
    }
    drop(store);
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_segment_is_gone_it_is_told_that_something_is_missing() {
    let folder = large_store().await;
    let (whole, gaps) = saved(folder.path());
    assert_eq!((whole.len(), gaps), (300, 0));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.path().join("db"))
        .unwrap();
    let length = file.metadata().unwrap().len();
    let segments: Vec<_> = (0..length).step_by(SEGMENT_SIZE).collect();
    assert!(segments.len() > 3, "{length} bytes are too few for this");
    let mut losses = 0;
    for &segment in &segments {
        let mut content = vec![0; SEGMENT_SIZE.min(usize::try_from(length - segment).unwrap())];
        file.read_exact_at(&mut content, segment).unwrap();
        file.write_all_at(&vec![0; content.len()], segment).unwrap();
        let (found, gaps) = saved(folder.path());
        file.write_all_at(&content, segment).unwrap();
        let is_less = found != whole;
        losses += u64::from(is_less);
        assert!(
            gaps > 0 || !is_less,
            "without the segment at {segment} {} of {} are left",
            found.len(),
            whole.len()
        );
    }
    assert!(losses > 2, "{losses}");
    // The same for an end that was cut off.
    for &end in segments[1..].iter().rev() {
        file.set_len(end).unwrap();
        let (found, gaps) = saved(folder.path());
        assert!(
            gaps > 0 || found == whole,
            "of the first {end} bytes {} of {} are left",
            found.len(),
            whole.len()
        );
    }
}
