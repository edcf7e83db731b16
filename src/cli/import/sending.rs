//! Batches on their way to the server. To one that says that it cannot take them just now they are sent again.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tresor::pb::v1::{ImportCredentialsRequest, ImportCredentialsResponse};

use super::patience::Patience;
use super::report::Report;
use super::{AHEAD, Chunk};
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// The batches of a file.
pub(super) struct Sending {
    chunks: mpsc::Receiver<Chunk>,
    /// Those that are not answered yet.
    unanswered: VecDeque<Chunk>,
    patience: Patience,
}

impl Sending {
    pub(super) fn new(chunks: mpsc::Receiver<Chunk>, patience: Patience) -> Self {
        Self {
            chunks,
            unanswered: VecDeque::new(),
            patience,
        }
    }

    /// Sends all of them.
    ///
    /// # Errors
    /// What is wrong with more than one line, or that the server has taken nothing for too long.
    pub(super) async fn run(
        mut self,
        connection: &Connection,
        report: &mut Report,
        output: &mut Output,
    ) -> Result<(), Failure> {
        while let Err(failure) = self.attempt(connection, report, output).await {
            self.patience.bear(failure, report, output).await?;
        }
        Ok(())
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
                    self.patience.renew();
                    report.acknowledged(&answer, chunk.problems, chunk.end, output)?;
                }
                Came::Answer(None) if self.has_ended() => return Ok(()),
                Came::Answer(_) => return Err(Failure::Incomplete("request that it answers")),
            }
        }
    }

    /// Whether all that was read is answered, and nothing more will be: the queue is closed before it is empty.
    fn has_ended(&self) -> bool {
        self.unanswered.is_empty() && self.chunks.is_closed() && self.chunks.is_empty()
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

#[cfg(test)]
mod tests {
    use super::super::file::Place;
    use super::*;

    #[test]
    fn an_import_has_not_ended_while_something_waits_that_was_read() {
        let (inlet, chunks) = mpsc::channel(2);
        let mut sending = Sending::new(chunks, Patience::new());
        assert!(!sending.has_ended(), "more may be read");
        assert!(inlet.try_send(Chunk::empty(Place::START)).is_ok());
        drop(inlet);
        assert!(!sending.has_ended());
        let chunk = sending.chunks.try_recv().unwrap();
        assert!(sending.has_ended());
        sending.unanswered.push_back(chunk);
        assert!(!sending.has_ended());
    }
}
