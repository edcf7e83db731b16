//! Saving versions: put and rollback. A save seals, signs and commits; if somebody else was faster, it starts over.

use std::sync::Arc;
use std::time::Duration;

use super::content::Part;
use super::credential::{CustomerSignature, Draft, Secret, State, Version};
use super::read::CredentialInfo;
use super::record::{Content, HeadHeader, Payload, head_key, open_version, version_key};
use super::scope::CredentialRef;
use super::warning::{self, Warning};
use super::{Vault, VaultError};
use crate::keyring::{DataKey, SealError, Signature, TokenKind};
use crate::store::{CommitError, Expectation, Key, Revision, Transaction};
use crate::time::Timestamp;

/// How often a save starts over because somebody else was faster.
pub(super) const TRIES: usize = 32;
/// How many seals a change takes at most: one for the head, one for a new version.
pub(super) const SEALS: u16 = 2;
/// How long a write that is durable may take to reach memory: no time at all, unless the process is ending.
const APPLY: Duration = Duration::from_secs(30);

/// Asks to save a version.
#[derive(Debug)]
pub struct Put {
    /// Of which credential.
    pub credential: CredentialRef,
    /// The content.
    pub draft: Draft,
    /// The version that must be the current one; 0: none, or a deleted one. None: no check.
    pub expected_version: Option<u64>,
    /// Whether to only check.
    pub validate_only: bool,
    /// Who asks: the caller's identity.
    pub by: String,
}

/// Asks to save an old version's content again.
#[derive(Debug)]
pub struct Rollback {
    /// Of which credential.
    pub credential: CredentialRef,
    /// The old version.
    pub to_version: Version,
    /// The version that must be the current one. None: no check.
    pub expected_version: Option<u64>,
    /// Whether the caller may read the credential, and so what its secret is like.
    pub may_read: bool,
    /// Who asks: the caller's identity.
    pub by: String,
}

/// What a save has done.
#[derive(Debug)]
pub struct Saved {
    /// The credential after it.
    pub credential: CredentialInfo,
    /// What should be looked at.
    pub warnings: Vec<Warning>,
    /// The revision that it made; none if it only checked.
    pub revision: Option<Revision>,
}

/// A save whose draft is complete: DAT's signature is in it, if it has one.
#[derive(Debug)]
pub struct Prepared {
    pub(super) put: Put,
    pub(super) warnings: Vec<Warning>,
    /// Whether nothing is saved if just this is stored already.
    pub(super) unless_stored: bool,
}

impl Prepared {
    /// The same, to be saved among others only if something else is stored by then. What comes of it tells whether a secret was
    /// guessed right, so it is only for callers who may read the credential and so the fields in which versions differ.
    #[must_use]
    pub fn unless_stored(self) -> Self {
        Self {
            unless_stored: true,
            ..self
        }
    }

    /// Whether it is only to be checked.
    #[must_use]
    pub fn validate_only(&self) -> bool {
        self.put.validate_only
    }
}

/// A credential as it is before a change.
pub(super) struct Current {
    pub(super) header: HeadHeader,
    pub(super) content: Content,
    pub(super) revision: Revision,
}

/// A credential as it is to be after a change.
pub(super) struct Next {
    pub(super) header: HeadHeader,
    pub(super) content: Content,
}

impl Vault {
    /// Saves a new version and signs it. Saving over a deleted credential brings it back; a disabled one stays disabled.
    ///
    /// # Errors
    /// [`VaultError`]; the draft's fields and the provider have been checked by whoever made it.
    pub async fn put(&self, put: Put) -> Result<Saved, VaultError> {
        let Prepared { put, mut warnings, .. } = self.prepare(put);
        let Put {
            credential,
            draft,
            expected_version,
            validate_only,
            by,
        } = put;
        let next = |current: Option<&Current>| Ok(self.next_version(&credential, current, &draft, &by));
        if validate_only {
            let current = self.current(&credential)?;
            check_version(&credential, current.as_ref(), expected_version)?;
            let next = next(current.as_ref())?;
            warnings.extend(save_warnings(current.as_ref()));
            return Ok(Saved {
                credential: CredentialInfo::new(credential, &next.header, &next.content),
                warnings,
                revision: None,
            });
        }
        let (current, next, revision) = self.change(&credential, expected_version, next).await?;
        warnings.extend(save_warnings(current.as_ref()));
        Ok(Saved {
            credential: CredentialInfo::new(credential, &next.header, &next.content),
            warnings,
            revision: Some(revision),
        })
    }

    /// Completes a draft, and says what should be looked at.
    #[must_use]
    pub fn prepare(&self, put: Put) -> Prepared {
        let Put { credential, draft, .. } = &put;
        let computed = self.computed_signature(credential, &draft.secret);
        let warnings = warning::of_draft(draft, self.clock.now(), computed.as_ref());
        let secret = with_signature(put.draft.secret, computed);
        let draft = Draft { secret, ..put.draft };
        let put = Put { draft, ..put };
        Prepared {
            put,
            warnings,
            unless_stored: false,
        }
    }

