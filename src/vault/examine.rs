//! Looking at records one by one, without handing anything out: does it open, is it signed, is it what belongs under its key?

use std::sync::Arc;

use prost::Message as _;

use super::check::Written;
use super::ids::{ProviderId, TenantId};
use super::record::{
    ASSIGNMENT_PREFIX, Content, HEAD_PREFIX, SealedHead, VERSION_PREFIX, VersionHeader, open_choice, open_version,
};
use super::scope::CredentialRef;
use super::upkeep::{REWRAP, ROTATE_PREFIX};
use crate::keyring::{DataKey, DataKeyId, ERASE_PREFIX, Keyring, OpenedKeys, PublicKey, TokenKind, is_key};
use crate::pb::storage;
use crate::store::{Key, Record, Scan, Store, StoreError};

/// Where keys are found.
pub trait KeySource: Send + Sync {
    /// A data key.
    fn data_key(&self, tenant: &TenantId, id: DataKeyId) -> Option<Arc<DataKey>>;

    /// Does something with the public half of a signing key; none if there is no such key.
    fn with_public_key(&self, kid: &str, check: &mut dyn FnMut(&PublicKey) -> bool) -> Option<bool>;
}

impl Defect {
    /// Whether the record itself is broken, so that nothing is lost if it is set aside. Where it is another record that is missing,
    /// or two of them differ, nobody can tell.
    #[must_use]
    pub fn is_of_the_record(&self) -> bool {
        match self {
            Self::UnknownKey | Self::DoesNotOpen | Self::NoHead => true,
            Self::NoDataKey(_)
            | Self::NoSigningKey(_)
            | Self::Signature
            | Self::NoVersion(_)
            | Self::NoVersionBefore(_)
            | Self::OtherThanVersion(_)
            | Self::NewerThanHead(_)
            | Self::OlderThanLogged(_)
            | Self::Lost(_)
            | Self::Key(_)
            | Self::Unreadable(_) => false,
        }
    }
}

impl KeySource for OpenedKeys {
    fn data_key(&self, tenant: &TenantId, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.data_key(tenant, id)
    }

    fn with_public_key(&self, kid: &str, check: &mut dyn FnMut(&PublicKey) -> bool) -> Option<bool> {
        self.public_key(kid).map(check)
    }
}

impl KeySource for Keyring {
    fn data_key(&self, tenant: &TenantId, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.data_key(tenant, id)
    }

