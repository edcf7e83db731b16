//! Twice as much as a vault can do, and readers that stop reading.
//!
//! Here it is seconds, on whatever machine this is, and no times count: a client like this one is late itself. `cargo bench --bench
//! load -- overload` is the whole minute, with bounds for the times.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "overload/narrow.rs"]
mod narrow;
mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use tresor::pb::v1;
use tresor::pb::v1::credential_resolver_client::CredentialResolverClient;

use narrow::Narrow;
use support::PATIENCE;
use support::callers::Callers;
use support::process::{Server, prepare, tresor};
use support::requests::{general, login, name, order, put_login};

const LASTS: Duration = Duration::from_secs(4);
/// After which time a call that is alone is late in any build.
const ALONE_WITHIN: Duration = Duration::from_secs(1);
/// How much the process may grow while it is overloaded.
const GROWTH: u64 = 96 << 20;
const CONNECTIONS: usize = 8;

/// A vault with one worker, so that the client has a core too, and without quotas.
fn serve(directory: &Path) -> Server {
    prepare(directory);
    let policy = directory.join("policy.toml");
    let limits = "[quota]\ncalls_per_second = 1000000\ntotal_calls_per_second = 1000000\n\
                  credentials_per_hour = 1000000\ntotal_credentials_per_hour = 1000000\n\n";
    std::fs::write(&policy, limits.to_owned() + &std::fs::read_to_string(&policy).unwrap()).unwrap();
    // A disk that other tests keep busy is not what is looked at here.
    let settings = [
        ("TRESOR_SERVER_WORKERS", "1"),
        ("TRESOR_SERVER_LONGEST_WAIT", "25ms"),
        ("TRESOR_AUDIT_TIMEOUT", "30s"),
    ];
    Server::serve(directory, &settings)
}

/// The providers of logins that there are, each with a credential.
async fn fill(operator: &Callers) -> Vec<String> {
    let listed = operator.admin.clone().list_providers(v1::ListProvidersRequest {}).await;
    let all = listed
        .unwrap()
        .into_inner()
        .providers
        .into_iter()
        .map(|provider| provider.id);
    let mut saved = Vec::new();
    for provider in all {
        let request = put_login(name("firm", &provider, general()), login("password"));
        if operator.admin.clone().put_credential(request).await.is_ok() {
            saved.push(provider);
        }
    }
    // A call costs the vault much more than its client.
    assert!(saved.len() > 4, "{saved:?}");
    saved
}

fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(server.proc("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Answers and refusals, with the time from when the call was to begin.
#[derive(Default)]
struct Seen {
    accepted: Vec<Duration>,
    refused: Vec<Duration>,
}

impl Seen {
    fn note(&mut self, took: Duration, answer: &Result<(), Status>) {
        let Err(status) = answer else {
            return self.accepted.push(took);
        };
        let reason = status.get_details_error_info().map(|info| info.reason);
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert_eq!(reason.as_deref(), Some("OVERLOADED"), "{status:?}");
        let retry_after = status.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!(retry_after >= Duration::from_millis(500), "{retry_after:?}");
        self.refused.push(took);
    }
}

/// Of a hundred, the one that is exceeded by one.
fn p99(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

async fn resolve(client: &CredentialResolverClient<Channel>, providers: &[String]) -> Result<(), Status> {
    let request = v1::ResolveManyForOrderRequest {
        tenant: "firm".into(),
        providers: providers.to_vec(),
        order: Some(order("leipzig")),
        ..v1::ResolveManyForOrderRequest::default()
    };
    let answer = client.clone().resolve_many_for_order(request).await?.into_inner();
    assert_eq!(answer.results.len(), providers.len());
    assert!(answer.results.iter().all(|result| result.credential.is_some()));
    Ok(())
}

/// How many calls a second are answered when two are always under way.
async fn capacity(clients: &[CredentialResolverClient<Channel>], providers: &[String]) -> f64 {
    let (begun, lasts) = (Instant::now(), Duration::from_millis(1500));
    let one = async |client| {
        let mut answered = 0_u32;
        while begun.elapsed() < lasts {
            answered += u32::from(resolve(client, providers).await.is_ok());
        }
        answered
    };
    let (one, other) = tokio::join!(one(&clients[0]), one(&clients[1]));
    f64::from(one + other) / begun.elapsed().as_secs_f64()
}

/// Begins so many calls a second, whatever becomes of those before.
async fn open_loop(clients: &[CredentialResolverClient<Channel>], providers: &[String], per_second: f64) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let interval = Duration::from_secs_f64(1.0 / per_second);
    let mut calls = JoinSet::new();
    let (mut due, until) = (Instant::now(), Instant::now() + LASTS);
    for client in clients.iter().cycle() {
        if due >= until {
            break;
        }
        // The runtime's clock ticks each millisecond: what has become due meanwhile follows at once.
        tokio::time::sleep_until(due.into()).await;
        let (client, providers, seen) = (client.clone(), providers.to_vec(), Arc::clone(&seen));
        calls.spawn(async move {
            let answer = resolve(&client, &providers).await;
            seen.lock().unwrap().note(due.elapsed(), &answer);
        });
        due += interval;
        while let Some(ended) = calls.try_join_next() {
            ended.unwrap();
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    std::mem::take(&mut *seen.lock().unwrap())
}

#[tokio::test]
async fn at_twice_the_capacity_the_excess_is_refused_and_the_rest_served_and_then_all_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path());
    let (operator, bystander) = (server.operator(), server.order_service());
    let providers = fill(&operator).await;
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| server.order_service().resolver).collect();
    for client in &clients {
        resolve(client, &providers).await.unwrap();
    }
    let capacity = capacity(&clients, &providers).await;
    let before = resident(&server);

    let mut health = HealthClient::new(bystander.channel.clone());
    let mut checks = Vec::new();
    let plain = Endpoint::try_from(format!("http://{}", server.health_listen)).unwrap();
    let mut plain = HealthClient::new(plain.connect_lazy());
    let beside = async {
        loop {
            let asked = Instant::now();
            health.check(HealthCheckRequest::default()).await.unwrap();
            checks.push(asked.elapsed());
            plain.check(HealthCheckRequest::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut lists = Seen::default();
    let listing = async {
        loop {
            let asked = Instant::now();
            let request = v1::ListCredentialsRequest {
                tenant: "firm".into(),
                ..v1::ListCredentialsRequest::default()
            };
            let answer = operator.admin.clone().list_credentials(request).await;
            lists.note(asked.elapsed(), &answer.map(drop));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::select! {
        // Two calls under way do not reach all that there is: half as much again does, and this is twice that.
        seen = open_loop(&clients, &providers, 3.0 * capacity) => seen,
        _ = beside => unreachable!("it goes on"),
        _ = listing => unreachable!("it goes on"),
    };
    let grown = resident(&server).saturating_sub(before);
    let rate = |calls: &[Duration]| f64::from(u32::try_from(calls.len()).unwrap()) / LASTS.as_secs_f64();
    println!(
        "capacity {capacity:.0}/s; accepted {:.0}/s, p99 {:?}; refused {:.0}/s, p99 {:?}; {} health checks, p99 {:?}; grown {} KiB",
        rate(&seen.accepted),
        p99(&seen.accepted),
        rate(&seen.refused),
        p99(&seen.refused),
        checks.len(),
        p99(&checks),
        grown >> 10,
    );
    assert!(rate(&seen.refused) > capacity / 5.0, "it was no overload");
    assert!(!seen.accepted.is_empty(), "none is served");
    assert!(lists.refused.len() > lists.accepted.len(), "lists can wait");
    assert!(!checks.is_empty(), "health does not answer");
    assert!(grown < GROWTH, "it has grown by {grown} bytes");

    // By itself.
    let deadline = Instant::now() + PATIENCE;
    let mut in_a_row = 0;
    while in_a_row < 50 {
        assert!(Instant::now() < deadline, "it has not recovered");
        let asked = Instant::now();
        let is_well = resolve(&clients[0], &providers).await.is_ok() && asked.elapsed() < ALONE_WITHIN;
        in_a_row = if is_well { in_a_row + 1 } else { 0 };
    }
    server.stop().await;
}

/// What a reader has when it has read on to the end.
async fn all<T: prost::Message + Default>(mut reader: Narrow) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(message) = reader.next().await {
        all.push(message);
    }
    all
}

#[tokio::test]
async fn readers_that_stop_reading_harm_nobody_and_get_everything_when_they_read_on() {
    const SAVES: usize = 50;
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path());
    let (operator, order_service) = (server.operator(), server.order_service());
    let providers = fill(&operator).await;
    // Lines for the reader of the audit log: a few hundred.
    for _ in 0..50 {
        resolve(&order_service.resolver, &providers).await.unwrap();
    }
    let before = resident(&server);
    let watch = v1::WatchChangesRequest {
        tenant: "firm".into(),
        ..v1::WatchChangesRequest::default()
    };
    let path = |service: &str, method: &str| format!("/dynarex.credentials.v1.{service}/{method}");
    let operates = |method| path("VaultOperator", method);
    let by_operator = &server.pki.operator;
    let watch_path = path("CredentialResolver", "WatchChanges");
    let mut changes = Narrow::call(&server, &server.pki.order_service, &watch_path, &watch, 16).await;
    let request = v1::ReadAuditRequest::default();
    let mut lines = Narrow::call(&server, by_operator, &operates("ReadAudit"), &request, 1024).await;
    let request = v1::CheckStoreRequest::default();
    // Of so small a store there is little to tell.
    let mut seen = Narrow::call(&server, by_operator, &operates("CheckStore"), &request, 4).await;
    lines.is_blocked().await;
    seen.is_blocked().await;

    let mut times = Vec::new();
    for round in 0..SAVES {
        let put = put_login(
            name("firm", &providers[round % providers.len()], general()),
            login("other"),
        );
        operator.save(put).await;
        let asked = Instant::now();
        resolve(&order_service.resolver, &providers).await.unwrap();
        times.push(asked.elapsed());
    }
    changes.is_blocked().await;
    assert!(p99(&times) < ALONE_WITHIN, "{:?}", p99(&times));
    let grown = resident(&server).saturating_sub(before);
    println!("p99 {:?}, grown {} KiB", p99(&times), grown >> 10);
    assert!(grown < GROWTH, "it has grown by {grown} bytes");
    // Still: nobody has read.
    for reader in [&mut changes, &mut lines, &mut seen] {
        reader.is_blocked().await;
    }

    let seen = all::<v1::CheckStoreResponse>(seen).await;
    let is_end = |message: &v1::CheckStoreResponse| {
        use v1::check_store_response::Seen;
        assert!(!matches!(message.seen, Some(Seen::Finding(_))), "{message:?}");
        matches!(message.seen, Some(Seen::Records(_)))
    };
    assert!(seen.iter().any(is_end), "{seen:?}");
    let numbers = all::<v1::ReadAuditResponse>(lines).await;
    let numbers: Vec<_> = numbers
        .into_iter()
        .map(|line| line.record.unwrap().line_number)
        .collect();
    assert!(numbers.len() > 50 * providers.len());
    assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "none is left out");
    let mut saved = Vec::new();
    while saved.len() < SAVES {
        let change: v1::WatchChangesResponse = changes.next().await.unwrap();
        let event = change.event.unwrap();
        if event.kind() == v1::change_event::Kind::Saved {
            saved.push(event.revision);
        }
    }
    assert!(saved.is_sorted(), "{saved:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_backup_that_nobody_reads_harms_nobody_and_is_whole_when_it_is_read_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path());
    let (operator, order_service) = (server.operator(), server.order_service());
    let providers = fill(&operator).await;
    let request = v1::BackupRequest::default();
    let path = "/dynarex.credentials.v1.VaultOperator/Backup";
    let mut backup = Narrow::call(&server, &server.pki.operator, path, &request, 1024).await;
    backup.is_blocked().await;
    for provider in &providers {
        let put = put_login(name("firm", provider, general()), login("other"));
        operator.save(put).await;
        resolve(&order_service.resolver, &providers).await.unwrap();
    }
    backup.is_blocked().await;
    let parts = all::<v1::BackupResponse>(backup).await;
    let file = directory.path().join("backup");
    let bytes: Vec<_> = parts.into_iter().flat_map(|part| part.chunk).collect();
    std::fs::write(&file, bytes).unwrap();
    server.stop().await;
    let mut verify = tresor(&["backup", "verify", "--config"]);
    let verified = verify
        .arg(directory.path().join("tresor.toml"))
        .arg(file)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test]
async fn large_answers_that_nobody_takes_are_bounded_until_they_are_taken() {
    const WINDOW: u32 = 16 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path());
    let operator = server.operator();
    operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
    let request = v1::CheckCoverageRequest {
        tenant: "firm".into(),
        office_ids: (0..10_000).map(|number| format!("{number:0100}")).collect(),
        ..v1::CheckCoverageRequest::default()
    };
    let survey = async || operator.admin.clone().check_coverage(request.clone()).await;
    let size = prost::Message::encoded_len(survey().await.unwrap().get_ref());
    // Much more than what a connection takes before its client has room.
    assert!(size > 1 << 20, "{size}");
    let path = "/dynarex.credentials.v1.CredentialAdmin/CheckCoverage";
    let mut untaken = Vec::new();
    // As many as there is room for, in KiB.
    for _ in 0..(24 << 20) / size.next_multiple_of(1024) {
        let mut reader = Narrow::call(&server, &server.pki.operator, path, &request, WINDOW).await;
        reader.is_blocked().await;
        untaken.push(reader);
    }
    let refused = survey().await.map(drop).unwrap_err();
    let reason = refused.get_details_error_info().map(|info| info.reason);
    assert_eq!(reason.as_deref(), Some("TOO_MANY_CALLS"), "{refused:?}");
    let taken = all::<v1::CheckCoverageResponse>(untaken.pop().unwrap()).await;
    assert_eq!(prost::Message::encoded_len(&taken[0]), size);
    survey().await.unwrap();
    server.stop().await;
}
