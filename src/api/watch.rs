//! The stream behind `WatchChanges`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::broadcast;
use tokio_stream::Stream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, WatchStream};
use tonic::Status;

use super::call::StreamEnd;
use super::fault::{ApiError, Fault};
use super::peer::Peer;
use crate::access::{Action, LivePermissions, Scopes};
use crate::pb::v1::{self, change_event::Kind};
use crate::store::Revision;
use crate::vault::Vault;
use crate::vault::feed::{Event, EventKind, Subscription};
use crate::vault::ids::{ProviderId, TenantId};

/// A tenant's changes, as far as the caller may know of them at that moment. Whoever reads too slowly gets `RESYNC`; nothing
/// waits for a reader. So does whoever may suddenly watch more, or less: what it keeps lacks what it was not told, or holds what
/// it will not be told of again. When the caller loses the right to what it asked for, the stream ends.
pub struct ChangeStream {
    vault: Arc<Vault>,
    watcher: Watcher,
    missed: VecDeque<Arc<Event>>,
    resync_at: Option<Revision>,
    live: BroadcastStream<Arc<Event>>,
    end: StreamEnd,
}

/// Who watches what.
pub(super) struct Watcher {
    peer: Peer,
    tenant: TenantId,
    /// Asked for by name: each must be granted. None: all that are.
    named: Vec<ProviderId>,
    /// What the caller reaches of each provider that it may be told of.
    reached: Vec<(ProviderId, Scopes)>,
    policy_replaced: WatchStream<()>,
    /// What it is told when it may watch no longer.
    refusal: Status,
    is_over: bool,
}

/// What a replaced policy means for a watch.
enum Replaced {
    /// The caller may not watch any longer what it asked for.
    Refused(Status),
    /// It reaches something else than before.
    Reach,
}

impl Watcher {
    /// # Errors
    /// That the connection has no identity.
    pub(super) fn new(
        vault: &Vault,
        peer: Peer,
        tenant: TenantId,
        named: Vec<ProviderId>,
        refusal: &ApiError,
    ) -> Result<Self, ApiError> {
        let identity = peer.identity().map_err(|why| ApiError::NoIdentity(why.to_owned()))?;
        let policy_replaced = WatchStream::new(identity.replacements());
        let providers = if named.is_empty() {
            vault.catalogue().ids().cloned().collect()
        } else {
            named.clone()
        };
        // After the subscription, so that no replacement falls between the two.
        let reached = reached(identity, &tenant, providers);
        Ok(Self {
            peer,
            tenant,
            named,
            reached,
            policy_replaced,
            refusal: Fault::from(refusal).into(),
            is_over: false,
        })
    }

    /// What a replaced policy changes for the caller, once.
    fn poll_replaced(&mut self, context: &mut Context<'_>) -> Option<Replaced> {
        let mut is_replaced = false;
        while let Poll::Ready(Some(())) = Pin::new(&mut self.policy_replaced).poll_next(context) {
            is_replaced = true;
        }
        if !is_replaced {
            return None;
        }
        if !self.may_watch() {
            self.is_over = true;
            return Some(Replaced::Refused(self.refusal.clone()));
        }
        let providers = self.reached.iter().map(|(provider, _)| provider.clone()).collect();
        let now = reached(self.peer.identity().ok()?, &self.tenant, providers);
        (std::mem::replace(&mut self.reached, now) != self.reached).then_some(Replaced::Reach)
    }

    fn may_watch(&self) -> bool {
        self.peer.identity().is_ok_and(|identity| {
            let (permissions, tenant) = (identity.now(), self.tenant.as_str());
            let may_watch = |id: &ProviderId| permissions.allows_some_scope(Action::Watch, tenant, id.as_str());
            match self.named.as_slice() {
                [] => permissions.allows_some_provider(Action::Watch, tenant),
                named => named.iter().all(may_watch),
            }
        })
    }

    fn concerns(&self, event: &Event) -> bool {
        if event.tenant != self.tenant || !(self.named.is_empty() || self.named.contains(&event.provider)) {
            return false;
        }
        let reach = self.peer.identity().map(|identity| identity.now().reach(Action::Watch));
        reach.is_ok_and(|reach| match &event.scope {
            Some(scope) => reach.reveals(&event.tenant, &event.provider, scope).is_some(),
            // An assignment concerns whoever has to do with the provider.
            None => reach.includes_some(&event.tenant, &event.provider),
        })
    }
}

