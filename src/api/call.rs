//! One call: who makes it, what it is about, and the line that the audit log gets before it is answered.

mod parts;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Request, Response, Status};

pub(super) use self::parts::{Outcome as PartOutcome, Parts};
use super::fault::{ApiError, Fault};
use super::passage::Passage;
use crate::access::{Action, Caller, Exceeded, LivePermissions, NamedScope, Permissions, Quotas, Reveal, Usage};
use crate::audit::{Audit, Entry, Event, Filter, Intent, NOT_FINISHED, Outcome, Ticket, Unavailable};
use crate::vault::ids::{OrderId, ProviderId, SubjectId, TenantId};
use crate::vault::resolve::Refusal;
use crate::vault::scope::{CredentialRef, Scope};
use crate::vault::{Ask, HandOut, VaultError};

/// Who is at the other end of a connection, worked out once for all of its calls.
#[derive(Clone)]
pub struct Peer(Arc<PeerInfo>);

struct PeerInfo {
    address: SocketAddr,
    identity: Result<LivePermissions, String>,
    /// One place for each call that the caller may have open; none if it may have any number.
    room: Option<Arc<Semaphore>>,
    /// What its holder has used of its quotas, over all of its connections. Looked up with the first call.
    usage: OnceLock<Arc<Usage>>,
}

impl Peer {
    /// The peer at `address`: its permissions, or why it has no identity.
    #[must_use]
    pub fn new(address: SocketAddr, identity: Result<LivePermissions, String>) -> Self {
        Self(Arc::new(PeerInfo {
            address,
            identity,
            room: None,
            usage: OnceLock::new(),
        }))
    }

    /// The caller at `address`, with room for so many calls.
    #[must_use]
    pub fn with_room(address: SocketAddr, identity: LivePermissions, room: Arc<Semaphore>) -> Self {
        Self(Arc::new(PeerInfo {
            address,
            identity: Ok(identity),
            room: Some(room),
            usage: OnceLock::new(),
        }))
    }

    /// A place for one more call; it is free again when it is dropped.
    pub(crate) fn place(&self) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let place = self.0.room.as_ref().map(|room| Arc::clone(room).try_acquire_owned());
        place.transpose().map_err(|_| ApiError::TooManyCalls)
    }

    /// Where it calls from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Who it is, and what it may do.
    ///
    /// # Errors
    /// Why it has no identity.
    pub fn identity(&self) -> Result<&LivePermissions, &str> {
        self.0.identity.as_ref().map_err(String::as_str)
    }

    /// What it may do now, if it still is who it was when it came.
    pub(super) fn permissions(&self) -> Result<Permissions, Nobody> {
        let identity = self.identity().map_err(|why| Nobody::Unknown(why.to_owned()))?;
        if identity.standing().holds() {
            Ok(identity.now())
        } else {
            Err(Nobody::Ended)
        }
    }

    fn usage(&self, quotas: &Quotas, caller: &Caller) -> &Usage {
        self.0.usage.get_or_init(|| quotas.of(caller))
    }
}

/// Why somebody has no permissions.
#[derive(Clone, Debug)]
pub(super) enum Nobody {
    /// It has never had an identity.
    Unknown(String),
    /// Its identity has ended.
    Ended,
}

impl From<Nobody> for ApiError {
    fn from(nobody: Nobody) -> Self {
        match nobody {
            Nobody::Unknown(why) => Self::NoIdentity(why),
            Nobody::Ended => Self::IdentityEnded,
        }
    }
}

/// What every call passes on its way in and out.
#[derive(Clone)]
pub struct Calls {
    audit: Audit,
    quotas: Arc<Quotas>,
}

impl Calls {
    /// Calls that are listed in this log and counted there.
    #[must_use]
    pub fn new(audit: Audit, quotas: Arc<Quotas>) -> Self {
        Self { audit, quotas }
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
        let request_id = request.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok());
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
/// Where callers may put an id of their own. It is kept if it is made like the ids of tenants.
const REQUEST_ID: &str = "x-request-id";

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
    request: Option<SubjectId>,
    receipt: Option<String>,
}

impl Call {
    /// The caller's permissions, as they were when they were last asked for; none to whoever is over its quota.
    pub(super) fn permissions(&self) -> Result<&Permissions, ApiError> {
        let permissions = self.permissions.as_ref();
        let permissions = permissions.map_err(|nobody| ApiError::from(nobody.clone()))?;
        self.within_quota.clone()?;
        Ok(permissions)
    }

    /// Asks anew whether the caller still is who it was and what it may do: the call has waited for something.
    pub(super) fn renew(&mut self) -> Result<(), ApiError> {
        if let Some(peer) = &self.peer {
            self.permissions = peer.permissions();
        }
        self.permissions().map(drop)
    }

