//! Why a caller may do something, or what it lacks.

use super::action::{Action, Reveal};
use super::identity::Caller;
use super::permissions::Grant;
use super::policy::{Policy, Who};
use super::quota::Limits;
use crate::vault::ids::{ProviderId, TenantId};
use crate::vault::scope::Scope;

/// Asks whether somebody may do something. What is not named is asked for as a whole where the action is about that, and else
/// for some part of it.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who.
    pub caller: Caller,
    /// What.
    pub action: Action,
    /// With which tenant; none: with the whole vault, or any for `audit.read`.
    pub tenant: Option<TenantId>,
    /// With which of its providers; none: any, or all for `operate`.
    pub provider: Option<ProviderId>,
    /// With which credential; none: any, or all for what is not about credentials.
    pub scope: Option<Scope>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How much the caller sees, if it may do it.
    pub granted: Option<Reveal>,
    /// The grants that allow it, by their place in the policy, from 0.
    pub allowed_by: Vec<usize>,
    /// The grants that come nearest, if none allows it, by their place: those that lack the least.
    pub nearest: Vec<(usize, Vec<Because>)>,
    /// Whether the policy has any grant for the caller.
    pub is_known: bool,
    /// The caller's quotas.
    pub limits: Limits,
}

/// Why a grant does not allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is for others.
    Who,
    /// It allows other things.
    May,
    /// It is for other tenants, or not for all.
    Tenants,
    /// It is for other providers, or not for all.
    Providers,
    /// It is for other scopes, or not for all.
    Scopes,
}

impl Because {
    /// The key of the grant that says so.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Who => "who",
            Self::May => "may",
            Self::Tenants => "tenants",
            Self::Providers => "providers",
            Self::Scopes => "scopes",
        }
    }
}

/// How many grants are shown that come near.
const NEAREST: usize = 3;

impl Policy {
    /// Answers from the same grants as a server does, one by one.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Verdict {
        let lacking = self.grants.iter().map(|(who, grant)| question.lacking(who, grant));
        let (allowed_by, mut nearest): (Vec<_>, Vec<_>) = lacking.enumerate().partition(|(_, lacks)| lacks.is_empty());
        let allowed_by: Vec<_> = allowed_by.into_iter().map(|(place, _)| place).collect();
        if !allowed_by.is_empty() {
            nearest.clear();
        }
        // Of those that lack as much, first those that are for the caller; then in the order of the file.
        nearest.sort_by_key(|(place, lacks)| (lacks.len(), lacks.contains(&Because::Who), *place));
        let least = nearest.first().map_or(0, |(_, lacks)| lacks.len());
        nearest.retain(|(_, lacks)| lacks.len() == least);
        nearest.truncate(NEAREST);
        let permissions = self.permissions(&question.caller);
        let limits = match &question.tenant {
            Some(tenant) => permissions.limits(tenant.as_str()),
            None => *permissions.total_limits(),
        };
        Verdict {
            granted: allowed_by.iter().map(|place| self.grants[*place].1.reveal).max(),
            allowed_by,
            nearest,
            is_known: permissions.is_known(),
            limits,
        }
    }
}

impl Question {
    fn lacking(&self, who: &Who, grant: &Grant) -> Vec<Because> {
        use super::permissions::Names;
        use super::scopes::Scopes;

        // Whoever reads the audit log gets what is within its grants, however narrow they are.
        let may_be_some = self.action == Action::AuditRead;
        let is_about_whole_tenants = self.action.is_about_whole_tenants() || (self.tenant.is_none() && !may_be_some);
        let is_about_whole_providers = is_about_whole_tenants || self.action == Action::AssignmentsWrite;
        let tenants = match &self.tenant {
            Some(tenant) => grant.tenants.contain(tenant.as_str()),
            None => may_be_some || grant.tenants == Names::All,
        };
        let providers = match &self.provider {
            _ if is_about_whole_tenants => grant.providers == Names::All,
            Some(provider) => grant.providers.contain(provider.as_str()),
            None => true,
        };
        let scopes = match &self.scope {
            _ if is_about_whole_providers => grant.scopes == Scopes::All,
            Some(scope) => grant.scopes.contain(Some(scope.named())),
            None => true,
        };
        [
            (who.is(&self.caller), Because::Who),
            (grant.actions.contain(self.action), Because::May),
            (tenants, Because::Tenants),
            (providers, Because::Providers),
            (scopes, Because::Scopes),
        ]
        .into_iter()
        .filter_map(|(is_there, because)| (!is_there).then_some(because))
        .collect()
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
