//! How credentials and assignments stand in the store: their keys, and domain types to sealed bytes and back.
//!
//! | key | record |
//! | --- | --- |
//! | `head/{path}` | the current version and the state |
//! | `version/{path}/{number}` | one version, never changed |
//! | `assignment/{tenant}/{provider}` | a choice |

use bytes::Bytes;
use prost::Message as _;

use super::assignment::{Assignment, Choice, Mode};
use super::catalogue::SignatureVariant;
use super::credential::{State, Version};
use super::ids::{ProviderId, SubjectId, TenantId};
use super::resolve::Candidate;
use super::scope::CredentialRef;
use crate::keyring::{DataKey, DataKeyId, SealError, Sealed, Signature};
use crate::pb::storage;
use crate::store::{Key, Record, Revision};
use crate::time::Timestamp;

pub(super) const HEAD_PREFIX: &str = "head/";
pub(super) const VERSION_PREFIX: &str = "version/";
pub(super) const ASSIGNMENT_PREFIX: &str = "assignment/";

/// How many versions of a history are in memory at once: each has up to 100 KiB, and there is no bound on how many there are.
pub(super) const VERSIONS_AT_ONCE: usize = 256;

/// A record's bytes are not what this program wrote there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the record {0} is damaged; nothing of it is handed out; restore it from a backup, or purge it and save it again"
)]
pub struct Corrupt(pub Key);

pub(super) fn head_key(credential: &CredentialRef) -> Key {
    Key::new(&head_path(credential))
}

/// The text of [`head_key`]: looked up on every resolve, so it is put together without detours.
pub(super) fn head_path(credential: &CredentialRef) -> String {
    let kind = credential.scope.kind().as_str();
    let subject = credential.scope.subject().map(SubjectId::as_str);
    let (tenant, provider) = (credential.tenant.as_str(), credential.provider.as_str());
    let parts = [HEAD_PREFIX, tenant, "/", provider, "/", kind];
    let mut path = String::with_capacity(parts.map(str::len).iter().sum::<usize>() + 1 + subject.map_or(0, str::len));
    for part in parts {
        path.push_str(part);
    }
    if let Some(subject) = subject {
        path.push('/');
        path.push_str(subject);
    }
    path
}

pub(super) fn version_prefix(credential: &CredentialRef) -> String {
    format!("{VERSION_PREFIX}{credential}/")
}

pub(super) fn version_key(credential: &CredentialRef, version: Version) -> Key {
    Key::new(&format!("{}{:020}", version_prefix(credential), version.0))
}

pub(super) fn assignment_key(tenant: &TenantId, provider: &ProviderId) -> Key {
    Key::new(&assignment_path(tenant, provider))
}

/// The text of [`assignment_key`].
pub(super) fn assignment_path(tenant: &TenantId, provider: &ProviderId) -> String {
    [ASSIGNMENT_PREFIX, tenant.as_str(), "/", provider.as_str()].concat()
}

/// A credential's current version and state; the content still sealed.
pub struct SealedHead {
    /// The revision that wrote it.
    pub revision: Revision,
    /// Everything that can be read without a key. Not proven until the content is opened.
    pub header: HeadHeader,
    data_key_id: DataKeyId,
    nonce: [u8; 12],
    /// Where in `bytes` the header begins, and where the ciphertext.
    header_at: u16,
    ciphertext_at: u16,
    /// Its key in the store, the header and the ciphertext. In one piece, because there are very many of these.
    bytes: Box<[u8]>,
}

/// What the decision looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadHeader {
    /// The current version's number.
    pub version: Version,
    /// Whether it is handed out.
    pub state: State,
    /// When the current version was saved.
    pub saved_at: Timestamp,
    /// Until when it may be used.
    pub valid_until: Option<Timestamp>,
}

/// A version's content as it was saved.
pub struct Content {
    /// What the provider wants to see.
    pub secret: super::credential::Secret,
    /// The note.
    pub note: String,
    /// The caller's identity.
    pub saved_by: String,
    /// The names of the fields that differ from the version before.
    pub changed_fields: Vec<String>,
    /// The vault's signature.
    pub signature: Signature,
    /// What it is over.
    pub payload: Payload,
}

