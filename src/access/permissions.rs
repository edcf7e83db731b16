//! What one caller may do: its grants, gathered once a connection and asked on every call.

use std::sync::Arc;

use super::action::{Action, Reveal};
use super::identity::Caller;

/// What one caller may do. Cheap to clone; nothing it answers allocates.
///
/// Tenants and providers are compared byte for byte with what the caller sent, before anything else looks at that.
#[derive(Clone, Debug)]
pub struct Permissions {
    caller: Caller,
    grants: Arc<[Arc<Grant>]>,
}

impl Permissions {
    pub(super) fn new(caller: Caller, grants: Arc<[Arc<Grant>]>) -> Self {
        Self { caller, grants }
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

    /// Whether the caller may do this with this provider of this tenant, and how much it then sees: the most that one of the
    /// grants for it shows.
    #[must_use]
    pub fn allows(&self, action: Action, tenant: &str, provider: &str) -> Option<Reveal> {
        self.for_tenant(action, tenant)
            .filter(|grant| grant.providers.contain(provider))
            .map(|grant| grant.reveal)
            .max()
    }

    /// Whether the caller may do this with any provider of this tenant at all.
    #[must_use]
    pub fn allows_some_provider(&self, action: Action, tenant: &str) -> bool {
        self.for_tenant(action, tenant).next().is_some()
    }

    /// Whether the caller may do this where it is about the whole vault. Only a grant for all tenants and all providers
    /// allows it.
    #[must_use]
    pub fn allows_operation(&self, action: Action) -> bool {
        let is_for_everything = |grant: &&Arc<Grant>| {
            grant.tenants == Names::All && grant.providers == Names::All && grant.actions.contain(action)
        };
        self.grants.iter().any(|grant| is_for_everything(&grant))
    }

    /// Whether the caller may do this where it is about one tenant as a whole. Only a grant for all providers of the tenant
    /// allows it.
    #[must_use]
    pub fn allows_tenant_operation(&self, action: Action, tenant: &str) -> bool {
        self.for_tenant(action, tenant)
            .any(|grant| grant.providers == Names::All)
    }

    /// Whether the caller may do this with anything at all.
    #[must_use]
    pub fn allows_somewhere(&self, action: Action) -> bool {
        self.grants.iter().any(|grant| grant.actions.contain(action))
    }

    fn for_tenant(&self, action: Action, tenant: &str) -> impl Iterator<Item = &Arc<Grant>> {
        self.grants
            .iter()
            .filter(move |grant| grant.actions.contain(action) && grant.tenants.contain(tenant))
    }
}

/// What a grant allows whom it is for.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) actions: Actions,
    pub(super) tenants: Names,
    pub(super) providers: Names,
    pub(super) reveal: Reveal,
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Actions(u16);

impl Actions {
    pub(super) fn of(actions: &[Action]) -> Self {
        Self(actions.iter().fold(0, |set, action| set | Self::bit(*action)))
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

    fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.binary_search_by(|other| (**other).cmp(name)).is_ok(),
        }
    }
}
