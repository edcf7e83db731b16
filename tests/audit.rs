//! The audit log of the real process: every call has its line before it is answered, whatever happens.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "audit/failures.rs"]
mod failures;
#[path = "audit/reading.rs"]
mod reading;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use tresor::audit::{Keys, Report};
use tresor::pb::v1;

use support::callers::Callers;
use support::certificates::replace;
use support::process::{Server, prepare, tresor};
use support::requests::{general, login, name, office, put_login};
use support::{PATIENCE, told, wait_for};

const ORDERS: &str = "spiffe://dynarex.local/order-service";

fn unavailable() -> (Code, String) {
    (Code::Unavailable, "AUDIT_UNAVAILABLE".into())
}

/// Every whole line of a log.
fn lines(directory: &Path) -> Vec<Value> {
    let files = tresor::audit::files_in(directory).unwrap();
    let text = files
        .into_iter()
        .flat_map(|(_, path)| fs::read(path).unwrap_or_default());
    String::from_utf8_lossy(&text.collect::<Vec<_>>())
        .split_inclusive('\n')
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn audit_of(directory: &Path) -> PathBuf {
    directory.join("data/audit")
}

fn for_order(order: &str) -> v1::ResolveForOrderRequest {
    v1::ResolveForOrderRequest {
        tenant: "demo".into(),
        provider: "dat".into(),
        order: Some(v1::Order {
            order_id: order.into(),
            office_id: "leipzig".into(),
            ..v1::Order::default()
        }),
        ..v1::ResolveForOrderRequest::default()
    }
}

async fn resolve(callers: &Callers, order: &str) -> Result<v1::ResolveForOrderResponse, Status> {
    let answer = callers.resolver.clone().resolve_for_order(for_order(order)).await?;
    Ok(answer.into_inner())
}

async fn verify(server: &Server, directory: &Path) -> Report {
    let keys = server.operator().resolver.clone();
    let keys = keys
        .clone()
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await
        .unwrap();
    let keys = Keys::parse(&keys.into_inner().jwks).unwrap();
    tresor::audit::verify(directory, Some(keys), None).unwrap()
}

/// What health says of a service, asked in plaintext.
async fn is_serving(server: &Server, service: &str) -> bool {
    let endpoint = Endpoint::try_from(format!("http://{}", server.health_listen)).unwrap();
    let mut health = HealthClient::new(endpoint.connect_lazy());
    let request = HealthCheckRequest {
        service: service.into(),
    };
    health.check(request).await.unwrap().into_inner().status() == ServingStatus::Serving
}

async fn until_serving(server: &Server, serving: bool) {
    let waiting = async {
        while is_serving(server, "dynarex.credentials.v1.CredentialResolver").await != serving {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("health changes");
}

async fn until_resolved(callers: &Callers, order: &str) {
    let trying = async {
        while resolve(callers, order).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("it recovers");
}

#[tokio::test]
async fn an_error_names_the_id_under_which_the_log_has_its_call() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let orders = server.order_service();
    let told_id = |status: &Status| {
        let info = status.get_details_request_info().unwrap();
        assert_eq!(status.metadata().get("x-request-id").unwrap(), info.request_id.as_str());
        info.request_id
    };
    let in_log = || {
        let line = lines(&audit_of(directory.path())).pop().unwrap();
        line["request_id"].as_str().unwrap().to_owned()
    };
    // One that the caller has sent, and ones that are made for calls without, or whose id is none.
    for sent in [Some("req-8"), None, Some("no id")] {
        let mut request = Request::new(v1::GetStatusRequest {});
        if let Some(sent) = sent {
            request.metadata_mut().insert("x-request-id", sent.parse().unwrap());
        }
        let refused = orders.operator.clone().get_status(request).await.unwrap_err();
        assert_eq!(told_id(&refused), in_log());
        if sent == Some("req-8") {
            assert_eq!(in_log(), "req-8");
        } else {
            assert_eq!(in_log().len(), 32);
        }
    }
    // The same where the gate refuses.
    let mut grpc = tonic::client::Grpc::new(orders.channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::GetStatusRequest, v1::GetStatusResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/dynarex.credentials.v1.VaultOperator/Nothing");
    let unknown = grpc
        .unary(Request::new(v1::GetStatusRequest {}), path, codec)
        .await
        .unwrap_err();
    assert_eq!(told_id(&unknown), in_log());
}

#[tokio::test]
async fn every_call_has_its_line_when_it_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let (orders, operator) = (server.order_service(), server.operator());
    let last = || lines(&audit_of(directory.path())).pop().unwrap();

    let mut request = Request::new(v1::ResolveForOrderRequest {
        with_receipt: true,
        ..for_order("a \"quoted\" order \\ 訂單")
    });
    request.metadata_mut().insert("x-request-id", "req-7".parse().unwrap());
    let resolved = orders.resolver.clone().resolve_for_order(request).await.unwrap();
    assert_eq!(resolved.metadata().get("x-request-id").unwrap(), "req-7");
    let resolved = resolved.into_inner();
    let line = last();
    for (field, expected) in [
        ("event", "call"),
        ("method", "ResolveForOrder"),
        ("caller", ORDERS),
        ("tenant", "demo"),
        ("provider", "dat"),
        ("order_id", "a \"quoted\" order \\ 訂單"),
        ("request_id", "req-7"),
        ("reveal", "full"),
        ("outcome", "ok"),
        ("code", "OK"),
    ] {
        assert_eq!(line[field], expected, "{line}");
    }
    assert_eq!(line["version"], resolved.credential.unwrap().version, "{line}");
    let receipt: Vec<_> = resolved.receipt.split('.').map(str::to_owned).collect();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &receipt[1]).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(line["receipt"], claims["jti"]);
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");

    assert_eq!(told(orders.status().await).0, Code::PermissionDenied);
    assert_eq!(
        (&last()["outcome"], &last()["reason"]),
        (&"denied".into(), &"NOT_GRANTED".into())
    );

    let mut malformed = for_order("x");
    malformed.tenant = "not a tenant\n".into();
    told(operator.resolver.clone().resolve_for_order(malformed).await);
    assert_eq!(
        (&last()["outcome"], &last()["tenant"]),
        (&"failed".into(), &Value::Null)
    );

    let stranger = Callers::connect(&server, None);
    assert_eq!(told(stranger.status().await).1, "NO_IDENTITY");
    let line = last();
    assert_eq!(
        (&line["reason"], &line["caller"]),
        (&"NO_IDENTITY".into(), &Value::Null),
        "{line}"
    );
    assert_eq!(line["method"], "GetStatus");

    let many = v1::ResolveManyForOrderRequest {
        tenant: "demo".into(),
        providers: ["dat", "wom", "nothing"].map(str::to_owned).into(),
        order: for_order("many").order,
        ..v1::ResolveManyForOrderRequest::default()
    };
    orders.resolver.clone().resolve_many_for_order(many).await.unwrap();
    let of_order: Vec<_> = lines(&audit_of(directory.path()))
        .into_iter()
        .filter(|line| line["order_id"] == "many")
        .map(|line| (line["provider"].as_str().map(str::to_owned), line["outcome"].clone()))
        .collect();
    let expected = [
        (Some("dat"), "ok"),
        (Some("wom"), "ok"),
        (Some("nothing"), "failed"),
        (None, "ok"),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(provider, outcome)| (provider.map(str::to_owned), Value::from(outcome)))
        .collect();
    assert_eq!(of_order, expected);

    let report = verify(&server, &audit_of(directory.path())).await;
    assert!(report.findings.is_empty(), "{report:#?}");
    server.stop().await;
}

#[tokio::test]
async fn what_the_vault_changes_by_itself_is_announced_too() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let request = v1::RotateDataKeyRequest {
        target: Some(v1::rotate_data_key_request::Target::Tenant("demo".into())),
    };
    let operator = server.operator();
    operator.operator.clone().rotate_data_key(request).await.unwrap();
    let line = wait_for("the line of the upkeep", || {
        let all = lines(&audit_of(directory.path()));
        all.into_iter().find(|line| line["event"] == "upkeep")
    });
    assert_eq!(
        (&line["method"], &line["tenant"], &line["caller"]),
        (&"RotateDataKey".into(), &"demo".into(), &Value::Null),
        "{line}"
    );
    server.stop().await;
}

#[tokio::test]
async fn calls_that_come_to_no_service_are_counted_and_fill_no_disk() {
    const CALLS: u64 = 400;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let channel = server.operator().channel;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let channel = channel.clone();
        calls.spawn(async move {
            let mut client = tonic::client::Grpc::new(channel);
            client.ready().await.unwrap();
            let path = "/dynarex.credentials.v1.Other/GetStatus".parse().unwrap();
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            told(client.unary(Request::new(()), path, codec).await)
        });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap(), (Code::Unimplemented, "UNKNOWN_METHOD".into()));
    }
    server.stop().await;
    let all = lines(&audit_of(directory.path()));
    let method = "dynarex.credentials.v1.Other/GetStatus";
    let listed = all.iter().filter(|line| line["method"] == method).count() as u64;
    let counted: u64 = all
        .iter()
        .filter(|line| line["event"] == "not_listed" && line["reason"] == "UNKNOWN_METHOD")
        .map(|line| line["count"].as_u64().unwrap())
        .sum();
    assert_eq!(listed + counted, CALLS);
    assert!(counted > 0, "each has a line of its own");
}