    /// Counts a part of a call like a call.
    pub(super) fn count_part(&mut self) -> Result<(), ApiError> {
        let permissions = self.permissions()?;
        if let Some(usage) = self.usage() {
            usage.count_call(permissions.total_limits())?;
        }
        self.is_counted_for_tenant = false;
        self.count_for_tenant()
    }

    /// Counts a credential that is asked for by its name.
    pub(super) fn count_credential(&self, ask: &Ask<'_>, scope: &Scope) -> Result<(), ApiError> {
        let permissions = self.permissions()?;
        match self.usage() {
            Some(usage) => {
                let limits = permissions.limits(ask.tenant.as_str());
                Ok(usage.count_credential(ask.tenant, ask.provider, scope, &limits)?)
            }
            None => Ok(()),
        }
    }

    /// Counts the call for its tenant, once. It is granted, and a tenant that can't be has no quota of its own.
    fn count_for_tenant(&mut self) -> Result<(), ApiError> {
        let permissions = self.permissions()?;
        if let (Some(usage), Some(tenant), false) = (self.usage(), &self.about.tenant, self.is_counted_for_tenant) {
            usage.count_call_for(tenant, &permissions.limits(tenant.as_str()))?;
            self.is_counted_for_tenant = true;
        }
        Ok(())
    }