    fn with_public_key(&self, kid: &str, check: &mut dyn FnMut(&PublicKey) -> bool) -> Option<bool> {
        self.public_key(kid).map(|key| check(&key))
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// No record of this program has such a key.
    #[error("no record has such a key")]
    UnknownKey,
    /// Its data key is not there, or does not open.
    #[error("its data key {0} is not there")]
    NoDataKey(DataKeyId),
    /// It does not open with its data key, or holds nothing that belongs there.
    #[error("it is damaged, or belongs in another place: it does not open")]
    DoesNotOpen,
    /// The key that it says has signed it is not there.
    #[error("it is signed with the key {0}, which is not there")]
    NoSigningKey(String),
    /// The signature does not fit.
    #[error("its signature does not fit")]
    Signature,
    /// A head's version is not there.
    #[error("its version {0} is not there")]
    NoVersion(u64),
    /// The version before one is not there.
    #[error("the version before it, {0}, is not there")]
    NoVersionBefore(u64),
    /// A head says something else than its version does.
    #[error("it is not what its version {0} is")]
    OtherThanVersion(u64),
    /// A version whose credential is not there.
    #[error("it is a version of a credential that is not there")]
    NoHead,
    /// A version that its credential has not reached.
    #[error("it is newer than its credential, which has version {0}")]
    NewerThanHead(u64),
    /// The audit log knows of something newer.
    #[error("it is older than the audit log says, which has {0}: it was put back, or something was lost")]
    OlderThanLogged(Written),
    /// The audit log knows of it.
    #[error("the audit log says that it was written ({0}), and it is not there")]
    Lost(Written),
    /// A wrapped key does not open.
    #[error("{0}")]
    Key(String),
    /// The store cannot read it.
    #[error("the store cannot read on after this record: {0}")]
    Unreadable(String),
}

/// What is known of a record that opens.
pub(crate) enum Sound {
    /// The current version of a credential, and what its signature and its metadata say.
    Head(VersionHeader, Box<Content>),
    /// A version.
    Version(VersionHeader),
    /// Anything else.
    Other,
}

/// Looks at a record by itself. What holds a key is not looked into.
pub(crate) fn examine(record: &Record, keys: &dyn KeySource) -> Result<Sound, Defect> {
    let key = record.key.as_str();
    if let Some(path) = key.strip_prefix(HEAD_PREFIX) {
        let credential = CredentialRef::from_path(path).ok_or(Defect::UnknownKey)?;
        let head = SealedHead::decode(record).map_err(|_| Defect::DoesNotOpen)?;
        let id = head.data_key_id();
        let data_key = keys.data_key(&credential.tenant, id).ok_or(Defect::NoDataKey(id))?;
        let content = head.open(&data_key).map_err(|_| Defect::DoesNotOpen)?;
        let dates = head.header.dates();
        is_signed(&credential, &dates, &content, keys)?;
        Ok(Sound::Head(dates, Box::new(content)))
    } else if key.starts_with(VERSION_PREFIX) {
        let (credential, header, content) = opened_version(record, keys)?;
        is_signed(&credential, &header, &content, keys)?;
        Ok(Sound::Version(header))
    } else if let Some(place) = key.strip_prefix(ASSIGNMENT_PREFIX) {
        let (tenant, provider) = place.split_once('/').ok_or(Defect::UnknownKey)?;
        let (tenant, provider) = (TenantId::parse(tenant), ProviderId::parse(provider));
        let (Ok(tenant), Ok(_)) = (tenant, provider) else {
            return Err(Defect::UnknownKey);
        };
        opened(keys, &tenant, |key_of| open_choice(record, key_of))?;
        Ok(Sound::Other)
    } else if let Some(tenant) = [ROTATE_PREFIX, ERASE_PREFIX]
        .iter()
        .find_map(|prefix| key.strip_prefix(prefix))
    {
        TenantId::parse(tenant).map_err(|_| Defect::UnknownKey)?;
        // The tasks have the same first field, and the rest of them is optional.
        storage::RotateTask::decode(&*record.value).map_err(|_| Defect::DoesNotOpen)?;
        Ok(Sound::Other)
    } else if key == REWRAP || is_key(key) {
        Ok(Sound::Other)
    } else {
        Err(Defect::UnknownKey)
    }
}

/// Looks at a version without its signature.
pub(crate) fn examine_unsigned_version(
    record: &Record,
    keys: &dyn KeySource,
) -> Result<(VersionHeader, Box<Content>), Defect> {
    opened_version(record, keys).map(|(_, header, content)| (header, content))
}

fn opened_version(
    record: &Record,
    keys: &dyn KeySource,
) -> Result<(CredentialRef, VersionHeader, Box<Content>), Defect> {
    let path = record.key.as_str().strip_prefix(VERSION_PREFIX);
    let (path, number) = path.and_then(|path| path.rsplit_once('/')).ok_or(Defect::UnknownKey)?;
    let credential = CredentialRef::from_path(path).ok_or(Defect::UnknownKey)?;
    let number: u64 = number.parse().map_err(|_| Defect::UnknownKey)?;
    let (header, content) = opened(keys, &credential.tenant, |key_of| open_version(record, key_of))?;
    if header.version.0 != number {
        return Err(Defect::DoesNotOpen);
    }
    Ok((credential, header, Box::new(content)))
}

/// The versions of the credential whose head this is; none for another record.
///
/// # Errors
/// The store's.
pub(crate) async fn versions_of_head(store: &dyn Store, head: &Key) -> Result<Vec<Record>, StoreError> {
    let Some(path) = head.as_str().strip_prefix(HEAD_PREFIX) else {
        return Ok(Vec::new());
    };
    let all = Scan {
        prefix: format!("{VERSION_PREFIX}{path}/"),
        after: None,
        limit: usize::MAX,
    };
    store.scan(all).await
}

/// Tells a data key that is not there from a record that does not open.
fn opened<T, E>(
    keys: &dyn KeySource,
    tenant: &TenantId,
    open: impl FnOnce(&dyn Fn(DataKeyId) -> Option<Arc<DataKey>>) -> Result<T, E>,
) -> Result<T, Defect> {
    let missing = std::cell::Cell::new(None);
    let key_of = |id| {
        let key = keys.data_key(tenant, id);
        if key.is_none() {
            missing.set(Some(id));
        }
        key
    };
    open(&key_of).map_err(|_| missing.get().map_or(Defect::DoesNotOpen, Defect::NoDataKey))
}

fn is_signed(
    credential: &CredentialRef,
    dates: &VersionHeader,
    content: &Content,
    keys: &dyn KeySource,
) -> Result<(), Defect> {
    let signature = &content.signature;
    let mut holds = |key: &PublicKey| {
        content.with_signed(credential, dates, |payload| {
            key.has_made(TokenKind::Credential, payload, &signature.bytes)
        })
    };
    match keys.with_public_key(&signature.kid, &mut holds) {
        None => Err(Defect::NoSigningKey(signature.kid.clone())),
        Some(false) => Err(Defect::Signature),
        Some(true) => Ok(()),
    }
}
