//! What one caller may do: its grants, gathered once a connection and asked on every call.

use std::sync::Arc;

use super::action::{Action, Reveal};
use super::identity::Caller;
use super::quota::{Limits, Quota};
use super::scopes::{NamedScope, Scopes};
use crate::vault::ids::{ProviderId, TenantId};
use crate::vault::scope::{CredentialRef, Scope};

/// What one caller may do. Cheap to clone; nothing it answers allocates.
///
/// Tenants, providers and scopes are compared byte for byte with what the caller sent, before anything else looks at that.
#[derive(Clone, Debug)]
pub struct Permissions {
    caller: Caller,
    grants: Arc<[Arc<Grant>]>,
    /// What holds where no grant says anything.
    defaults: Limits,
    /// Those for all tenants together.
    totals: Limits,
}

impl Permissions {
    pub(super) fn new(caller: Caller, grants: Arc<[Arc<Grant>]>, defaults: Limits) -> Self {
        let totals = highest(grants.iter()).or(&defaults);
        Self {
            caller,
            grants,
            defaults,
            totals,
        }
    }

    /// Whose they are.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the policy has any grant for the caller.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.grants.is_empty()
    }

    /// The caller's quotas, as far as they are for all tenants together.
    #[must_use]
    pub fn total_limits(&self) -> &Limits {
        &self.totals
    }

    /// The caller's quotas where it asks for this tenant: of each the highest that a grant for the tenant sets, or the default
    /// if none does.
    #[must_use]
    pub fn limits(&self, tenant: &str) -> Limits {
        let grants = self.grants.iter().filter(|grant| grant.tenants.contain(tenant));
        let mut limits = highest(grants).or(&self.defaults);
        for quota in Quota::ALL.into_iter().filter(|quota| quota.is_total()) {
            limits.set(quota, self.totals.get(quota));
        }
        limits
    }

    /// Whether the caller may do this with this credential, and how much of it it then sees: the most that one of the grants
    /// for it shows.
    #[must_use]
    pub fn allows(&self, action: Action, tenant: &str, provider: &str, scope: NamedScope<'_>) -> Option<Reveal> {
        self.for_provider(action, tenant, provider)
            .filter(|grant| grant.scopes.contain(scope))
            .map(|grant| grant.reveal)
            .max()
    }

    /// Whether the caller may do this with some credential of this provider of this tenant.
    #[must_use]
    pub fn allows_some_scope(&self, action: Action, tenant: &str, provider: &str) -> bool {
        self.for_provider(action, tenant, provider).next().is_some()
    }

    /// Whether the caller may do this where it is about this provider of this tenant as a whole. Only a grant for all scopes
    /// allows it.
    #[must_use]
    pub fn allows_provider_operation(&self, action: Action, tenant: &str, provider: &str) -> bool {
        self.for_provider(action, tenant, provider)
            .any(|grant| grant.scopes == Scopes::All)
    }

    /// Whether the caller may do this with any provider of this tenant at all.
    #[must_use]
    pub fn allows_some_provider(&self, action: Action, tenant: &str) -> bool {
        self.for_tenant(action, tenant).next().is_some()
    }

    /// Whether the caller may do this where it is about the whole vault. Only a grant for all tenants, providers and
    /// scopes allows it.
    #[must_use]
    pub fn allows_operation(&self, action: Action) -> bool {
        self.grants
            .iter()
            .any(|grant| grant.actions.contain(action) && grant.tenants == Names::All && grant.is_for_whole_tenants())
    }

    /// Whether the caller may do this where it is about one tenant as a whole. Only a grant for all of its providers and
    /// scopes allows it.
    #[must_use]
    pub fn allows_tenant_operation(&self, action: Action, tenant: &str) -> bool {
        self.for_tenant(action, tenant)
            .any(|grant| grant.is_for_whole_tenants())
    }

    /// Whether the caller may do this with anything at all.
    #[must_use]
    pub fn allows_somewhere(&self, action: Action) -> bool {
        self.grants.iter().any(|grant| grant.actions.contain(action))
    }

    /// Whether the caller may ask for what the audit log has about a tenant and a provider; empty ones stand for any. It then
    /// gets those lines that are within its grants.
    #[must_use]
    pub fn allows_reading_audit(&self, tenant: &str, provider: &str) -> bool {
        let action = Action::AuditRead;
        match (tenant, provider) {
            ("", _) => self.allows_somewhere(action),
            (tenant, "") => self.allows_some_provider(action, tenant),
            (tenant, provider) => self.allows_some_scope(action, tenant, provider),
        }
    }

    /// What the caller may do this with.
    #[must_use]
    pub fn reach(&self, action: Action) -> Reach {
        Reach {
            permissions: self.clone(),
            action,
        }
    }

    fn for_provider(&self, action: Action, tenant: &str, provider: &str) -> impl Iterator<Item = &Arc<Grant>> {
        self.for_tenant(action, tenant)
            .filter(move |grant| grant.providers.contain(provider))
    }

    fn for_tenant(&self, action: Action, tenant: &str) -> impl Iterator<Item = &Arc<Grant>> {
        self.grants
            .iter()
            .filter(move |grant| grant.actions.contain(action) && grant.tenants.contain(tenant))
    }
}

