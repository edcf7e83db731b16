//! Whom a file or a folder is open to. "Others" are everybody but its owner and its group: the group stays the operator's
//! business, because Kubernetes hands volumes to a pod through theirs (`fsGroup`). The key file alone is stricter; see
//! [`crate::keyring::KeyFile`].

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What others may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// Neither read, write nor search: what holds secrets.
    Everything,
    /// Write: what decides over others.
    Writing,
}

/// A file or a folder that is open to others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mode is {mode:03o}, others may {verb} it; run: chmod {change} {}", path.display())]
pub struct OpenToOthers {
    path: PathBuf,
    mode: u32,
    verb: &'static str,
    change: &'static str,
}

impl OpenToOthers {
    /// Which file or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What is open to others though it must not be; `None` if all is well.
///
/// # Errors
/// What the operating system says if the path is not to be had.
pub(crate) fn exposure(path: &Path, forbidden: Forbidden) -> io::Result<Option<OpenToOthers>> {
    let mode = path.metadata()?.mode() & 0o777;
    let (bits, change) = match forbidden {
        Forbidden::Everything => (0o007, "o-rwx"),
        Forbidden::Writing => (0o002, "o-w"),
    };
    let open = mode & bits;
    let verb = match open {
        0 => return Ok(None),
        _ if open & 0o002 != 0 => "write",
        _ if open & 0o004 != 0 => "read",
        _ => "enter",
    };
    Ok(Some(OpenToOthers {
        path: path.into(),
        mode,
        verb,
        change,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn others_may_do_nothing_with_a_secret_and_not_write_what_decides_while_the_group_may() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"").unwrap();
        for mode in 0..=0o777 {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let secret = exposure(&path, Forbidden::Everything).unwrap();
            assert_eq!(secret.is_some(), mode % 8 != 0, "{mode:o}");
            let deciding = exposure(&path, Forbidden::Writing).unwrap();
            assert_eq!(deciding.is_some(), mode & 0o002 != 0, "{mode:o}");
        }
    }

    #[test]
    fn it_is_told_what_others_may_do_and_how_to_mend_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let told = |mode, forbidden| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            exposure(path, forbidden).unwrap().unwrap().to_string()
        };
        let shown = path.display();
        let read = format!("mode is 755, others may read it; run: chmod o-rwx {shown}");
        assert_eq!(told(0o755, Forbidden::Everything), read);
        let write = format!("mode is 702, others may write it; run: chmod o-w {shown}");
        assert_eq!(told(0o702, Forbidden::Writing), write);
    }
}
