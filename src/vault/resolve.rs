//! The decision table: which credential an order gets. Pure: values in, a value out.

use super::assignment::{Assignment, Mode};
use super::catalogue::{Provider, ProviderKind};
use super::credential::State;
use super::ids::{OrderId, SubjectId};
use super::scope::{Scope, ScopeKind};
use crate::time::Timestamp;

/// An order, as far as the choice depends on it.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its name, for logs and receipts.
    pub id: OrderId,
    /// The office that it belongs to today.
    pub office: Option<SubjectId>,
    /// The office in which it was created, if that is another one.
    pub created_in_office: Option<SubjectId>,
    /// The appraiser who is responsible for it.
    pub appraiser: Option<SubjectId>,
    /// The user at the screen.
    pub user: Option<SubjectId>,
}

/// What the decision has to know of a credential.
pub trait Candidate {
    /// Whether it is handed out.
    fn state(&self) -> State;
    /// Until when it may be used.
    fn valid_until(&self) -> Option<Timestamp>;
}

/// How it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<C> {
    /// The mode that held.
    pub mode: Mode,
    /// The scope of the credential, or the one that was looked for.
    pub scope: Scope,
    /// Whether the general credential takes the subject's place.
    pub fell_back: bool,
    /// The row of the table that decided.
    pub rule: u8,
    /// The credential, or why there is none.
    pub outcome: Result<C, Refusal>,
}

/// Why an order gets no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Rule 1: nobody knows the provider.
    UnknownProvider,
    /// Rule 2: the order does not name what the mode needs.
    OrderLacks(ScopeKind),
    /// Rule 4: someone switched it off.
    Disabled,
    /// Rule 5: its time is over.
    Expired,
    /// Rule 7: there is none.
    NotConfigured,
    /// No rule: the answer is about a credential that the caller has no right to. Whether that exists was not looked at.
    NotGranted,
}

/// Which of the credentials that an order might get the caller may know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InReach {
    /// The one of the office, appraiser or user that the assignment asks for; of the whole tenant if it asks for that.
    pub wanted: bool,
    /// The general one, which may take its place.
    pub general: bool,
}

/// Decides which credential `order` gets at `now`; `find` looks one up by scope.
///
/// Rules 1 to 7 of the decision table, in its order: (1) the provider is known; (2) the order names the subject that the
/// mode needs; (3) a usable credential of that subject is given; one that is (4) disabled or (5) expired is refused and never
/// replaced; (6) the general one is given if there is none and the assignment allows it; (7) otherwise there is none.
///
/// What is out of the caller's reach is not looked up, so that no answer depends on whether it exists.
pub fn decide<C: Candidate>(
    provider: Option<&Provider>,
    assignment: &Assignment,
    order: &Order,
    now: Timestamp,
    reach: InReach,
    find: impl Fn(&Scope) -> Option<C>,
) -> Decision<C> {
    let mode = assignment.mode;
    let decision = |rule, scope, outcome| Decision {
        mode,
        scope,
        fell_back: false,
        rule,
        outcome,
    };
    let Some(provider) = provider else {
        return Decision {
            mode: Mode::General,
            ..decision(1, Scope::General, Err(Refusal::UnknownProvider))
        };
    };
    let Some(scope) = wanted_scope(provider, mode, order) else {
        return decision(2, Scope::General, Err(Refusal::OrderLacks(mode.scope_kind())));
    };
    if !reach.wanted {
        return decision(0, scope, Err(Refusal::NotGranted));
    }
    match find(&scope).map(usability(now)) {
        Some(Usability::Usable(credential)) => return decision(3, scope, Ok(credential)),
        Some(Usability::Disabled) => return decision(4, scope, Err(Refusal::Disabled)),
        Some(Usability::Expired) => return decision(5, scope, Err(Refusal::Expired)),
        Some(Usability::Deleted) | None => {}
    }
    if assignment.fallback_to_general && scope != Scope::General {
        if !reach.general {
            return decision(0, scope, Err(Refusal::NotGranted));
        }
        if let Some(Usability::Usable(general)) = find(&Scope::General).map(usability(now)) {
            return Decision {
                fell_back: true,
                ..decision(6, Scope::General, Ok(general))
            };
        }
    }
    decision(7, scope, Err(Refusal::NotConfigured))
}

/// The scope of the credential that the order should get; none if the order does not say.
pub fn wanted_scope(provider: &Provider, mode: Mode, order: &Order) -> Option<Scope> {
    // Mail leaves from the office in which the order was created, also after the order has moved.
    let office = match provider.kind {
        ProviderKind::MailAccount => order.created_in_office.as_ref().or(order.office.as_ref()),
        ProviderKind::Login => order.office.as_ref(),
    };
    match mode {
        Mode::General => Some(Scope::General),
        Mode::PerOffice => office.cloned().map(Scope::Office),
        Mode::PerAppraiser => order.appraiser.clone().map(Scope::Appraiser),
        Mode::PerUser => order.user.clone().map(Scope::User),
    }
}

enum Usability<C> {
    Usable(C),
    Disabled,
    Expired,
    Deleted,
}

fn usability<C: Candidate>(now: Timestamp) -> impl Fn(C) -> Usability<C> {
    move |credential| match credential.state() {
        State::Deleted { .. } => Usability::Deleted,
        State::Disabled => Usability::Disabled,
        State::Enabled if credential.valid_until().is_some_and(|end| end <= now) => Usability::Expired,
        State::Enabled => Usability::Usable(credential),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
