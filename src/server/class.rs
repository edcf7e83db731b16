//! How much it matters that a call is answered now.

use crate::pb::v1;

/// From what must be answered to what can wait best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Health: whoever looks after the vault must not take it for dead.
    Vital,
    /// An order waits for it.
    Resolve,
    /// A human waits for it: changes, single reads, the status.
    Change,
    /// What goes over many records: lists, checks, the audit log, backups.
    Survey,
}

impl Class {
    /// The class of the method with this path.
    pub(super) fn of(path: &str) -> Self {
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return Self::Survey;
        };
        match service {
            v1::credential_resolver_server::SERVICE_NAME => Self::Resolve,
            v1::credential_admin_server::SERVICE_NAME | v1::vault_operator_server::SERVICE_NAME => {
                if is_survey(method) { Self::Survey } else { Self::Change }
            }
            "grpc.health.v1.Health" => Self::Vital,
            // Reflection, and what there is not.
            _ => Self::Survey,
        }
    }
}

fn is_survey(method: &str) -> bool {
    matches!(
        method,
        "ListCredentials"
            | "ListAssignments"
            | "CheckCoverage"
            | "ImportCredentials"
            | "ReadAudit"
            | "Backup"
            | "CheckStore"
    )
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::pb;

    /// Every method of ours with its class. A new one is not in this list.
    const CLASSES: [(&str, Class); 29] = [
        ("CredentialResolver/ResolveForOrder", Class::Resolve),
        ("CredentialResolver/ResolveManyForOrder", Class::Resolve),
        ("CredentialResolver/WatchChanges", Class::Resolve),
        ("CredentialResolver/GetSigningKeys", Class::Resolve),
        ("CredentialAdmin/ListProviders", Class::Change),
        ("CredentialAdmin/PutCredential", Class::Change),
        ("CredentialAdmin/ImportCredentials", Class::Survey),
        ("CredentialAdmin/GetCredential", Class::Change),
        ("CredentialAdmin/ListCredentials", Class::Survey),
        ("CredentialAdmin/SetCredentialState", Class::Change),
        ("CredentialAdmin/DeleteCredential", Class::Change),
        ("CredentialAdmin/UndeleteCredential", Class::Change),
        ("CredentialAdmin/PurgeCredential", Class::Change),
        ("CredentialAdmin/ListCredentialVersions", Class::Change),
        ("CredentialAdmin/RollbackCredential", Class::Change),
        ("CredentialAdmin/SetAssignment", Class::Change),
        ("CredentialAdmin/GetAssignment", Class::Change),
        ("CredentialAdmin/ListAssignments", Class::Survey),
        ("CredentialAdmin/ExplainResolution", Class::Change),
        ("CredentialAdmin/CheckCoverage", Class::Survey),
        ("CredentialAdmin/VerifyCredential", Class::Change),
        ("VaultOperator/GetStatus", Class::Change),
        ("VaultOperator/ReadAudit", Class::Survey),
        ("VaultOperator/RotateDataKey", Class::Change),
        ("VaultOperator/RotateSigningKey", Class::Change),
        ("VaultOperator/RewrapKeys", Class::Change),
        ("VaultOperator/EraseTenant", Class::Change),
        ("VaultOperator/CheckStore", Class::Survey),
        ("VaultOperator/Backup", Class::Survey),
    ];

    #[test]
    fn every_method_has_the_class_that_was_thought_of_for_it() {
        let files = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
        let mut methods = Vec::new();
        for file in &files.file {
            for service in &file.service {
                let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| path(method.name())));
            }
        }
        methods.retain(|path| path.starts_with("/dynarex."));
        assert_eq!(methods.len(), CLASSES.len());
        for (name, class) in CLASSES {
            let path = format!("/dynarex.credentials.v1.{name}");
            assert!(methods.contains(&path), "{path}");
            assert_eq!(Class::of(&path), class, "{path}");
        }
    }

    #[test]
    fn health_comes_first_and_what_there_is_not_last() {
        assert_eq!(Class::of("/grpc.health.v1.Health/Check"), Class::Vital);
        for path in [
            "",
            "/",
            "/Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            assert_eq!(Class::of(path), Class::Survey, "{path}");
        }
    }
}