    fn usage(&self) -> Option<&Usage> {
        self.peer.as_ref()?.0.usage.get().map(Arc::as_ref)
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

    /// Refuses unless the caller may do this with this credential; says how much it may then see. The texts are as they came:
    /// nothing of a request is looked at before this.
    pub(super) fn authorize_credential(
        &mut self,
        action: Action,
        tenant: &str,
        provider: &str,
        scope: NamedScope<'_>,
    ) -> Result<Reveal, ApiError> {
        self.note(tenant, Some(provider));
        let granted = self.permissions()?.allows(action, tenant, provider, scope);
        self.admit(granted.is_some(), action)?;
        Ok(granted.unwrap_or_default())
    }

    /// Refuses unless the caller may do this with some credential of this provider of this tenant.
    pub(super) fn authorize_provider(&mut self, action: Action, tenant: &str, provider: &str) -> Result<(), ApiError> {
        self.note(tenant, Some(provider));
        let is_granted = self.permissions()?.allows_some_scope(action, tenant, provider);
        self.admit(is_granted, action)
    }

    /// Refuses unless the caller may do this with this provider of this tenant as a whole.
    pub(super) fn authorize_provider_operation(
        &mut self,
        action: Action,
        tenant: &str,
        provider: &str,
    ) -> Result<(), ApiError> {
        self.note(tenant, Some(provider));
        let is_granted = self.permissions()?.allows_provider_operation(action, tenant, provider);
        self.admit(is_granted, action)
    }

    /// Refuses unless the caller may do this with some provider of this tenant.
    pub(super) fn authorize_tenant(&mut self, action: Action, tenant: &str) -> Result<(), ApiError> {
        self.note(tenant, None);
        let is_granted = self.permissions()?.allows_some_provider(action, tenant);
        self.admit(is_granted, action)
    }

    /// Refuses unless the caller may do this with the whole vault.
    pub(super) fn authorize_operation(&self, action: Action) -> Result<(), ApiError> {
        self.unless(self.permissions()?.allows_operation(action), action)
    }

    /// Refuses unless the caller may do this with this tenant as a whole.
    pub(super) fn authorize_tenant_operation(&mut self, action: Action, tenant: &str) -> Result<(), ApiError> {
        self.note(tenant, None);
        let is_granted = self.permissions()?.allows_tenant_operation(action, tenant);
        self.unless(is_granted, action)
    }

    /// Refuses unless the policy knows the caller at all.
    pub(super) fn authorize_known(&self, action: Action) -> Result<(), ApiError> {
        self.unless(self.permissions()?.is_known(), action)
    }

    /// Refuses unless it is granted and within the tenant's quota.
    fn admit(&mut self, is_granted: bool, action: Action) -> Result<(), ApiError> {
        self.unless(is_granted, action)?;
        self.count_for_tenant()
    }

    fn unless(&self, is_granted: bool, action: Action) -> Result<(), ApiError> {
        if is_granted {
            Ok(())
        } else {
            Err(self.not_granted(action))
        }
    }

    /// Refuses unless the caller may read some of what the audit log has about a tenant and a provider; empty ones stand for
    /// any.
    pub(super) fn authorize_reading(&mut self, tenant: &str, provider: &str) -> Result<(), ApiError> {
        self.note(tenant, Some(provider));
        let is_granted = self.permissions()?.allows_reading_audit(tenant, provider);
        self.admit(is_granted, Action::AuditRead)
    }

    /// Notes which order is read about.
    pub(super) fn about_filter(&mut self, filter: &Filter) {
        self.about.order = filter.order.as_deref().and_then(|order| OrderId::parse(order).ok());
    }

    fn note(&mut self, tenant: &str, provider: Option<&str>) {
        self.about.tenant = TenantId::parse(tenant).ok();
        self.about.provider = provider.and_then(|provider| ProviderId::parse(provider).ok());
    }

    /// Whose and of which provider the caller's rights were asked for, as far as that is well-formed.
    pub(super) fn tenant_and_provider(&self) -> (Option<TenantId>, Option<ProviderId>) {
        (self.about.tenant.clone(), self.about.provider.clone())
    }

    /// The error of what the vault did not do. What is out of the caller's reach is told like everything that it may not do.
    pub(super) fn refused(&self, action: Action, error: VaultError) -> ApiError {
        match error {
            VaultError::Refused(refused) if refused.refusal == Refusal::NotGranted => self.not_granted(action),
            error => error.into(),
        }
    }

    /// What the caller was refused; only identifiers that are well-formed are repeated.
    pub(super) fn not_granted(&self, action: Action) -> ApiError {
        ApiError::NotGranted {
            caller: self.caller(),
            action,
            tenant: self.about.tenant.as_ref().map(ToString::to_string),
            provider: self.about.provider.as_ref().map(ToString::to_string),
        }
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
        self.about.receipt.clone_from(&hand_out.receipt_id);
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
        let ended = self.finish(outcome);
        let answer = ended.let_out().await;
        answer.map(Response::new).map_err(|fault| Status::from(*fault))
    }

    /// What will be told when the stream that this call opens is over.
    pub(super) fn stream(&self) -> StreamEnd {
        StreamEnd {
            call: self.opened(),
            messages: 0,
        }
    }

    fn finish<T>(&mut self, outcome: Result<T, ApiError>) -> Ended<T> {
        self.is_over = true;
        if let Some(passage) = &self.passage {
            passage.has_outcome();
        }
        let outcome = outcome.map_err(|error| {
            log_trouble(self.method, &error);
            Box::new(Fault::from(&error))
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
            request,
            receipt,
        } = about;
        Entry {
            caller: self.known_caller().map(Caller::as_str),
            peer: self.peer.as_ref().map(Peer::address),
            tenant: tenant.as_ref().map(TenantId::as_str),
            provider: provider.as_ref().map(ProviderId::as_str),
            scope: scope.as_ref(),
            version: *version,
            order: order.as_ref().map(OrderId::as_str),
            request: request.as_ref().map(SubjectId::as_str),
            receipt: receipt.as_deref(),
            intent: self.intent.map(|intent| intent.seq),
            ..Entry::new(event, self.method)
        }
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
            peer = entry.peer.map(tracing::field::display),
            tenant = entry.tenant,
            provider = entry.provider,
            scope = entry.scope.map(tracing::field::display),
            version = entry.version,
            order = entry.order,
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

/// A call, or a part of one, that is over and whose line is under way.
#[must_use = "nobody gets an answer before it is let out"]
pub(super) struct Ended<T> {
    ticket: Ticket,
    announced: Option<Intent>,
    outcome: Result<T, Box<Fault>>,
    unanswered: Unanswered,
}

/// Lines of an answer that has not left. If it is dropped, the log says so.
struct Unanswered {
    audit: Audit,
    own: Option<u64>,
    parts: Vec<u64>,
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
    pub(super) async fn let_out(self) -> Result<T, Box<Fault>> {
        let Self {
            ticket,
            announced,
            outcome,
            mut unanswered,
        } = self;
        unanswered.own = Some(ticket.written().await.map_err(unavailable)?);
        if let Some(intent) = announced {
            // Large, and for changes alone: apart from what every call carries along.
            let durable = Box::pin(unanswered.audit.is_durable(intent));
            durable.await.map_err(unavailable)?;
        }
        unanswered.own = None;
        unanswered.parts.clear();
        outcome
    }
}

fn unavailable(error: Unavailable) -> Box<Fault> {
    Box::new(Fault::from(&ApiError::Audit(error)))
}

/// Lists the end of a stream when it is dropped.
pub(super) struct StreamEnd {
    call: Call,
    messages: u64,
}

impl StreamEnd {
    /// One more message is sent.
    pub(super) fn count(&mut self) {
        self.messages += 1;
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        let entry = Entry {
            messages: Some(self.messages),
            ..self.call.entry(Event::StreamEnded)
        };
        self.call.audit.note(&entry);
    }
}

/// What the audit log says of a call that has ended with this code.
pub(crate) fn ended<'a>(entry: Entry<'a>, code: Code, reason: Option<&'a str>) -> Entry<'a> {
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

/// The code's name as gRPC's own documents have it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What is wrong with the vault itself goes to the operator; the caller only learns that it is.
fn log_trouble(method: &'static str, error: &ApiError) {
    if let ApiError::Vault(
        error @ (VaultError::Store(_) | VaultError::Keyring(_) | VaultError::Corrupt(_) | VaultError::Seal(_)),
    ) = error
    {
        tracing::error!(method, %error, "the vault is in trouble");
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
