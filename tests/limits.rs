//! How much a vault takes on, and what it says to whoever asks for more.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use prost::Message as _;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use tresor::pb::v1::{self, change_event::Kind};

use support::callers::Callers;
use support::process::{Server, prepare};
use support::requests::{general, login, name, order, put_login};
use support::{PATIENCE, told};

const KIB: usize = 1024;

fn serve(directory: &std::path::Path, environment: &[(&str, &str)]) -> Server {
    prepare(directory);
    Server::serve(directory, environment)
}

#[tokio::test]
async fn a_request_may_have_64_kib_and_a_coverage_check_4_mib() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), &[]);
    let operator = server.operator();
    let of_size = |size: usize| {
        let mut request = put_login(name("firm", "dat", general()), login("password"));
        // The note is too long, and is told so only if the request is read at all.
        let bare = request.encoded_len();
        request.note = "x".repeat(size - bare - 4);
        assert_eq!(request.encoded_len(), size);
        request
    };
    let put = async |size| told(operator.admin.clone().put_credential(of_size(size)).await);
    assert_eq!(put(64 * KIB).await, (Code::InvalidArgument, "INVALID_FIELD".into()));
    assert_eq!(
        put(64 * KIB + 1).await,
        (Code::InvalidArgument, "REQUEST_TOO_LARGE".into())
    );
    assert_eq!(
        put(KIB * KIB).await,
        (Code::InvalidArgument, "REQUEST_TOO_LARGE".into())
    );

    operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
    let check = |office_ids| v1::CheckCoverageRequest {
        tenant: "firm".into(),
        office_ids,
        providers: vec!["wom".into()],
        ..v1::CheckCoverageRequest::default()
    };
    let ids: Vec<_> = (0..10_000).map(|n| format!("{n:0>128}")).collect();
    let answer = operator
        .admin
        .clone()
        .check_coverage(check(ids.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.gaps.len(), 10_000);
    let too_many = check([ids.clone(), vec!["one-more".into()]].concat());
    let refused = told(operator.admin.clone().check_coverage(too_many).await);
    assert_eq!(refused, (Code::InvalidArgument, "INVALID_FIELD".into()));
    let too_large = check(ids.iter().cycle().take(33_000).cloned().collect());
    assert!(too_large.encoded_len() > 4 * KIB * KIB);
    let refused = told(operator.admin.clone().check_coverage(too_large).await);
    assert_eq!(refused, (Code::InvalidArgument, "REQUEST_TOO_LARGE".into()));
    server.stop().await;
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_the_default_one_and_a_watch_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let deadline = Duration::from_secs(2);
    let settings = [
        ("TRESOR_SERVER_DEFAULT_DEADLINE", "2s"),
        ("TRESOR_RESOLVER_STALE_WAIT", "30s"),
    ];
    let server = serve(directory.path(), &settings);
    let (operator, order_service) = (server.operator(), server.order_service());
    let watch = v1::WatchChangesRequest {
        tenant: "firm".into(),
        ..v1::WatchChangesRequest::default()
    };
    let mut changes = order_service
        .resolver
        .clone()
        .watch_changes(watch)
        .await
        .unwrap()
        .into_inner();

    // It waits for a revision that does not come.
    let begun = Instant::now();
    let never = v1::ResolveForOrderRequest {
        tenant: "firm".into(),
        provider: "dat".into(),
        order: Some(order("leipzig")),
        with_receipt: false,
        min_revision: u64::MAX,
    };
    let refused = told(order_service.resolver.clone().resolve_for_order(never).await);
    assert_eq!(refused, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
    assert!(begun.elapsed() >= deadline);
    let files = tresor::audit::files_in(&directory.path().join("audit")).unwrap();
    let log = std::fs::read_to_string(&files.last().unwrap().1).unwrap();
    let line = log.lines().last().unwrap();
    assert!(
        line.contains(r#""reason":"DEADLINE_EXCEEDED""#) && line.contains(r#""tenant":"firm""#),
        "{line}"
    );

    let saved = operator
        .save(put_login(name("firm", "dat", general()), login("password")))
        .await;
    let event = changes.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!((event.kind(), event.revision), (Kind::Saved, saved));
    drop(changes);
    server.stop().await;
}

#[tokio::test]
async fn too_many_connections_are_closed_at_once_and_room_is_made_by_those_that_leave() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), &[("TRESOR_SERVER_MAX_CONNECTIONS", "2")]);
    let (operator, order_service) = (server.operator(), server.order_service());
    operator.status().await.unwrap();
    let is_served = async |caller: &Callers| {
        let keys = v1::GetSigningKeysRequest::default();
        caller.resolver.clone().get_signing_keys(keys).await.is_ok()
    };
    assert!(is_served(&order_service).await);
    // Whoever has not said who they are takes nobody's room.
    let _silent: Vec<_> = (0..10).map(|_| TcpStream::connect(server.listen).unwrap()).collect();
    assert!(operator.status().await.is_ok(), "those that are there are served");
    let newcomer = server.order_service();
    assert!(!is_served(&newcomer).await);
    assert!(operator.status().await.is_ok(), "those that were there stay");

    drop(order_service);
    let deadline = Instant::now() + PATIENCE;
    while !is_served(&newcomer).await {
        assert!(Instant::now() < deadline, "no room was made");
    }
    server.stop().await;
}

#[tokio::test]
async fn whoever_floods_health_checks_is_held_back_and_probes_and_calls_are_not() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let policy = directory.path().join("policy.toml");
    let quota = "[quota]\nhealth_checks_per_second = 1\n\n";
    std::fs::write(&policy, quota.to_owned() + &std::fs::read_to_string(&policy).unwrap()).unwrap();
    let server = Server::serve(directory.path(), &[]);
    let (operator, order_service) = (server.operator(), server.order_service());
    let check = async |channel: &Channel| {
        HealthClient::new(channel.clone())
            .check(HealthCheckRequest::default())
            .await
    };

    let mut refused = Vec::new();
    for _ in 0..50 {
        refused.extend(check(&order_service.channel).await.err());
    }
    // Each of the others would have had to take a second.
    assert!(refused.len() > 30, "{}", refused.len());
    for status in refused {
        let retry_after = status.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!(retry_after <= Duration::from_secs(1), "{retry_after:?}");
        assert_eq!(
            told::<()>(Err(status)),
            (Code::ResourceExhausted, "QUOTA_EXCEEDED".into())
        );
    }
    let keys = v1::GetSigningKeysRequest::default();
    assert!(
        order_service.resolver.clone().get_signing_keys(keys).await.is_ok(),
        "a call"
    );
    assert!(check(&operator.channel).await.is_ok(), "somebody else");
    let plain = Endpoint::try_from(format!("http://{}", server.health_listen))
        .unwrap()
        .connect_lazy();
    for _ in 0..50 {
        assert!(check(&plain).await.is_ok(), "a probe");
    }
    server.stop().await;
}
