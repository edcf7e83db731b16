//! Every way in which the vault can refuse, and the code, the reason and the details that callers get for it.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::access::Action;
use crate::api::fault::{ApiError, Fault};
use crate::api::violations::Violations;
use crate::keyring::{KekError, KeyringError, SealError};
use crate::pb::v1;
use crate::store::{Key, Revision, StoreError};
use crate::vault::assignment::Mode;
use crate::vault::credential::Version;
use crate::vault::record::Corrupt;
use crate::vault::resolve::Refusal;
use crate::vault::scope::{CredentialRef, Scope, ScopeKind};
use crate::vault::tests::builders::{dat, office, tenant};
use crate::vault::{Refused, VaultError};

fn name() -> CredentialRef {
    dat().office("leipzig").name()
}

fn key() -> Key {
    Key::new("head/demo/dat/general")
}

fn status_of(error: &ApiError) -> Status {
    Fault::from(error).into()
}

fn status(error: impl Into<ApiError>) -> Status {
    status_of(&error.into())
}

/// Code, reason, and whether the caller is told to try again.
fn told(error: impl Into<ApiError>) -> (Code, String, bool) {
    let status = status(error);
    let info = status.get_details_error_info().expect("every error has a reason");
    assert_eq!(info.domain, "credentials.dynarex");
    assert!(!status.message().is_empty());
    (status.code(), info.reason, status.get_details_retry_info().is_some())
}

/// As `key=value`, in the order of the keys.
fn metadata(error: impl Into<ApiError>) -> String {
    let info = status(error).get_details_error_info().unwrap();
    let mut pairs: Vec<_> = info
        .metadata
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.sort();
    pairs.join(" ")
}

const STALE: VaultError = VaultError::Stale {
    seen: Revision(1),
    wanted: Revision(2),
};

fn refused(refusal: Refusal, rule: u8, scope: Scope) -> VaultError {
    VaultError::Refused(Box::new(Refused {
        refusal,
        tenant: tenant("demo"),
        provider: name().provider,
        mode: Mode::PerOffice,
        scope,
        rule,
    }))
}

#[test]
fn a_decision_that_gives_none_is_told_as_its_table_says() {
    use Code::{FailedPrecondition, InvalidArgument, NotFound};
    let leipzig = || office("leipzig");
    for (refusal, rule, code, reason, more) in [
        (Refusal::UnknownProvider, 1, InvalidArgument, "UNKNOWN_PROVIDER", ""),
        (
            Refusal::OrderLacks(ScopeKind::Office),
            2,
            FailedPrecondition,
            "ORDER_LACKS_OFFICE",
            "",
        ),
        (
            Refusal::OrderLacks(ScopeKind::Appraiser),
            2,
            FailedPrecondition,
            "ORDER_LACKS_APPRAISER",
            "",
        ),
        (
            Refusal::OrderLacks(ScopeKind::User),
            2,
            FailedPrecondition,
            "ORDER_LACKS_USER",
            "",
        ),
        (
            Refusal::Disabled,
            4,
            FailedPrecondition,
            "CREDENTIAL_DISABLED",
            " scope=office subject=leipzig",
        ),
        (
            Refusal::Expired,
            5,
            FailedPrecondition,
            "CREDENTIAL_EXPIRED",
            " scope=office subject=leipzig",
        ),
        (
            Refusal::NotConfigured,
            7,
            NotFound,
            "CREDENTIAL_NOT_CONFIGURED",
            " scope=office subject=leipzig",
        ),
    ] {
        assert_eq!(told(refused(refusal, rule, leipzig())), (code, reason.into(), false));
        // What is about one credential names it as commands do.
        let path = if more.is_empty() {
            ""
        } else {
            " path=demo/dat/office/leipzig"
        };
        let expected = format!("mode=PER_OFFICE{path} provider=dat rule={rule}{more} tenant=demo");
        assert_eq!(metadata(refused(refusal, rule, leipzig())), expected);
    }
    let unknown = status(refused(Refusal::UnknownProvider, 1, leipzig()));
    assert_eq!(
        unknown.get_details_bad_request().unwrap().field_violations[0].field,
        "provider"
    );
}

#[test]
fn what_is_not_there_is_told_with_its_path() {
    let missing = || VaultError::NotFound(name());
    assert_eq!(told(missing()), (Code::NotFound, "CREDENTIAL_NOT_FOUND".into(), false));
    assert_eq!(metadata(missing()), "path=demo/dat/office/leipzig");
    let missing = || VaultError::NoSuchVersion {
        credential: name(),
        version: Version(7),
    };
    assert_eq!(told(missing()), (Code::NotFound, "VERSION_NOT_FOUND".into(), false));
    assert_eq!(metadata(missing()), "path=demo/dat/office/leipzig version=7");
}

#[test]
fn a_mismatch_is_told_with_the_current_one() {
    let mismatch = |current| VaultError::VersionMismatch {
        credential: name(),
        expected: 3,
        current,
    };
    for (current, number) in [(Some(Version(5)), 5), (None, 0)] {
        assert_eq!(
            told(mismatch(current)),
            (Code::Aborted, "VERSION_MISMATCH".into(), false)
        );
        let expected = format!("current_version={number} expected_version=3 path=demo/dat/office/leipzig");
        assert_eq!(metadata(mismatch(current)), expected);
    }
    let mismatch = || VaultError::RevisionMismatch {
        tenant: tenant("demo"),
        provider: name().provider,
        expected: Revision(3),
        current: Revision(0),
    };
    assert_eq!(told(mismatch()), (Code::Aborted, "VERSION_MISMATCH".into(), false));
    assert_eq!(
        metadata(mismatch()),
        "current_revision=0 expected_revision=3 provider=dat tenant=demo"
    );
}