    /// Saves the content of an old version as a new one, signed anew.
    ///
    /// # Errors
    /// [`VaultError::NoSuchVersion`], [`VaultError::Deleted`] and what every change may answer.
    pub async fn rollback(&self, rollback: Rollback) -> Result<Saved, VaultError> {
        let Rollback {
            credential,
            to_version,
            expected_version,
            may_read,
            by,
        } = rollback;
        let no_such = || VaultError::NoSuchVersion {
            credential: credential.clone(),
            version: to_version,
        };
        self.require(&credential)?;
        let record = self
            .store
            .get(&version_key(&credential, to_version))
            .await?
            .ok_or_else(no_such)?;
        let (header, old) = open_version(&record, |id| self.keyring.data_key(&credential.tenant, id))?;
        if !self.settings.allows_plaintext_mail && old.secret.is_plaintext_mail() {
            return Err(VaultError::PlaintextMail(credential));
        }
        let draft = Draft {
            secret: old.secret,
            valid_until: header.valid_until,
            note: old.note,
        };
        let computed = self.computed_signature(&credential, &draft.secret);
        let mut warnings = warning::of_draft(&draft, self.clock.now(), computed.as_ref());
        warnings.retain(|warning| may_read || !warning.is_about_secret());
        let next = |current: Option<&Current>| match current {
            None => Err(VaultError::NotFound(credential.clone())),
            Some(current) if current.header.state.is_deleted() => Err(VaultError::Deleted(credential.clone())),
            Some(_) => Ok(self.next_version(&credential, current, &draft, &by)),
        };
        let (current, next, revision) = self.change(&credential, expected_version, next).await?;
        let warnings = warnings.into_iter().chain(save_warnings(current.as_ref())).collect();
        Ok(Saved {
            credential: CredentialInfo::new(credential, &next.header, &next.content),
            warnings,
            revision: Some(revision),
        })
    }

    /// Reads, works out what comes next, commits it, and starts over if somebody else was faster. A new version is written
    /// to the history as well. When it returns, this process has applied the change.
    pub(super) async fn change(
        &self,
        credential: &CredentialRef,
        expected_version: Option<u64>,
        next: impl Fn(Option<&Current>) -> Result<Next, VaultError>,
    ) -> Result<(Option<Current>, Next, Revision), VaultError> {
        let name = head_key(credential);
        for _ in 0..TRIES {
            let current = self.current(credential)?;
            check_version(credential, current.as_ref(), expected_version)?;
            let next = next(current.as_ref())?;
            let seals = self.keyring.seals(&credential.tenant, SEALS).await?;
            let transaction = Transaction::new().only_if(name.clone(), expectation(current.as_ref()));
            let transaction = self.sealed(transaction, credential, current.as_ref(), &next, seals.key())?;
            match self.keyring.commit(transaction, seals).await {
                Ok(revision) => {
                    self.applied(revision).await?;
                    return Ok((current, next, revision));
                }
                Err(CommitError::Conflict { key, seen }) => self.catch_up(&key, seen).await?,
                Err(error) => return Err(VaultError::from_commit(error)),
            }
        }
        Err(VaultError::Contended(name))
    }

    /// Adds the head, and the version if it is a new one; takes up to [`SEALS`] of the key's seals.
    pub(super) fn sealed(
        &self,
        transaction: Transaction,
        credential: &CredentialRef,
        current: Option<&Current>,
        next: &Next,
        key: &DataKey,
    ) -> Result<Transaction, SealError> {
        let Next { header, content } = next;
        let name = head_key(credential);
        let bytes = content.encode(Part::Head);
        let transaction = self.keyring.while_newest(transaction, &credential.tenant, key);
        let mut transaction = transaction.put(name.clone(), header.seal(&name, &bytes, key)?);
        if current.is_none_or(|current| current.header.version != header.version) {
            let name = version_key(credential, header.version);
            let bytes = content.encode(Part::Version);
            transaction = transaction.put(name.clone(), header.dates().seal(&name, &bytes, key)?);
        }
        Ok(transaction)
    }

    /// Waits until this process has applied its own write, so that whoever wrote can read it here.
    pub(super) async fn applied(&self, revision: Revision) -> Result<(), VaultError> {
        if self.replica.feed().wait(revision, APPLY).await {
            return Ok(());
        }
        Err(VaultError::Stale {
            seen: self.replica.feed().revision(),
            wanted: revision,
        })
    }

    /// After a conflict: waits until this process has seen the change that was in the way, so that the next try fits.
    pub(super) async fn catch_up(&self, conflict: &Key, seen: Revision) -> Result<(), VaultError> {
        self.keyring.catch_up(conflict).await?;
        self.applied(seen).await
    }

