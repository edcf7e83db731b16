//! Where a backup is read from, and what is needed to judge it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use tresor::audit::Keys;
use tresor::backup::Identities;

use crate::cli::failure::Failure;

/// What opens a backup that is encrypted.
#[derive(Debug, Args)]
pub(crate) struct IdentityFile {
    /// The file with the age identity that opens the backup, if it is encrypted for a recipient.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

impl IdentityFile {
    /// The identities, if a file is named.
    pub(crate) fn read(&self) -> Result<Option<Identities>, Failure> {
        let read = |path: &PathBuf| {
            Identities::read(path).map_err(|source| Failure::File {
                option: "--identity",
                path: path.clone(),
                source,
            })
        };
        self.identity.as_ref().map(read).transpose()
    }
}

/// The file; `-` for standard input.
pub(crate) fn input(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|source| Failure::File {
        option: "FILE",
        path: path.into(),
        source,
    })?;
    Ok(Box::new(file))
}

/// The public keys in a file, as `tresor jwks` prints them.
pub(crate) fn keys_in(path: &Path) -> Result<Keys, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::File {
        option: "--jwks",
        path: path.into(),
        source,
    })?;
    Keys::parse(&text).map_err(|error| Failure::Usage(format!("--jwks {}: {error}", path.display())))
}
