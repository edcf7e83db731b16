//! Why the vault did not do what it was asked for.

use super::asker::Gone;
use super::assignment::Mode;
use super::credential::Version;
use super::ids::{ProviderId, TenantId};
use super::record::Corrupt;
use super::resolve::Refusal;
use super::scope::{CredentialRef, Scope};
use super::upkeep::Untold;
use crate::keyring::{KeyringError, SealError};
use crate::store::{CommitError, Key, Revision, StoreError};

/// Why the vault did not do what it was asked for. Nothing has changed then, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The decision table gives none.
    #[error("{}", refusal_text(.0))]
    Refused(Box<Refused>),
    /// There is no such credential.
    #[error("there is no credential {0}")]
    NotFound(CredentialRef),
    /// There is no such version of it.
    #[error("credential {credential} has no version {version}; its versions are listed by ListCredentialVersions")]
    NoSuchVersion {
        /// The credential.
        credential: CredentialRef,
        /// The version that was asked for.
        version: Version,
    },
    /// It is another version than the caller has seen.
    #[error(
        "credential {credential} is at version {}, not {expected}; read it again and repeat what you want to change",
        current.map_or("0 (there is none)".into(), |version| version.to_string())
    )]
    VersionMismatch {
        /// The credential.
        credential: CredentialRef,
        /// What the caller has seen; 0: none.
        expected: u64,
        /// The version it has; none: there is no such credential.
        current: Option<Version>,
    },
    /// It is another assignment than the caller has seen.
    #[error(
        "the assignment {tenant}/{provider} is at revision {current}, not {expected}; read it again and repeat what you \
         want to change"
    )]
    RevisionMismatch {
        /// The tenant.
        tenant: TenantId,
        /// The provider.
        provider: ProviderId,
        /// What the caller has seen; 0: nobody had chosen.
        expected: Revision,
        /// The revision it has; 0: nobody has chosen.
        current: Revision,
    },
    /// It is deleted, which forbids what was asked for.
    #[error("credential {0} is deleted; undelete it first, or save a new version")]
    Deleted(CredentialRef),
    /// It is not deleted, so it cannot come back.
    #[error("credential {0} is not deleted")]
    NotDeleted(CredentialRef),
    /// An old version is what the deployment does not allow any more.
    #[error(
        "that version of {0} uses mail without TLS, which is not allowed here; the setting mail.allow_plaintext would"
    )]
    PlaintextMail(CredentialRef),
    /// Others kept changing it.
    #[error("{0} was changed by others again and again meanwhile; try again")]
    Contended(Key),
    /// There is no such tenant.
    #[error("there is no tenant {0}: nothing was ever saved for it, or it was erased")]
    NoSuchTenant(TenantId),
    /// A record is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// This process has not caught up with what the caller has seen.
    #[error("this vault has seen revision {seen}, not yet {wanted}; try again soon")]
    Stale {
        /// What it has seen.
        seen: Revision,
        /// What was asked for.
        wanted: Revision,
    },
    /// A key is not at hand.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The store is in trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no random bytes.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Whoever asked has gone.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// What the vault does by itself could not be announced.
    #[error(transparent)]
    Untold(#[from] Untold),
}

/// A decision that gives no credential, and for what.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// The tenant.
    pub tenant: TenantId,
    /// The provider.
    pub provider: ProviderId,
    /// The mode that held.
    pub mode: Mode,
    /// The scope that was looked for.
    pub scope: Scope,
    /// The row of the decision table.
    pub rule: u8,
}

impl VaultError {
    /// A commit that failed for another reason than a conflict; a conflict is the caller's to handle.
    pub(super) fn from_commit(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { key, .. } => Self::Contended(key),
            CommitError::Store(error) => error.into(),
        }
    }
}

fn refusal_text(refused: &Refused) -> String {
    let Refused {
        refusal,
        tenant,
        provider,
        mode,
        scope,
        ..
    } = refused;
    match refusal {
        Refusal::UnknownProvider => format!("there is no provider {provider}; ListProviders names those there are"),
        Refusal::OrderLacks(kind) => {
            format!(
                "{tenant} chooses {provider} {}, and the order names no {kind}",
                mode.as_str()
            )
        }
        Refusal::Disabled => format!("the credential {tenant}/{provider}/{scope} is disabled"),
        Refusal::Expired => format!("the credential {tenant}/{provider}/{scope} has expired; save a new version"),
        Refusal::NotGranted => format!("no grant covers what this order of {tenant} would get for {provider}"),
        Refusal::NotConfigured => format!(
            "there is no credential {tenant}/{provider}/{scope}, and {tenant} chooses {provider} {}; save one, or change \
             the assignment",
            mode.as_str()
        ),
    }
}