/// What the vault's signature over a version covers: JSON.
#[derive(Clone)]
pub enum Payload {
    /// What [`payload`](super::signature::payload) puts together under this issuer.
    Of {
        /// Under which name the vault signed.
        issuer: String,
    },
    /// These bytes, as records have them that were written before that could be relied upon. They hold the secret and are wiped
    /// with the last of their clones.
    Kept(Bytes),
}

impl Content {
    /// Shows what was signed when it was saved, as this version of this credential.
    pub(super) fn with_signed<T>(
        &self,
        credential: &CredentialRef,
        dates: &VersionHeader,
        show: impl FnOnce(&[u8]) -> T,
    ) -> T {
        match &self.payload {
            Payload::Of { issuer } => {
                show(super::signature::payload(issuer, credential.into(), dates, &self.secret).as_bytes())
            }
            Payload::Kept(payload) => show(payload),
        }
    }

    /// The same once more, to be sealed again under another header.
    pub(super) fn duplicate(&self) -> Self {
        Self {
            secret: self.secret.clone(),
            note: self.note.clone(),
            saved_by: self.saved_by.clone(),
            changed_fields: self.changed_fields.clone(),
            signature: self.signature.clone(),
            payload: self.payload.clone(),
        }
    }
}

impl Candidate for std::sync::Arc<SealedHead> {
    fn state(&self) -> State {
        self.header.state
    }

    fn valid_until(&self) -> Option<Timestamp> {
        self.header.valid_until
    }
}

impl SealedHead {
    pub(super) fn decode(record: &Record) -> Result<Self, Corrupt> {
        let corrupt = || Corrupt(record.key.clone());
        let (header_bytes, sealed) = decode_envelope(&record.key, &record.value)?;
        let header = storage::HeadHeader::decode(&*header_bytes).map_err(|_| corrupt())?;
        let header = HeadHeader::from_storage(&header).ok_or_else(corrupt)?;
        let key = record.key.as_str().as_bytes();
        let at = |offset| u16::try_from(offset).map_err(|_| corrupt());
        Ok(Self {
            revision: record.revision,
            header,
            data_key_id: sealed.data_key_id,
            nonce: sealed.nonce,
            header_at: at(key.len())?,
            ciphertext_at: at(key.len() + header_bytes.len())?,
            bytes: [key, &header_bytes, &sealed.ciphertext].concat().into(),
        })
    }

    /// The text of its key in the store.
    pub(super) fn key(&self) -> &str {
        std::str::from_utf8(self.key_bytes()).expect("it was copied from a text")
    }

    /// The same as bytes, for whoever only compares.
    pub(super) fn key_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.header_at)]
    }

    /// Which of the tenant's data keys opens it.
    pub(super) fn data_key_id(&self) -> DataKeyId {
        self.data_key_id
    }

    /// Opens the content, which proves the header too.
    pub(super) fn open(&self, key: &DataKey) -> Result<Content, Corrupt> {
        let (header_at, ciphertext_at) = (usize::from(self.header_at), usize::from(self.ciphertext_at));
        let header = &self.bytes[header_at..ciphertext_at];
        let opened = key.open_parts(self.key(), header, self.nonce, &self.bytes[ciphertext_at..]);
        opened.ok().and_then(Content::decode).ok_or_else(|| self.corrupt())
    }

    /// Whether header and content are what was sealed here.
    pub(super) fn is_proven_by(&self, key: &DataKey) -> bool {
        let (header_at, ciphertext_at) = (usize::from(self.header_at), usize::from(self.ciphertext_at));
        let header = &self.bytes[header_at..ciphertext_at];
        key.open_parts(self.key(), header, self.nonce, &self.bytes[ciphertext_at..])
            .is_ok()
    }

    /// That it cannot be opened.
    pub(super) fn corrupt(&self) -> Corrupt {
        Corrupt(Key::new(self.key()))
    }
}

impl HeadHeader {
    /// What the signature says of the version.
    pub(super) fn dates(&self) -> VersionHeader {
        VersionHeader {
            version: self.version,
            saved_at: self.saved_at,
            valid_until: self.valid_until,
        }
    }

