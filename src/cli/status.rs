//! `tresor status`: how the server is doing.

mod keys;

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tresor::pb::v1::{GetStatusRequest, GetStatusResponse, KeyStatus};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{Output, details};
use super::view::{or_empty, seconds, time};
use keys::{NextSigningKeyView, RewrapView, RotationView, WrappingView, set};

/// Show how the server is doing.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 7: it is sealed, its store takes no writes, or its audit log is not written.\n\n\
    Example:\n  tresor status\n\n\
    JSON: {version, started_at, store, store_format, store_trouble, revision, sealed, sealed_reason, \
    audit: {healthy, newest_line, signed_line}, kek_id, \
    wrapping: {keys, wrapped_by_another, has_recovery_key, lacking_recovery, trouble}, \
    next_signing_key: {kid, use_from}, published_signing_keys, \
    rotations[]: {tenant, requested_at, data_key_id, records, records_done, trouble}, rotation_count, erasing_tenants[], \
    rewrap: {keys, keys_done, trouble}, replica: {revision, lag}, \
    data_keys and signing_keys: {count, oldest_age_seconds, newest_age_seconds}, \
    counts: {tenants, enabled, disabled, deleted, assignments}}"
)]
pub(crate) struct Status {}

#[derive(Serialize)]
struct Answer {
    version: String,
    started_at: Option<String>,
    store: String,
    store_format: u32,
    store_trouble: Option<String>,
    revision: u64,
    sealed: bool,
    sealed_reason: Option<String>,
    audit: AuditView,
    kek_id: String,
    wrapping: WrappingView,
    next_signing_key: Option<NextSigningKeyView>,
    published_signing_keys: u64,
    rotations: Vec<RotationView>,
    rotation_count: u64,
    erasing_tenants: Vec<String>,
    rewrap: Option<RewrapView>,
    replica: ReplicaView,
    data_keys: KeysView,
    signing_keys: KeysView,
    counts: CountsView,
}

#[derive(Serialize)]
struct AuditView {
    healthy: bool,
    newest_line: u64,
    signed_line: Option<u64>,
}

#[derive(Serialize)]
struct ReplicaView {
    revision: u64,
    lag: u64,
}

#[derive(Serialize)]
struct KeysView {
    count: u64,
    oldest_age_seconds: Option<i64>,
    newest_age_seconds: Option<i64>,
}

#[derive(Serialize)]
struct CountsView {
    tenants: u64,
    enabled: u64,
    disabled: u64,
    deleted: u64,
    assignments: u64,
}

impl Status {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let answer = connection
            .operator()
            .get_status(GetStatusRequest {})
            .await?
            .into_inner();
        let answer = Answer::from(answer);
        output.show(&answer, Answer::details)?;
        Ok(if answer.is_well() {
            Exit::Done
        } else {
            Exit::Unavailable
        })
    }
}

impl From<GetStatusResponse> for Answer {
    fn from(wire: GetStatusResponse) -> Self {
        let replica = wire.replica.unwrap_or_default();
        let counts = wire.counts.unwrap_or_default();
        let audit = wire.audit.unwrap_or_default();
        Self {
            version: wire.version,
            started_at: time(wire.started_at.as_ref()),
            store: wire.store,
            store_format: wire.store_format,
            store_trouble: set(wire.store_trouble),
            revision: wire.revision,
            sealed: wire.sealed,
            sealed_reason: set(wire.sealed_reason),
            audit: AuditView {
                healthy: audit.healthy,
                newest_line: audit.newest_line,
                signed_line: (audit.signed_line > 0).then_some(audit.signed_line),
            },
            kek_id: wire.kek_id,
            wrapping: wire.wrapping.unwrap_or_default().into(),
            next_signing_key: wire.next_signing_key.map(Into::into),
            published_signing_keys: wire.published_signing_keys,
            rotations: wire.rotations.into_iter().map(Into::into).collect(),
            rotation_count: wire.rotation_count,
            erasing_tenants: wire.erasing_tenants,
            rewrap: wire.rewrap.map(Into::into),
            replica: ReplicaView {
                revision: replica.revision,
                lag: replica.lag,
            },
            data_keys: wire.data_keys.unwrap_or_default().into(),
            signing_keys: wire.signing_keys.unwrap_or_default().into(),
            counts: CountsView {
                tenants: counts.tenants,
                enabled: counts.enabled,
                disabled: counts.disabled,
                deleted: counts.deleted,
                assignments: counts.assignments,
            },
        }
    }
}

impl From<KeyStatus> for KeysView {
    fn from(wire: KeyStatus) -> Self {
        Self {
            count: wire.count,
            oldest_age_seconds: seconds(wire.oldest_age.as_ref()),
            newest_age_seconds: seconds(wire.newest_age.as_ref()),
        }
    }
}

impl Answer {
    fn details(&self) -> String {
        let mut rows = self.of_the_server();
        // Before it is open nobody has looked.
        if !self.sealed {
            rows.extend(self.of_the_vault());
            rows.extend(self.under_way());
        }
        details(&rows)
    }