fn highest<'a>(grants: impl Iterator<Item = &'a Arc<Grant>>) -> Limits {
    grants.fold(Limits::default(), |limits, grant| limits.raised_to(&grant.limits))
}

/// Everything that a caller may do one thing with. A list is filtered by it, so that it never tells more than single reads
/// would.
#[derive(Clone, Debug)]
pub struct Reach {
    permissions: Permissions,
    action: Action,
}

impl Reach {
    /// How much of this credential the caller sees; none if it is out of reach.
    #[must_use]
    pub fn reveals(&self, tenant: &TenantId, provider: &ProviderId, scope: &Scope) -> Option<Reveal> {
        self.permissions
            .allows(self.action, tenant.as_str(), provider.as_str(), Some(scope.named()))
    }

    /// Whether this credential is in reach.
    #[must_use]
    pub fn includes(&self, credential: &CredentialRef) -> bool {
        self.reveals(&credential.tenant, &credential.provider, &credential.scope)
            .is_some()
    }

    /// The scopes of this provider of this tenant that are in reach.
    #[must_use]
    pub fn scopes(&self, tenant: &TenantId, provider: &ProviderId) -> Scopes {
        let grants = self
            .permissions
            .for_provider(self.action, tenant.as_str(), provider.as_str());
        Scopes::union(grants.map(|grant| &grant.scopes))
    }

    /// Whether some credential of this provider of this tenant is in reach.
    #[must_use]
    pub fn includes_some(&self, tenant: &TenantId, provider: &ProviderId) -> bool {
        self.permissions
            .allows_some_scope(self.action, tenant.as_str(), provider.as_str())
    }
}

/// What a grant allows whom it is for.
#[derive(Debug)]
pub(super) struct Grant {
    /// Where it is in the policy.
    pub(super) line: usize,
    pub(super) actions: Actions,
    pub(super) tenants: Names,
    pub(super) providers: Names,
    pub(super) scopes: Scopes,
    pub(super) reveal: Reveal,
    pub(super) limits: Limits,
}

impl Grant {
    pub(super) fn is_for_whole_tenants(&self) -> bool {
        self.providers == Names::All && self.scopes == Scopes::All
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Actions(u16);

impl Actions {
    pub(super) fn of(actions: &[Action]) -> Self {
        Self(actions.iter().fold(0, |set, action| set | Self::bit(*action)))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contain(*action))
    }

    pub(super) fn contain(self, action: Action) -> bool {
        self.0 & Self::bit(action) != 0
    }

    fn bit(action: Action) -> u16 {
        1 << action as u16
    }
}

/// The tenants or the providers that a grant is for.
#[derive(Debug, PartialEq)]
pub(super) enum Names {
    /// `*`: all there are and will be.
    All,
    /// These, sorted.
    Only(Box<[Box<str>]>),
}

impl Names {
    pub(super) fn only(mut names: Vec<Box<str>>) -> Self {
        names.sort_unstable();
        Self::Only(names.into())
    }

    /// Whether every name of the others is among these.
    pub(super) fn cover(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(_), Self::Only(others)) => others.iter().all(|other| self.contain(other)),
        }
    }

    pub(super) fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.binary_search_by(|other| (**other).cmp(name)).is_ok(),
        }
    }
}
