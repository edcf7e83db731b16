//! Choosing and reading assignments.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::asker::{Asker, Gone, work_out};
use super::assignment::{Assignment, Choice};
use super::handout::Lack;
use super::ids::{ProviderId, TenantId};
use super::ranges::{Ranges, Walk};
use super::record::{HEAD_PREFIX, assignment_key, seal_choice};
use super::resolve::Refusal;
use super::scope::{CredentialRef, Scope, ScopeKind};
use super::sorted::Filter;
use super::warning::Warning;
use super::{Vault, VaultError};
use crate::access::Reach;
use crate::store::{CommitError, Expectation, Key, Revision, StoreError, Transaction};

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
    /// The credentials that the caller may read: warnings speak of no others.
    pub readable: Reach,
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

    /// Warns of everybody known whom a choice would leave without a usable credential.
    ///
    /// # Errors
    /// [`VaultError::RevisionMismatch`], and what every answer may fail with.
    pub async fn warnings_of(self: &Arc<Self>, set: &SetAssignment) -> Result<Vec<Warning>, VaultError> {
        let SetAssignment {
            tenant,
            provider,
            assignment,
            expected_revision,
            readable,
            ..
        } = set;
        let (current, _) = self.chosen_at(tenant, provider, expected_revision.is_some()).await?;
        expect_revision(tenant, provider, *expected_revision, current)?;
        self.left_without(tenant, provider, *assignment, readable).await
    }

    /// Chooses.
    ///
    /// # Errors
    /// [`VaultError::RevisionMismatch`], and what every change may answer.
    pub async fn choose(&self, set: SetAssignment) -> Result<Choice, VaultError> {
        let SetAssignment {
            tenant,
            provider,
            assignment,
            expected_revision,
            readable: _,
            by,
        } = set;
        let name = assignment_key(&tenant, &provider);
        for _ in 0..TRIES {
            let (current, written_at) = self.chosen_at(&tenant, &provider, expected_revision.is_some()).await?;
            expect_revision(&tenant, &provider, expected_revision, current)?;
            let expectation = match written_at {
                Revision(0) => Expectation::Absent,
                written_at => Expectation::WrittenAt(written_at),
            };
            let mut choice = Choice {
                assignment,
                revision: Revision(0),
                written_at: Revision(0),
                set_at: self.clock.now(),
                set_by: by.clone(),
            };
            let seals = self.keyring.seals(&tenant, 1).await?;
            let sealed = seal_choice(&name, &choice, seals.key())?;
            let transaction = Transaction::new()
                .only_if(name.clone(), expectation)
                .put(name.clone(), sealed);
            let transaction = self.keyring.while_newest(transaction, &tenant, seals.key());
            match self.keyring.commit(transaction, seals).await {
                Ok(revision) => {
                    self.applied(revision).await?;
                    (choice.revision, choice.written_at) = (revision, revision);
                    return Ok(choice);
                }
                Err(CommitError::Conflict { key, seen }) => self.catch_up(&key, seen).await?,
                Err(error) => return Err(VaultError::from_commit(error)),
            }
        }
        Err(VaultError::Contended(name))
    }

    /// The revisions that made the current choice and that wrote its record; 0 if nobody has chosen. A damaged one can be chosen
    /// anew, unless the caller expects a certain one.
    async fn chosen_at(
        &self,
        tenant: &TenantId,
        provider: &ProviderId,
        must_be_sound: bool,
    ) -> Result<(Revision, Revision), VaultError> {
        let none = (Revision(0), Revision(0));
        match self.replica.choice(tenant, provider) {
            Ok(choice) => Ok(choice.map_or(none, |choice| (choice.revision, choice.written_at))),
            Err(corrupt) if must_be_sound => Err(corrupt.into()),
            Err(_) => {
                let record = self.store.get(&assignment_key(tenant, provider)).await?;
                Ok(record.map_or(none, |record| (record.revision, record.revision)))
            }
        }
    }

    /// Everybody who has a readable credential of the assignment's kind for any provider, and no usable one for this. Of those
    /// whose answer the caller may not read, nothing is said.
    async fn left_without(
        self: &Arc<Self>,
        tenant: &TenantId,
        provider: &ProviderId,
        assignment: Assignment,
        readable: &Reach,
    ) -> Result<Vec<Warning>, VaultError> {
        let (vault, tenant, provider, readable) =
            (Arc::clone(self), tenant.clone(), provider.clone(), readable.clone());
        // As many decisions as the tenant has subjects, which must not hold up the calls on this thread.
        let lacking = work_out(move |asker| vault.lacking(&tenant, &provider, assignment, &readable, asker));
        let lacking = lacking.await.map_err(|_| StoreError::Closed)??;
        let more = lacking.len().saturating_sub(NAMED);
        let mut warnings: Vec<_> = lacking
            .into_iter()
            .take(NAMED)
            .map(|scope| Warning::WithoutCredential { scope })
            .collect();
        if more > 0 {
            warnings.push(Warning::MoreWithoutCredential { count: more });
        }
        Ok(warnings)
    }

    fn lacking(
        &self,
        tenant: &TenantId,
        provider: &ProviderId,
        assignment: Assignment,
        readable: &Reach,
        asker: &Asker,
    ) -> Result<Vec<Scope>, Gone> {
        let Some(provider) = self.catalogue.get(provider.as_str()) else {
            return Ok(Vec::new());
        };
        let mut lacking = Vec::new();
        for scope in self.known_subjects(tenant, assignment.mode.scope_kind(), readable, asker)? {
            asker.still_waits()?;
            let lack = self.lack_of(tenant, provider, assignment, &scope, readable);
            if lack.is_some_and(|lack| lack != Lack::Refused(Refusal::NotGranted)) {
                lacking.push(scope);
            }
        }
        Ok(lacking)
    }

    fn known_subjects(
        &self,
        tenant: &TenantId,
        kind: ScopeKind,
        readable: &Reach,
        asker: &Asker,
    ) -> Result<BTreeSet<Scope>, Gone> {
        if kind == ScopeKind::General {
            return Ok(BTreeSet::from([Scope::General]));
        }
        let ranges = Ranges::new(readable, tenant, self.catalogue.ids(), &[kind]);
        let named = |key: Key| CredentialRef::from_path(key.as_str().strip_prefix(HEAD_PREFIX)?);
        let mut known = BTreeSet::new();
        for name in Walk::new(&self.replica, ranges, Filter::EVERYTHING).filter_map(named) {
            asker.still_waits()?;
            if !matches!(self.replica.head(&name), Ok(None)) {
                known.insert(name.scope);
            }
        }
        Ok(known)
    }
}

fn expect_revision(
    tenant: &TenantId,
    provider: &ProviderId,
    expected: Option<Revision>,
    current: Revision,
) -> Result<(), VaultError> {
    let Some(expected) = expected.filter(|expected| *expected != current) else {
        return Ok(());
    };
    Err(VaultError::RevisionMismatch {
        tenant: tenant.clone(),
        provider: provider.clone(),
        expected,
        current,
    })
}
