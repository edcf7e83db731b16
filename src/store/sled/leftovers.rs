//! What sled leaves behind when it is cut off. It writes a snapshot into a file of another name first, and takes what is left of one that it
//! did not finish (a full disk, a `kill -9`) for the newest of all, and the store for damaged, at every opening from then on.

use std::fs;
use std::io;
use std::path::Path;

/// What a snapshot begins with, and what its name ends with until it is whole.
const SNAPSHOT: &str = "snap.";
const UNFINISHED: &str = ".generating";

/// Removes snapshots that were not finished. Without them sled reads its log from the newest whole one on, and writes another.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_unfinished = |name: &str| name.starts_with(SNAPSHOT) && name.ends_with(UNFINISHED);
        if name.to_str().is_some_and(is_unfinished) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::store::{Key, SledStore, Store as _, Transaction};

    #[tokio::test]
    async fn a_snapshot_that_was_not_finished_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::new("record");
        for (life, left) in [&b""[..], b"half", b"a whole snapshot is longer than that"]
            .into_iter()
            .enumerate()
        {
            let store = SledStore::open(folder.path()).unwrap();
            assert_eq!(store.get(&key).await.unwrap().is_some(), life > 0);
            let value = [u8::try_from(life).unwrap()];
            store.commit(Transaction::new().put(key.clone(), value)).await.unwrap();
            drop(store);
            let unfinished = folder.path().join("snap.00000000FFFFFFFF.generating");
            std::fs::write(&unfinished, left).unwrap();
            let store = SledStore::open(folder.path()).unwrap();
            assert_eq!(*store.get(&key).await.unwrap().unwrap().value, value);
            assert!(!unfinished.exists());
        }
    }
}
