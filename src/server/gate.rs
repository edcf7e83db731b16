//! What every call passes before and after its service: nobody without an identity gets in, nothing is begun that the worker
//! has no time for, no call goes on for ever, and no error leaves without a reason.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::watch as signal;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::admission::{Admission, Part};
use super::answering::Answering;
use super::aside::Aside;
use super::class::Class;
use super::counted::count;
use super::dispatch::{Answer, Dispatch};
use super::ending::EndingBody;
use super::held::{HeldBody, hold};
use super::protocol::refuse_other_protocols;
use super::refusal::refusal;
use crate::access::{Caller, LivePermissions, Standing};
use crate::api::request_id::{self, REQUEST_ID};
use crate::api::{ApiError, Calls, DEADLINE_EXCEEDED, Fault, Line, MAX_REQUEST, OVERLOADED, Passage, Peer, ended};
use crate::audit::{Audit, Entry, Event, Ticket, Unavailable};
use crate::pb;
use crate::telemetry::metrics::Counted;
use crate::telemetry::traces::TracedCall;

/// No call may hold what it needs for longer, whatever its client asks for.
pub(super) const LONGEST_DEADLINE: Duration = Duration::from_secs(30);
/// How much of a path is repeated to its sender and in the log, in bytes. No method has so long a one.
const LONGEST_PATH: usize = 256;

/// The gate of one worker.
#[derive(Clone)]
pub(super) struct Gate {
    dispatch: Arc<Dispatch>,
    calls: Calls,
    admission: Arc<Admission>,
    default_deadline: Duration,
    is_ending: signal::Receiver<bool>,
}

impl Gate {
    pub(super) fn new(
        dispatch: Dispatch,
        calls: Calls,
        admission: Admission,
        default_deadline: Duration,
        is_ending: signal::Receiver<bool>,
    ) -> Self {
        Self {
            dispatch: Arc::new(dispatch),
            calls,
            admission: Arc::new(admission),
            default_deadline,
            is_ending,
        }
    }

    /// What must be told when the worker comes to rest, and when it goes on.
    pub(super) fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }

    /// The gate that stands before the calls of one connection.
    pub(super) fn for_connection(&self, peer: Peer, aside: Aside) -> ConnectionGate {
        ConnectionGate {
            gate: self.clone(),
            peer,
            part: Arc::default(),
            aside,
        }
    }
}

/// The gate of one connection.
pub(super) struct ConnectionGate {
    gate: Gate,
    peer: Peer,
    part: Arc<Part>,
    /// Where calls go that are refused.
    aside: Aside,
}