    /// The bytes of a head with this header.
    pub(super) fn seal(&self, name: &Key, content: &[u8], key: &DataKey) -> Result<Vec<u8>, SealError> {
        let (is_enabled, deleted_at) = match self.state {
            State::Enabled => (true, None),
            State::Disabled => (false, None),
            State::Deleted { since, was_enabled } => (was_enabled, Some(since)),
        };
        let state = if is_enabled {
            storage::State::Enabled
        } else {
            storage::State::Disabled
        };
        let header = storage::HeadHeader {
            version: self.version.0,
            state: state.into(),
            deleted_at_ms: deleted_at.map(Timestamp::unix_ms),
            saved_at_ms: self.saved_at.unix_ms(),
            valid_until_ms: self.valid_until.map(Timestamp::unix_ms),
        };
        seal_envelope(name, header.encode_to_vec(), content, key)
    }

    fn from_storage(header: &storage::HeadHeader) -> Option<Self> {
        let is_enabled = match storage::State::try_from(header.state).ok()? {
            storage::State::Enabled => true,
            storage::State::Disabled => false,
            storage::State::Unspecified => return None,
        };
        let state = match (header.deleted_at_ms.map(Timestamp::from_unix_ms), is_enabled) {
            (None, true) => State::Enabled,
            (None, false) => State::Disabled,
            (Some(since), was_enabled) => State::Deleted { since, was_enabled },
        };
        Some(Self {
            version: Version(header.version),
            state,
            saved_at: Timestamp::from_unix_ms(header.saved_at_ms),
            valid_until: header.valid_until_ms.map(Timestamp::from_unix_ms),
        })
    }
}

/// What can be read of a version without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionHeader {
    /// Its number.
    pub version: Version,
    /// When it was saved.
    pub saved_at: Timestamp,
    /// Until when it may be used.
    pub valid_until: Option<Timestamp>,
}

impl VersionHeader {
    /// The bytes of a version with this header.
    pub(super) fn seal(&self, name: &Key, content: &[u8], key: &DataKey) -> Result<Vec<u8>, SealError> {
        let header = storage::VersionHeader {
            version: self.version.0,
            saved_at_ms: self.saved_at.unix_ms(),
            valid_until_ms: self.valid_until.map(Timestamp::unix_ms),
        };
        seal_envelope(name, header.encode_to_vec(), content, key)
    }
}

/// Opens a version's record; `key_of` finds the data key.
pub(super) fn open_version<K: std::ops::Deref<Target = DataKey>>(
    record: &Record,
    key_of: impl Fn(DataKeyId) -> Option<K>,
) -> Result<(VersionHeader, Content), Corrupt> {
    let corrupt = || Corrupt(record.key.clone());
    let (header_bytes, sealed) = decode_envelope(&record.key, &record.value)?;
    let header = storage::VersionHeader::decode(&*header_bytes).map_err(|_| corrupt())?;
    let key = key_of(sealed.data_key_id).ok_or_else(corrupt)?;
    let opened = key
        .open(record.key.as_str(), &header_bytes, &sealed)
        .map_err(|_| corrupt())?;
    let header = VersionHeader {
        version: Version(header.version),
        saved_at: Timestamp::from_unix_ms(header.saved_at_ms),
        valid_until: header.valid_until_ms.map(Timestamp::from_unix_ms),
    };
    let content = Content::decode(opened).ok_or_else(corrupt)?;
    Ok((header, content))
}

/// The bytes of a choice.
pub(super) fn seal_choice(name: &Key, choice: &Choice, key: &DataKey) -> Result<Vec<u8>, SealError> {
    let mode = match choice.assignment.mode {
        Mode::General => storage::Mode::General,
        Mode::PerOffice => storage::Mode::PerOffice,
        Mode::PerAppraiser => storage::Mode::PerAppraiser,
        Mode::PerUser => storage::Mode::PerUser,
    };
    let variant = match choice.assignment.signature_variant {
        None => storage::SignatureVariant::Unspecified,
        Some(SignatureVariant::Plain) => storage::SignatureVariant::Plain,
        Some(SignatureVariant::TimeLimited) => storage::SignatureVariant::TimeLimited,
    };
    let record = storage::Assignment {
        mode: mode.into(),
        fallback_to_general: choice.assignment.fallback_to_general,
        signature_variant: variant.into(),
        set_at_ms: choice.set_at.unix_ms(),
        set_by: choice.set_by.clone(),
        revision: 0,
    };
    seal_envelope(name, Vec::new(), &record.encode_to_vec(), key)
}

