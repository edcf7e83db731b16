//! What an answer waits for.

use std::task::Poll;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Audit;
use crate::audit::error::Unavailable;

/// How often a call looks whether its line is written before it waits to be woken up. A write takes as long as some dozen looks.
const LOOKS: usize = 32;
/// Stands for the line of what is counted with others.
pub(super) const NO_LINE: u64 = 0;

/// A line that was handed in. Whoever answers a call waits for its ticket first.
#[must_use = "the answer must wait until the line is written"]
pub struct Ticket {
    pub(super) audit: Audit,
    /// When waiting has no use any more: fixed when the line was handed in, so that many of them take no longer than one.
    pub(super) until: Instant,
    /// How many lines it is for, one behind the other.
    pub(super) lines: u64,
    pub(super) state: TicketState,
}

pub(super) enum TicketState {
    Waiting {
        answer: oneshot::Receiver<Result<u64, Unavailable>>,
        /// Whether somebody writes it: its waiter, or the thread.
        is_seen_to: bool,
    },
    /// It is counted with others.
    NotListed,
    NoRoom,
}

impl Ticket {
    /// How many lines it is for, one behind the other.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Whether it is for no line, and nothing has to be waited for.
    #[must_use]
    pub fn is_counted_only(&self) -> bool {
        matches!(self.state, TicketState::NotListed)
    }

    /// Waits until the line is written, and returns its number, or that of the last of its lines; 0 if it is counted with
    /// others.
    ///
    /// # Errors
    /// [`Unavailable`] if that fails or takes too long: nothing of the answer may leave.
    pub async fn written(mut self) -> Result<u64, Unavailable> {
        match &mut self.state {
            TicketState::Waiting { answer, is_seen_to } => {
                // The other calls of this thread hand theirs in first: one write takes them all. And another thread that is at it
                // is done in a moment: looking again costs less than being woken up.
                for _ in 0..LOOKS {
                    if !answer.is_empty() {
                        break;
                    }
                    let_others_run().await;
                    *is_seen_to = true;
                    if !self.audit.0.queue.write_here() {
                        break;
                    }
                }
                match tokio::time::timeout_at(self.until, answer).await {
                    Ok(Ok(written)) => written,
                    Ok(Err(_)) | Err(_) => Err(Unavailable),
                }
            }
            TicketState::NotListed => Ok(NO_LINE),
            TicketState::NoRoom => Err(Unavailable),
        }
    }
}

/// The numbers of so many lines, the last of which has this one.
pub(crate) fn up_to(last: u64, lines: u64) -> Vec<u64> {
    (last + 1 - lines..=last).collect()
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let TicketState::Waiting { answer, is_seen_to } = &mut self.state {
            // From here on it is the writer that notices.
            answer.close();
            if let Ok(Ok(last)) = answer.try_recv() {
                self.audit.withhold(&up_to(last, self.lines));
            } else if !*is_seen_to {
                self.audit.0.queue.wake_thread();
            }
        }
    }
}

/// Goes to the end of the line of what its thread has to do.
async fn let_others_run() {
    let mut have_run = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut have_run, true) {
            return Poll::Ready(());
        }
        // Not tokio's `yield_now`, which asks the system for news first.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