impl hyper::service::Service<Request<Incoming>> for ConnectionGate {
    type Response = Response<HeldBody>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        let path = request.uri().path();
        let path = &path[..path.floor_char_boundary(LONGEST_PATH)];
        let counted = Counted::begin(path);
        let path = lasting(path, &counted);
        let id = request_id::sent(request.headers());
        let (peer, audit) = (&self.peer, self.gate.calls.audit());
        let refuse_for = |error: &ApiError, id: Option<HeaderValue>| {
            let (peer, audit, path, fault) = (peer.clone(), audit.clone(), path.clone(), Fault::from(error));
            async move { refuse(&audit, fault, &path, &peer, id.as_ref()).await }
        };
        let standing = match identify(peer, &self.gate.calls, &path) {
            Ok(standing) => standing,
            Err(error) => {
                let refuse = refuse_for(&error, id);
                return Answering::later(async move { hold(count(counted, None, refuse.await), None) });
            }
        };
        if let Some(answer) = refuse_other_protocols(&request) {
            let named = id.as_ref().map(HeaderValue::to_str).and_then(Result::ok);
            let line = list(audit, Code::Unimplemented, "NOT_GRPC", &path, peer, named);
            counted.end(Code::Unimplemented);
            return Answering::later(async move {
                let listed = written(line).await;
                let answer = listed.map_or_else(|fault| Status::from(fault).into_http(), |()| answer);
                hold(answer, None)
            });
        }
        let is_stream = is_stream(&path);
        let is_traced = !path.starts_with(INFRASTRUCTURE);
        let traced = is_traced
            .then(|| TracedCall::begin(counted.path(), request.headers()))
            .flatten();
        let class = Class::of(&path);
        let Some(waiting) = self.gate.admission.take(class, &self.part, counted.started()) else {
            let body = (!is_stream).then(|| request.into_body());
            return self.refuse_for_now(counted, traced, &path, id, body);
        };
        let place = match peer.place() {
            Ok(place) => place,
            Err(error) => {
                let refuse = refuse_for(&error, id);
                return Answering::later(async move { hold(count(counted, traced, refuse.await), None) });
            }
        };
        let deadline = asked_deadline(&request)
            .unwrap_or(self.gate.default_deadline)
            .min(LONGEST_DEADLINE);
        let until = counted.started() + deadline;
        let (peer, audit) = (peer.clone(), audit.clone());
        let passage = Passage::new(place);
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(passage.clone());
        let ending = is_stream.then(|| (standing.end(), self.gate.is_ending.clone()));
        let dispatch = Arc::clone(&self.gate.dispatch);
        let request = request.map(Body::new);
        Answering::later(async move {
            // It is polled for the first time when the worker has come to it.
            let answer = if waiting.begins(until, std::time::Instant::now()) {
                let answer = dispatch.call(request);
                let answer: Answer = match &traced {
                    Some(traced) => Box::pin(traced.around(answer)),
                    None => answer,
                };
                // Before the call is dropped, which then lists itself for us.
                let give_up = || passage.give_up();
                within(until.into(), answer, give_up).await
            } else {
                None
            };
            let Some(Ok(answer)) = answer else {
                let message = format!("the call took longer than its deadline of {deadline:?}");
                let fault = Fault {
                    request_id: id.as_ref().and_then(named),
                    ..Fault::new(Code::DeadlineExceeded, DEADLINE_EXCEEDED, message)
                };
                let listed = match passage.line() {
                    Line::Missing => {
                        let refusal = refuse(&audit, fault, &path, &peer, id.as_ref()).await;
                        return hold(count(counted, traced, refusal), None);
                    }
                    Line::OfTheEnd(ticket) => ticket.written().await.map(drop),
                    // It has waited for nothing else.
                    Line::OfTheOutcome => Err(Unavailable),
                };
                let listed = listed.map_err(|error| Fault::from(&ApiError::Audit(error)));
                let refusal = Status::from(listed.err().unwrap_or(fault)).into_http();
                return hold(count(counted, traced, refusal), None);
            };
            let answer = match without_reason(&answer, &path) {
                Some(fault) => refuse(&audit, fault, &path, &peer, id.as_ref()).await,
                None => answer,
            };
            let answer = match ending {
                Some((identity, server)) => answer.map(|body| Body::new(EndingBody::new(body, identity, server))),
                None => answer,
            };
            let mut answer = count(counted, traced, answer);
            if let Some(id) = id {
                answer.headers_mut().insert(REQUEST_ID, id);
            }
            hold(answer, passage.take_place())
        })
    }
}

