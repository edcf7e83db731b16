//! The stream behind `WatchChanges`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::broadcast;
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::Status;

use crate::pb::v1::{self, change_event::Kind};
use crate::store::Revision;
use crate::vault::Vault;
use crate::vault::ids::{ProviderId, TenantId};
use crate::vault::replica::{Event, EventKind, Subscription};

/// A tenant's changes. Whoever reads too slowly gets `RESYNC`; nothing waits for a reader.
pub struct ChangeStream {
    vault: Arc<Vault>,
    tenant: TenantId,
    providers: Vec<ProviderId>,
    missed: VecDeque<Arc<Event>>,
    resync_at: Option<Revision>,
    live: BroadcastStream<Arc<Event>>,
}

impl ChangeStream {
    pub(super) fn new(
        vault: &Arc<Vault>,
        tenant: TenantId,
        providers: Vec<ProviderId>,
        from: Option<Revision>,
    ) -> Self {
        let (missed, resync_at, live) = subscribe(vault, from);
        let (vault, live) = (Arc::clone(vault), BroadcastStream::new(live));
        Self {
            vault,
            tenant,
            providers,
            missed: missed.into(),
            resync_at,
            live,
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        event.tenant == self.tenant && self.providers.contains(&event.provider)
    }

    fn resync(&self, revision: Revision) -> v1::ChangeEvent {
        let tenant = self.tenant.to_string();
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
        let answer = |event| Poll::Ready(Some(Ok(v1::WatchChangesResponse { event: Some(event) })));
        loop {
            if let Some(revision) = self.resync_at.take() {
                return answer(self.resync(revision));
            }
            if let Some(event) = self.missed.pop_front() {
                if self.concerns(&event) {
                    return answer(wire_event(&event));
                }
                continue;
            }
            match Pin::new(&mut self.live).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Ok(event))) => {
                    if self.concerns(&event) {
                        return answer(wire_event(&event));
                    }
                }
                Poll::Ready(Some(Err(BroadcastStreamRecvError::Lagged(_)))) => {
                    // From now on: what is still in the way is older than the new start.
                    let revision = self.vault.revision();
                    let (_, _, live) = subscribe(&self.vault, None);
                    self.live = BroadcastStream::new(live);
                    self.resync_at = Some(revision);
                }
            }
        }
    }
}

type Start = (Vec<Arc<Event>>, Option<Revision>, broadcast::Receiver<Arc<Event>>);

fn subscribe(vault: &Vault, from: Option<Revision>) -> Start {
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
