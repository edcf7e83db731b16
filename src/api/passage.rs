//! A call on its way between the gate and its service: whose it is to list it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use crate::audit::Ticket;

/// One call, as the gate and its service share it. The gate counts it, the service lists it; unless the gate gives up before
/// that.
#[derive(Clone)]
pub(crate) struct Passage(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_late: bool,
    line: Line,
    /// The caller's place for the call; none if it has any number, or once somebody else keeps it.
    place: Option<OwnedSemaphorePermit>,
}

/// What the audit log has of a call that the gate has given up.
#[derive(Default)]
pub(crate) enum Line {
    /// Nothing: it came to no service.
    #[default]
    Missing,
    /// That it took too long; under way.
    OfTheEnd(Ticket),
    /// Its outcome; under way, or what it has changed is.
    OfTheOutcome,
}

impl Passage {
    /// Of a call that takes up this place.
    pub(crate) fn new(place: Option<OwnedSemaphorePermit>) -> Self {
        let state = State {
            place,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The place, for whoever is at work longer than the call: its answer while it is sent, or a change that goes on without it.
    pub(crate) fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.state().place.take()
    }

    /// The deadline has passed: from now on the answer is the gate's.
    pub(crate) fn give_up(&self) {
        self.state().is_late = true;
    }

    /// What has become of a call that was given up and dropped.
    pub(crate) fn line(&self) -> Line {
        std::mem::take(&mut self.state().line)
    }

    pub(super) fn is_late(&self) -> bool {
        self.state().is_late
    }

    pub(super) fn has_outcome(&self) {
        self.state().line = Line::OfTheOutcome;
    }

    pub(super) fn has_ended(&self, ticket: Ticket) {
        self.state().line = Line::OfTheEnd(ticket);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
