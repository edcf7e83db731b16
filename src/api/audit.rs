//! The stream behind `ReadAudit`.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tonic::Status;

use super::call::StreamEnd;
use super::fault::{ApiError, Fault};
use super::parse;
use super::violations::Violations;
use crate::access::{Action, Permissions};
use crate::audit::{Audit, Filter, Outcome, Reader, Record};
use crate::pb::v1;
use crate::vault::ids::{OrderId, ProviderId, TenantId};
use crate::vault::scope::CredentialRef;

/// How many lines are read ahead of the caller.
const AHEAD: usize = 256;

/// Lines of the log.
pub struct AuditStream {
    lines: mpsc::Receiver<Result<v1::ReadAuditResponse, Status>>,
    end: StreamEnd,
}

impl AuditStream {
    /// Reads on a thread of its own, for as long as the caller takes lines and no longer.
    pub(super) fn new(
        audit: &Audit,
        filter: Filter,
        permissions: Permissions,
        permit: OwnedSemaphorePermit,
        end: StreamEnd,
    ) -> Self {
        let (inlet, lines) = mpsc::channel(AHEAD);
        let (directory, newest) = (audit.directory().to_owned(), audit.newest());
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let read = Reader::new(&directory).and_then(|reader| {
                reader.lines(&filter, newest, |line, record| {
                    if !may_see(&permissions, record) {
                        return ControlFlow::Continue(());
                    }
                    let answer = v1::ReadAuditResponse {
                        record: Some(wire(line, record)),
                    };
                    match inlet.blocking_send(Ok(answer)) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                })
            });
            if let Err(error) = read {
                // Where the files are is for the operator's log.
                tracing::error!(%error, "the audit log cannot be read");
                let _ = inlet.blocking_send(Err(Fault::from(&ApiError::AuditUnreadable).into()));
            }
        });
        Self { lines, end }
    }
}

impl Stream for AuditStream {
    type Item = Result<v1::ReadAuditResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.lines.poll_recv(context);
        if let Poll::Ready(Some(Ok(_))) = next {
            self.end.count();
        }
        next
    }
}

/// Who may read about all may read everything; others what is about a credential within their grants, and what is about a
/// provider or a tenant as a whole only with a grant for all of it.
fn may_see(permissions: &Permissions, record: &Record<'_>) -> bool {
    if permissions.allows_operation(Action::AuditRead) {
        return true;
    }
    let action = Action::AuditRead;
    match (&record.tenant, &record.provider, &record.scope) {
        (Some(tenant), Some(provider), Some(scope)) => {
            let credential = CredentialRef::from_path(&format!("{tenant}/{provider}/{scope}"));
            credential.is_some_and(|credential| permissions.reach(action).includes(&credential))
        }
        (Some(tenant), Some(provider), None) => permissions.allows_provider_operation(action, tenant, provider),
        (Some(tenant), None, _) => permissions.allows_tenant_operation(action, tenant),
        (None, ..) => false,
    }
}

/// What is asked for.
pub(super) fn filter(request: v1::ReadAuditRequest) -> Result<Filter, ApiError> {
    let mut violations = Violations::default();
    let since = parse::timestamp(&mut violations, "since", request.since.as_ref());
    let until = parse::timestamp(&mut violations, "until", request.until.as_ref());
    if !request.tenant.is_empty() {
        violations.check("tenant", TenantId::parse(&request.tenant));
    }
    if !request.provider.is_empty() {
        violations.check("provider", ProviderId::parse(&request.provider));
    }
    if !request.order_id.is_empty() {
        violations.check("order_id", OrderId::parse(&request.order_id));
    }
    let outcomes = [Outcome::Ok, Outcome::Denied, Outcome::Failed].map(Outcome::as_str);
    if !request.outcome.is_empty() && !outcomes.contains(&&*request.outcome) {
        violations.add("outcome", "is none: ok, denied or failed");
    }
    let (since, until) = violations.finish(since.zip(until))?;
    let given = |text: String| (!text.is_empty()).then_some(text);
    Ok(Filter {
        since,
        until,
        caller: given(request.caller),
        tenant: given(request.tenant),
        provider: given(request.provider),
        order: given(request.order_id),
        method: given(request.method),
        outcome: given(request.outcome),
    })
}

fn wire(line: &str, record: &Record<'_>) -> v1::AuditRecord {
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
    v1::AuditRecord {
        line_number: record.seq,
        time: record.time.parse().ok(),
        event: record.event.to_string(),
        method: text(&record.method),
        caller: text(&record.caller),
        peer: text(&record.peer),
        tenant: text(&record.tenant),
        provider: text(&record.provider),
        scope: text(&record.scope),
        version: record.version.unwrap_or_default(),
        order_id: text(&record.order_id),
        request_id: text(&record.request_id),
        receipt_id: text(&record.receipt),
        intent_line: record.intent.unwrap_or_default(),
        outcome: text(&record.outcome),
        code: text(&record.code),
        reason: text(&record.reason),
        json: line.to_owned(),
    }
}

/// How many logs are read at once; each reading takes a thread.
pub(super) const READERS: usize = 4;

/// A place among those who read.
pub(super) async fn permit(readers: &Arc<tokio::sync::Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    let permit = Arc::clone(readers).acquire_owned().await;
    permit.map_err(|_| ApiError::ShuttingDown)
}
