//! What a call allocates in the server: a guard against a slower vault that, unlike a time, is the same on every machine.
//!
//! The server runs in this process, whole: TLS, gate, policy, quotas, decision, audit log. Its client is this test's one thread,
//! so what the server allocates is what the process allocates less what this thread does. One call is under way at a time,
//! which is the dearest way: each writes its line of the audit log alone.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::alloc::System;
use std::path::Path;

use alloc_tracker::{Allocator, Session};
use tokio::runtime::{self, Runtime};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tresor::dev::{self, Dev};
use tresor::pb::v1;
use tresor::pb::v1::credential_resolver_client::CredentialResolverClient;

use support::requests::order;

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

const WARM_UP: u64 = 100;
const CALLS: u64 = 1000;
/// So many a call may be made by what goes on beside the calls: the sync of the audit log each 100 ms, its signature each
/// 1000 lines.
const BESIDE: f64 = 2.0;

/// Whoever makes a call cheaper lowers its figure: it may be at most this much above what is counted.
const SLACK: f64 = 4.0;
/// How many allocations an empty call (`Health/Check`) may make. Most are those of tonic, hyper and rustls.
const EMPTY: f64 = 27.0;
/// How many more than that the others may make.
const RESOLVE: f64 = 28.0;
const RESOLVE_MAIL: f64 = 27.0;
const RESOLVE_WITH_RECEIPT: f64 = 38.0;

#[test]
fn no_call_allocates_more_than_it_did() {
    let directory = tempfile::tempdir().unwrap();
    let mut background = runtime::Builder::new_multi_thread();
    let background = background.worker_threads(1).enable_all().build().unwrap();
    let server = background.block_on(serve(directory.path()));
    let client = Client::connect(&server);
    let order = v1::Order {
        user_id: "m.lang".into(),
        ..order("leipzig")
    };
    let one = |provider: &str, with_receipt| v1::ResolveForOrderRequest {
        tenant: "demo".into(),
        provider: provider.into(),
        order: Some(order.clone()),
        with_receipt,
        min_revision: 0,
    };
    let resolve = |request: v1::ResolveForOrderRequest| {
        client.allocations(async || {
            let answer = client.resolver.clone().resolve_for_order(request.clone()).await;
            assert!(answer.unwrap().get_ref().credential.is_some());
        })
    };

    let empty = client.allocations(async || {
        let answer = client.health.clone().check(HealthCheckRequest::default()).await;
        answer.unwrap();
    });
    let calls = [
        ("empty call", EMPTY, empty),
        ("resolve", RESOLVE, resolve(one("dat", false)) - empty),
        (
            "resolve of a mail account",
            RESOLVE_MAIL,
            resolve(one("email", false)) - empty,
        ),
        (
            "resolve with a receipt",
            RESOLVE_WITH_RECEIPT,
            resolve(one("dat", true)) - empty,
        ),
    ];
    background.block_on(server.serving.stop());

    let mut wrong = Vec::new();
    for (name, most, allocations) in calls {
        println!("{name}: {allocations:.2} allocations, at most {most}");
        if !(most - SLACK..=most + BESIDE).contains(&allocations) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "above their figure, or far below it: {wrong:?}");
}

async fn serve(directory: &Path) -> Dev {
    let any = "127.0.0.1:0".parse().unwrap();
    let server = dev::start(directory, any, any, None).await.unwrap();
    server.serving.server.set_ready().await;
    server
}

/// A caller on this thread alone.
struct Client {
    runtime: Runtime,
    health: HealthClient<Channel>,
    resolver: CredentialResolverClient<Channel>,
}

impl Client {
    fn connect(server: &Dev) -> Self {
        let read = |path: &Path| std::fs::read(path).unwrap();
        let pair = &server.pki.order_service;
        let tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(read(&server.pki.ca)))
            .identity(Identity::from_pem(read(&pair.certificate), read(&pair.key)));
        let endpoint = Endpoint::try_from(format!("https://{}", server.listen)).unwrap();
        let endpoint = endpoint.tls_config(tls).unwrap();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self {
            runtime,
            health: HealthClient::new(channel.clone()),
            resolver: CredentialResolverClient::new(channel),
        }
    }

    /// How often the server allocates for such a call: the mean of [`CALLS`], after some that are not counted.
    fn allocations(&self, call: impl AsyncFn()) -> f64 {
        self.runtime.block_on(async {
            for _ in 0..WARM_UP {
                call().await;
            }
            let session = Session::new().no_stdout().no_file();
            let (process, client) = (session.operation("process"), session.operation("client"));
            let of_process = process.measure_process().iterations(CALLS);
            let of_client = client.measure_thread().iterations(CALLS);
            for _ in 0..CALLS {
                call().await;
            }
            drop((of_client, of_process));
            drop((process, client));
            let report = session.to_report();
            let mean = |name| {
                let mut operations = report.operations();
                let operation = operations.find(|(operation, _)| *operation == name).unwrap().1;
                operation.allocations().unwrap()
            };
            mean("process") - mean("client")
        })
    }
}