fn reached(identity: &LivePermissions, tenant: &TenantId, providers: Vec<ProviderId>) -> Vec<(ProviderId, Scopes)> {
    let reach = identity.now().reach(Action::Watch);
    let reached = |provider: ProviderId| {
        let scopes = reach.scopes(tenant, &provider);
        (provider, scopes)
    };
    providers.into_iter().map(reached).collect()
}

impl ChangeStream {
    pub(super) fn new(vault: &Arc<Vault>, watcher: Watcher, from: Option<Revision>, end: StreamEnd) -> Self {
        let from = from.map(|from| (from, &watcher.tenant));
        let (missed, resync_at, live) = subscribe(vault, from);
        let (vault, live) = (Arc::clone(vault), BroadcastStream::new(live));
        Self {
            vault,
            watcher,
            missed: missed.into(),
            resync_at,
            live,
            end,
        }
    }

    fn send(&mut self, event: v1::ChangeEvent) -> Poll<Option<Result<v1::WatchChangesResponse, Status>>> {
        self.end.count();
        Poll::Ready(Some(Ok(v1::WatchChangesResponse { event: Some(event) })))
    }

    /// Goes on with what comes, and tells the caller that it has to start over.
    fn start_over(&mut self) {
        let (_, _, live) = subscribe(&self.vault, None);
        self.live = BroadcastStream::new(live);
        self.missed.clear();
        // Only now: what falls between the two comes as an event, too.
        self.resync_at = Some(self.vault.revision());
    }

    fn resync(&self, revision: Revision) -> v1::ChangeEvent {
        let tenant = self.watcher.tenant.to_string();
        v1::ChangeEvent {
            revision: revision.0,
            r#ref: Some(v1::CredentialRef {
                tenant,
                ..Default::default()
            }),
            kind: Kind::Resync.into(),
        }
    }
}

impl Stream for ChangeStream {
    type Item = Result<v1::WatchChangesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.watcher.is_over {
            return Poll::Ready(None);
        }
        match self.watcher.poll_replaced(context) {
            Some(Replaced::Refused(refusal)) => return Poll::Ready(Some(Err(refusal))),
            Some(Replaced::Reach) => self.start_over(),
            None => {}
        }
        loop {
            if let Some(revision) = self.resync_at.take() {
                let event = self.resync(revision);
                return self.send(event);
            }
            if let Some(event) = self.missed.pop_front() {
                if self.watcher.concerns(&event) {
                    return self.send(wire_event(&event));
                }
                continue;
            }
            match Pin::new(&mut self.live).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Ok(event))) => {
                    if self.watcher.concerns(&event) {
                        return self.send(wire_event(&event));
                    }
                }
                // What is still in the way is older than the new start.
                Poll::Ready(Some(Err(BroadcastStreamRecvError::Lagged(_)))) => self.start_over(),
            }
        }
    }
}

type Start = (Vec<Arc<Event>>, Option<Revision>, broadcast::Receiver<Arc<Event>>);

fn subscribe(vault: &Vault, from: Option<(Revision, &TenantId)>) -> Start {
    match vault.subscribe(from) {
        Subscription::Resumed { missed, live } => (missed, None, live),
        Subscription::Resync { revision, live } => (Vec::new(), Some(revision), live),
    }
}

fn wire_event(event: &Event) -> v1::ChangeEvent {
    let kind = match event.kind {
        EventKind::Saved => Kind::Saved,
        EventKind::StateChanged => Kind::StateChanged,
        EventKind::Deleted => Kind::Deleted,
        EventKind::AssignmentChanged => Kind::AssignmentChanged,
    };
    v1::ChangeEvent {
        revision: event.revision.0,
        r#ref: Some(v1::CredentialRef {
            tenant: event.tenant.to_string(),
            provider: event.provider.to_string(),
            scope: event.scope.as_ref().map(Into::into),
        }),
        kind: kind.into(),
    }
}