    pub(super) fn current(&self, credential: &CredentialRef) -> Result<Option<Current>, VaultError> {
        let Some(head) = self.replica.head(credential)? else {
            return Ok(None);
        };
        let content = self.open_head(credential, &head)?;
        Ok(Some(Current {
            header: head.header,
            content,
            revision: head.revision,
        }))
    }

    /// Refuses unless the credential is there.
    pub(crate) fn require(&self, credential: &CredentialRef) -> Result<Arc<super::record::SealedHead>, VaultError> {
        self.replica
            .head(credential)?
            .ok_or_else(|| VaultError::NotFound(credential.clone()))
    }

    pub(super) fn next_version(
        &self,
        credential: &CredentialRef,
        current: Option<&Current>,
        draft: &Draft,
        by: &str,
    ) -> Next {
        let header = HeadHeader {
            version: Version(current.map_or(0, |current| current.header.version.0) + 1),
            state: match current.map(|current| current.header.state) {
                None | Some(State::Enabled | State::Deleted { .. }) => State::Enabled,
                Some(State::Disabled) => State::Disabled,
            },
            saved_at: self.clock.now(),
            valid_until: draft.valid_until,
        };
        let content = Content {
            signature: self.sign(credential, &header, &draft.secret),
            changed_fields: changed_fields(draft, current),
            secret: draft.secret.clone(),
            note: draft.note.clone(),
            saved_by: by.to_owned(),
            payload: Payload::Of {
                issuer: self.settings.issuer.clone(),
            },
        };
        Next { header, content }
    }

    fn sign(&self, credential: &CredentialRef, header: &HeadHeader, secret: &Secret) -> Signature {
        let issuer = &self.settings.issuer;
        let payload = super::signature::payload(issuer, credential.into(), &header.dates(), secret);
        self.keyring
            .signing_key()
            .sign(TokenKind::Credential, payload.as_bytes())
    }

    /// DAT's plain signature, if the provider has one and the login has what it is made of.
    fn computed_signature(&self, credential: &CredentialRef, secret: &Secret) -> Option<secrecy::SecretString> {
        self.catalogue.get(credential.provider.as_str())?.customer_signature?;
        let Secret::Login(login) = secret else { return None };
        let (number, password) = (login.customer_number.as_ref()?, login.password.as_ref()?);
        Some(super::signature::customer_signature(number, &login.username, password))
    }
}

/// That nobody changes it meanwhile.
pub(super) fn expectation(current: Option<&Current>) -> Expectation {
    current.map_or(Expectation::Absent, |current| Expectation::WrittenAt(current.revision))
}

pub(super) fn check_version(
    credential: &CredentialRef,
    current: Option<&Current>,
    expected: Option<u64>,
) -> Result<(), VaultError> {
    let Some(expected) = expected else { return Ok(()) };
    let matches = match current {
        None => expected == 0,
        // To whoever expects none, a deleted one is none.
        Some(current) if expected == 0 => current.header.state.is_deleted(),
        Some(current) => current.header.version.0 == expected,
    };
    if matches {
        return Ok(());
    }
    let current = current.map(|current| current.header.version);
    Err(VaultError::VersionMismatch {
        credential: credential.clone(),
        expected,
        current,
    })
}

/// The signature that was given, if it is another than the computed one; else the computed one.
fn with_signature(secret: Secret, computed: Option<secrecy::SecretString>) -> Secret {
    use secrecy::ExposeSecret as _;

    let Secret::Login(mut login) = secret else {
        return secret;
    };
    let Some(computed) = computed else {
        return Secret::Login(login);
    };
    let is_other = |given: &CustomerSignature| {
        !given
            .value()
            .expose_secret()
            .eq_ignore_ascii_case(computed.expose_secret())
    };
    if !login.customer_signature.as_ref().is_some_and(is_other) {
        login.customer_signature = Some(CustomerSignature::Made(computed));
    }
    Secret::Login(login)
}

/// Nothing here may depend on what the stored secret is: a caller who only checks could guess it.
pub(super) fn save_warnings(current: Option<&Current>) -> Option<Warning> {
    let is_disabled = current.is_some_and(|current| current.header.state == State::Disabled);
    is_disabled.then_some(Warning::StaysDisabled)
}

pub(super) fn changed_fields(draft: &Draft, current: Option<&Current>) -> Vec<String> {
    let before = current.map(|current| &current.content.secret);
    let mut names = draft.secret.changed_fields(before);
    let valid_until: Option<Timestamp> = current.and_then(|current| current.header.valid_until);
    if draft.valid_until != valid_until {
        names.push("valid_until");
    }
    if draft.note != current.map_or("", |current| &current.content.note) {
        names.push("note");
    }
    names.sort_unstable();
    names.into_iter().map(str::to_owned).collect()
}
