//! What may be told about credentials without handing out the secret.

use std::sync::Arc;

use super::asker::{Asker, work_out};
use super::credential::{State, Version};
use super::ids::{ProviderId, TenantId};
use super::ranges::{Ranges, Walk};
use super::record::{
    Content, Corrupt, HEAD_PREFIX, HeadHeader, SealedHead, VERSIONS_AT_ONCE, VersionHeader, head_key, open_version,
    version_prefix,
};
use super::scope::{CredentialRef, ScopeKind};
use super::sorted::Filter;
use super::{Vault, VaultError};
use crate::access::Reach;
use crate::store::{Key, Record, StoreError};
use crate::time::Timestamp;

/// How many names one page looks up, at most, so that a grant for very many that do not exist does not hold it up: the page may
/// be empty then, and says where to go on. More than the largest page.
pub(super) const LOOKED_AT: usize = 4096;

/// A credential without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialInfo {
    /// Its name.
    pub credential: CredentialRef,
    /// Version, state and times.
    pub header: HeadHeader,
    /// Who saved the version: the caller's identity.
    pub saved_by: String,
    /// The note.
    pub note: String,
    /// The user name.
    pub username: Masked,
    /// The customer number, if it has one.
    pub customer_number: Option<Masked>,
}

/// A text that is shown in full only to those who may see it.
#[derive(Clone, PartialEq, Eq)]
pub struct Masked(String);

/// A version without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its number.
    pub version: Version,
    /// When it was saved.
    pub saved_at: Timestamp,
    /// Until when it may be used.
    pub valid_until: Option<Timestamp>,
    /// Who saved it: the caller's identity.
    pub saved_by: String,
    /// The note.
    pub note: String,
    /// The names of the fields that differ from the version before.
    pub changed_fields: Vec<String>,
}

/// Asks for a tenant's credentials.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// The firm.
    pub tenant: TenantId,
    /// Only these.
    pub providers: Vec<ProviderId>,
    /// Only these kinds of scope; empty: all.
    pub scope_kinds: Vec<ScopeKind>,
    /// Only these states; empty: all but deleted ones.
    pub states: Vec<StateFilter>,
    /// Only those that expire before.
    pub expires_before: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
    /// Only those after this one, in the order of the list.
    pub after: Option<CredentialRef>,
    /// What the caller may read: the list is as if nothing else existed.
    pub readable: Reach,
}

/// A state without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFilter {
    /// Enabled.
    Enabled,
    /// Disabled.
    Disabled,
    /// Deleted.
    Deleted,
}

/// A part of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What was found.
    pub credentials: Vec<CredentialInfo>,
    /// Where to go on; none after the last page.
    pub next: Option<CredentialRef>,
}

impl StateFilter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Enabled, Self::Disabled, Self::Deleted];
}

impl From<State> for StateFilter {
    fn from(state: State) -> Self {
        match state {
            State::Enabled => Self::Enabled,
            State::Disabled => Self::Disabled,
            State::Deleted { .. } => Self::Deleted,
        }
    }
}

impl ListQuery {
    fn filter(&self) -> Filter {
        let states = match self.states.as_slice() {
            [] => &[StateFilter::Enabled, StateFilter::Disabled],
            states => states,
        };
        Filter::new(states, self.expires_before)
    }
}

fn named_by(head: &Key) -> Result<CredentialRef, Corrupt> {
    let path = head.as_str().strip_prefix(HEAD_PREFIX);
    path.and_then(CredentialRef::from_path)
        .ok_or_else(|| Corrupt(head.clone()))
}

impl CredentialInfo {
    pub(super) fn new(credential: CredentialRef, header: &HeadHeader, content: &Content) -> Self {
        Self {
            credential,
            header: *header,
            saved_by: content.saved_by.clone(),
            note: content.note.clone(),
            username: Masked(content.secret.username().to_owned()),
            customer_number: content.secret.customer_number().map(|number| Masked(number.to_owned())),
        }
    }
}

impl Masked {
    /// The text, for those who may see it.
    #[must_use]
    pub fn in_full(&self) -> &str {
        &self.0
    }

    /// The text as others see it: `ma•••••r`, whatever its length; a short one not at all.
    #[must_use]
    pub fn masked(&self) -> String {
        const SHORT: usize = 5;
        let characters: Vec<char> = self.0.chars().collect();
        match characters.as_slice() {
            [] => String::new(),
            [first, second, .., last] if characters.len() > SHORT => format!("{first}{second}•••••{last}"),
            _ => "•••••".into(),
        }
    }
}

