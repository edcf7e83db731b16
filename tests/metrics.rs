//! What is counted, as Prometheus gets it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tonic::Code;
use tresor::pb::v1::{
    BackupRequest, CredentialState, DeleteCredentialRequest, PutCredentialRequest, SetCredentialStateRequest,
};

use support::metrics::{ask, count, get};
use support::process::{Server, free_address, prepare};
use support::requests::{general, login, name, office, put_login};
use support::{told, wait_for};

#[tokio::test]
async fn metrics_are_served_in_plaintext_count_and_name_nobody() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let policy = std::fs::read_to_string(directory.path().join("policy.toml")).unwrap();
    let policy = format!("[quota]\ntotal_calls_per_second = 1\n{policy}");
    std::fs::write(directory.path().join("policy.toml"), policy).unwrap();
    let address = free_address();
    let server = Server::serve(directory.path(), &[("TRESOR_METRICS_LISTEN", &address.to_string())]);
    let order_service = server.order_service();
    // However slow this machine is, some of them come within a second.
    while told(order_service.resolve("firm-7", "dat", "leipzig").await).0 != Code::ResourceExhausted {}

    let answer = get(address, "/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(!body.contains("# EOF"), "{body}");
    let accept = "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: application/openmetrics-text;version=1.0.0\r\n\r\n";
    let open_metrics = ask(address, accept);
    assert!(
        open_metrics.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{open_metrics}"
    );
    assert!(open_metrics.ends_with("# EOF\n"), "{open_metrics}");
    assert!(body.contains("\ntresor_sealed 0\n"), "{body}");
    let exceeded = "tresor_quota_exceeded_total{quota=\"total_calls_per_second\"} ";
    let count = body.lines().find_map(|line| line.strip_prefix(exceeded)).unwrap();
    assert!(count.parse::<u64>().unwrap() >= 1, "{body}");
    for name in ["firm-7", "order-service", "leipzig", "spiffe"] {
        assert!(!body.contains(name), "{body}");
    }
    let log = server.lines("stderr").join("\n");
    let said: Vec<_> = log
        .lines()
        .filter(|line| line.contains("a caller is over its quota"))
        .collect();
    assert!(said[0].contains("spiffe://dynarex.local/order-service"), "{log}");
    assert_eq!(said.len(), 1, "once a minute");

    assert!(get(address, "/").starts_with("HTTP/1.1 404 "));
    assert!(get(address, "/metrics/..").starts_with("HTTP/1.1 404 "));
    let post = "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    assert!(ask(address, post).starts_with("HTTP/1.1 405 "));
    let huge = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(100_000));
    assert!(!ask(address, &huge).contains(" 200 "));

    // Whoever says nothing takes room for a while, not for ever, and not that of the vault.
    let silent: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(server.operator().status().await.is_ok());
    drop(silent);
    wait_for("room for others", || {
        get(address, "/metrics").contains("tresor_sealed").then_some(())
    });
    server.stop().await;
}

fn saving() -> PutCredentialRequest {
    put_login(name("firm-7", "dat", general()), login("secret"))
}

