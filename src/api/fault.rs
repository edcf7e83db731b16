//! What goes wrong with a call, and the one place where it becomes a gRPC status.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::request_id::REQUEST_ID;
use super::violations::Violations;
use crate::access::{Action, Exceeded};
use crate::audit::{NOT_FINISHED, Unavailable};
use crate::backup::{BackupError, SnapshotError};
use crate::keyring::KeyringError;
use crate::pb::v1;
use crate::store::StoreError;
use crate::vault::resolve::Refusal;
use crate::vault::scope::{Scope, ScopeKind};
use crate::vault::{Lack, Refused, Sealed, VaultError};

/// The `domain` of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "credentials.dynarex";
/// The reason of whatever fails for a damaged record.
const CORRUPT: &str = "CORRUPT_RECORD";
/// When a caller may try again what failed for a passing reason.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The reason of calls that are not begun because there is too much to do.
pub(crate) const OVERLOADED: &str = "OVERLOADED";

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The connection has no identity.
    #[error("{0}")]
    NoIdentity(String),
    /// The connection had an identity and has it no more.
    #[error(
        "the client certificate of this connection has expired or is no longer trusted; connect anew with a good one"
    )]
    IdentityEnded,
    /// The caller's grants do not cover the call. It says what was asked, not what exists.
    #[error("no grant lets {caller} do this: {}{}", action.as_str(), about(tenant.as_deref(), provider.as_deref(), scope.as_ref()))]
    NotGranted {
        caller: String,
        action: Action,
        tenant: Option<String>,
        provider: Option<String>,
        /// As the request had it; none if it had none.
        scope: Option<Scope>,
    },
    /// The caller is over a quota.
    #[error(transparent)]
    OverQuota(#[from] Exceeded),
    /// Fields are malformed.
    #[error("{0}")]
    Invalid(Violations),
    /// The vault did not do it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The vault is sealed.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] Unavailable),
    /// The audit log cannot be read.
    #[error("the audit log cannot be read")]
    AuditUnreadable,
    /// The caller reads the audit log already.
    #[error("this caller reads the audit log already; end that, or take the rest of it, then try again")]
    AlreadyReading,
    /// The caller did not take its lines.
    #[error("the lines were not taken for too long; try again with a filter for what is not read yet")]
    ReadsTooSlowly,
    /// A backup is being made.
    #[error("a backup is being made already, or the store checked; wait for its end, then try again")]
    AlreadyBackingUp,
    /// A backup did not come to its end.
    #[error(transparent)]
    Backup(#[from] Arc<BackupError>),
    /// Not built yet.
    #[error("{0} is not built yet")]
    NotBuilt(&'static str),
    /// The caller has as many calls open as one may have.
    #[error("this caller has too many calls open; end some, or take the answers; see server.max_calls_per_caller")]
    TooManyCalls,
    /// More is asked for than can be done.
    #[error("the server has more to do than it can; try again in a while, or another server")]
    Overloaded,
    /// The caller has as many imports under way as one may have.
    #[error("this caller has too many imports under way; wait for the end of one, then try again")]
    TooManyImports,
    /// A message of a stream cannot be read.
    #[error("{}", .0.message())]
    Unreadable(Status),
    /// The server is ending.
    #[error("the server is shutting down; try again, another one or this one will answer")]
    ShuttingDown,
}

fn about(tenant: Option<&str>, provider: Option<&str>, scope: Option<&Scope>) -> String {
    let part = |name, value: Option<&str>| value.map(|value| format!(" {name}={value}")).unwrap_or_default();
    let scope = scope.map(ToString::to_string);
    [
        part("tenant", tenant),
        part("provider", provider),
        part("scope", scope.as_deref()),
    ]
    .concat()
}

/// An error as callers see it.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) violations: Vec<FieldViolation>,
    pub(crate) retry_after: Option<Duration>,
    /// By what the call is found again.
    pub(crate) request_id: Option<String>,
}

impl Fault {
    pub(crate) fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            violations: Vec::new(),
            retry_after: None,
            request_id: None,
        }
    }

    /// What comes from below the services: an unknown method, or bytes that are no message.
    pub(crate) fn of_transport(status: &Status, message: impl Into<String>) -> Self {
        let (code, reason) = match status.code() {
            Code::Unimplemented if status.message().is_empty() => (Code::Unimplemented, "UNKNOWN_METHOD"),
            // A compression that is not spoken here.
            Code::Unimplemented => (Code::Unimplemented, "UNSUPPORTED_ENCODING"),
            // tonic's words for a message above the limit and for bytes that are no message.
            Code::OutOfRange => (Code::InvalidArgument, "REQUEST_TOO_LARGE"),
            Code::Internal => (Code::InvalidArgument, "MALFORMED_REQUEST"),
            Code::NotFound => (Code::NotFound, "UNKNOWN_SERVICE"),
            other => (other, "TRANSPORT"),
        };
        Self::new(code, reason, message)
    }

    fn with(mut self, key: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.metadata.insert(key.into(), value.to_string());
        self
    }

    fn retry(mut self) -> Self {
        self.retry_after = Some(RETRY_AFTER);
        self
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(fault.reason, DOMAIN, fault.metadata);
        if !fault.violations.is_empty() {
            details.set_bad_request(fault.violations);
        }
        if fault.retry_after.is_some() {
            details.set_retry_info(fault.retry_after);
        }
        let mut headers = HeaderMap::new();
        if let Some(id) = fault.request_id {
            if let Ok(value) = HeaderValue::try_from(&id) {
                headers.insert(REQUEST_ID, value);
            }
            details.set_request_info(id, "");
        }
        let metadata = MetadataMap::from_headers(headers);
        Self::with_error_details_and_metadata(fault.code, fault.message, details, metadata)
    }
}

