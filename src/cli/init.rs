//! `tresor init`: a key and a configuration to start from.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use tresor::init;

use super::failure::{Exit, Failure};
use super::output::{Output, details};

/// Make a key-encryption key, a configuration and a policy to start from.
///
/// Nothing that is there is overwritten. Keep a copy of the key in another place than the store's backups: without it nothing
/// in the store can be opened, and with it everything can.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor init /etc/tresor")]
pub(crate) struct Init {
    /// The folder to write to; it is made if it is not there.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Serialize)]
struct Created {
    kek_file: PathBuf,
    configuration: PathBuf,
    policy: PathBuf,
}

impl Init {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Exit, Failure> {
        let init::Created {
            kek_file,
            configuration,
            policy,
        } = init::init(&self.dir).map_err(|error| Failure::Start(error.to_string()))?;
        output.show(
            &Created {
                kek_file,
                configuration,
                policy,
            },
            |created| {
                details(&[
                    ("key", created.kek_file.display().to_string()),
                    ("configuration", created.configuration.display().to_string()),
                    ("policy", created.policy.display().to_string()),
                    (
                        "next",
                        format!(
                            "edit both, then: tresor serve --config {}",
                            created.configuration.display()
                        ),
                    ),
                ])
            },
        )?;
        Ok(Exit::Done)
    }
}