#[test]
fn a_state_that_forbids_it_is_a_failed_precondition() {
    let refused = told(VaultError::Deleted(name()));
    assert_eq!(refused, (Code::FailedPrecondition, "CREDENTIAL_DELETED".into(), false));
    let refused = told(VaultError::NotDeleted(name()));
    assert_eq!(
        refused,
        (Code::FailedPrecondition, "CREDENTIAL_NOT_DELETED".into(), false)
    );
}

#[test]
fn a_damaged_record_is_named() {
    for damaged in [
        || VaultError::Corrupt(Corrupt(key())),
        || VaultError::Keyring(KeyringError::Corrupt(key())),
    ] {
        assert_eq!(told(damaged()), (Code::DataLoss, "CORRUPT_RECORD".into(), false));
        assert_eq!(metadata(damaged()), "record=head/demo/dat/general");
    }
}

#[test]
fn what_passes_is_worth_another_try_and_keeps_the_machines_details_to_itself() {
    let io = || StoreError::Io {
        path: "/secret/place".into(),
        detail: "No space left on device".into(),
    };
    let full = || StoreError::Full {
        path: "/secret/place".into(),
        left: 1,
    };
    let other_kek = || {
        KeyringError::Kek(KekError::Unreadable {
            path: "/secret/place".into(),
            detail: "Permission denied".into(),
        })
    };
    for (error, code, reason) in [
        (VaultError::Contended(key()), Code::Aborted, "CONTENDED"),
        (STALE, Code::Unavailable, "STALE"),
        (VaultError::Keyring(other_kek()), Code::Unavailable, "SEALED"),
        (
            VaultError::Keyring(KeyringError::Store(io())),
            Code::Unavailable,
            "STORE_UNAVAILABLE",
        ),
        (VaultError::Store(io()), Code::Unavailable, "STORE_UNAVAILABLE"),
        (VaultError::Store(full()), Code::Unavailable, "STORE_UNAVAILABLE"),
        (
            VaultError::Store(StoreError::Closed),
            Code::Unavailable,
            "STORE_UNAVAILABLE",
        ),
        (
            VaultError::Keyring(KeyringError::NoRandomness),
            Code::Unavailable,
            "NO_RANDOMNESS",
        ),
        (VaultError::Seal(SealError), Code::Unavailable, "NO_RANDOMNESS"),
    ] {
        let error = ApiError::from(error);
        let message = status_of(&error).message().to_owned();
        assert!(
            !message.contains("/secret/place") && !message.contains("device"),
            "{message}"
        );
        assert_eq!(told(error), (code, reason.into(), true));
    }
    assert_eq!(metadata(STALE), "min_revision=2 revision=1");
}

#[test]
fn what_the_caller_lacks_is_told_without_what_there_is() {
    let refused = told(ApiError::NoIdentity("no certificate".into()));
    assert_eq!(refused, (Code::Unauthenticated, "NO_IDENTITY".into(), false));
    let ended = told(ApiError::IdentityEnded);
    assert_eq!(ended, (Code::Unauthenticated, "IDENTITY_EXPIRED".into(), false));
    let not_granted = || ApiError::NotGranted {
        caller: "order-service".into(),
        action: Action::CredentialsWrite,
        tenant: Some("demo".into()),
        provider: None,
        scope: Scope::parse("office/leipzig"),
    };
    assert_eq!(
        told(not_granted()),
        (Code::PermissionDenied, "NOT_GRANTED".into(), false)
    );
    assert_eq!(metadata(not_granted()), "action=credentials.write");
    let message = status(not_granted()).message().to_owned();
    assert_eq!(
        message,
        "no grant lets order-service do this: credentials.write tenant=demo scope=office/leipzig"
    );
}

#[test]
fn bad_fields_are_listed_each_with_what_is_wrong() {
    let mut violations = Violations::default();
    violations.add("b", "is required");
    violations.add("a", "is too long");
    let error = violations.finish(Some(())).unwrap_err();
    let status = status_of(&error);
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "a is too long; b is required")
    );
    let listed = status.get_details_bad_request().unwrap().field_violations;
    let listed: Vec<_> = listed
        .iter()
        .map(|one| (one.field.as_str(), one.description.as_str()))
        .collect();
    assert_eq!(listed, [("a", "is too long"), ("b", "is required")]);
}

#[test]
fn an_error_among_several_results_says_the_same() {
    let error = ApiError::from(refused(Refusal::Disabled, 4, office("leipzig")));
    let told = v1::ResolveError::from(Fault::from(&error));
    let status = status_of(&error);
    assert_eq!(
        (told.code, told.message.as_str()),
        (i32::from(status.code()), status.message())
    );
    let info = status.get_details_error_info().unwrap();
    assert_eq!((told.reason, told.metadata), (info.reason, info.metadata));
}

#[test]
fn what_is_not_built_or_ending_says_so() {
    assert_eq!(
        told(ApiError::NotBuilt("X")),
        (Code::Unimplemented, "NOT_BUILT".into(), false)
    );
    assert_eq!(
        told(ApiError::ShuttingDown),
        (Code::Unavailable, "SHUTTING_DOWN".into(), true)
    );
}
