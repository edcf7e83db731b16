//! Waiting for what a server does in the background, with a progress bar on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tresor::pb::v1::{GetStatusRequest, GetStatusResponse};

use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// How often to look.
const PAUSE: Duration = Duration::from_millis(300);

/// How far something is.
pub(super) enum Progress {
    /// It is done.
    Done,
    /// It goes on.
    Going {
        /// How much is done.
        done: u64,
        /// Of how much; none if that is not known yet.
        of: Option<u64>,
        /// Why it does not go on; empty if it does.
        trouble: String,
    },
}

/// Waits until `progress` says that it is done. Tells each trouble once and goes on waiting: the server tries again.
pub(super) async fn wait(
    connection: &Connection,
    output: &mut Output,
    what: &'static str,
    progress: impl Fn(&GetStatusResponse) -> Progress,
) -> Result<(), Failure> {
    let bar = ProgressBar::new(0).with_prefix(what);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    let mut told = String::new();
    loop {
        let status = connection
            .operator()
            .get_status(GetStatusRequest {})
            .await?
            .into_inner();
        match progress(&status) {
            Progress::Done => {
                bar.finish_and_clear();
                return Ok(());
            }
            Progress::Going { done, of, trouble } => {
                bar.set_length(of.unwrap_or(0));
                bar.set_position(done);
                if !trouble.is_empty() && trouble != told {
                    bar.suspend(|| output.warn(&trouble));
                    told = trouble;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
