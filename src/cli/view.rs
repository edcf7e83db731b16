//! The messages of the contract as people and programs see them. The fields of these types are the fields of the JSON: they
//! are never renamed or removed.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use tresor::pb::v1::{self, AssignmentMode, CredentialState, SignatureVariant, scope::Kind};

use super::words::word_of;
use super::{hint, output};

/// A point in time in RFC 3339; none if it is unset.
pub(crate) fn time(wire: Option<&prost_types::Timestamp>) -> Option<String> {
    let wire = wire?;
    let text = tresor::time::Timestamp::try_from(wire).map_or_else(|error| error.to_string(), |time| time.to_string());
    Some(text)
}

/// Whole seconds; none if it is unset.
pub(crate) fn seconds(wire: Option<&prost_types::Duration>) -> Option<i64> {
    wire.map(|duration| duration.seconds)
}

/// An optional text for a table.
pub(crate) fn or_empty(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

/// `general`, or the kind and the id: `office/leipzig`.
pub(crate) fn scope(wire: Option<&v1::Scope>) -> Option<String> {
    Some(match wire?.kind.as_ref()? {
        Kind::General(()) => "general".to_owned(),
        Kind::OfficeId(id) => format!("office/{id}"),
        Kind::AppraiserId(id) => format!("appraiser/{id}"),
        Kind::UserId(id) => format!("user/{id}"),
    })
}

/// The credential's path.
pub(crate) fn ref_path(wire: Option<&v1::CredentialRef>) -> String {
    wire.map_or_else(String::new, |wire| {
        let scope = scope(wire.scope.as_ref()).unwrap_or_default();
        format!("{}/{}/{scope}", wire.tenant, wire.provider)
    })
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A credential without its secret.
#[derive(Debug, Serialize)]
pub(crate) struct CredentialView {
    pub(crate) path: String,
    pub(crate) state: String,
    pub(crate) version: u64,
    pub(crate) customer_number: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) saved_at: Option<String>,
    pub(crate) saved_by: Option<String>,
    pub(crate) valid_until: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) last_verified: Option<String>,
    pub(crate) delete_time: Option<String>,
}

impl From<v1::Credential> for CredentialView {
    fn from(wire: v1::Credential) -> Self {
        Self {
            path: wire.path,
            state: word_of::<CredentialState>(wire.state),
            version: wire.version,
            customer_number: given(wire.customer_number),
            username: given(wire.username),
            saved_at: time(wire.saved_at.as_ref()),
            saved_by: given(wire.saved_by),
            valid_until: time(wire.valid_until.as_ref()),
            note: given(wire.note),
            last_verified: time(wire.last_verified.as_ref()),
            delete_time: time(wire.delete_time.as_ref()),
        }
    }
}

impl CredentialView {
    /// Everything, a line each.
    pub(crate) fn details(&self) -> String {
        output::details(&[
            ("path", self.path.clone()),
            ("state", self.state.clone()),
            ("version", self.version.to_string()),
            ("customer number", or_empty(self.customer_number.as_ref())),
            ("user name", or_empty(self.username.as_ref())),
            ("saved at", or_empty(self.saved_at.as_ref())),
            ("saved by", or_empty(self.saved_by.as_ref())),
            ("valid until", or_empty(self.valid_until.as_ref())),
            ("note", or_empty(self.note.as_ref())),
            ("last verified", or_empty(self.last_verified.as_ref())),
            ("deleted at", or_empty(self.delete_time.as_ref())),
        ])
    }
}

/// Something that was done, but should be looked at.
#[derive(Debug, Serialize)]
pub(crate) struct WarningView {
    pub(crate) reason: String,
    pub(crate) field: Option<String>,
    pub(crate) message: String,
}

impl From<v1::Warning> for WarningView {
    fn from(wire: v1::Warning) -> Self {
        Self {
            reason: wire.reason,
            field: given(wire.field),
            message: wire.message,
        }
    }
}

impl fmt::Display for WarningView {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            write!(out, "{field}: ")?;
        }
        write!(out, "{} ({})", self.message, self.reason)
    }
}