impl From<Fault> for v1::ResolveError {
    fn from(fault: Fault) -> Self {
        Self {
            code: fault.code.into(),
            reason: fault.reason.into(),
            message: fault.message,
            metadata: fault.metadata,
        }
    }
}

impl From<&ApiError> for Fault {
    fn from(error: &ApiError) -> Self {
        let message = error.to_string();
        match error {
            ApiError::NoIdentity(_) => Self::new(Code::Unauthenticated, "NO_IDENTITY", message),
            ApiError::IdentityEnded => Self::new(Code::Unauthenticated, "IDENTITY_EXPIRED", message),
            ApiError::NotGranted { action, .. } => {
                Self::new(Code::PermissionDenied, "NOT_GRANTED", message).with("action", action.as_str())
            }
            ApiError::OverQuota(exceeded) => Self {
                retry_after: Some(exceeded.retry_after),
                ..Self::new(Code::ResourceExhausted, "QUOTA_EXCEEDED", message)
            }
            .with("quota", exceeded.quota.as_str())
            .with("limit", &exceeded.limit)
            // A part of an answer has no RetryInfo.
            .with("retry_after_seconds", &(exceeded.retry_after.as_secs() + 1)),
            ApiError::Invalid(violations) => {
                let violations_of = violations.list().iter();
                Self {
                    violations: violations_of
                        .map(|(field, text)| FieldViolation::new(field, text))
                        .collect(),
                    ..Self::new(Code::InvalidArgument, violations.reason(), message)
                }
            }
            ApiError::Vault(error) => of_vault(error, message),
            ApiError::Sealed(Sealed) => Self::new(Code::Unavailable, "SEALED", message).retry(),
            ApiError::AlreadyReading => Self::new(Code::ResourceExhausted, "ALREADY_READING", message).retry(),
            ApiError::AlreadyBackingUp => Self::new(Code::ResourceExhausted, "ALREADY_BACKING_UP", message).retry(),
            ApiError::Backup(error) => of_backup(error, message),
            ApiError::ReadsTooSlowly => Self::new(Code::Aborted, "READS_TOO_SLOWLY", message),
            ApiError::Audit(Unavailable) | ApiError::AuditUnreadable => {
                Self::new(Code::Unavailable, "AUDIT_UNAVAILABLE", message).retry()
            }
            ApiError::NotBuilt(_) => Self::new(Code::Unimplemented, "NOT_BUILT", message),
            ApiError::TooManyCalls => Self::new(Code::ResourceExhausted, "TOO_MANY_CALLS", message).retry(),
            ApiError::Overloaded => Self::new(Code::ResourceExhausted, OVERLOADED, message).retry(),
            ApiError::TooManyImports => Self::new(Code::ResourceExhausted, "TOO_MANY_IMPORTS", message).retry(),
            ApiError::Unreadable(status) => Self::of_transport(status, message),
            ApiError::ShuttingDown => Self::new(Code::Unavailable, "SHUTTING_DOWN", message).retry(),
        }
    }
}

