//! Files that may be read without a risk to whoever reads: a pipe would make it wait for ever, a device or a file without end
//! would fill its memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The longest text that is read as a configuration, a policy, certificates or a key, in bytes.
pub(crate) const LONGEST_TEXT: u64 = 1024 * 1024;

/// Opens a file for reading, unless it is something else than a file, or longer than `longest` bytes.
///
/// # Errors
/// What the operating system says, or why the file is not read.
pub(crate) fn open(path: &Path, longest: u64) -> io::Result<File> {
    // To open a pipe would otherwise be to wait for whoever writes to it.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
    }
    check_length(metadata.len(), longest)?;
    Ok(file)
}

/// The content of such a file.
///
/// # Errors
/// What the operating system says, or why the file is not read.
pub(crate) fn read(file: File, longest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it, so that growing leaves no copy behind.
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut content = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    // It may have grown.
    let read = file.take(longest + 1).read_to_end(&mut content)?;
    check_length(read as u64, longest)?;
    Ok(content)
}

fn check_length(length: u64, longest: u64) -> io::Result<()> {
    if length > longest {
        let message = format!("is longer than {} KiB", longest / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_make_its_reader_wait_or_grow_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        let read = |name: &str| read(open(&at(name), 2048)?, 2048);
        let refused = |name: &str| read(name).unwrap_err().to_string();
        for name in ["pipe", "device", "."] {
            assert_eq!(refused(name), "is not a regular file", "{name}");
        }
        std::fs::write(at("long"), [b'x'; 2049]).unwrap();
        assert_eq!(refused("long"), "is longer than 2 KiB");
        std::fs::write(at("short"), [b'x'; 2048]).unwrap();
        assert_eq!(read("short").unwrap().len(), 2048);
    }
}
