//! What a call's caller may do, and how often.

use super::Call;
use crate::access::{Action, NamedScope, Permissions, Reveal};
use crate::api::fault::ApiError;
use crate::vault::resolve::Refusal;
use crate::vault::scope::Scope;
use crate::vault::{Ask, VaultError};

impl Call {
    /// The caller's permissions, as they were when they were last asked for; none to whoever is over its quota.
    pub(in crate::api) fn permissions(&self) -> Result<&Permissions, ApiError> {
        let permissions = self.permissions.as_ref();
        let permissions = permissions.map_err(|nobody| ApiError::from(nobody.clone()))?;
        self.within_quota.clone()?;
        Ok(permissions)
    }

    /// Asks anew whether the caller still is who it was and what it may do: the call has waited for something.
    pub(in crate::api) fn renew(&mut self) -> Result<(), ApiError> {
        if let Some(peer) = &self.peer {
            self.permissions = peer.permissions();
        }
        self.permissions().map(drop)
    }

    /// Counts a part of a call like a call.
    pub(in crate::api) fn count_part(&mut self) -> Result<(), ApiError> {
        let permissions = self.permissions()?;
        if let Some(usage) = self.usage() {
            usage.count_call(permissions.total_limits())?;
        }
        self.is_counted_for_tenant = false;
        self.count_for_tenant()
    }

    /// Counts a credential that is asked for by its name.
    pub(in crate::api) fn count_credential(&self, ask: &Ask<'_>, scope: &Scope) -> Result<(), ApiError> {
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
    pub(super) fn count_for_tenant(&mut self) -> Result<(), ApiError> {
        let permissions = self.permissions()?;
        if let (Some(usage), Some(tenant), false) = (self.usage(), &self.about.tenant, self.is_counted_for_tenant) {
            usage.count_call_for(tenant, &permissions.limits(tenant.as_str()))?;
            self.is_counted_for_tenant = true;
        }
        Ok(())
    }

    /// Refuses unless the caller may do this with this credential; says how much it may then see. The texts are as they came:
    /// nothing of a request is looked at before this.
    pub(in crate::api) fn authorize_credential(
        &mut self,
        action: Action,
        tenant: &str,
        provider: &str,
        scope: NamedScope<'_>,
    ) -> Result<Reveal, ApiError> {
        self.note_credential(tenant, provider, scope);
        let granted = self.permissions()?.allows(action, tenant, provider, scope);
        let granted = granted.ok_or_else(|| self.not_granted_credential(action))?;
        self.count_for_tenant()?;
        Ok(granted)
    }

    /// Refuses unless the caller may do this with some credential of this provider of this tenant.
    pub(in crate::api) fn authorize_provider(
        &mut self,
        action: Action,
        tenant: &str,
        provider: &str,
    ) -> Result<(), ApiError> {
        let allows = |may: &Permissions| may.allows_some_scope(action, tenant, provider);
        self.authorize(action, tenant, Some(provider), allows)
    }

    /// Refuses unless the caller may do this with this provider of this tenant as a whole.
    pub(in crate::api) fn authorize_provider_operation(
        &mut self,
        action: Action,
        tenant: &str,
        provider: &str,
    ) -> Result<(), ApiError> {
        let allows = |may: &Permissions| may.allows_provider_operation(action, tenant, provider);
        self.authorize(action, tenant, Some(provider), allows)
    }

    /// Refuses unless the caller may do this with some provider of this tenant.
    pub(in crate::api) fn authorize_tenant(&mut self, action: Action, tenant: &str) -> Result<(), ApiError> {
        let allows = |may: &Permissions| may.allows_some_provider(action, tenant);
        self.authorize(action, tenant, None, allows)
    }

    /// Refuses unless the caller may do this with the whole vault.
    pub(in crate::api) fn authorize_operation(&self, action: Action) -> Result<(), ApiError> {
        self.unless(self.permissions()?.allows_operation(action), action)
    }

    /// Refuses unless the caller may do this with this tenant as a whole.
    pub(in crate::api) fn authorize_tenant_operation(&mut self, action: Action, tenant: &str) -> Result<(), ApiError> {
        self.note(tenant, None);
        let is_granted = self.permissions()?.allows_tenant_operation(action, tenant);
        self.unless(is_granted, action)
    }

    /// Refuses unless the policy knows the caller at all.
    pub(in crate::api) fn authorize_known(&self, action: Action) -> Result<(), ApiError> {
        self.unless(self.permissions()?.is_known(), action)
    }

    fn authorize(
        &mut self,
        action: Action,
        tenant: &str,
        provider: Option<&str>,
        allows: impl FnOnce(&Permissions) -> bool,
    ) -> Result<(), ApiError> {
        self.note(tenant, provider);
        let is_granted = allows(self.permissions()?);
        self.admit(is_granted, action)
    }

    /// Refuses unless it is granted and within the tenant's quota.
    fn admit(&mut self, is_granted: bool, action: Action) -> Result<(), ApiError> {
        self.unless(is_granted, action)?;
        self.count_for_tenant()
    }

    pub(super) fn unless(&self, is_granted: bool, action: Action) -> Result<(), ApiError> {
        if is_granted {
            Ok(())
        } else {
            Err(self.not_granted(action))
        }
    }

    /// Refuses unless the caller may read some of what the audit log has about a tenant and a provider; empty ones stand for
    /// any.
    pub(in crate::api) fn authorize_reading(&mut self, tenant: &str, provider: &str) -> Result<(), ApiError> {
        let allows = |may: &Permissions| may.allows_reading_audit(tenant, provider);
        self.authorize(Action::AuditRead, tenant, Some(provider), allows)
    }

    /// The error of what the vault did not do. What is out of the caller's reach is told like everything that it may not do.
    pub(in crate::api) fn refused(&self, action: Action, error: VaultError) -> ApiError {
        match error {
            VaultError::Refused(refused) if refused.refusal == Refusal::NotGranted => self.not_granted(action),
            error => error.into(),
        }
    }

    /// What the caller was refused; only identifiers that are well-formed are repeated. Not the scope: whose credential an order gets
    /// nobody learns who may not have it.
    pub(in crate::api) fn not_granted(&self, action: Action) -> ApiError {
        ApiError::NotGranted {
            caller: self.caller(),
            action,
            tenant: self.about.tenant.as_ref().map(ToString::to_string),
            provider: self.about.provider.as_ref().map(ToString::to_string),
            scope: None,
        }
    }

    /// The same about a credential that the request has named.
    pub(super) fn not_granted_credential(&self, action: Action) -> ApiError {
        let mut error = self.not_granted(action);
        if let ApiError::NotGranted { scope, .. } = &mut error {
            scope.clone_from(&self.about.scope);
        }
        error
    }
}