    fn of_the_server(&self) -> Vec<(&'static str, String)> {
        vec![
            ("version", self.version.clone()),
            ("started at", or_empty(self.started_at.as_ref())),
            (
                "sealed",
                match (self.sealed, &self.sealed_reason) {
                    (true, Some(why)) => format!("yes: {why}"),
                    (true, None) => "yes: nothing can be opened".to_owned(),
                    (false, _) => "no".to_owned(),
                },
            ),
            ("store", self.store_text()),
            ("audit log", self.audit.text()),
        ]
    }

    fn of_the_vault(&self) -> Vec<(&'static str, String)> {
        let counts = &self.counts;
        vec![
            ("revision", self.revision.to_string()),
            (
                "replica",
                format!("revision {}, {} behind", self.replica.revision, self.replica.lag),
            ),
            ("key-encryption key", self.kek_id.clone()),
            ("wrapped keys", self.wrapping.text()),
            ("recovery key", self.wrapping.recovery_text()),
            ("data keys", self.data_keys.text()),
            ("signing keys", self.signing_keys.text()),
            ("tenants", counts.tenants.to_string()),
            (
                "credentials",
                format!(
                    "{} enabled, {} disabled, {} deleted",
                    counts.enabled, counts.disabled, counts.deleted
                ),
            ),
            ("assignments", counts.assignments.to_string()),
        ]
    }
}

impl Answer {
    /// Whether it does what it is there for.
    fn is_well(&self) -> bool {
        !self.sealed && self.store_trouble.is_none() && self.audit.healthy
    }

    fn store_text(&self) -> String {
        // It is not open while the vault is sealed.
        if self.store.is_empty() {
            return format!("not open; format {}", self.store_format);
        }
        let trouble = self.store_trouble.as_ref();
        let trouble = trouble.map(|why| format!("; takes no writes: {why}"));
        format!(
            "{}, format {}{}",
            self.store,
            self.store_format,
            trouble.unwrap_or_default()
        )
    }
}

impl AuditView {
    fn text(&self) -> String {
        let signed = match self.signed_line {
            Some(line) => format!("signed up to line {line}"),
            None => "nothing signed yet".to_owned(),
        };
        let trouble = if self.healthy { "" } else { "; it is not written" };
        format!("{} lines, {signed}{trouble}", self.newest_line)
    }
}

impl KeysView {
    fn text(&self) -> String {
        let age = |seconds: Option<i64>| {
            let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
            seconds.map_or_else(
                || "?".to_owned(),
                |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string(),
            )
        };
        match self.count {
            0 => "0".to_owned(),
            count => format!(
                "{count}, the oldest is {} old, the newest {}",
                age(self.oldest_age_seconds),
                age(self.newest_age_seconds)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use tresor::pb::v1::AuditStatus;

    use super::*;

    #[test]
    fn a_sealed_server_is_said_to_be_one() {
        let answer = Answer::from(GetStatusResponse {
            sealed: true,
            data_keys: Some(KeyStatus {
                count: 2,
                oldest_age: Some(prost_types::Duration {
                    seconds: 3600,
                    nanos: 0,
                }),
                newest_age: Some(prost_types::Duration { seconds: 60, nanos: 5 }),
            }),
            ..Default::default()
        });
        assert_eq!(
            serde_json::to_value(&answer).unwrap()["data_keys"]["oldest_age_seconds"],
            3600
        );
        let text = answer.details();
        assert!(text.contains("sealed      yes: nothing can be opened\n"), "{text}");
        assert!(
            !text.contains("tenants") && !text.contains("recovery key"),
            "nobody has looked: {text}"
        );
        let text = Answer {
            sealed: false,
            ..answer
        }
        .details();
        assert!(text.contains("2, the oldest is 1h old, the newest 1m\n"), "{text}");
    }

    #[test]
    fn a_server_is_well_if_nothing_keeps_it_from_its_work() {
        let well = GetStatusResponse {
            store: "sled".into(),
            audit: Some(AuditStatus {
                newest_line: 9,
                healthy: true,
                signed_line: 7,
                ..Default::default()
            }),
            ..Default::default()
        };
        let answer = Answer::from(well.clone());
        assert!(answer.is_well());
        assert!(answer.details().contains("  9 lines, signed up to line 7\n"));
        for unwell in [
            GetStatusResponse {
                sealed: true,
                ..well.clone()
            },
            GetStatusResponse {
                store_trouble: "the disk is full".into(),
                ..well.clone()
            },
            GetStatusResponse {
                audit: Some(AuditStatus::default()),
                ..well
            },
        ] {
            assert!(!Answer::from(unwell).is_well());
        }
    }

    #[test]
    fn a_store_that_takes_no_writes_is_said_to_be_one() {
        let of = |trouble: &str| {
            Answer::from(GetStatusResponse {
                store: "sled".into(),
                store_format: 2,
                store_trouble: trouble.into(),
                ..Default::default()
            })
        };
        let answer = of("the disk is full");
        assert!(
            answer
                .details()
                .contains("  sled, format 2; takes no writes: the disk is full\n")
        );
        let told = |answer| serde_json::to_value(answer).unwrap()["store_trouble"].clone();
        assert_eq!(told(answer), "the disk is full");
        let answer = of("");
        assert!(answer.details().contains("  sled, format 2\n"));
        assert!(told(answer).is_null());
    }
}