#[tokio::test]
async fn calls_decisions_and_credentials_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let address = free_address();
    let server = Server::serve(directory.path(), &[("TRESOR_METRICS_LISTEN", &address.to_string())]);
    let (operator, order_service) = (server.operator(), server.order_service());
    operator.save(saving()).await;
    order_service.resolve("firm-7", "dat", "leipzig").await.unwrap();
    assert_eq!(
        told(order_service.resolve("firm-7", "wom", "leipzig").await).0,
        Code::NotFound
    );
    let refused = order_service.admin.clone().put_credential(saving()).await;
    assert_eq!(told(refused).0, Code::PermissionDenied);

    let call = |method: &str, code: &str| {
        let service = match method {
            "ResolveForOrder" => "CredentialResolver",
            _ => "CredentialAdmin",
        };
        let labels = format!("service=\"dynarex.credentials.v1.{service}\",method=\"{method}\"");
        let calls = count(address, &format!("tresor_grpc_calls_total{{{labels},code=\"{code}\"}}"));
        let timed = count(address, &format!("tresor_grpc_call_duration_seconds_count{{{labels}}}"));
        assert_eq!(count(address, &format!("tresor_grpc_open_calls{{{labels}}}")), 0);
        (calls, timed)
    };
    // What was looked up a moment ago may be shown for a second; calls are counted at once.
    assert_eq!(call("ResolveForOrder", "OK"), (1, 2));
    assert_eq!(call("ResolveForOrder", "NOT_FOUND"), (1, 2));
    assert_eq!(call("PutCredential", "PERMISSION_DENIED"), (1, 2));
    assert_eq!(count(address, "tresor_call_errors_total{reason=\"NOT_GRANTED\"}"), 1);
    assert_eq!(count(address, "tresor_store_transactions_total{outcome=\"failed\"}"), 0);
    assert!(count(address, "tresor_store_sync_duration_seconds_count") >= 1);
    let resolves = |provider: &str, rule: u8, outcome: &str| {
        format!(
            "tresor_resolves_total{{provider=\"{provider}\",mode=\"GENERAL\",rule=\"{rule}\",outcome=\"{outcome}\"}} 1"
        )
    };
    let expected = [
        resolves("dat", 3, "found"),
        resolves("wom", 7, "not_configured"),
        "tresor_credentials{provider=\"dat\",state=\"enabled\"} 1".into(),
        "tresor_credentials_expiring{provider=\"dat\",within=\"30d\"} 0".into(),
        "tresor_connections{identity=\"known\"} 2".into(),
        "tresor_serving 1".into(),
        "tresor_replica_lag_revisions 0".into(),
        "tresor_audit_healthy 1".into(),
        "tresor_store_writable 1".into(),
    ];
    wait_for("what is looked up", || {
        let answer = get(address, "/metrics");
        expected
            .iter()
            .all(|line| answer.lines().any(|found| found == line))
            .then_some(())
    });
    // The sandbox keeps nobody from looking at the process.
    assert!(count(address, "process_open_fds") > 10);
    assert!(count(address, "process_resident_memory_bytes") > 1_000_000);
    server.stop().await;
}

/// When a certificate ends, in seconds since 1970: it is valid for all of its last second (RFC 5280, 4.1.2.5).
fn end_of(certificate: &Path) -> u64 {
    let pem = std::fs::read(certificate).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    u64::try_from(certificate.validity().not_after.timestamp()).unwrap() + 1
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn ending_in(hours: u64) -> prost_types::Timestamp {
    let seconds = now() + hours * 3600;
    prost_types::Timestamp {
        seconds: seconds.try_into().unwrap(),
        nanos: 0,
    }
}

#[tokio::test]
async fn credentials_are_counted_by_their_state_and_by_how_soon_they_end() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let address = free_address();
    let server = Server::serve(directory.path(), &[("TRESOR_METRICS_LISTEN", &address.to_string())]);
    let operator = server.operator();
    let of = |id: &str| name("firm-7", "dat", office(id));
    for (id, hours) in [
        ("1", 12),
        ("2", 72),
        ("3", 73),
        ("4", 480),
        ("5", 481),
        ("6", 482),
        ("7", 24 * 60),
    ] {
        let put = PutCredentialRequest {
            valid_until: Some(ending_in(hours)),
            ..put_login(of(id), login("secret"))
        };
        operator.save(put).await;
    }
    for id in ["8", "9", "10"] {
        operator.save(put_login(of(id), login("secret"))).await;
    }
    let mut admin = operator.admin.clone();
    let disable = SetCredentialStateRequest {
        r#ref: Some(of("8")),
        state: CredentialState::Disabled.into(),
        ..Default::default()
    };
    admin.set_credential_state(disable).await.unwrap();
    for id in ["9", "10"] {
        let delete = DeleteCredentialRequest {
            r#ref: Some(of(id)),
            ..Default::default()
        };
        admin.delete_credential(delete).await.unwrap();
    }
    let expected = [
        ("tresor_credentials{provider=\"dat\",state=\"enabled\"}", 7),
        ("tresor_credentials{provider=\"dat\",state=\"disabled\"}", 1),
        ("tresor_credentials{provider=\"dat\",state=\"deleted\"}", 2),
        ("tresor_credentials_expiring{provider=\"dat\",within=\"1d\"}", 1),
        ("tresor_credentials_expiring{provider=\"dat\",within=\"7d\"}", 3),
        ("tresor_credentials_expiring{provider=\"dat\",within=\"30d\"}", 6),
        ("tresor_tenants", 1),
    ];
    wait_for("what is looked up", || {
        let are_right = expected.iter().all(|(metric, value)| count(address, metric) == *value);
        are_right.then_some(())
    });
    server.stop().await;
}

