//! One call: who makes it, what it is about, and the line that the audit log gets before it is answered.

mod changing;
mod ended;
mod parts;
mod rights;

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use tonic::{Code, Request, Response, Status};

pub(crate) use self::changing::Orphans;
pub(super) use self::ended::Ended;
pub(crate) use self::ended::ended;
use self::ended::{Unanswered, unavailable};
pub(super) use self::parts::{Outcome as PartOutcome, Parts};
use super::fault::{ApiError, Fault};
use super::passage::Passage;
use super::peer::{Nobody, Peer};
use super::request_id::{self, REQUEST_ID};
use crate::access::{Caller, Exceeded, NamedScope, Permissions, Quotas, Reveal, Usage};
use crate::audit::{Audit, Entry, Event, Filter, Intent, NOT_FINISHED};
use crate::store::Revision;
use crate::telemetry::traces;
use crate::vault::ids::{OrderId, ProviderId, SubjectId, TenantId};
use crate::vault::scope::{CredentialRef, Scope};
use crate::vault::{HandOut, Saved, VaultError};

/// What every call passes on its way in and out.
#[derive(Clone)]
pub struct Calls {
    audit: Audit,
    quotas: Arc<Quotas>,
    orphans: Orphans,
}

impl Calls {
    /// Calls that are listed in this log and counted there. What they begin and leave goes on on this thread's runtime.
    #[must_use]
    pub fn new(audit: Audit, quotas: Arc<Quotas>) -> Self {
        let orphans = Orphans::here();
        Self { audit, quotas, orphans }
    }

    /// The changes that their calls have left.
    pub(crate) fn orphans(&self) -> &Orphans {
        &self.orphans
    }

    /// The log that they are listed in.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Counts a call of this peer before anybody knows whether it is granted, or whether there is such a method at all: whoever
    /// tries names out is slowed down too.
    pub(crate) fn count(&self, peer: &Peer) -> Result<(), ApiError> {
        let permissions = peer.permissions()?;
        let usage = peer.usage(&self.quotas, permissions.caller());
        Ok(usage.count_call(permissions.total_limits())?)
    }

    /// Counts a call of health or reflection, which tells nothing of what the vault holds.
    pub(crate) fn count_health_check(&self, peer: &Peer) -> Result<(), ApiError> {
        let permissions = peer.permissions()?;
        let usage = peer.usage(&self.quotas, permissions.caller());
        Ok(usage.count_health_check(permissions.total_limits())?)
    }

    /// Takes a request apart. Its message has been read, which may have taken its sender a while: the identity and what it may do
    /// are asked for only now.
    pub(super) fn begin<T>(&self, method: &'static str, request: Request<T>) -> (Call, T) {
        let peer = request.extensions().get::<Peer>().cloned();
        let permissions = match &peer {
            Some(peer) => peer.permissions(),
            None => Err(Nobody::Unknown("the connection has no client certificate".to_owned())),
        };
        let passage = request.extensions().get::<Passage>().cloned();
        let within_quota = match (&peer, &permissions, &passage) {
            (Some(peer), Ok(permissions), None) => peer
                .usage(&self.quotas, permissions.caller())
                .count_call(permissions.total_limits()),
            // The gate has counted it.
            _ => Ok(()),
        };
        let request_id = request
            .metadata()
            .get(REQUEST_ID.as_str())
            .and_then(|id| id.to_str().ok());
        let about = About {
            request: request_id.and_then(|id| SubjectId::parse(id).ok()),
            ..About::default()
        };
        let call = Call {
            method,
            audit: self.audit.clone(),
            within_quota,
            peer,
            permissions,
            passage,
            is_counted_for_tenant: false,
            started: Instant::now(),
            about,
            intent: None,
            parts: Vec::new(),
            is_over: false,
        };
        (call, request.into_inner())
    }
}

/// The reason of calls that took too long.
pub(crate) const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";

