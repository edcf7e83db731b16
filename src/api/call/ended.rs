//! A call that is over: nobody gets its outcome before the audit log has its line.

use tonic::Code;

use crate::api::fault::{ApiError, Fault};
use crate::audit::{Audit, Entry, Intent, Outcome, Ticket, Unavailable};
use crate::telemetry::{code_name, metrics, traces};

/// A call, or a part of one, that is over and whose line is under way.
#[must_use = "nobody gets an answer before it is let out"]
pub(in crate::api) struct Ended<T> {
    pub(super) ticket: Ticket,
    pub(super) announced: Option<Intent>,
    pub(super) outcome: Result<T, Box<Fault>>,
    pub(super) unanswered: Unanswered,
}

/// Lines of an answer that has not left. If it is dropped, the log says so.
pub(super) struct Unanswered {
    pub(super) audit: Audit,
    pub(super) own: Option<u64>,
    pub(super) parts: Vec<u64>,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.parts.extend(self.own);
        self.audit.withhold(&self.parts);
    }
}

impl<T> Ended<T> {
    /// Lets the outcome out once its line is written, and that of what it has changed is durable. If that fails nothing of
    /// the outcome leaves.
    pub(in crate::api) async fn let_out(self) -> Result<T, Box<Fault>> {
        let Self {
            ticket,
            announced,
            outcome,
            mut unanswered,
        } = self;
        let span = traces::child("audit");
        unanswered.own = Some(ticket.written().await.map_err(unavailable)?);
        unanswered.may_leave(announced).await?;
        drop(span);
        outcome
    }
}

impl Unanswered {
    /// Waits until what was announced is durable. Then nothing stands in the answer's way any more.
    pub(super) async fn may_leave(mut self, announced: Option<Intent>) -> Result<(), Box<Fault>> {
        if let Some(intent) = announced {
            // Large, and for changes alone: apart from what every call carries along.
            let durable = Box::pin(self.audit.is_durable(intent));
            durable.await.map_err(unavailable)?;
        }
        self.own = None;
        self.parts.clear();
        Ok(())
    }
}

pub(super) fn unavailable(error: Unavailable) -> Box<Fault> {
    Box::new(Fault::from(&ApiError::Audit(error)))
}

/// What the audit log says of a call that has ended with this code. Counts its reason.
pub(crate) fn ended<'a>(entry: Entry<'a>, code: Code, reason: Option<&'static str>) -> Entry<'a> {
    if let Some(reason) = reason {
        metrics::call_failed(reason);
    }
    let outcome = match code {
        Code::Ok => Outcome::Ok,
        Code::Unauthenticated | Code::PermissionDenied | Code::ResourceExhausted => Outcome::Denied,
        _ => Outcome::Failed,
    };
    Entry {
        outcome: Some(outcome),
        code: Some(code_name(code)),
        reason,
        ..entry
    }
}
