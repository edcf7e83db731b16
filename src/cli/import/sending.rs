//! Batches on their way to the server. To one that says that it cannot take them just now they are sent again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt as _;
use tresor::pb::v1::{ImportCredentialsRequest, ImportCredentialsResponse};

use super::report::Report;
use super::{AHEAD, Chunk};
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// How long a server may take nothing before the import gives up.
const PATIENCE: Duration = Duration::from_mins(2);
/// When a server that was about to end, and is away now, is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The batches of a file.
pub(super) struct Sending {
    chunks: mpsc::Receiver<Chunk>,
    /// Those that are not answered yet.
    unanswered: VecDeque<Chunk>,
    /// When the server answered last.
    answered: Instant,
    /// Whether it has been told since then that the server takes nothing.
    is_waiting: bool,
}

impl Sending {
    pub(super) fn new(chunks: mpsc::Receiver<Chunk>) -> Self {
        Self {
            chunks,
            unanswered: VecDeque::new(),
            answered: Instant::now(),
            is_waiting: false,
        }
    }

    /// Sends all of them.
    ///
    /// # Errors
    /// What is wrong with more than one line, or that the server has taken nothing for [`PATIENCE`].
    pub(super) async fn run(
        mut self,
        connection: &Connection,
        report: &mut Report,
        output: &mut Output,
    ) -> Result<(), Failure> {
        loop {
            let Err(failure) = self.attempt(connection, report, output).await else {
                return Ok(());
            };
            let Some(delay) = self.delay(&failure) else {
                return Err(failure);
            };
            if self.answered.elapsed() + delay > PATIENCE {
                return Err(failure);
            }
            if !std::mem::replace(&mut self.is_waiting, true) {
                report.waits(&failure, output);
            }
            tokio::time::sleep(delay).await;
        }
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

    /// Sends what is not answered, then what comes.
    async fn attempt(
        &mut self,
        connection: &Connection,
        report: &mut Report,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let (outlet, requests) = mpsc::channel(AHEAD);
        // An empty one first: the server answers once it has one, and the first lines may take their time.
        let _ = outlet.try_send(ImportCredentialsRequest::default());
        let requests = ReceiverStream::new(requests);
        let mut answers = connection.admin().import_credentials(requests).await?.into_inner();
        answers.message().await?;
        let mut outlet = Some(outlet);
        // How many of those that are not answered have been sent.
        let mut sent = 0;
        loop {
            let next = self.unanswered.get(sent);
            let is_all_sent = next.is_none();
            let came = tokio::select! {
                is_sent = send(outlet.as_ref(), next) => Came::Room(is_sent),
                chunk = self.chunks.recv(), if is_all_sent && outlet.is_some() => Came::Chunk(chunk),
                answer = answers.message() => Came::Answer(answer?),
            };
            match came {
                Came::Room(true) => sent += 1,
                Came::Chunk(Some(chunk)) => self.unanswered.push_back(chunk),
                // The file is at its end; or the server has ended the call, and says why in its answer.
                Came::Chunk(None) | Came::Room(false) => outlet = None,
                Came::Answer(Some(answer)) if sent > 0 => {
                    sent -= 1;
                    let chunk = self.unanswered.pop_front().expect("it was sent and is not answered");
                    (self.answered, self.is_waiting) = (Instant::now(), false);
                    report.acknowledged(&answer, chunk.problems, chunk.end, output)?;
                }
                Came::Answer(None) if self.unanswered.is_empty() && self.chunks.is_closed() => return Ok(()),
                Came::Answer(_) => return Err(Failure::Incomplete("request that it answers")),
            }
        }
    }
}

/// What an attempt goes on with.
enum Came {
    /// Whether the next batch was sent.
    Room(bool),
    Chunk(Option<Chunk>),
    Answer(Option<ImportCredentialsResponse>),
}

/// Sends a batch once there is room; false if none is wanted any more. Does nothing without one.
async fn send(outlet: Option<&mpsc::Sender<ImportCredentialsRequest>>, next: Option<&Chunk>) -> bool {
    let (Some(outlet), Some(next)) = (outlet, next) else {
        return std::future::pending().await;
    };
    match outlet.reserve().await {
        Ok(room) => {
            room.send(next.request.clone());
            true
        }
        Err(_) => false,
    }
}