/// A call that is under way. When it is over, or dropped because the caller went away, the audit log gets a line. The line
/// holds identifiers only, and only once they have been parsed.
pub(super) struct Call {
    method: &'static str,
    audit: Audit,
    peer: Option<Peer>,
    permissions: Result<Permissions, Nobody>,
    /// None for a part of a call.
    passage: Option<Passage>,
    within_quota: Result<(), Exceeded>,
    is_counted_for_tenant: bool,
    started: Instant,
    about: About,
    /// The line that has announced what is being changed.
    intent: Option<Intent>,
    /// The lines of its parts, which nobody is told before the call itself is let out.
    parts: Vec<u64>,
    is_over: bool,
}

/// What a call is about, as far as it is known.
#[derive(Clone, Default)]
struct About {
    tenant: Option<TenantId>,
    provider: Option<ProviderId>,
    scope: Option<Scope>,
    order: Option<OrderId>,
    version: Option<u64>,
    reveal: Option<Reveal>,
    request: Option<SubjectId>,
    receipt: Option<String>,
    revision: Option<u64>,
}

impl Call {
    fn usage(&self) -> Option<&Usage> {
        self.peer.as_ref()?.known_usage()
    }

    /// The caller's permissions as they will be, for what outlives the call.
    pub(super) fn live(&self) -> Result<Peer, ApiError> {
        self.permissions()?;
        let unknown = || ApiError::NoIdentity("the connection is not known".into());
        self.peer.clone().ok_or_else(unknown)
    }

    /// The caller's identity; empty if it has none.
    pub(super) fn caller(&self) -> String {
        self.known_caller().map(ToString::to_string).unwrap_or_default()
    }

    /// Who it is, also if its identity has ended.
    fn known_caller(&self) -> Option<&Caller> {
        let identity = self.peer.as_ref()?.identity().ok()?;
        Some(identity.caller())
    }

    /// Notes which order is read about.
    pub(super) fn about_filter(&mut self, filter: &Filter) {
        self.about.order = filter.order.as_deref().and_then(|order| OrderId::parse(order).ok());
    }

    fn note(&mut self, tenant: &str, provider: Option<&str>) {
        self.about.tenant = TenantId::parse(tenant).ok();
        self.about.provider = provider.and_then(|provider| ProviderId::parse(provider).ok());
    }

    fn note_credential(&mut self, tenant: &str, provider: &str, scope: NamedScope<'_>) {
        self.note(tenant, Some(provider));
        self.about.scope = scope.and_then(|(kind, id)| Scope::of(kind, id));
    }

    /// Whose and of which provider the caller's rights were asked for, as far as that is well-formed.
    pub(super) fn tenant_and_provider(&self) -> (Option<TenantId>, Option<ProviderId>) {
        (self.about.tenant.clone(), self.about.provider.clone())
    }

    /// Notes which credential it is about.
    pub(super) fn about_credential(&mut self, credential: &CredentialRef, version: Option<u64>) {
        self.about.tenant = Some(credential.tenant.clone());
        self.about.provider = Some(credential.provider.clone());
        self.about.scope = Some(credential.scope.clone());
        self.about.version = version;
    }

    /// Notes that it is about several providers: none of them is what it is about.
    pub(super) fn about_several_providers(&mut self) {
        self.about.provider = None;
    }

    /// Notes whose credential is asked for, whether there is one or not.
    pub(super) fn about_scope(&mut self, wanted: Option<&Scope>) {
        self.about.scope = wanted.cloned();
    }

    /// Notes which order it is about.
    pub(super) fn about_order(&mut self, order: &OrderId) {
        self.about.order = Some(order.clone());
    }

    /// Notes what is handed out.
    pub(super) fn about_hand_out(&mut self, hand_out: &HandOut) {
        self.about_credential(&hand_out.credential, Some(hand_out.version.0));
        self.about.reveal = Some(hand_out.reveal);
        self.about.receipt.clone_from(&hand_out.receipt_id);
    }

    /// Notes what was saved, if it was.
    pub(super) fn about_saved(&mut self, saved: &Saved) {
        self.about_credential(&saved.credential.credential, Some(saved.credential.header.version.0));
        self.about.revision = saved.revision.map(|revision| revision.0);
    }

