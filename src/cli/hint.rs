//! How to mend what the server refuses, by its reason.

use std::collections::HashMap;

use tonic::Code;
use tresor::vault::scope::CredentialRef;

/// A hint for a reason; `metadata` is the error's.
pub(crate) fn for_reason(reason: &str, metadata: &HashMap<String, String>) -> Option<String> {
    let path = path(metadata);
    let hint = match reason {
        "UNKNOWN_PROVIDER" => "`tresor provider list` shows the catalogue".to_owned(),
        "ORDER_LACKS_OFFICE" => lacking("--office"),
        "ORDER_LACKS_APPRAISER" => lacking("--appraiser"),
        "ORDER_LACKS_USER" => lacking("--user"),
        "CREDENTIAL_DISABLED" => format!("someone switched it off; to use it again: tresor credential enable {path}"),
        "CREDENTIAL_EXPIRED" => format!("save it anew with a later --valid-until: tresor credential put {path}"),
        "CREDENTIAL_NOT_CONFIGURED" => {
            format!("save one: tresor credential put {path}; or choose another mode: tresor assignment set")
        }
        "NO_IDENTITY" => "give a client certificate that the server knows with --cert and --key".to_owned(),
        "IDENTITY_EXPIRED" => "the client certificate has expired or is revoked: get a new one".to_owned(),
        "NOT_GRANTED" => "ask an operator to extend the grants of your certificate in the server's policy".to_owned(),
        "VERSION_MISMATCH" => {
            "someone changed it meanwhile: look at it again, then repeat with its current version".to_owned()
        }
        "QUOTA_EXCEEDED" => "ask less often, or have the quota raised".to_owned(),
        "SEALED" => "the server has no access to its keys: `tresor status` says why; see its log and [keys]".to_owned(),
        "TENANT_NOT_FOUND" => "`tresor status` counts the tenants; ids are compared byte for byte".to_owned(),
        "TENANT_BEING_ERASED" => {
            "what is left of it is being removed; `tresor status` shows when that is done".to_owned()
        }
        "STORE_UNAVAILABLE" => "the server cannot reach its store: see its log, and the disk".to_owned(),
        "AUDIT_UNAVAILABLE" => "the server cannot write its audit log: see its log, and the disk".to_owned(),
        "ALREADY_BACKING_UP" => "it may be one that the server makes by itself: see backup.every".to_owned(),
        "STALE" => "this replica is behind: try again, or ask another".to_owned(),
        "CORRUPT_RECORD" => "a stored record was damaged or tampered with: restore it from a backup".to_owned(),
        _ => return None,
    };
    Some(hint)
}

/// A hint where there is no reason that is known here.
pub(crate) fn for_code(code: Code) -> Option<String> {
    let hint = match code {
        Code::NotFound => {
            "`tresor credential list TENANT` shows what there is, with --state deleted also what was deleted"
        }
        Code::DeadlineExceeded | Code::Cancelled => "allow more time with --timeout 30s",
        Code::Unimplemented => "the server is older than this client, or not a vault: check --server",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn lacking(option: &str) -> String {
    format!("the order must name it ({option}); or choose another mode: tresor assignment set")
}

/// The credential that the metadata is about; `PATH` if it does not tell.
fn path(metadata: &HashMap<String, String>) -> String {
    let named = metadata.get("path").and_then(|path| CredentialRef::from_path(path));
    named.map_or_else(|| "PATH".to_owned(), |name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(path: &str) -> HashMap<String, String> {
        HashMap::from([("path".to_owned(), path.to_owned())])
    }

    #[test]
    fn a_hint_names_the_credential_that_is_missing() {
        let hint = for_reason("CREDENTIAL_NOT_CONFIGURED", &metadata("demo/dat/office/leipzig")).unwrap();
        assert!(hint.contains("tresor credential put demo/dat/office/leipzig"), "{hint}");
    }

    #[test]
    fn what_is_no_path_is_not_shown_as_one() {
        let hint = for_reason("CREDENTIAL_DISABLED", &metadata("; rm -rf /")).unwrap();
        assert!(hint.ends_with("enable PATH"), "{hint}");
    }

    #[test]
    fn an_unknown_reason_has_no_hint() {
        assert_eq!(for_reason("SOMETHING_NEW", &HashMap::new()), None);
    }
}
