use super::*;
use crate::keyring::WrappingStatus;
use crate::store::Revision;
use crate::vault::assignment::Mode;
use crate::vault::ids::TenantId;
use crate::vault::{Counts, Decisions, Outcome, ProviderCount, RewrapStatus, RotationStatus};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(seconds * 1000)
}

/// Everything has a value of its own.
fn readings() -> Readings {
    Readings {
        is_serving: true,
        connections: Connections {
            known: 11,
            most_known: 12,
            strangers: 13,
        },
        audit: AuditReadings {
            is_healthy: false,
            newest: 21,
            durable: 22,
            signed: 23,
            queue: 24,
        },
        certificates: [
            Certificates {
                kind: CertificateKind::Server,
                first_end: Some(at(31)),
                overdue: 32,
            },
            Certificates {
                kind: CertificateKind::ClientAuthority,
                first_end: Some(at(33)),
                overdue: 34,
            },
            Certificates {
                kind: CertificateKind::RevocationList,
                first_end: None,
                overdue: 35,
            },
        ],
        is_store_writable: true,
        backup_interval: Some(Duration::from_secs(36)),
        vault: Some(figures()),
    }
}

fn figures() -> Figures {
    let mut states = [0; StateFilter::ALL.len()];
    states[StateFilter::Enabled as usize] = 51;
    states[StateFilter::Disabled as usize] = 52;
    states[StateFilter::Deleted as usize] = 53;
    let rotation = |tenant: &str, trouble: Option<&str>| RotationStatus {
        tenant: TenantId::parse(tenant).unwrap(),
        requested_at: at(0),
        data_key_id: None,
        records: None,
        records_done: 0,
        trouble: trouble.map(str::to_owned),
    };
    Figures {
        revision: Revision(46),
        replica_revision: Revision(42),
        store_queue: 43,
        credentials: vec![ProviderCount {
            provider: "dat".into(),
            states,
            expired: 54,
            expiring: vec![55, 56, 57],
        }],
        doubtful: 58,
        counts: Counts {
            enabled: 1,
            disabled: 2,
            deleted: 3,
            assignments: 59,
        },
        decisions: vec![
            Decisions {
                provider: Some("dat".into()),
                mode: Mode::PerOffice,
                outcome: Outcome::FellBack,
                count: 60,
            },
            Decisions {
                provider: None,
                mode: Mode::General,
                outcome: Outcome::UnknownProvider,
                count: 61,
            },
        ],
        tenants: 62,
        data_keys: 63,
        oldest_data_key: Some(at(64)),
        fewest_seals_left: Some(65),
        newest_signing_key: Some(at(66)),
        published_keys: 67,
        wrapping: WrappingStatus {
            kek_id: None,
            trouble: Some("away".into()),
            keys: 68,
            wrapped_by_another: 69,
            recovery_key: None,
            lacking_recovery: 70,
        },
        tasks: TasksStatus {
            rotations: vec![
                rotation("a", None),
                rotation("b", None),
                rotation("c", Some("stuck")),
                rotation("d", Some("stuck")),
            ],
            erasures: ["e", "f", "g"].map(|tenant| TenantId::parse(tenant).unwrap()).into(),
            rewrap: Some(RewrapStatus {
                trouble: Some("stuck".into()),
                ..RewrapStatus::default()
            }),
        },
    }
}

/// The values, each behind its name and labels.
fn shown(readings: &Readings) -> Vec<String> {
    let mut registry = Registry::default();
    readings.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode_registry(&mut text, &registry).unwrap();
    let mut values: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    values.sort();
    values
}

#[test]
fn every_reading_is_shown_under_its_own_name() {
    let expected = [
        "assignments 59",
        "audit_durable_line 22",
        "audit_healthy 0",
        "audit_newest_line 21",
        "audit_queue_lines 24",
        "audit_signed_line 23",
        "backup_interval_seconds 36",
        "certificate_expiry_timestamp_seconds{kind=\"client_authority\"} 33",
        "certificate_expiry_timestamp_seconds{kind=\"server\"} 31",
        "certificates_overdue{kind=\"client_authority\"} 34",
        "certificates_overdue{kind=\"revocation_list\"} 35",
        "certificates_overdue{kind=\"server\"} 32",
        "connections_limit 12",
        "connections{identity=\"known\"} 11",
        "connections{identity=\"none\"} 13",
        "credentials_expired{provider=\"dat\"} 54",
        "credentials_expiring{provider=\"dat\",within=\"1d\"} 55",
        "credentials_expiring{provider=\"dat\",within=\"30d\"} 57",
        "credentials_expiring{provider=\"dat\",within=\"7d\"} 56",
        "credentials_unproven 58",
        "credentials{provider=\"dat\",state=\"deleted\"} 53",
        "credentials{provider=\"dat\",state=\"disabled\"} 52",
        "credentials{provider=\"dat\",state=\"enabled\"} 51",
        "data_key_seals_left 65",
        "data_keys 63",
        "kek_usable 0",
        "oldest_data_key_timestamp_seconds 64",
        "published_signing_keys 67",
        "replica_lag_revisions 4",
        "replica_revision 42",
        "resolves_total{provider=\"dat\",mode=\"PER_OFFICE\",rule=\"6\",outcome=\"fell_back\"} 60",
        "resolves_total{provider=\"other\",mode=\"GENERAL\",rule=\"1\",outcome=\"unknown_provider\"} 61",
        "serving 1",
        "signing_key_timestamp_seconds 66",
        "store_queue_jobs 43",
        "store_revision 46",
        "store_writable 1",
        "tasks_stuck{task=\"rewrap\"} 1",
        "tasks_stuck{task=\"rotation\"} 2",
        "tasks{task=\"erasure\"} 3",
        "tasks{task=\"rewrap\"} 1",
        "tasks{task=\"rotation\"} 4",
        "tenants 62",
        "wrapped_keys 68",
        "wrapped_keys_by_another 69",
        "wrapped_keys_lacking_recovery 70",
    ];
    assert_eq!(shown(&readings()), expected);
}

#[test]
fn what_is_not_known_is_not_shown() {
    let sealed = Readings {
        vault: None,
        ..readings()
    };
    let names: Vec<_> = shown(&sealed).into_iter().collect();
    assert!(
        names
            .iter()
            .all(|line| !line.starts_with("credentials") && !line.starts_with("store_revision"))
    );
    assert!(names.contains(&"serving 1".to_owned()));
}
