//! Folders of the vault's own.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::HardeningError;
use super::modes::{Forbidden, exposure};

/// Makes a folder for the owner alone if it is not there, and returns its path without links: whatever it is called later, it
/// is this folder that is used and kept in reach.
///
/// # Errors
/// [`HardeningError::Exposed`] if others may enter it or it is somebody else's, [`HardeningError::Path`] if it cannot be made.
pub fn claim(path: &Path) -> Result<PathBuf, HardeningError> {
    let folder = make(path).map_err(about(path))?;
    is_reserved(path, &folder)?;
    Ok(folder)
}

/// What [`claim`] would return, or why it would not, as far as that shows without making a folder.
///
/// # Errors
/// As those of [`claim`].
pub fn would_claim(path: &Path) -> Result<PathBuf, HardeningError> {
    let whole = std::path::absolute(path).map_err(about(path))?;
    let there = whole.ancestors().find(|above| above.exists());
    let there = there.unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(about(path)(io::ErrorKind::NotADirectory.into()));
    }
    let real = there.canonicalize().map_err(about(path))?;
    if there == whole {
        is_reserved(path, &real)?;
        return Ok(real);
    }
    Ok(whole.strip_prefix(there).map(|rest| real.join(rest)).unwrap_or(real))
}

fn is_reserved(path: &Path, folder: &Path) -> Result<(), HardeningError> {
    match exposure(folder, Forbidden::Everything).map_err(about(path))? {
        Some(exposure) => Err(HardeningError::Exposed {
            path: path.into(),
            exposure,
        }),
        None => Ok(()),
    }
}

fn about(path: &Path) -> impl Fn(io::Error) -> HardeningError {
    move |error| HardeningError::Folder {
        path: path.into(),
        error,
    }
}

/// The same without a look at whom it is open to. Its name outlasts a power cut.
pub(crate) fn make(path: &Path) -> io::Result<PathBuf> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing = path.ancestors().take_while(is_missing).count();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let folder = path.canonicalize()?;
    // The name of one that was there may not be safe either: whoever made it can have been cut off.
    for above in folder.ancestors().skip(1).take(missing.max(1)) {
        File::open(above)?.sync_all()?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_folder_is_made_for_its_owner_alone_and_known_by_its_own_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let folder = root.join("var/store");
        assert_eq!(claim(&folder).unwrap(), folder);
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o700);
        symlink("var", root.join("link")).unwrap();
        assert_eq!(claim(&root.join("link/store")).unwrap(), folder);
        assert_eq!(claim(&root.join("link/other")).unwrap(), root.join("var/other"));
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused_also_behind_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (folder, link) = (directory.path().join("store"), directory.path().join("link"));
        fs::create_dir(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        for (mode, is_refused) in [(0o755, true), (0o701, true), (0o770, false), (0o700, false)] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            for path in [&folder, &link] {
                assert_eq!(claim(path).is_err(), is_refused, "{mode:o}");
            }
        }
    }

    #[test]
    fn what_is_no_folder_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        for path in [file.clone(), file.join("store")] {
            let told = claim(&path).unwrap_err().to_string();
            assert!(told.contains(&path.display().to_string()), "{told}");
        }
    }
}