/// All of a list.
pub(crate) fn all<W, V: From<W>>(wire: Vec<W>) -> Vec<V> {
    wire.into_iter().map(V::from).collect()
}

/// One version of a credential.
#[derive(Debug, Serialize)]
pub(crate) struct VersionView {
    pub(crate) version: u64,
    pub(crate) saved_at: Option<String>,
    pub(crate) saved_by: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) changed_fields: Vec<String>,
    pub(crate) valid_until: Option<String>,
}

impl From<v1::CredentialVersion> for VersionView {
    fn from(wire: v1::CredentialVersion) -> Self {
        Self {
            version: wire.version,
            saved_at: time(wire.saved_at.as_ref()),
            saved_by: given(wire.saved_by),
            note: given(wire.note),
            changed_fields: wire.changed_fields,
            valid_until: time(wire.valid_until.as_ref()),
        }
    }
}

/// How a provider's credential is chosen.
#[derive(Debug, Serialize)]
pub(crate) struct AssignmentView {
    pub(crate) tenant: String,
    pub(crate) provider: String,
    pub(crate) mode: String,
    pub(crate) fallback_to_general: bool,
    pub(crate) signature: Option<String>,
    pub(crate) is_default: bool,
    pub(crate) revision: u64,
    pub(crate) set_at: Option<String>,
    pub(crate) set_by: Option<String>,
}

impl From<v1::Assignment> for AssignmentView {
    fn from(wire: v1::Assignment) -> Self {
        Self {
            tenant: wire.tenant,
            provider: wire.provider,
            mode: word_of::<AssignmentMode>(wire.mode),
            fallback_to_general: wire.fallback_to_general,
            signature: signature(wire.signature_variant),
            is_default: wire.is_default,
            revision: wire.revision,
            set_at: time(wire.set_at.as_ref()),
            set_by: given(wire.set_by),
        }
    }
}

/// The form of the signature; none if nobody has chosen one.
pub(crate) fn signature(number: i32) -> Option<String> {
    (number != 0).then(|| word_of::<SignatureVariant>(number))
}

/// How an order's credential was chosen.
#[derive(Debug, Serialize)]
pub(crate) struct ResolutionView {
    pub(crate) mode: String,
    pub(crate) scope: Option<String>,
    pub(crate) fell_back: bool,
    pub(crate) rule: u32,
}

impl From<v1::Resolution> for ResolutionView {
    fn from(wire: v1::Resolution) -> Self {
        Self {
            mode: word_of::<AssignmentMode>(wire.mode),
            scope: scope(wire.scope.as_ref()),
            fell_back: wire.fell_back,
            rule: wire.rule,
        }
    }
}

/// Why an order gets no credential.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorView {
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) metadata: HashMap<String, String>,
}

impl From<v1::ResolveError> for ErrorView {
    fn from(wire: v1::ResolveError) -> Self {
        Self {
            code: wire.code,
            reason: wire.reason,
            message: wire.message,
            metadata: wire.metadata,
        }
    }
}

impl ErrorView {
    /// How to mend it.
    pub(crate) fn hint(&self) -> Option<String> {
        hint::for_reason(&self.reason, &self.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_null() {
        let credential = v1::Credential {
            path: "demo/dat/general".into(),
            state: CredentialState::Enabled.into(),
            version: 3,
            saved_at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(
            serde_json::to_value(CredentialView::from(credential)).unwrap(),
            serde_json::json!({
                "path": "demo/dat/general", "state": "enabled", "version": 3, "customer_number": null,
                "username": null, "saved_at": "1970-01-01T00:00:00Z", "saved_by": null, "valid_until": null,
                "note": null, "last_verified": null, "delete_time": null,
            })
        );
    }

    #[test]
    fn a_time_outside_the_calendar_is_said_to_be_one() {
        let wire = prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert!(time(Some(&wire)).unwrap().contains("not a time"));
    }

    #[test]
    fn a_ref_is_shown_as_its_path() {
        let wire = v1::CredentialRef::from(&super::super::args::path("demo/dat/office/leipzig").unwrap());
        assert_eq!(ref_path(Some(&wire)), "demo/dat/office/leipzig");
    }
}