#[tokio::test]
async fn keys_certificates_lines_and_connections_are_told_of_as_they_are() {
    let began = now();
    let directory = tempfile::tempdir().unwrap();
    let pki = prepare(directory.path());
    let address = free_address();
    let server = Server::serve(directory.path(), &[("TRESOR_METRICS_LISTEN", &address.to_string())]);
    let value = |metric: &str| count(address, metric);
    let operator = server.operator();
    operator.save(saving()).await;

    let ends = ["server", "client_authority"].map(|kind| {
        let metric = format!("tresor_certificate_expiry_timestamp_seconds{{kind=\"{kind}\"}}");
        value(&metric)
    });
    assert_eq!(ends, [end_of(&pki.server.certificate), end_of(&pki.ca)]);
    assert_ne!(ends[0], ends[1]);
    for kind in ["server", "client_authority", "revocation_list"] {
        assert_eq!(value(&format!("tresor_certificates_overdue{{kind=\"{kind}\"}}")), 0);
    }

    assert_eq!(value("tresor_kek_usable"), 1);
    for metric in [
        "tresor_oldest_data_key_timestamp_seconds",
        "tresor_signing_key_timestamp_seconds",
    ] {
        assert!((began..=now()).contains(&value(metric)), "{metric}");
    }
    assert_eq!(
        (value("tresor_data_keys"), value("tresor_published_signing_keys")),
        (1, 1)
    );
    assert_eq!(
        (value("tresor_wrapped_keys"), value("tresor_wrapped_keys_by_another")),
        (2, 0)
    );
    let left = value("tresor_data_key_seals_left");
    assert!(left < 1 << 32);
    let commits = value("tresor_store_commit_duration_seconds_count");
    for _ in 0..3 {
        operator.save(saving()).await;
    }
    wait_for("seals that are used up", || {
        (value("tresor_data_key_seals_left") <= left - 3).then_some(())
    });
    assert!(value("tresor_store_commit_duration_seconds_count") >= commits + 3);
    assert_eq!(value("tresor_store_queue_jobs"), 0);

    wait_for("lines that are on the disk", || {
        let newest = value("tresor_audit_newest_line");
        (newest > 0 && value("tresor_audit_durable_line") == newest && value("tresor_audit_lines_total") == newest)
            .then_some(())
    });
    assert!((1..=value("tresor_audit_newest_line")).contains(&value("tresor_audit_signed_line")));
    assert!(value("tresor_audit_write_duration_seconds_count") >= 1);
    assert!(value("tresor_audit_sync_duration_seconds_count") >= 1);
    assert_eq!(value("tresor_audit_queue_lines"), 0);

    let (done, failed) = (
        "tresor_tls_handshakes_total{outcome=\"done\"}",
        "tresor_tls_handshakes_total{outcome=\"failed\"}",
    );
    let before = (value(done), value(failed));
    let mut garbage = TcpStream::connect(server.listen).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    wait_for("a handshake that fails", || {
        (value(failed) == before.1 + 1).then_some(())
    });
    assert!(server.order_service().status().await.is_err(), "it may not look");
    assert_eq!(value(done), before.0 + 1);
    assert_eq!(value("tresor_refused_connections_total"), 0);
    for task in ["rotation", "erasure", "rewrap"] {
        assert_eq!(value(&format!("tresor_tasks{{task=\"{task}\"}}")), 0);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_backup_that_was_taken_is_told_of_also_after_a_restart() {
    let began = now();
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let address = free_address();
    let environment = [
        ("TRESOR_METRICS_LISTEN", &*address.to_string()),
        ("TRESOR_BACKUP_TAKEN_EVERY", "1h"),
    ];
    let server = Server::serve(directory.path(), &environment);
    let last = || count(address, "tresor_last_backup_timestamp_seconds");
    assert_eq!((last(), count(address, "tresor_backup_interval_seconds")), (0, 3600));
    let mut parts = server
        .operator()
        .operator
        .backup(BackupRequest {})
        .await
        .unwrap()
        .into_inner();
    while parts.message().await.unwrap().is_some() {}
    wait_for("the backup to be told of", || (last() > 0).then_some(()));
    let taken = last();
    assert!((began..=now()).contains(&taken));
    wait_for("it to be kept", || {
        directory.path().join("data/backup-taken").exists().then_some(())
    });
    server.stop().await;

    let server = Server::serve(directory.path(), &environment);
    wait_for("the backup to be told of again", || (last() == taken).then_some(()));
    server.stop().await;
}
