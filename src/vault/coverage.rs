//! Who has no usable credential: the decision, asked for everybody in turn.

use super::asker::Asker;
use super::assignment::{Assignment, Mode};
use super::catalogue::Provider;
use super::handout::{Ask, Asked, Lack};
use super::ids::{OrderId, ProviderId, SubjectId, TenantId};
use super::resolve::Order;
use super::scope::Scope;
use super::{Vault, VaultError};
use crate::access::Reach;

/// Asks who has no usable credential.
#[derive(Clone, Debug)]
pub struct CoverageQuery {
    /// The firm.
    pub tenant: TenantId,
    /// Its offices.
    pub offices: Vec<SubjectId>,
    /// Its appraisers.
    pub appraisers: Vec<SubjectId>,
    /// Its users.
    pub users: Vec<SubjectId>,
    /// Only these; all of them are in the catalogue.
    pub providers: Vec<ProviderId>,
    /// What the caller may read: each answer is what explaining the decision would tell it.
    pub readable: Reach,
}

/// Someone without a usable credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// For which provider.
    pub provider: ProviderId,
    /// The mode that holds.
    pub mode: Mode,
    /// Who lacks it.
    pub scope: Scope,
    /// Why.
    pub lack: Lack,
}

impl Vault {
    /// Everybody who has no usable credential under today's assignments, in the order of the query.
    ///
    /// # Errors
    /// That an assignment's record is damaged, or [`VaultError::Gone`].
    pub fn coverage(&self, query: &CoverageQuery, asker: &Asker) -> Result<Vec<Gap>, VaultError> {
        let mut gaps = Vec::new();
        for id in &query.providers {
            let Some(provider) = self.catalogue.get(id.as_str()) else {
                continue;
            };
            let choice = self.replica.choice(&query.tenant, id)?;
            let assignment = choice.map(|choice| choice.assignment).unwrap_or_default();
            for scope in query.scopes(assignment.mode) {
                asker.still_waits()?;
                if let Some(lack) = self.lack_of(&query.tenant, provider, assignment, &scope, &query.readable) {
                    gaps.push(Gap {
                        provider: id.clone(),
                        mode: assignment.mode,
                        scope,
                        lack,
                    });
                }
            }
        }
        Ok(gaps)
    }

    /// Why an order of this office, appraiser or user would get no credential; none if it would get one.
    pub(super) fn lack_of(
        &self,
        tenant: &TenantId,
        provider: &Provider,
        assignment: Assignment,
        scope: &Scope,
        readable: &Reach,
    ) -> Option<Lack> {
        let ask = Ask {
            tenant,
            provider: &provider.id,
            order: &order_of(scope),
        };
        let asked = Asked::new(&ask, Some(provider), assignment, self.replica.feed().revision());
        let decided = self.decide(&asked, asked.granted(readable), self.clock.now());
        decided.outcome.err()
    }
}

impl CoverageQuery {
    /// Whom the mode tells apart.
    fn scopes(&self, mode: Mode) -> Vec<Scope> {
        let all = |ids: &[SubjectId], scope: fn(SubjectId) -> Scope| ids.iter().cloned().map(scope).collect();
        match mode {
            Mode::General => vec![Scope::General],
            Mode::PerOffice => all(&self.offices, Scope::Office),
            Mode::PerAppraiser => all(&self.appraisers, Scope::Appraiser),
            Mode::PerUser => all(&self.users, Scope::User),
        }
    }
}

/// An order that is of nobody else.
fn order_of(scope: &Scope) -> Order {
    let id = OrderId::parse("coverage").expect("a word can be printed");
    let mut order = Order {
        id,
        office: None,
        created_in_office: None,
        appraiser: None,
        user: None,
    };
    match scope {
        Scope::General => {}
        Scope::Office(id) => order.office = Some(id.clone()),
        Scope::Appraiser(id) => order.appraiser = Some(id.clone()),
        Scope::User(id) => order.user = Some(id.clone()),
    }
    order
}
