//! A credential's life after it is saved: enabled, disabled, deleted, brought back, purged.

use super::credential::State;
use super::read::CredentialInfo;
use super::record::{VERSIONS_AT_ONCE, head_key, version_prefix};
use super::save::{Current, Next, check_version};
use super::scope::CredentialRef;
use super::{Vault, VaultError};
use crate::store::{Expectation, Revision, Transaction};

/// What becomes of the state; none if it is so already.
type Transition<'a> = &'a (dyn Fn(State) -> Result<Option<State>, VaultError> + Send + Sync);

impl Vault {
    /// Enables or disables. What is so already stays so.
    ///
    /// # Errors
    /// [`VaultError::Deleted`] and what every change may answer.
    pub async fn set_enabled(
        &self,
        credential: CredentialRef,
        enabled: bool,
        expected_version: Option<u64>,
    ) -> Result<(CredentialInfo, Revision), VaultError> {
        let wanted = if enabled { State::Enabled } else { State::Disabled };
        self.transition(&credential, expected_version, &|state| match state {
            State::Deleted { .. } => Err(VaultError::Deleted(credential.clone())),
            state => Ok((state != wanted).then_some(wanted)),
        })
        .await
    }

    /// Deletes so that it can be brought back.
    ///
    /// # Errors
    /// [`VaultError::Deleted`] if it is deleted already, and what every change may answer.
    pub async fn delete(
        &self,
        credential: CredentialRef,
        expected_version: Option<u64>,
    ) -> Result<(CredentialInfo, Revision), VaultError> {
        let since = self.clock.now();
        self.transition(&credential, expected_version, &|state| match state {
            State::Deleted { .. } => Err(VaultError::Deleted(credential.clone())),
            State::Enabled => Ok(Some(State::Deleted {
                since,
                was_enabled: true,
            })),
            State::Disabled => Ok(Some(State::Deleted {
                since,
                was_enabled: false,
            })),
        })
        .await
    }

    /// Brings a deleted one back, enabled or disabled as it was.
    ///
    /// # Errors
    /// [`VaultError::NotDeleted`] and what every change may answer.
    pub async fn undelete(
        &self,
        credential: CredentialRef,
        expected_version: Option<u64>,
    ) -> Result<(CredentialInfo, Revision), VaultError> {
        self.transition(&credential, expected_version, &|state| match state {
            State::Deleted { was_enabled: true, .. } => Ok(Some(State::Enabled)),
            State::Deleted { was_enabled: false, .. } => Ok(Some(State::Disabled)),
            State::Enabled | State::Disabled => Err(VaultError::NotDeleted(credential.clone())),
        })
        .await
    }

    /// Removes a credential with all its versions, for good. Works on damaged records too.
    ///
    /// # Errors
    /// [`VaultError::NotFound`] and what every change may answer.
    pub async fn purge(&self, credential: &CredentialRef) -> Result<Revision, VaultError> {
        let name = head_key(credential);
        let Some(head) = self.store.get(&name).await? else {
            return Err(VaultError::NotFound(credential.clone()));
        };
        // A version that is saved meanwhile changes the head, so none can stay behind.
        let mut transaction = Transaction::new()
            .only_if(name.clone(), Expectation::WrittenAt(head.revision))
            .remove(name);
        let mut pages = self.pages(&version_prefix(credential), VERSIONS_AT_ONCE);
        while let Some(versions) = pages.next().await? {
            transaction = versions
                .into_iter()
                .fold(transaction, |rest, version| rest.remove(version.key));
        }
        let revision = self.store.commit(transaction).await.map_err(VaultError::from_commit)?;
        self.applied(revision).await?;
        Ok(revision)
    }

    async fn transition(
        &self,
        credential: &CredentialRef,
        expected_version: Option<u64>,
        transition: Transition<'_>,
    ) -> Result<(CredentialInfo, Revision), VaultError> {
        let not_found = || VaultError::NotFound(credential.clone());
        let current = self.current(credential)?.ok_or_else(not_found)?;
        check_version(credential, Some(&current), expected_version)?;
        if transition(current.header.state)?.is_none() {
            let info = CredentialInfo::new(credential.clone(), &current.header, &current.content);
            return Ok((info, current.revision));
        }
        let next = |current: Option<&Current>| {
            let current = current.ok_or_else(not_found)?;
            let state = transition(current.header.state)?.unwrap_or(current.header.state);
            let header = super::record::HeadHeader {
                state,
                ..current.header
            };
            Ok(Next {
                header,
                content: current.content.duplicate(),
            })
        };
        let (_, next, revision) = self.change(credential, expected_version, next).await?;
        Ok((
            CredentialInfo::new(credential.clone(), &next.header, &next.content),
            revision,
        ))
    }
}
