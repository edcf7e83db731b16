//! What root writes into a store is root's, and a server of another user could not open it. It is not given away here: root does
//! not change owners in a folder in which somebody else may put links.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::output::Output;

/// Says so, if this is root and the store, or the folder that it lies in, is another user's.
pub(super) fn remind(store: &Path, output: &mut Output) {
    if rustix::process::geteuid().is_root()
        && let Some(text) = reminder(store)
    {
        output.warn(&text);
    }
}

fn reminder(store: &Path) -> Option<String> {
    let owner = |path: &Path| fs::metadata(path).ok().map(|found| (found.uid(), found.gid()));
    let of_another = |(user, _): &(u32, u32)| *user != 0;
    let own = owner(store)?;
    let (user, group) = Some(own)
        .filter(of_another)
        .or_else(|| owner(store.parent()?).filter(of_another))?;
    let store = store.display();
    Some(format!(
        "what root has written to {store} is root's, and the server is user {user}, most likely; before it starts, run: chown -R \
         {user}:{group} {store}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_the_store_or_of_what_it_lies_in_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir(&store).unwrap();
        let own = fs::metadata(&store).unwrap().uid();
        assert_eq!(reminder(&store).is_some(), own != 0);
        if own == 0 {
            for path in [folder.path(), &store] {
                std::os::unix::fs::chown(path, Some(4711), Some(4712)).unwrap();
                let told = reminder(&store).unwrap();
                assert!(
                    told.contains("chown -R 4711:4712 ") && told.ends_with("/store"),
                    "{told}"
                );
            }
        }
        assert_eq!(reminder(&folder.path().join("nothing")), None);
    }
}
