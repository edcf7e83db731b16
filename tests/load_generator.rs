//! The load generator's clock: what a server that stalls is charged with.

// Only a part of the generator is used here.
#![allow(missing_docs, dead_code, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tresor::pki::{self, DevPki};
use tresor::time::{Clock as _, SystemClock};

use self::case::{Case, Peer};
use self::client::{Client, Latencies, Pace};
use self::wire::Address;

#[path = "../benches/load/answer.rs"]
mod answer;
#[path = "../benches/load/case.rs"]
mod case;
#[path = "../benches/load/client.rs"]
mod client;
#[path = "../benches/load/codec.rs"]
mod codec;
#[path = "../benches/load/pace.rs"]
mod pace;
#[path = "../benches/support/mod.rs"]
mod support;
#[path = "../benches/load/wire.rs"]
mod wire;

const STALL: Duration = Duration::from_millis(400);
/// The call that meets it.
const STALLS_AT: usize = 100;
/// A call each millisecond.
const PER_SECOND: f64 = 1000.0;
const CALLS: u64 = 800;

/// Serves on one thread, which it once stops for a while.
#[derive(Default)]
struct Stalling(AtomicUsize);

#[tonic::async_trait]
impl Health for Stalling {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if self.0.fetch_add(1, Ordering::Relaxed) == STALLS_AT {
            std::thread::sleep(STALL);
        }
        let status = tonic_health::ServingStatus::Serving as i32;
        Ok(Response::new(HealthCheckResponse { status }))
    }

    type WatchStream = tokio_stream::Pending<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }
}

/// Serves for as long as this test runs; returns the port.
fn serve_stalling(pki: &DevPki) -> u16 {
    let identity = Identity::from_pem(
        std::fs::read(&pki.server.certificate).unwrap(),
        std::fs::read(&pki.server.key).unwrap(),
    );
    let tls = ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(std::fs::read(&pki.ca).unwrap()));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            tell.send(incoming.local_addr().unwrap().port()).unwrap();
            let mut server = Server::builder().tls_config(tls).unwrap();
            let server = server.add_service(HealthServer::new(Stalling::default()));
            server.serve_with_incoming(incoming).await.unwrap();
        });
    });
    told.recv().unwrap()
}

fn at_least(latencies: &Latencies, latency: Duration) -> u64 {
    let nanoseconds = u64::try_from(latency.as_nanos()).unwrap();
    latencies.count_between(nanoseconds, latencies.max())
}

#[tokio::test]
async fn an_open_loop_charges_a_stall_to_every_call_that_was_due_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let pki = pki::ensure(directory.path(), SystemClock.now()).unwrap();
    let address = Address::new(serve_stalling(&pki), &pki, &pki.order_service).unwrap();
    let client = Client::new(1, 1).unwrap();
    client.connect(0, Peer::Stock, &address).await.unwrap();
    let (case, pace) = (Arc::new(Case::null(Peer::Stock)), Pace::Open { per_second: PER_SECOND });
    let outcome = client.run(0, &case, pace, Duration::from_millis(CALLS), 0).await;
    let latencies = outcome.unwrap().latencies;
    assert_eq!(latencies.len(), CALLS, "none was left out");
    // Whatever was due in the first half of the stall had to wait for the second, also what was not even sent: that is more
    // than may be under way.
    let half = STALL / 2;
    let waited = at_least(&latencies, half);
    assert!(waited >= 195, "only {waited} calls are charged with {half:?} and more");
    assert!(latencies.max() >= u64::try_from(STALL.as_nanos()).unwrap() * 99 / 100);
}