fn of_vault(error: &VaultError, message: String) -> Fault {
    let fault = |code, reason| Fault::new(code, reason, message.clone());
    match error {
        VaultError::Refused(refused) => of_refusal(refused, message),
        VaultError::NotFound(name) => fault(Code::NotFound, "CREDENTIAL_NOT_FOUND").with("path", name),
        VaultError::NoSuchVersion { credential, version } => fault(Code::NotFound, "VERSION_NOT_FOUND")
            .with("path", credential)
            .with("version", version),
        VaultError::VersionMismatch {
            credential,
            expected,
            current,
        } => fault(Code::Aborted, "VERSION_MISMATCH")
            .with("path", credential)
            .with("expected_version", expected)
            .with("current_version", &current.map_or(0, |version| version.0)),
        VaultError::RevisionMismatch {
            tenant,
            provider,
            expected,
            current,
        } => fault(Code::Aborted, "VERSION_MISMATCH")
            .with("tenant", tenant)
            .with("provider", provider)
            .with("expected_revision", expected)
            .with("current_revision", &current),
        VaultError::Deleted(name) => fault(Code::FailedPrecondition, "CREDENTIAL_DELETED").with("path", name),
        VaultError::NotDeleted(name) => fault(Code::FailedPrecondition, "CREDENTIAL_NOT_DELETED").with("path", name),
        VaultError::PlaintextMail(name) => fault(Code::FailedPrecondition, "PLAINTEXT_NOT_ALLOWED").with("path", name),
        VaultError::NoSuchTenant(tenant) => fault(Code::NotFound, "TENANT_NOT_FOUND").with("tenant", tenant),
        VaultError::Gone(_) => fault(Code::Cancelled, NOT_FINISHED),
        VaultError::Untold(_) => fault(Code::Unavailable, "AUDIT_UNAVAILABLE").retry(),
        VaultError::Contended(_) => fault(Code::Aborted, "CONTENDED").retry(),
        VaultError::Corrupt(corrupt) => fault(Code::DataLoss, CORRUPT).with("record", &corrupt.0),
        VaultError::Stale { seen, wanted } => fault(Code::Unavailable, "STALE")
            .with("revision", seen)
            .with("min_revision", wanted)
            .retry(),
        VaultError::Keyring(KeyringError::Corrupt(key)) => fault(Code::DataLoss, CORRUPT).with("record", key),
        // What exactly is wrong is for the operator's log, not for the caller.
        VaultError::Keyring(KeyringError::Kek(_) | KeyringError::OtherKek { .. }) => Fault::new(
            Code::Unavailable,
            "SEALED",
            "this needs a new key, and what wraps keys is not at hand; what has its keys goes on",
        )
        .retry(),
        VaultError::Keyring(KeyringError::Erasing(tenant)) => fault(Code::Aborted, "TENANT_BEING_ERASED")
            .with("tenant", tenant)
            .retry(),
        VaultError::Keyring(KeyringError::Store(error)) | VaultError::Store(error) => of_store(error),
        VaultError::Keyring(KeyringError::NoRandomness) | VaultError::Seal(_) => {
            fault(Code::Unavailable, "NO_RANDOMNESS").retry()
        }
    }
}

