//! The part of the status that is about keys.

use serde::Serialize;
use tresor::pb::v1::{NextSigningKey, RewrapStatus, RotationStatus, WrappingStatus};

use super::Answer;
use crate::cli::view::{or_empty, time};

#[derive(Serialize)]
pub(super) struct WrappingView {
    keys: u64,
    wrapped_by_another: u64,
    has_recovery_key: bool,
    lacking_recovery: u64,
    trouble: Option<String>,
}

#[derive(Serialize)]
pub(super) struct NextSigningKeyView {
    kid: String,
    use_from: Option<String>,
}

#[derive(Serialize)]
pub(super) struct RotationView {
    tenant: String,
    requested_at: Option<String>,
    data_key_id: u32,
    records: Option<u64>,
    records_done: u64,
    trouble: Option<String>,
}

#[derive(Serialize)]
pub(super) struct RewrapView {
    keys: Option<u64>,
    keys_done: u64,
    trouble: Option<String>,
}

/// What is empty on the wire is not set.
pub(super) fn set(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl Answer {
    /// A row for everything that is under way.
    pub(super) fn under_way(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if let Some(next) = &self.next_signing_key {
            let from = or_empty(next.use_from.as_ref());
            rows.push(("next signing key", format!("{} from {from}", next.kid)));
        }
        if let Some(rewrap) = &self.rewrap {
            rows.push((
                "wrapping keys",
                progress(rewrap.keys_done, rewrap.keys, rewrap.trouble.as_ref()),
            ));
        }
        for rotation in &self.rotations {
            let progress = progress(rotation.records_done, rotation.records, rotation.trouble.as_ref());
            rows.push(("rotating", format!("{}: {progress}", rotation.tenant)));
        }
        let unlisted = self.rotation_count.saturating_sub(self.rotations.len() as u64);
        if unlisted > 0 {
            rows.push(("rotating", format!("and {unlisted} more")));
        }
        rows.extend(self.erasing_tenants.iter().map(|tenant| ("removing", tenant.clone())));
        rows
    }
}

fn progress(done: u64, of: Option<u64>, trouble: Option<&String>) -> String {
    let of = of.map_or_else(|| "?".to_owned(), |of| of.to_string());
    let trouble = trouble.map(|trouble| format!("; does not go on: {trouble}"));
    format!("{done} of {of}{}", trouble.unwrap_or_default())
}

impl WrappingView {
    pub(super) fn text(&self) -> String {
        let due = match self.wrapped_by_another {
            0 => String::new(),
            due => format!("; {due} by another key-encryption key, run: tresor rewrap"),
        };
        let trouble = self.trouble.as_ref().map(|trouble| format!("; {trouble}"));
        format!("{}{due}{}", self.keys, trouble.unwrap_or_default())
    }

    pub(super) fn recovery_text(&self) -> String {
        match (self.has_recovery_key, self.lacking_recovery) {
            (false, _) => "none; `tresor recovery keygen` makes one".to_owned(),
            (true, 0) => "every key is wrapped for it".to_owned(),
            (true, lacking) => format!("{lacking} keys are not wrapped for it, run: tresor rewrap"),
        }
    }
}

impl From<WrappingStatus> for WrappingView {
    fn from(wire: WrappingStatus) -> Self {
        Self {
            keys: wire.keys,
            wrapped_by_another: wire.wrapped_by_another,
            has_recovery_key: wire.has_recovery_key,
            lacking_recovery: wire.lacking_recovery,
            trouble: set(wire.trouble),
        }
    }
}

impl From<NextSigningKey> for NextSigningKeyView {
    fn from(wire: NextSigningKey) -> Self {
        Self {
            kid: wire.kid,
            use_from: time(wire.use_from.as_ref()),
        }
    }
}

impl From<RotationStatus> for RotationView {
    fn from(wire: RotationStatus) -> Self {
        Self {
            tenant: wire.tenant,
            requested_at: time(wire.requested_at.as_ref()),
            data_key_id: wire.data_key_id,
            records: wire.records,
            records_done: wire.records_done,
            trouble: set(wire.trouble),
        }
    }
}

impl From<RewrapStatus> for RewrapView {
    fn from(wire: RewrapStatus) -> Self {
        Self {
            keys: wire.keys,
            keys_done: wire.keys_done,
            trouble: set(wire.trouble),
        }
    }
}
