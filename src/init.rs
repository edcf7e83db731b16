//! The first step of a deployment: a folder with a new key, a configuration and a policy to start from.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The configuration that [`init`] writes. A line `#key = value` shows a default, `# text` explains.
pub(crate) const CONFIGURATION: &str = include_str!("init/tresor.toml");
const POLICY: &str = include_str!("init/policy.toml");

/// What was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The key-encryption key: 32 random bytes in base64, for its owner only. Whoever loses it loses every credential.
    pub kek_file: PathBuf,
    /// The configuration.
    pub configuration: PathBuf,
    /// The policy.
    pub policy: PathBuf,
}

/// Why nothing was created.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Some of the files are there already.
    #[error("{}: exists already and is not overwritten; choose another folder or move it away", list(.0))]
    Exists(Vec<PathBuf>),
    /// A file or the folder cannot be written.
    #[error("{path}: cannot be written: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Creates `kek.key`, `tresor.toml` and `policy.toml` in `folder`, and the folder if it is not there.
///
/// # Errors
/// [`InitError`]; then nothing was written. No file is ever overwritten.
pub fn init(folder: &Path) -> Result<Created, InitError> {
    let created = Created {
        kek_file: folder.join("kek.key"),
        configuration: folder.join("tresor.toml"),
        policy: folder.join("policy.toml"),
    };
    let kek = new_kek()?;
    let files = [
        (&created.kek_file, kek.as_str(), 0o600),
        (&created.configuration, CONFIGURATION, 0o644),
        (&created.policy, POLICY, 0o644),
    ];
    let existing: Vec<_> = files
        .iter()
        .filter(|(path, ..)| is_there(path))
        .map(|(path, ..)| (*path).clone())
        .collect();
    if !existing.is_empty() {
        return Err(InitError::Exists(existing));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(at(folder))?;
    for (index, (path, content, mode)) in files.iter().enumerate() {
        if let Err(error) = write(path, content, *mode) {
            // All or nothing. What cannot be removed either is found by the next attempt.
            for (path, ..) in &files[..index] {
                let _ = fs::remove_file(path);
            }
            return Err(at(path)(error));
        }
    }
    // The names too must outlast a power cut: a key that vanishes takes every credential with it.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))?;
    Ok(created)
}

/// Creates a key file alone: 32 random bytes in base64, for its owner only.
///
/// # Errors
/// [`InitError`]; a file that is there is not overwritten.
pub fn make_kek(path: &Path) -> Result<(), InitError> {
    write_secret(path, &new_kek()?)
}

/// Creates a file for a secret, for its owner only.
///
/// # Errors
/// [`InitError`]; a file that is there is not overwritten.
pub(crate) fn write_secret(path: &Path, content: &str) -> Result<(), InitError> {
    if is_there(path) {
        return Err(InitError::Exists(vec![path.to_owned()]));
    }
    write(path, content, 0o600).map_err(at(path))
}

fn new_kek() -> Result<Zeroizing<String>, InitError> {
    let mut kek = Zeroizing::new([0; 32]);
    getrandom::fill(kek.as_mut()).map_err(InitError::Random)?;
    // Room for the line's end, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(64));
    STANDARD.encode_string(kek.as_ref(), &mut text);
    text.push('\n');
    Ok(text)
}

/// Also true of a symbolic link that leads nowhere.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

fn at(path: &Path) -> impl Fn(io::Error) -> InitError + '_ {
    |error| InitError::File {
        path: path.to_owned(),
        error,
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

#[cfg(test)]
#[path = "init/tests.rs"]
mod tests;
