//! What is counted, as Prometheus gets it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use tonic::Code;

use support::process::{Server, free_address, prepare};
use support::{PATIENCE, told, wait_for};

/// The whole answer to a request, until the server closes the connection.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
}

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
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
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
        get(address, "/metrics").contains("# EOF").then_some(())
    });
    server.stop().await;
}