/// Where the store is and what the system said of it is for the operator's log, not for the caller.
fn of_store(error: &StoreError) -> Fault {
    store_unavailable(match error {
        StoreError::Full { .. } => {
            "the disk of the store is full: nothing can be changed until there is room again; nothing is lost"
        }
        StoreError::InUse { .. }
        | StoreError::NewerFormat { .. }
        | StoreError::Damaged { .. }
        | StoreError::LostWrites { .. }
        | StoreError::NotEmpty { .. }
        | StoreError::Unfinished { .. }
        | StoreError::Io { .. }
        | StoreError::Closed => "the store is not available; nothing is lost",
    })
}

fn store_unavailable(message: &str) -> Fault {
    Fault::new(Code::Unavailable, "STORE_UNAVAILABLE", message).retry()
}

fn of_backup(error: &BackupError, message: String) -> Fault {
    match error {
        BackupError::Snapshot(SnapshotError::TooSlow) => Fault::new(Code::Aborted, "READS_TOO_SLOWLY", message),
        BackupError::Snapshot(SnapshotError::Store(error)) => of_store(error),
        BackupError::Snapshot(SnapshotError::NotDurable) => {
            store_unavailable("the store is not available; nothing is lost")
        }
        BackupError::NoRandomness => Fault::new(Code::Unavailable, "NO_RANDOMNESS", message).retry(),
        BackupError::Pack(_) => Fault::new(Code::Internal, "BACKUP_FAILED", message),
        BackupError::Abandoned => Fault::new(Code::Cancelled, NOT_FINISHED, message),
    }
}

fn of_refusal(refused: &Refused, message: String) -> Fault {
    let code = match refused.refusal {
        Refusal::UnknownProvider => Code::InvalidArgument,
        Refusal::OrderLacks(_) | Refusal::Disabled | Refusal::Expired => Code::FailedPrecondition,
        Refusal::NotConfigured => Code::NotFound,
        Refusal::NotGranted => return Fault::new(Code::PermissionDenied, "NOT_GRANTED", message),
    };
    let mut fault = Fault::new(code, refusal_reason(refused.refusal), message)
        .with("tenant", &refused.tenant)
        .with("provider", &refused.provider)
        .with("mode", refused.mode.as_str())
        .with("rule", &refused.rule);
    match refused.refusal {
        Refusal::UnknownProvider => {
            let text = "is not in the catalogue; ListProviders names those that are";
            fault.violations = vec![FieldViolation::new("provider", text)];
            fault
        }
        Refusal::OrderLacks(_) | Refusal::NotGranted => fault,
        Refusal::Disabled | Refusal::Expired | Refusal::NotConfigured => {
            let Refused {
                tenant,
                provider,
                scope,
                ..
            } = refused;
            let subject = scope.subject().map(ToString::to_string).unwrap_or_default();
            fault
                .with("scope", &scope.kind())
                .with("subject", &subject)
                .with("path", &format!("{tenant}/{provider}/{scope}"))
        }
    }
}

/// Why nothing is handed out, as callers see it.
pub(super) fn lack_reason(lack: &Lack) -> &'static str {
    match lack {
        Lack::Refused(refusal) => refusal_reason(*refusal),
        Lack::Damaged(_) => CORRUPT,
    }
}

fn refusal_reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownProvider => "UNKNOWN_PROVIDER",
        Refusal::OrderLacks(kind) => order_lacks(kind),
        Refusal::Disabled => "CREDENTIAL_DISABLED",
        Refusal::Expired => "CREDENTIAL_EXPIRED",
        Refusal::NotConfigured => "CREDENTIAL_NOT_CONFIGURED",
        Refusal::NotGranted => "NOT_GRANTED",
    }
}

fn order_lacks(kind: ScopeKind) -> &'static str {
    match kind {
        // The general credential asks nothing of the order.
        ScopeKind::General | ScopeKind::Office => "ORDER_LACKS_OFFICE",
        ScopeKind::Appraiser => "ORDER_LACKS_APPRAISER",
        ScopeKind::User => "ORDER_LACKS_USER",
    }
}
