//! The stream behind `ReadAudit`.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::Stream;
use tonic::Status;

use super::call::StreamEnd;
use super::fault::{ApiError, Fault};
use super::parse;
use super::peer::Peer;
use super::readers::Place;
use super::violations::Violations;
use crate::access::{Action, Permissions};
use crate::audit::{Audit, Filter, Outcome, Reader, Record};
use crate::pb::v1;
use crate::vault::ids::{OrderId, ProviderId, SubjectId, TenantId};
use crate::vault::scope::CredentialRef;

/// How many lines are read ahead of the caller.
const AHEAD: usize = 256;
/// How long a caller may take to make room for one more line.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lines of the log.
pub struct AuditStream {
    lines: mpsc::Receiver<Result<v1::ReadAuditResponse, Status>>,
    /// Why there are no more lines, although there may be some.
    trouble: Arc<OnceLock<ApiError>>,
    is_over: bool,
    end: StreamEnd,
}

/// What one caller reads.
pub(super) struct Reading {
    pub(super) filter: Filter,
    pub(super) reader: Peer,
    /// What it is told when it may read no longer.
    pub(super) refusal: ApiError,
    pub(super) place: Place,
    /// Whose clock is waited by. It outlives the one that the caller is served on.
    pub(super) runtime: Handle,
}

impl AuditStream {
    /// Reads on a thread of its own, for as long as the caller takes lines and may read them, and no longer.
    pub(super) fn new(audit: &Audit, reading: Reading, end: StreamEnd) -> Self {
        let (inlet, lines) = mpsc::channel(AHEAD);
        let trouble = Arc::new(OnceLock::new());
        let told = Arc::clone(&trouble);
        let (directory, newest) = (audit.directory().to_owned(), audit.newest());
        tokio::task::spawn_blocking(move || {
            let Reading {
                filter,
                reader,
                refusal,
                place,
                runtime,
            } = reading;
            let scan = RefCell::new(Scan {
                permissions: None,
                filter: &filter,
                reader: &reader,
                inlet: &inlet,
                runtime: &runtime,
                end: None,
            });
            let read = Reader::new(&directory).and_then(|files| {
                files.lines_while(
                    &filter,
                    newest,
                    || scan.borrow_mut().goes_on(),
                    |line, record| scan.borrow_mut().give(line, record),
                )
            });
            let end = scan.into_inner().end;
            let trouble = match (read, end) {
                (Err(error), _) => {
                    // Where the files are is for the operator's log.
                    tracing::error!(%error, "the audit log cannot be read");
                    Some(ApiError::AuditUnreadable)
                }
                (Ok(()), Some(End::Withdrawn)) => Some(refusal),
                (Ok(()), Some(End::Stalled)) => Some(ApiError::ReadsTooSlowly),
                (Ok(()), None) => None,
            };
            if let Some(trouble) = trouble {
                let _ = told.set(trouble);
            }
            // Only now does the caller find out that there is no more; it may read again at once.
            drop(place);
            drop(inlet);
        });
        Self {
            lines,
            trouble,
            is_over: false,
            end,
        }
    }
}

impl Stream for AuditStream {
    type Item = Result<v1::ReadAuditResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = self.lines.poll_recv(context);
        match next {
            Poll::Ready(Some(Ok(_))) => self.end.count(),
            Poll::Ready(None) => {
                self.is_over = true;
                let trouble = self.trouble.get();
                return Poll::Ready(trouble.map(|trouble| Err(Fault::from(trouble).into())));
            }
            _ => {}
        }
        next
    }
}

/// One pass over the log.
struct Scan<'a> {
    /// As of the last look.
    permissions: Option<Permissions>,
    filter: &'a Filter,
    reader: &'a Peer,
    inlet: &'a mpsc::Sender<Result<v1::ReadAuditResponse, Status>>,
    runtime: &'a Handle,
    end: Option<End>,
}

/// Why a pass ends early.
enum End {
    /// The caller may read no longer.
    Withdrawn,
    /// It does not take its lines.
    Stalled,
}

impl Scan<'_> {
    /// Whether there still is somebody, who still may read.
    fn goes_on(&mut self) -> bool {
        if self.inlet.is_closed() {
            return false;
        }
        let (tenant, provider) = (self.filter.tenant.as_deref(), self.filter.provider.as_deref());
        let may_read = |permissions: &Permissions| {
            permissions.allows_reading_audit(tenant.unwrap_or_default(), provider.unwrap_or_default())
        };
        self.permissions = self.reader.permissions().ok().filter(may_read);
        if self.permissions.is_none() {
            self.end = Some(End::Withdrawn);
        }
        self.permissions.is_some()
    }

    fn sees(&self, record: &Record<'_>) -> bool {
        self.permissions
            .as_ref()
            .is_some_and(|permissions| may_see(permissions, record))
    }

    fn sees_all(&self) -> bool {
        self.permissions
            .as_ref()
            .is_some_and(|permissions| permissions.allows_operation(Action::AuditRead))
    }

    fn give(&mut self, line: &str, record: &Record<'_>) -> ControlFlow<()> {
        if !self.sees(record) {
            return ControlFlow::Continue(());
        }
        let inlet = self.inlet;
        let room = match inlet.try_reserve() {
            Ok(room) => room,
            Err(TrySendError::Closed(())) => return ControlFlow::Break(()),
            Err(TrySendError::Full(())) => {
                let room = async { tokio::time::timeout(PATIENCE, inlet.reserve()).await };
                match self.runtime.block_on(room) {
                    // A while may have passed.
                    Ok(Ok(_)) if !self.goes_on() => return ControlFlow::Break(()),
                    Ok(Ok(_)) if !self.sees(record) => return ControlFlow::Continue(()),
                    Ok(Ok(room)) => room,
                    Ok(Err(_)) => return ControlFlow::Break(()),
                    Err(_) => {
                        self.end = Some(End::Stalled);
                        return ControlFlow::Break(());
                    }
                }
            }
        };
        room.send(Ok(v1::ReadAuditResponse {
            record: Some(wire(line, record, self.sees_all())),
        }));
        ControlFlow::Continue(())
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
    if !request.request_id.is_empty() {
        violations.check("request_id", SubjectId::parse(&request.request_id));
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
        request: given(request.request_id),
    })
}

/// The line without the hash of the one before it: whoever may not see that one could guess at it, and would know when they are right.
fn without_chain(line: &str) -> String {
    const PREV: &str = r#","prev":""#;
    const HASH: usize = 64;
    let Some((before, hash)) = line.rsplit_once(PREV) else {
        return String::new();
    };
    let after = hash.get(HASH..).and_then(|rest| rest.strip_prefix('"'));
    after.map_or_else(String::new, |after| format!("{before}{after}"))
}

fn wire(line: &str, record: &Record<'_>, sees_all: bool) -> v1::AuditRecord {
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
        reveal: text(&record.reveal),
        intent_line: record.intent.unwrap_or_default(),
        outcome: text(&record.outcome),
        code: text(&record.code),
        reason: text(&record.reason),
        json: if sees_all { line.to_owned() } else { without_chain(line) },
    }
}