#[tokio::test]
async fn a_stream_is_listed_when_it_begins_and_when_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let orders = server.order_service();
    let last = || lines(&audit_of(directory.path())).pop().unwrap();
    let watch = v1::WatchChangesRequest {
        tenant: "demo".into(),
        ..v1::WatchChangesRequest::default()
    };
    let watching = orders.resolver.clone().watch_changes(watch).await.unwrap();
    assert_eq!(
        (&last()["event"], &last()["method"]),
        (&"call".into(), &"WatchChanges".into())
    );
    drop(watching);
    let ended = || last()["event"] == "stream_ended";
    tokio::time::timeout(PATIENCE, async {
        while !ended() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the end of a stream is listed");
    server.stop().await;
}

#[tokio::test]
async fn a_change_is_announced_before_it_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let operator = server.operator();
    let named = || name("firm", "dat", general());
    operator.save(put_login(named(), login("x"))).await;
    operator.assign("firm", "dat", v1::AssignmentMode::General).await;
    let state = v1::SetCredentialStateRequest {
        r#ref: Some(named()),
        state: v1::CredentialState::Disabled.into(),
        expected_version: None,
    };
    operator.admin.clone().set_credential_state(state).await.unwrap();
    let delete = v1::DeleteCredentialRequest {
        r#ref: Some(named()),
        expected_version: None,
    };
    operator.admin.clone().delete_credential(delete).await.unwrap();
    let undelete = v1::UndeleteCredentialRequest {
        r#ref: Some(named()),
        expected_version: None,
    };
    operator.admin.clone().undelete_credential(undelete).await.unwrap();
    let rollback = v1::RollbackCredentialRequest {
        r#ref: Some(named()),
        to_version: 1,
        expected_version: None,
    };
    operator.admin.clone().rollback_credential(rollback).await.unwrap();
    let purge = v1::PurgeCredentialRequest {
        r#ref: Some(named()),
        confirm: "firm/dat/general".into(),
    };
    operator.admin.clone().purge_credential(purge).await.unwrap();
    let all = lines(&audit_of(directory.path()));
    let of_firm: Vec<_> = all.iter().filter(|line| line["tenant"] == "firm").collect();
    assert_eq!(of_firm.len(), 14, "{of_firm:#?}");
    for pair in of_firm.chunks(2) {
        assert_eq!(
            (&pair[0]["event"], &pair[1]["event"]),
            (&"intent".into(), &"call".into())
        );
        assert_eq!(pair[1]["intent"], pair[0]["seq"], "{pair:#?}");
        assert_eq!(pair[0]["method"], pair[1]["method"]);
    }
    server.stop().await;
}