impl std::fmt::Debug for Masked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("[redacted]")
    }
}

impl Vault {
    /// One credential.
    ///
    /// # Errors
    /// [`VaultError::NotFound`], or that its record is damaged.
    pub fn get(&self, credential: &CredentialRef) -> Result<CredentialInfo, VaultError> {
        let head = self.require(credential)?;
        let content = self.open_head(credential, &head)?;
        Ok(CredentialInfo::new(credential.clone(), &head.header, &content))
    }

    /// A page of a tenant's credentials, by path. Opens as many as it tells of: not for a thread that serves others.
    ///
    /// # Errors
    /// That a record is damaged, or [`VaultError::Gone`].
    pub fn list(&self, query: &ListQuery, asker: &Asker) -> Result<Page, VaultError> {
        match self.list_all(query, asker) {
            // What is still there of a tenant that is being erased opens no more, and counts for nothing.
            Ok(_) | Err(VaultError::Corrupt(_)) if self.keyring.is_erasing(query.tenant.as_str()) => {
                Ok(Page::default())
            }
            listed => listed,
        }
    }

    fn list_all(&self, query: &ListQuery, asker: &Asker) -> Result<Page, VaultError> {
        let (tenant, providers) = (&query.tenant, &query.providers);
        let ranges = Ranges::new(&query.readable, tenant, providers, &query.scope_kinds);
        let mut walk = Walk::new(&self.replica, ranges, query.filter());
        if let Some(after) = &query.after {
            walk = walk.after(head_key(after));
        }
        let mut page = Page::default();
        for looked_at in 0.. {
            asker.still_waits()?;
            let Some(key) = walk.next() else {
                page.next = None;
                break;
            };
            let head = self.replica.head_under(&key);
            let is_full = page.credentials.len() == query.limit;
            if looked_at == LOOKED_AT || (is_full && !matches!(head, Ok(None))) {
                break;
            }
            let credential = named_by(&key)?;
            if let Some(head) = head? {
                page.credentials.extend(self.listed(&credential, &head, query)?);
            }
            page.next = Some(credential);
        }
        Ok(page)
    }

    /// What is told of a credential if the query asks for it.
    fn listed(
        &self,
        credential: &CredentialRef,
        head: &SealedHead,
        query: &ListQuery,
    ) -> Result<Option<CredentialInfo>, VaultError> {
        // Opening proves the header that the filters look at.
        let content = self.open_head(credential, head)?;
        let is_asked_for = query.filter().is_for(&head.header);
        Ok(is_asked_for.then(|| CredentialInfo::new(credential.clone(), &head.header, &content)))
    }

    /// A credential's versions, the newest first.
    ///
    /// # Errors
    /// [`VaultError::NotFound`], the store's, or that a record is damaged.
    pub async fn versions(&self, credential: &CredentialRef) -> Result<Vec<VersionInfo>, VaultError> {
        let before = self.require(credential)?.header.version;
        let mut versions = Vec::new();
        let mut pages = self.pages(&version_prefix(credential), VERSIONS_AT_ONCE);
        while let Some(records) = pages.next().await? {
            versions.extend(self.opened_versions(&credential.tenant, records).await?);
        }
        // It may have been purged meanwhile, and then this is only a part of them; one that was saved since begins at 1 again.
        if self.require(credential)?.header.version < before {
            return Err(VaultError::NotFound(credential.clone()));
        }
        versions.reverse();
        Ok(versions)
    }

    /// Opens versions on another thread: the caller's serves others too.
    async fn opened_versions(&self, tenant: &TenantId, records: Vec<Record>) -> Result<Vec<VersionInfo>, VaultError> {
        let (keyring, tenant) = (Arc::clone(&self.keyring), tenant.clone());
        let opened = work_out(move |asker| {
            let open = |record| {
                asker.still_waits()?;
                let (header, content) = open_version(record, |id| keyring.data_key(&tenant, id))?;
                Ok(VersionInfo::new(&header, content))
            };
            records.iter().map(open).collect()
        });
        opened.await.map_err(|_| StoreError::Closed)?
    }
}

impl VersionInfo {
    fn new(header: &VersionHeader, content: Content) -> Self {
        Self {
            version: header.version,
            saved_at: header.saved_at,
            valid_until: header.valid_until,
            saved_by: content.saved_by,
            note: content.note,
            changed_fields: content.changed_fields,
        }
    }
}