    /// Notes which revision has the change that was made.
    pub(super) fn about_revision(&mut self, revision: Revision) {
        self.about.revision = Some(revision.0);
    }

    /// Announces that something is about to be changed. The line is written when this returns, so that no change goes
    /// without one, whatever happens next.
    pub(super) async fn announce(&mut self) -> Result<(), ApiError> {
        self.intent = Some(self.audit.announce(&self.entry(Event::Intent)).await?);
        Ok(())
    }

    /// A part of the call, about one of several providers.
    pub(super) fn part(&self, provider: &ProviderId) -> Self {
        let about = About {
            provider: Some(provider.clone()),
            ..self.about.clone()
        };
        self.with(about)
    }

    fn with(&self, about: About) -> Self {
        Self {
            method: self.method,
            audit: self.audit.clone(),
            peer: self.peer.clone(),
            permissions: self.permissions.clone(),
            passage: None,
            within_quota: Ok(()),
            is_counted_for_tenant: true,
            started: Instant::now(),
            about,
            intent: None,
            parts: Vec::new(),
            is_over: false,
        }
    }

    /// Takes the outcome of a part once its line is written. It leaves with the call.
    pub(super) async fn take_part<T>(&mut self, part: Ended<T>) -> Result<T, Box<Fault>> {
        let line = part.ticket.written().await.map_err(unavailable)?;
        self.parts.push(line);
        part.outcome
    }

    /// Ends a part of a call that hands a credential out, but for its line in the log, which is under way.
    pub(super) fn end_part(mut self, outcome: Result<HandOut, ApiError>) -> Ended<HandOut> {
        if let Ok(hand_out) = &outcome {
            self.about_hand_out(hand_out);
        }
        self.finish(outcome)
    }

    /// Ends the call: translates the outcome, and lets it out once its line is written.
    pub(super) async fn end<T>(mut self, outcome: Result<T, ApiError>) -> Result<Response<T>, Status> {
        if outcome.is_err() && self.about.request.is_none() {
            self.about.request = SubjectId::parse(&request_id::fresh()).ok();
        }
        traces::describe(|| self.trace());
        let ended = self.finish(outcome);
        let answer = ended.let_out().await;
        answer.map(Response::new).map_err(|mut fault| {
            // What went well until its line could not be written has none yet.
            let id = || {
                self.about
                    .request
                    .as_ref()
                    .map_or_else(request_id::fresh, ToString::to_string)
            };
            fault.request_id.get_or_insert_with(id);
            Status::from(*fault)
        })
    }

    /// What will be told when the stream that this call opens is over.
    pub(super) fn stream(&self) -> StreamEnd {
        StreamEnd {
            call: self.opened(),
            messages: 0,
            revision: None,
        }
    }

    fn finish<T>(&mut self, outcome: Result<T, ApiError>) -> Ended<T> {
        self.is_over = true;
        if let Some(passage) = &self.passage {
            passage.has_outcome();
        }
        let outcome = outcome.map_err(|error| {
            let request_id = self.about.request.as_ref().map(ToString::to_string);
            log_trouble(self.method, request_id.as_deref(), &error);
            Box::new(Fault {
                request_id,
                ..Fault::from(&error)
            })
        });
        let (code, reason) = match &outcome {
            Ok(_) => (Code::Ok, None),
            Err(fault) => (fault.code, Some(fault.reason)),
        };
        self.log(code, reason.unwrap_or_default());
        let entry = ended(self.entry(Event::Call), code, reason);
        Ended {
            ticket: self.audit.submit(&entry),
            announced: self.intent,
            outcome,
            unanswered: Unanswered {
                audit: self.audit.clone(),
                own: None,
                parts: std::mem::take(&mut self.parts),
            },
        }
    }