impl ConnectionGate {
    /// Refuses a call that the worker has no time for, and whose body has to be taken first.
    fn refuse_for_now(
        &self,
        counted: Counted,
        traced: Option<TracedCall>,
        path: &str,
        id: Option<HeaderValue>,
        body: Option<Incoming>,
    ) -> Answering {
        self.aside.put_next();
        let audit = self.gate.calls.audit();
        let named = id.as_ref().map(HeaderValue::to_str).and_then(Result::ok);
        let line = list(audit, Code::ResourceExhausted, OVERLOADED, path, &self.peer, named);
        let unread = body.and_then(unless_read);
        // Nearly always, when it matters.
        if unread.is_none() && line.as_ref().is_none_or(Ticket::is_counted_only) {
            return Answering::now(hold(count(counted, traced, refusal(id)), None));
        }
        // Whoever lets a body wait takes up as much as by a call that goes on.
        let place = unread.as_ref().map(|_| self.peer.place());
        let patience = self.gate.default_deadline.min(LONGEST_DEADLINE);
        Answering::later(async move {
            if let (Some(body), Some(Ok(_place))) = (unread, place) {
                let _ = tokio::time::timeout(patience, read_to_its_end(body)).await;
            }
            let answer = match written(line).await {
                Ok(()) => refusal(id),
                Err(fault) => Status::from(fault).into_http(),
            };
            hold(count(counted, traced, answer), None)
        })
    }
}

/// A call's path, for longer than its request is there.
fn lasting(path: &str, counted: &Counted) -> Cow<'static, str> {
    let known = counted.known_path();
    known.map_or_else(|| path.to_owned().into(), Cow::Borrowed)
}

/// Takes what is left of a request. If it were dropped before its end, its stream would have to be reset; and h2 closes a connection
/// on which it has had to do that, and met the rest later, a thousand times. No request is so large that it would matter.
async fn read_to_its_end(mut body: Incoming) {
    poll_fn(|context| poll_to_its_end(&mut body, context)).await;
}

/// What is not read of a body after all that has come of it was taken.
fn unless_read(mut body: Incoming) -> Option<Incoming> {
    // Whoever asks again is told when there is more.
    let is_read = poll_to_its_end(&mut body, &mut Context::from_waker(Waker::noop())).is_ready();
    (!is_read).then_some(body)
}

fn poll_to_its_end(body: &mut Incoming, context: &mut Context<'_>) -> Poll<()> {
    let mut read = 0;
    while let Some(Ok(frame)) = std::task::ready!(Pin::new(&mut *body).poll_frame(context)) {
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
        if read > MAX_REQUEST {
            break;
        }
    }
    Poll::Ready(())
}

/// Health and reflection. They say nothing of what the vault holds, and are asked all the time: they are not listed.
const INFRASTRUCTURE: &str = "/grpc.";
/// What is listed by the bare names of methods.
const SERVICES: [&str; 3] = [
    pb::v1::credential_resolver_server::SERVICE_NAME,
    pb::v1::credential_admin_server::SERVICE_NAME,
    pb::v1::vault_operator_server::SERVICE_NAME,
];
/// The calls of ours that go on.
const STREAMS: [&str; 5] = [
    "/WatchChanges",
    "/ReadAudit",
    "/ImportCredentials",
    "/Backup",
    "/CheckStore",
];

/// Whether the call may go on for as long as its caller likes.
fn is_stream(path: &str) -> bool {
    let is_infrastructure = path.starts_with(INFRASTRUCTURE) && !path.ends_with("/Check");
    is_infrastructure || STREAMS.iter().any(|stream| path.ends_with(stream))
}

/// The standing of the client's identity, which holds now, if it makes no more calls than it may.
fn identify<'a>(peer: &'a Peer, calls: &Calls, path: &str) -> Result<&'a Standing, ApiError> {
    let identity = peer.identity().map_err(|why| {
        peer.count_strange_call();
        ApiError::NoIdentity(why.to_owned())
    });
    let standing = identity?.standing();
    if !standing.holds() {
        return Err(ApiError::IdentityEnded);
    }
    if path.starts_with(INFRASTRUCTURE) {
        calls.count_health_check(peer)?;
    } else {
        calls.count(peer)?;
    }
    Ok(standing)
}

/// How often a call is asked for its answer before it gets a timer.
const ASKED_WITHOUT_TIMER: u32 = 8;

