//! What callers are told of changes: those that come, and for whoever comes back those that it missed, none twice and none left
//! out. Also which revision the copy in memory is of.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::ids::{ProviderId, TenantId};
use super::primitives::{Mutex, MutexGuard};
use super::scope::Scope;
use crate::store::Revision;

/// How many changes are kept for callers that come back.
const HISTORY: usize = 10_000;
/// How far a caller may lag behind before it is told to start over.
const BACKLOG: usize = 1024;

/// A change as callers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision that made it.
    pub revision: Revision,
    /// Whose.
    pub tenant: TenantId,
    /// Of which provider.
    pub provider: ProviderId,
    /// Which credential; none for an assignment.
    pub scope: Option<Scope>,
    /// What happened.
    pub kind: EventKind,
}

/// The kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A new version was saved.
    Saved,
    /// It was enabled, disabled or undeleted.
    StateChanged,
    /// It was deleted or purged.
    Deleted,
    /// The tenant's assignment for the provider changed.
    AssignmentChanged,
}

/// What a caller that watches gets: what it missed, then what comes.
pub enum Subscription {
    /// What was missed is known.
    Resumed {
        /// The changes after the revision that was asked for.
        missed: Vec<Arc<Event>>,
        /// Those that follow.
        live: broadcast::Receiver<Arc<Event>>,
    },
    /// What was missed is not known any more.
    Resync {
        /// The revision that the changes follow on.
        revision: Revision,
        /// The changes.
        live: broadcast::Receiver<Arc<Event>>,
    },
}

/// The changes, as they are applied.
pub(super) struct Feed {
    applied: watch::Sender<Revision>,
    history: Mutex<History>,
    live: broadcast::Sender<Arc<Event>>,
}

struct History {
    events: VecDeque<Arc<Event>>,
    /// Every event after this revision is there.
    complete_after: Revision,
    /// Whose that one is if it had several events. An erasure has one for each thing that the tenant had.
    had_several: Option<TenantId>,
}

impl History {
    fn forget_oldest(&mut self) {
        let Some(oldest) = self.events.pop_front() else { return };
        let is_the_same = |other: Revision| other == oldest.revision;
        let had_several = (self.had_several.is_some() && is_the_same(self.complete_after))
            || self.events.front().is_some_and(|next| is_the_same(next.revision));
        self.had_several = had_several.then(|| oldest.tenant.clone());
        self.complete_after = oldest.revision;
    }

    /// Whether somebody who follows a tenant, and names this revision as the last one that it was told of, may have been told of a part
    /// of it alone. A revision is of one tenant.
    fn has_several_of(&self, revision: Revision, tenant: &TenantId) -> bool {
        if revision == self.complete_after && self.had_several.as_ref() == Some(tenant) {
            return true;
        }
        let is_of_it = |event: &&Arc<Event>| event.revision == revision && event.tenant == *tenant;
        self.events.iter().filter(is_of_it).take(2).count() == 2
    }
}

impl Feed {
    /// One of the changes after this revision.
    pub(super) fn after(revision: Revision) -> Self {
        Self {
            applied: watch::Sender::new(Revision(0)),
            history: Mutex::new(History {
                events: VecDeque::new(),
                complete_after: revision,
                had_several: None,
            }),
            live: broadcast::Sender::new(BACKLOG),
        }
    }

    /// Everything up to this revision is applied, and nobody has to be told of it.
    pub(super) fn begin_at(&self, revision: Revision) {
        self.applied.send_replace(revision);
    }

    /// Everything up to this revision is applied: tells all who wait for that, and whoever listens of what has changed.
    pub(super) fn publish(&self, newest: Revision, events: Vec<Event>) {
        let mut history = self.history();
        self.applied.send_replace(newest);
        for event in events.into_iter().map(Arc::new) {
            if history.events.len() == HISTORY {
                history.forget_oldest();
            }
            history.events.push_back(Arc::clone(&event));
            // Nobody may be listening.
            let _ = self.live.send(event);
        }
    }

    /// The newest revision that is applied.
    pub(super) fn revision(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until `wanted` is applied, at most `patience`; says whether it is.
    pub(super) async fn wait(&self, wanted: Revision, patience: Duration) -> bool {
        if self.revision() >= wanted {
            return true;
        }
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|revision| *revision >= wanted);
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// The changes after `from`, the last one that somebody was told of who follows a tenant; without it, those that come.
    pub(super) fn subscribe(&self, from: Option<(Revision, &TenantId)>) -> Subscription {
        let history = self.history();
        // Under the lock, so that no event falls between what was missed and what comes.
        let live = self.live.subscribe();
        let revision = self.revision();
        match from {
            None => Subscription::Resumed {
                missed: Vec::new(),
                live,
            },
            Some((from, tenant))
                if from < history.complete_after || from > revision || history.has_several_of(from, tenant) =>
            {
                Subscription::Resync { revision, live }
            }
            Some((from, _)) => {
                let missed = history
                    .events
                    .iter()
                    .filter(|event| event.revision > from)
                    .map(Arc::clone)
                    .collect();
                Subscription::Resumed { missed, live }
            }
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