    fn entry(&self, event: Event) -> Entry<'_> {
        self.entry_about(&self.about, event)
    }

    fn entry_about<'a>(&'a self, about: &'a About, event: Event) -> Entry<'a> {
        let About {
            tenant,
            provider,
            scope,
            order,
            version,
            reveal,
            request,
            receipt,
            revision,
        } = about;
        Entry {
            caller: self.known_caller().map(Caller::as_str),
            peer: self.peer.as_ref().map(Peer::address_text),
            tenant: tenant.as_ref().map(TenantId::as_str),
            provider: provider.as_ref().map(ProviderId::as_str),
            scope: scope.as_ref(),
            version: *version,
            reveal: reveal.map(Reveal::as_str),
            order: order.as_ref().map(OrderId::as_str),
            request: request.as_ref().map(SubjectId::as_str),
            receipt: receipt.as_deref(),
            revision: *revision,
            intent: self.intent.map(|intent| intent.seq),
            ..Entry::new(event, self.method)
        }
    }

    /// What a trace tells of it: what the audit log has too.
    fn trace(&self) -> [Option<KeyValue>; 7] {
        let entry = self.entry(Event::Call);
        let text = |key: &'static str, value: Option<&str>| value.map(|value| KeyValue::new(key, value.to_owned()));
        let scope = entry.scope.map(ToString::to_string);
        [
            text("tresor.caller", entry.caller),
            text("tresor.tenant", entry.tenant),
            text("tresor.provider", entry.provider),
            text("tresor.scope", scope.as_deref()),
            text("tresor.order_id", entry.order),
            text("tresor.request_id", entry.request),
            entry
                .version
                .map(|version| KeyValue::new("tresor.version", version.cast_signed())),
        ]
    }

    /// The same for whoever looks for a mistake. Off by default: the audit log has it all.
    fn log(&self, code: Code, reason: &str) {
        if !tracing::enabled!(target: "tresor::call", tracing::Level::DEBUG) {
            return;
        }
        let entry = self.entry(Event::Call);
        tracing::debug!(
            target: "tresor::call",
            method = self.method,
            caller = entry.caller,
            peer = entry.peer,
            tenant = entry.tenant,
            provider = entry.provider,
            scope = entry.scope.map(tracing::field::display),
            version = entry.version,
            order = entry.order,
            request_id = entry.request,
            code = ?code,
            reason = (!reason.is_empty()).then_some(reason),
            us = micros(self.started.elapsed()),
            "call"
        );
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(passage) = self.passage.as_ref().filter(|passage| passage.is_late()) {
            // The gate waits for its line.
            self.log(Code::DeadlineExceeded, DEADLINE_EXCEEDED);
            let entry = ended(self.entry(Event::Call), Code::DeadlineExceeded, Some(DEADLINE_EXCEEDED));
            passage.has_ended(self.audit.submit_seldom(&entry));
        } else {
            // The caller has gone.
            self.log(Code::Cancelled, NOT_FINISHED);
            self.audit
                .note(&ended(self.entry(Event::Call), Code::Cancelled, Some(NOT_FINISHED)));
        }
        self.audit.withhold(&self.parts);
    }
}

/// Lists the end of a stream when it is dropped.
pub(super) struct StreamEnd {
    call: Call,
    messages: u64,
    revision: Option<u64>,
}

impl StreamEnd {
    /// One more message is sent.
    pub(super) fn count(&mut self) {
        self.messages += 1;
    }

    /// The backup that it is has come to its end.
    pub(super) fn backed_up(&mut self, revision: Revision) {
        self.revision = Some(revision.0);
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        let entry = Entry {
            messages: Some(self.messages),
            revision: self.revision,
            ..self.call.entry(Event::StreamEnded)
        };
        self.call.audit.note(&entry);
    }
}

/// What is wrong with the vault itself goes to the operator; the caller only learns that it is.
fn log_trouble(method: &'static str, request_id: Option<&str>, error: &ApiError) {
    if let ApiError::Vault(
        error @ (VaultError::Store(_) | VaultError::Keyring(_) | VaultError::Corrupt(_) | VaultError::Seal(_)),
    ) = error
    {
        tracing::error!(method, request_id, %error, "the vault is in trouble");
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
