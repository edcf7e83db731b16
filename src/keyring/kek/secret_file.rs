//! Files with one key each, for their owner's eyes only.

use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::KekError;
use crate::hardening::modes::{self, Forbidden, Unfit};
use crate::hardening::regular::LONGEST_TEXT;

/// In bytes; longer than any key, so that what is cut off here is none.
const LONGEST: usize = 1024;

/// What the file holds; of one that is too long for a key only the beginning.
///
/// # Errors
/// [`KekError`] if it is missing, no regular file, open to others, or of a user who is neither root nor that of this process.
pub(crate) fn read_secret_file(path: &Path, expected: &'static str) -> Result<Zeroizing<Vec<u8>>, KekError> {
    let unreadable = |error: std::io::Error| KekError::Unreadable {
        path: path.into(),
        detail: error.to_string(),
    };
    // To open a pipe would be to wait for whoever writes to it.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(KekError::NotAKey {
            path: path.into(),
            expected,
        });
    }
    let file = modes::open(path, Forbidden::Sharing, LONGEST_TEXT).map_err(|unfit| match unfit {
        Unfit::Unreadable(error) => unreadable(error),
        Unfit::Exposed(exposure) => KekError::Exposed {
            path: path.into(),
            exposure,
        },
    })?;
    let mut content = Zeroizing::new(Vec::with_capacity(LONGEST));
    file.take(LONGEST as u64)
        .read_to_end(&mut content)
        .map_err(unreadable)?;
    Ok(content)
}