/// The answer, unless it takes too long; then `give_up` is called before it is dropped.
///
/// Most answers are there when they are asked for the second time, or a few times later if another thread writes to the audit
/// log. Until then no timer is set: an earlier one than all others wakes the runtime up, which costs more than many an answer.
async fn within<T>(until: Instant, answer: impl Future<Output = T>, give_up: impl FnOnce()) -> Option<T> {
    let mut answer = pin!(answer);
    let mut asked = 0;
    let soon = poll_fn(|context| {
        let now = answer.as_mut().poll(context);
        asked += 1;
        if now.is_pending() && asked < ASKED_WITHOUT_TIMER {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(now)
    });
    if let Poll::Ready(answer) = soon.await {
        return Some(answer);
    }
    let in_time = tokio::time::timeout_at(until, answer).await.ok();
    if in_time.is_none() {
        give_up();
    }
    in_time
}

/// The deadline that the caller has set: up to eight digits and a unit (gRPC over HTTP/2, `grpc-timeout`). Nothing below the
/// gate looks at it.
fn asked_deadline<B>(request: &Request<B>) -> Option<Duration> {
    let text = request.headers().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount = digits.parse::<u32>().ok().filter(|_| digits.len() <= 8)?;
    let unit = match unit {
        "H" => Duration::from_hours(1),
        "M" => Duration::from_mins(1),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    unit.checked_mul(amount)
}

/// Errors that come from below the services (an unknown method, bytes that are no message) get a reason like all others.
fn without_reason(answer: &Response<Body>, path: &str) -> Option<Fault> {
    let headers = answer.headers();
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let status = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)?;
    let message = if status.message().is_empty() {
        format!("there is no method {path}")
    } else {
        status.message().into()
    };
    Some(Fault::of_transport(&status, message))
}

/// Refuses a call that has come to no service, once that is listed.
async fn refuse(audit: &Audit, fault: Fault, path: &str, peer: &Peer, id: Option<&HeaderValue>) -> Response<Body> {
    let id = id.and_then(named).unwrap_or_else(request_id::fresh);
    let line = list(audit, fault.code, fault.reason, path, peer, Some(&id));
    // Apart from what every call carries along.
    let listed = Box::pin(written(line)).await;
    let fault = Fault {
        request_id: Some(id),
        ..listed.err().unwrap_or(fault)
    };
    Status::from(fault).into_http()
}

fn named(id: &HeaderValue) -> Option<String> {
    id.to_str().ok().map(str::to_owned)
}

/// Lists a call that has come to no service, if such are listed.
fn list(audit: &Audit, code: Code, reason: &'static str, path: &str, peer: &Peer, id: Option<&str>) -> Option<Ticket> {
    tracing::debug!(target: "tresor::call", path, peer = %peer.address(), request_id = id, ?code, reason, "call");
    let caller = peer.identity().ok().map(LivePermissions::caller);
    if caller.is_some() && path.starts_with(INFRASTRUCTURE) {
        return None;
    }
    let entry = Entry {
        caller: caller.map(Caller::as_str),
        peer: Some(peer.address_text()),
        request: id,
        ..Entry::new(Event::Call, method(path))
    };
    Some(audit.submit_seldom(&ended(entry, code, Some(reason))))
}

/// Waits until it is listed. An error is what its caller gets instead of its answer.
async fn written(line: Option<Ticket>) -> Result<(), Fault> {
    let Some(line) = line else { return Ok(()) };
    let written = line.written().await;
    written.map(drop).map_err(|error| Fault::from(&ApiError::Audit(error)))
}

/// What the audit log calls a method that was asked for: those of our services have a bare name, and what is not even written
/// like a method has none.
fn method(path: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._/".contains(&byte);
    match path.strip_prefix('/') {
        Some(name) if (1..=128).contains(&name.len()) && name.bytes().all(is_name) => {
            let is_ours = |service: &str| SERVICES.contains(&service);
            match name.split_once('/') {
                Some((service, method)) if is_ours(service) && !method.contains('/') => method,
                _ => name,
            }
        }
        _ => "?",
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
