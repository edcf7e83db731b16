//! `tresor recovery`: the second way to the keys, for the day when the key-encryption key is lost. Works on files, not on a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use tresor::config::Config;
use tresor::offline::recovery;

use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Output, details};
use crate::cli::owner;

/// Prepare for the loss of the key-encryption key, and get over it.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  tresor recovery keygen recovery.key")]
pub(crate) enum Recovery {
    Keygen(Keygen),
    Restore(Restore),
}

/// Make a recovery key.
///
/// The file gets the secret half, readable by its owner alone: take it off this machine and keep it where the backups are not.
/// The public half is shown: it goes into the configuration, and every key is wrapped for it as well.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor recovery keygen recovery.key\n\nJSON: {file, public_key}")]
pub(crate) struct Keygen {
    /// The file to write; it must not be there.
    file: PathBuf,
}

/// Wrap every key of a store by another key-encryption key, with the recovery key in the place of the one that is lost.
///
/// The server must not run. The configuration names the store and, in [keys], the new key-encryption key: make a key file or set
/// up the KMS first. All keys are wrapped or none; afterwards the server starts with that configuration.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tresor recovery restore --config /etc/tresor/tresor.toml --secret-file recovery.key\n\n\
    JSON: {keys, signing_keys[]}"
)]
pub(crate) struct Restore {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The secret half of the recovery key.
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
}

#[derive(Serialize)]
struct Made {
    file: PathBuf,
    public_key: String,
}

#[derive(Serialize)]
struct Restored {
    keys: usize,
    signing_keys: Vec<String>,
}

impl Recovery {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Keygen(keygen) => keygen.run(output),
            Self::Restore(restore) => restore.run(output),
        }
    }
}

impl Keygen {
    fn run(&self, output: &mut Output) -> Result<Exit, Failure> {
        let public_key = recovery::keygen(&self.file).map_err(|error| Failure::Start(error.to_string()))?;
        let made = Made {
            file: self.file.clone(),
            public_key: public_key.to_string(),
        };
        output.show(&made, |made| {
            details(&[
                ("secret half", made.file.display().to_string()),
                ("public half", made.public_key.clone()),
                (
                    "next",
                    format!(
                        "keep the file apart from this machine, and add to [keys]: recovery_public_key = \"{}\"",
                        made.public_key
                    ),
                ),
            ])
        })?;
        Ok(Exit::Done)
    }
}

impl Restore {
    fn run(&self, output: &mut Output) -> Result<Exit, Failure> {
        let failed = |error: recovery::RecoveryError| Failure::Start(error.to_string());
        let config = Config::load(&self.config).map_err(|error| failed(error.into()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(Failure::Runtime)?;
        let restored = runtime.block_on(recovery::restore(&config, &self.secret_file));
        owner::remind(&config.store.path, output);
        let restored = restored.map_err(failed)?;
        let recovery::Restored { keys, signing_keys } = restored;
        output.show(&Restored { keys, signing_keys }, |restored| {
            format!(
                "wrapped {} keys by the key-encryption key of the configuration\nsigning keys: {}; compare them with those \
                 that verifiers know\n",
                restored.keys,
                restored.signing_keys.join(", ")
            )
        })?;
        Ok(Exit::Done)
    }
}
