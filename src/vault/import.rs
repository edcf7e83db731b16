//! Saving many credentials at once. Each is saved for itself, as [`Vault::put`] does it; they share what it costs to make
//! them durable.

use std::sync::Arc;

use super::credential::Version;
use super::record::head_key;
use super::save::{Current, Prepared, Put, SEALS, TRIES, changed_fields, check_version, expectation, save_warnings};
use super::warning::Warning;
use super::{Vault, VaultError};
use crate::keyring::DataKey;
use crate::store::{CommitError, Revision, StoreError, Transaction};

/// What a save among others has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The version that it made, or would make; the current one if that is the same.
    pub version: Version,
    /// Whether the current one is the same.
    pub is_unchanged: bool,
    /// What should be looked at.
    pub warnings: Vec<Warning>,
    /// The revision that it made; none if it only checked.
    pub revision: Option<Revision>,
}

/// Saves that are tried, each with its place among all, and what is to be committed for each.
type Tried = (Vec<(usize, Prepared)>, Vec<Result<Next, VaultError>>);

/// What is to be committed for a save.
struct Next {
    /// None if there is nothing to do.
    transaction: Option<Transaction>,
    imported: Imported,
}

impl Vault {
    /// Does work that takes a while, such as many signatures, where it holds up no other call. Of such works only so many are
    /// done at once that half of the cores stay for the others.
    ///
    /// # Errors
    /// That the process is ending.
    pub async fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, VaultError> {
        let place = Arc::clone(&self.apart).acquire_owned().await;
        let place = place.map_err(|_| StoreError::Closed)?;
        let vault = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&vault);
            drop(place);
            done
        });
        Ok(done.await.map_err(|_| StoreError::Closed)?)
    }

    /// The version that is stored and consists of just this, if that makes a save [needless](Prepared::unless_stored).
    ///
    /// # Errors
    /// [`VaultError::Corrupt`] if what is stored cannot be read.
    pub fn stored_as(&self, prepared: &Prepared) -> Result<Option<Version>, VaultError> {
        if !prepared.unless_stored || prepared.put.validate_only {
            return Ok(None);
        }
        let current = self.current(&prepared.put.credential)?;
        Ok(same_version(prepared, current.as_ref()))
    }

    /// Saves credentials of which none is named twice. What comes of each is at its place.
    ///
    /// # Errors
    /// What keeps all of them from being saved: keys are not at hand, or the process is ending. Some may be saved nevertheless.
    pub async fn put_all(
        self: &Arc<Self>,
        all: Vec<Prepared>,
    ) -> Result<Vec<Result<Imported, VaultError>>, VaultError> {
        let mut outcomes: Vec<_> = all.iter().map(|_| None).collect();
        let mut left: Vec<_> = all.into_iter().enumerate().collect();
        let mut newest = Revision(0);
        for _ in 0..TRIES {
            let (tried, nexts) = self.next_of_all(left).await?;
            left = Vec::new();
            let (mut committed, mut transactions) = (Vec::new(), Vec::new());
            for ((place, prepared), next) in tried.into_iter().zip(nexts) {
                match next {
                    Err(error) => outcomes[place] = Some(Err(error)),
                    Ok(Next {
                        transaction: None,
                        imported,
                    }) => outcomes[place] = Some(Ok(imported)),
                    Ok(Next {
                        transaction: Some(transaction),
                        imported,
                    }) => {
                        transactions.push(transaction);
                        committed.push((place, prepared, imported));
                    }
                }
            }
            if transactions.is_empty() {
                break;
            }
            let revisions = self.store.commit_all(transactions).await;
            for ((place, prepared, imported), revision) in committed.into_iter().zip(revisions) {
                match revision {
                    Ok(revision) => {
                        newest = newest.max(revision);
                        let revision = Some(revision);
                        outcomes[place] = Some(Ok(Imported { revision, ..imported }));
                    }
                    Err(CommitError::Conflict { key, seen }) => match self.catch_up(&key, seen).await {
                        Ok(()) => left.push((place, prepared)),
                        Err(error) => outcomes[place] = Some(Err(error)),
                    },
                    Err(CommitError::Store(error)) => outcomes[place] = Some(Err(error.into())),
                }
            }
            if left.is_empty() {
                break;
            }
        }
        self.applied(newest).await?;
        for (place, prepared) in left {
            outcomes[place] = Some(Err(VaultError::Contended(head_key(&prepared.put.credential))));
        }
        let outcomes = outcomes.into_iter().map(|outcome| outcome.expect("each was tried"));
        Ok(outcomes.collect())
    }

    async fn next_of_all(self: &Arc<Self>, tried: Vec<(usize, Prepared)>) -> Result<Tried, VaultError> {
        let mut keys = Vec::with_capacity(tried.len());
        for (_, prepared) in &tried {
            let put = &prepared.put;
            keys.push(if put.validate_only {
                None
            } else {
                Some(self.keyring.sealing_key(&put.credential.tenant, SEALS).await?)
            });
        }
        self.apart(move |vault| {
            let next = |((_, prepared), key): (&(usize, Prepared), Option<Arc<DataKey>>)| {
                vault.next_of(prepared, key.as_deref())
            };
            let nexts = tried.iter().zip(keys).map(next).collect();
            (tried, nexts)
        })
        .await
    }

    /// What is to be committed for a save; nothing if there is no key, because it is only checked.
    fn next_of(&self, prepared: &Prepared, key: Option<&DataKey>) -> Result<Next, VaultError> {
        let Put {
            credential,
            draft,
            expected_version,
            by,
            ..
        } = &prepared.put;
        let current = self.current(credential)?;
        let current = current.as_ref();
        let imported = |version, is_unchanged| Imported {
            version,
            is_unchanged,
            warnings: prepared
                .warnings
                .iter()
                .cloned()
                .chain(save_warnings(current))
                .collect(),
            revision: None,
        };
        let nothing_to_do = |imported| Next {
            transaction: None,
            imported,
        };
        // Somebody else may have saved it meanwhile.
        if key.is_some()
            && let Some(version) = same_version(prepared, current)
        {
            return Ok(nothing_to_do(imported(version, true)));
        }
        check_version(credential, current, *expected_version)?;
        let Some(key) = key else {
            let version = Version(current.map_or(0, |current| current.header.version.0) + 1);
            return Ok(nothing_to_do(imported(version, false)));
        };
        let next = self.next_version(credential, current, draft, by);
        let transaction = Transaction::new().only_if(head_key(credential), expectation(current));
        Ok(Next {
            transaction: Some(self.sealed(transaction, credential, current, &next, key)?),
            imported: imported(next.header.version, false),
        })
    }
}

/// The current version, if a save would make no other one.
fn same_version(prepared: &Prepared, current: Option<&Current>) -> Option<Version> {
    // To save over a deleted one brings it back.
    let current = current.filter(|current| prepared.unless_stored && !current.header.state.is_deleted())?;
    let is_same = changed_fields(&prepared.put.draft, Some(current)).is_empty();
    is_same.then_some(current.header.version)
}