/// Opens a choice's record; `key_of` finds the data key.
pub(super) fn open_choice<K: std::ops::Deref<Target = DataKey>>(
    record: &Record,
    key_of: impl Fn(DataKeyId) -> Option<K>,
) -> Result<Choice, Corrupt> {
    let corrupt = || Corrupt(record.key.clone());
    let (header, sealed) = decode_envelope(&record.key, &record.value)?;
    let key = key_of(sealed.data_key_id).ok_or_else(corrupt)?;
    let opened = key.open(record.key.as_str(), &header, &sealed).map_err(|_| corrupt())?;
    let stored = storage::Assignment::decode(&opened[..]).map_err(|_| corrupt())?;
    let mode = match stored.mode() {
        storage::Mode::Unspecified => return Err(corrupt()),
        storage::Mode::General => Mode::General,
        storage::Mode::PerOffice => Mode::PerOffice,
        storage::Mode::PerAppraiser => Mode::PerAppraiser,
        storage::Mode::PerUser => Mode::PerUser,
    };
    let signature_variant = match stored.signature_variant() {
        storage::SignatureVariant::Unspecified => None,
        storage::SignatureVariant::Plain => Some(SignatureVariant::Plain),
        storage::SignatureVariant::TimeLimited => Some(SignatureVariant::TimeLimited),
    };
    Ok(Choice {
        assignment: Assignment {
            mode,
            fallback_to_general: stored.fallback_to_general,
            signature_variant,
        },
        revision: match stored.revision {
            0 => record.revision,
            revision => Revision(revision),
        },
        written_at: record.revision,
        set_at: Timestamp::from_unix_ms(stored.set_at_ms),
        set_by: stored.set_by,
    })
}

/// Which data key sealed a record.
pub(super) fn sealed_by(record: &Record) -> Result<DataKeyId, Corrupt> {
    let envelope = storage::Envelope::decode(&*record.value).map_err(|_| Corrupt(record.key.clone()))?;
    Ok(DataKeyId(envelope.data_key_id))
}

/// The bytes of the same record sealed by another key.
pub(super) fn reseal(record: &Record, old: &DataKey, new: &DataKey) -> Result<Vec<u8>, ResealError> {
    let corrupt = || Corrupt(record.key.clone());
    let name = &record.key;
    let (header, sealed) = decode_envelope(name, &record.value)?;
    let opened = old.open(name.as_str(), &header, &sealed).map_err(|_| corrupt())?;
    if !name.as_str().starts_with(ASSIGNMENT_PREFIX) {
        return Ok(seal_envelope(name, header.into(), &opened, new)?);
    }
    // Callers know an assignment by the revision that set it, so that one has to stay.
    let mut assignment = storage::Assignment::decode(&opened[..]).map_err(|_| corrupt())?;
    if assignment.revision == 0 {
        assignment.revision = record.revision.0;
    }
    Ok(seal_envelope(name, header.into(), &assignment.encode_to_vec(), new)?)
}

/// Why a record was not sealed anew.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResealError {
    /// It is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// There are no random bytes.
    #[error(transparent)]
    Seal(#[from] SealError),
}

fn seal_envelope(name: &Key, header: Vec<u8>, plaintext: &[u8], key: &DataKey) -> Result<Vec<u8>, SealError> {
    let sealed = key.seal(name.as_str(), &header, plaintext)?;
    let envelope = storage::Envelope {
        data_key_id: sealed.data_key_id.0,
        header,
        nonce: sealed.nonce.to_vec(),
        ciphertext: sealed.ciphertext.into_vec(),
    };
    Ok(envelope.encode_to_vec())
}

fn decode_envelope(name: &Key, bytes: &[u8]) -> Result<(Box<[u8]>, Sealed), Corrupt> {
    let corrupt = || Corrupt(name.clone());
    let envelope = storage::Envelope::decode(bytes).map_err(|_| corrupt())?;
    let sealed = Sealed {
        data_key_id: DataKeyId(envelope.data_key_id),
        nonce: envelope.nonce.try_into().map_err(|_| corrupt())?,
        ciphertext: envelope.ciphertext.into(),
    };
    Ok((envelope.header.into(), sealed))
}
