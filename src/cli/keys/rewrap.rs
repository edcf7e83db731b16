//! `tresor rewrap`: after the key-encryption key was replaced.

use clap::Args;
use serde::Serialize;
use tresor::pb::v1::{GetStatusResponse, RewrapKeysRequest};

use super::wait::{Progress, wait};
use crate::cli::connection::Connection;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;

/// Wrap every key by the key-encryption key that is configured now.
///
/// Run it after the key file was replaced (`keys.previous_kek_file`) or the KMS has a new key; `tresor status` shows when it is due.
/// It also wraps the keys for the recovery key. Nothing is sealed anew, and the server serves meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor rewrap --wait\n\nJSON: {keys, done}")]
pub(crate) struct Rewrap {
    /// Wait until all are wrapped.
    #[arg(long)]
    wait: bool,
}

#[derive(Serialize)]
struct Answer {
    keys: u64,
    done: bool,
}

impl Rewrap {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let keys = connection
            .operator()
            .rewrap_keys(RewrapKeysRequest {})
            .await?
            .into_inner()
            .keys;
        if self.wait && keys > 0 {
            wait(connection, output, "wrapping", progress).await?;
        }
        let done = self.wait || keys == 0;
        output.show(&Answer { keys, done }, |answer| match (answer.keys, answer.done) {
            (0, _) => "every key is wrapped as it should be\n".to_owned(),
            (keys, true) => format!("wrapped {keys} keys\n"),
            (keys, false) => format!("wrapping {keys} keys: tresor status shows how far it is\n"),
        })?;
        Ok(Exit::Done)
    }
}

fn progress(status: &GetStatusResponse) -> Progress {
    match &status.rewrap {
        None => Progress::Done,
        Some(rewrap) => Progress::Going {
            done: rewrap.keys_done,
            of: rewrap.keys,
            trouble: rewrap.trouble.clone(),
        },
    }
}
