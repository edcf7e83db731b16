//! The vault's status to wire.

use std::time::Duration;

use crate::keyring::{NewSigningKey, WrappingStatus};
use crate::pb::v1;
use crate::vault::{RewrapStatus, RotationStatus, Status, TasksStatus};

/// How many tenants are named one by one.
const NAMED: usize = 100;

/// How an open vault is doing; what is about the program itself is there already.
pub(super) fn status(status: Status, about_program: v1::GetStatusResponse) -> v1::GetStatusResponse {
    let TasksStatus {
        rotations,
        erasures,
        rewrap,
    } = status.tasks;
    v1::GetStatusResponse {
        started_at: Some(status.opened_at.into()),
        store: status.store.into(),
        revision: status.revision.0,
        kek_id: status.wrapping.kek_id.clone().unwrap_or_default(),
        replica: Some(v1::ReplicaStatus {
            revision: status.replica_revision.0,
            lag: status.revision.0.saturating_sub(status.replica_revision.0),
        }),
        data_keys: Some(keys(&status.data_key_ages)),
        signing_keys: Some(keys(&status.signing_key_ages)),
        counts: Some(v1::Counts {
            tenants: status.tenants,
            enabled: status.counts.enabled,
            disabled: status.counts.disabled,
            deleted: status.counts.deleted,
            assignments: status.counts.assignments,
        }),
        wrapping: Some(wrapping(status.wrapping)),
        next_signing_key: status.next_signing_key.map(next_signing_key),
        published_signing_keys: status.published_keys,
        rotation_count: rotations.len() as u64,
        rotations: rotations.into_iter().take(NAMED).map(rotation).collect(),
        erasing_tenants: erasures.iter().take(NAMED).map(ToString::to_string).collect(),
        rewrap: rewrap.map(rewrapping),
        ..about_program
    }
}

/// The age of the oldest and of the newest of a group of keys.
fn keys(ages: &[Duration]) -> v1::KeyStatus {
    let wire = |age: Option<&Duration>| age.and_then(|age| prost_types::Duration::try_from(*age).ok());
    v1::KeyStatus {
        count: ages.len() as u64,
        oldest_age: wire(ages.iter().max()),
        newest_age: wire(ages.iter().min()),
    }
}

fn wrapping(status: WrappingStatus) -> v1::WrappingStatus {
    v1::WrappingStatus {
        keys: status.keys,
        wrapped_by_another: status.wrapped_by_another,
        has_recovery_key: status.recovery_key.is_some(),
        lacking_recovery: status.lacking_recovery,
        trouble: status.trouble.unwrap_or_default(),
    }
}

fn next_signing_key(next: NewSigningKey) -> v1::NextSigningKey {
    v1::NextSigningKey {
        kid: next.kid,
        use_from: Some(next.use_from.into()),
    }
}

fn rotation(status: RotationStatus) -> v1::RotationStatus {
    v1::RotationStatus {
        tenant: status.tenant.to_string(),
        requested_at: Some(status.requested_at.into()),
        data_key_id: status.data_key_id.map_or(0, |id| id.0),
        records: status.records,
        records_done: status.records_done,
        trouble: status.trouble.unwrap_or_default(),
    }
}

fn rewrapping(status: RewrapStatus) -> v1::RewrapStatus {
    v1::RewrapStatus {
        keys: status.keys,
        keys_done: status.keys_done,
        trouble: status.trouble.unwrap_or_default(),
    }
}
