//! What is counted, as Prometheus gets it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::TcpStream;

use tonic::Code;
use tresor::pb::v1::PutCredentialRequest;

use support::metrics::{ask, count, get};
use support::process::{Server, free_address, prepare};
use support::requests::{general, login, name, put_login};
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
