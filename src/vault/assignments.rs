//! Choosing and reading assignments.

use std::collections::BTreeSet;

use super::assignment::{Assignment, Choice};
use super::catalogue::Provider;
use super::ids::{ProviderId, TenantId};
use super::record::{assignment_key, seal_choice};
use super::scope::{Scope, ScopeKind};
use super::warning::Warning;
use super::{Vault, VaultError};
use crate::store::{CommitError, Expectation, Revision, Transaction};

const TRIES: usize = 32;
/// How many subjects a warning names one by one.
const NAMED: usize = 100;

/// Asks to choose an assignment. The mode suits the provider: whoever made this has checked it.
#[derive(Debug)]
pub struct SetAssignment {
    /// The tenant.
    pub tenant: TenantId,
    /// The provider.
    pub provider: ProviderId,
    /// The choice.
    pub assignment: Assignment,
    /// The revision of the choice that must be the current one; 0: nobody has chosen. None: no check.
    pub expected_revision: Option<Revision>,
    /// Who asks: the caller's identity.
    pub by: String,
}

impl Vault {
    /// What the tenant has chosen for a provider; none if nobody has: the default holds.
    ///
    /// # Errors
    /// That its record is damaged.
    pub fn choice(&self, tenant: &TenantId, provider: &ProviderId) -> Result<Option<Choice>, VaultError> {
        Ok(self.replica.choice(tenant, provider)?.map(|choice| (*choice).clone()))
    }

    /// Chooses, and warns of everybody known who is left without a usable credential.
    ///
    /// # Errors
    /// [`VaultError::RevisionMismatch`], and what every change may answer.
    pub async fn set_assignment(&self, set: SetAssignment) -> Result<(Choice, Vec<Warning>), VaultError> {
        let SetAssignment {
            tenant,
            provider,
            assignment,
            expected_revision,
            by,
        } = set;
        let name = assignment_key(&tenant, &provider);
        for _ in 0..TRIES {
            let current = self
                .replica
                .choice(&tenant, &provider)?
                .map_or(Revision(0), |choice| choice.revision);
            if let Some(expected) = expected_revision.filter(|expected| *expected != current) {
                return Err(VaultError::RevisionMismatch {
                    tenant,
                    provider,
                    expected,
                    current,
                });
            }
            let expectation = match current {
                Revision(0) => Expectation::Absent,
                current => Expectation::WrittenAt(current),
            };
            let mut choice = Choice {
                assignment,
                revision: Revision(0),
                set_at: self.clock.now(),
                set_by: by.clone(),
            };
            let key = self.keyring.sealing_key(&tenant).await?;
            let sealed = seal_choice(&name, &choice, &key)?;
            let transaction = Transaction::new()
                .expect(name.clone(), expectation)
                .put(name.clone(), sealed);
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    self.applied(revision).await?;
                    choice.revision = revision;
                    let warnings = self.left_without(&tenant, &provider, assignment);
                    return Ok((choice, warnings));
                }
                Err(CommitError::Conflict { seen, .. }) => self.applied(seen).await?,
                Err(error) => return Err(VaultError::from_commit(error)),
            }
        }
        Err(VaultError::Contended(name))
    }

    /// Everybody who has a credential of the assignment's kind for any provider, and no usable one for this.
    fn left_without(&self, tenant: &TenantId, provider: &ProviderId, assignment: Assignment) -> Vec<Warning> {
        let Some(provider) = self.catalogue.get(provider.as_str()) else {
            return Vec::new();
        };
        let kind = assignment.mode.scope_kind();
        let lacking: Vec<Scope> = self
            .known_subjects(tenant, kind)
            .into_iter()
            .filter(|scope| self.is_without(tenant, provider, assignment, scope))
            .collect();
        let more = lacking.len().saturating_sub(NAMED);
        let mut warnings: Vec<_> = lacking
            .into_iter()
            .take(NAMED)
            .map(|scope| Warning::WithoutCredential { scope })
            .collect();
        if more > 0 {
            warnings.push(Warning::MoreWithoutCredential { count: more });
        }
        warnings
    }

    fn is_without(&self, tenant: &TenantId, provider: &Provider, assignment: Assignment, scope: &Scope) -> bool {
        self.coverage_of(tenant, provider, assignment, scope).is_some()
    }

    fn known_subjects(&self, tenant: &TenantId, kind: ScopeKind) -> BTreeSet<Scope> {
        if kind == ScopeKind::General {
            return BTreeSet::from([Scope::General]);
        }
        let of_tenant = self
            .replica
            .names()
            .filter(|name| name.tenant == *tenant && name.scope.kind() == kind);
        of_tenant.map(|name| name.scope).collect()
    }
}
