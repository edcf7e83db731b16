//! How long an import waits for a server that says that it cannot take it just now.

use std::time::{Duration, Instant};

use tonic::Code;
use tonic_types::StatusExt as _;

use super::report::Report;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// How long a server may take nothing before the import gives up.
const LONGEST: Duration = Duration::from_mins(2);
/// When a server that was about to end, and is away now, is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether it is worth asking again.
pub(super) struct Patience {
    /// When the server answered last.
    answered: Instant,
    /// Whether it has been told since then that the server takes nothing.
    is_waiting: bool,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            answered: Instant::now(),
            is_waiting: false,
        }
    }

    /// The server has answered.
    pub(super) fn renew(&mut self) {
        *self = Self::new();
    }

    /// Waits until it is worth asking again, and tells so once.
    ///
    /// # Errors
    /// The failure itself if it is not.
    pub(super) async fn bear(
        &mut self,
        failure: Failure,
        report: &mut Report,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let Some(delay) = self.delay(&failure) else {
            return Err(failure);
        };
        if self.answered.elapsed() + delay > LONGEST {
            return Err(failure);
        }
        if !std::mem::replace(&mut self.is_waiting, true) {
            report.waits(&failure, output);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// After which time it is worth trying again.
    fn delay(&self, failure: &Failure) -> Option<Duration> {
        let Failure::Call(status) = failure else { return None };
        if let Some(retry) = status.get_error_details().retry_info() {
            return Some(retry.retry_delay.unwrap_or(AGAIN));
        }
        // One that said that it ends may be started again.
        (self.is_waiting && status.code() == Code::Unavailable).then_some(AGAIN)
    }
}