#[tokio::test]
async fn cve_2025_62705_2025_62513_2026_115358_no_secret_is_in_the_audit_log_nor_a_hash_of_one() {
    use sha2::{Digest as _, Sha256};

    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let operator = server.operator();
    let secret = "Zq7x-planted-secret-Kw";
    let planted = v1::Login {
        customer_signature: secret.into(),
        interface_partner_signature: secret.into(),
        ..login(secret)
    };
    let put = v1::PutCredentialRequest {
        note: secret.into(),
        ..put_login(name("firm", "dat", general()), planted.clone())
    };
    operator.save(put.clone()).await;
    operator.resolve("firm", "dat", "").await.unwrap();
    let wrong_provider = put_login(name("firm", "email", general()), planted.clone());
    told(operator.admin.clone().put_credential(wrong_provider).await);
    // A secret in the place of an id that it cannot be.
    let misplaced = put_login(
        name(
            &format!("{secret} "),
            &format!("{secret}!"),
            office(&format!("/{secret}")),
        ),
        planted,
    );
    told(operator.admin.clone().put_credential(misplaced).await);
    server.stop().await;
    let log: Vec<u8> = tresor::audit::files_in(&audit_of(directory.path()))
        .unwrap()
        .into_iter()
        .flat_map(|(_, path)| fs::read(path).unwrap())
        .collect();
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("PutCredential") && log.contains("ResolveForOrder"));
    for form in [
        secret.to_owned(),
        hex::encode(secret),
        hex::encode(Sha256::digest(secret)),
    ] {
        assert!(!log.contains(&form), "{form}");
    }
}
