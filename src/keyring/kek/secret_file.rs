//! Files with one key each, for their owner's eyes only.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::KekError;

/// In bytes; longer than any key.
const LONGEST: u64 = 1024;

/// What the file holds.
///
/// # Errors
/// [`KekError`] if it is missing, no regular file, open to others, of a user who is neither root nor that of this process, or
/// too long for a key.
pub(crate) fn read_secret_file(path: &Path, expected: &'static str) -> Result<Zeroizing<Vec<u8>>, KekError> {
    let unreadable = |error: std::io::Error| KekError::Unreadable {
        path: path.into(),
        detail: error.to_string(),
    };
    let not_a_key = || KekError::NotAKey {
        path: path.into(),
        expected,
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(not_a_key());
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KekError::TooOpen {
            path: path.into(),
            mode,
        });
    }
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if !is_trusted(owner, user) {
        return Err(KekError::ForeignOwner {
            path: path.into(),
            owner,
            user,
        });
    }
    if metadata.len() > LONGEST {
        return Err(not_a_key());
    }
    std::fs::read(path).map(Zeroizing::new).map_err(unreadable)
}

/// Root owns what an operator or Kubernetes hands to a process of another user.
fn is_trusted(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_user_is_refused_unless_that_is_root() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }
}
