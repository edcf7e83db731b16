//! The audit log of the real process: every call has its line before it is answered, whatever happens.
#![allow(missing_docs, clippy::unwrap_used)]

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
use tresor::audit::{Keys, Report};
use tresor::pb::v1;

use support::callers::Callers;
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
    let resolved = orders
        .resolver
        .clone()
        .resolve_for_order(request)
        .await
        .unwrap()
        .into_inner();
    let line = last();
    for (field, expected) in [
        ("event", "call"),
        ("method", "ResolveForOrder"),
        ("caller", ORDERS),
        ("tenant", "demo"),
        ("provider", "dat"),
        ("order_id", "a \"quoted\" order \\ 訂單"),
        ("request_id", "req-7"),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_every_answered_resolve_has_its_line_and_the_log_is_whole() {
    const CALLERS: u64 = 6;
    const ENOUGH: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let mut answered = BTreeSet::new();
    for life in 0..3 {
        let server = Server::dev(directory.path());
        let done = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (orders, done) = (server.order_service(), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut answered = Vec::new();
                    for number in 0_u64.. {
                        let order = format!("{life}-{caller}-{number}");
                        if resolve(&orders, &order).await.is_err() {
                            break;
                        }
                        answered.push(order);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    answered
                })
            })
            .collect();
        let enough = async {
            while done.load(Ordering::Relaxed) < ENOUGH {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, enough)
            .await
            .expect("calls are answered");
        server.kill();
        for caller in callers {
            answered.extend(caller.await.unwrap());
        }
    }
    let server = Server::dev(directory.path());
    let listed: BTreeSet<_> = lines(&audit_of(directory.path()))
        .into_iter()
        .filter_map(|line| line["order_id"].as_str().map(str::to_owned))
        .collect();
    let missing: Vec<_> = answered.difference(&listed).collect();
    assert!(missing.is_empty() && answered.len() as u64 >= 3 * ENOUGH, "{missing:?}");
    let report = verify(&server, &audit_of(directory.path())).await;
    assert!(report.findings.is_empty(), "{report:#?}");
    server.stop().await;
}

#[tokio::test]
async fn a_removed_file_fails_a_call_shows_in_health_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let orders = server.order_service();
    resolve(&orders, "before").await.unwrap();
    let audit = audit_of(directory.path());
    let away = directory.path().join("away");
    fs::rename(&audit, &away).unwrap();
    fs::write(&audit, "in the way").unwrap();
    assert_eq!(told(resolve(&orders, "refused").await), unavailable());
    // Whoever may not do a thing is told nothing more than usual, and a change is not made.
    let put = put_login(name("firm", "dat", general()), login("x"));
    assert_eq!(
        told(server.operator().admin.clone().put_credential(put).await),
        unavailable()
    );
    until_serving(&server, false).await;
    fs::remove_file(&audit).unwrap();
    until_serving(&server, true).await;
    until_resolved(&orders, "after").await;
    let get = v1::GetCredentialRequest {
        r#ref: Some(name("firm", "dat", general())),
    };
    let found = told(server.operator().admin.clone().get_credential(get).await);
    assert_eq!(
        found.0,
        Code::NotFound,
        "nothing was changed while nothing could be listed"
    );
    server.stop().await;
    let orders: Vec<_> = lines(&audit)
        .into_iter()
        .filter_map(|line| line["order_id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(orders.last().map(String::as_str), Some("after"));
    assert!(!orders.contains(&"refused".to_owned()));
}

#[tokio::test]
async fn a_full_disk_fails_calls_shows_in_health_and_heals() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

    let directory = tempfile::tempdir().unwrap();
    // A process that may not write beyond a size gets an error for it, as from a full disk.
    let server = Server::dev_ignoring_size_signals(directory.path());
    let orders = server.order_service();
    resolve(&orders, "before").await.unwrap();
    let size = fs::metadata(audit_of(directory.path()).join("audit-000001.jsonl"))
        .unwrap()
        .len();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let before = getrlimit(Resource::Fsize);
    let limit = |current| Rlimit {
        current,
        maximum: before.maximum,
    };
    prlimit(pid, Resource::Fsize, limit(Some(size + 40))).unwrap();
    assert_eq!(told(resolve(&orders, "refused").await), unavailable());
    until_serving(&server, false).await;
    prlimit(pid, Resource::Fsize, limit(before.current)).unwrap();
    until_serving(&server, true).await;
    until_resolved(&orders, "after").await;
    let report = verify(&server, &audit_of(directory.path())).await;
    assert!(report.findings.is_empty(), "{report:#?}");
    assert!(
        report.notes.iter().any(|note| note.what.contains("calls were refused")),
        "{report:#?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn cve_2026_115357_no_answer_leaves_when_a_collector_takes_no_lines() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let environment = [("TRESOR_AUDIT_STDOUT", "true"), ("TRESOR_AUDIT_TIMEOUT", "200ms")];
    let (server, mut collector) = Server::serve_piped(directory.path(), &environment);
    server
        .operator()
        .save(put_login(name("demo", "dat", general()), login("kept")))
        .await;
    let orders = server.order_service();
    let mut request = for_order("x");
    request.order.as_mut().unwrap().order_id = "o".repeat(128);
    // Until the pipe is full, which nobody reads.
    let filling = async {
        loop {
            match orders.resolver.clone().resolve_for_order(request.clone()).await {
                Ok(_) => {}
                refused => return told(refused),
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, filling).await.unwrap(), unavailable());
    until_serving(&server, false).await;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut collector, &mut text).map(|_| text)
    });
    until_serving(&server, true).await;
    until_resolved(&orders, "after").await;
    server.stop().await;
    let collected = reader.join().unwrap().unwrap();
    assert!(
        collected
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
    assert!(collected.contains("\"order_id\":\"after\""));
}

#[tokio::test]
async fn a_log_that_was_cut_while_nobody_looked_is_recorded_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    resolve(&server.order_service(), "kept").await.unwrap();
    server.stop().await;
    let file = audit_of(directory.path()).join("audit-000001.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let count = text.lines().count();
    let cut: String = text.split_inclusive('\n').take(count - 3).collect();
    fs::write(&file, cut).unwrap();
    let server = Server::dev(directory.path());
    let events = || {
        let lines = lines(&audit_of(directory.path()));
        lines.into_iter().map(|line| line["event"].clone()).collect::<Vec<_>>()
    };
    wait_for("the record of the cut", || {
        events().contains(&"log_cut".into()).then_some(())
    });
    let report = verify(&server, &audit_of(directory.path())).await;
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.what.contains("were missing")),
        "{report:#?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_reader_gets_the_lines_of_its_tenants_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let policy = directory.path().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let grant = |who: &str, tenants: &str| {
        format!(
            "\n[[grant]]\nwho = \"{who}\"\nmay = [\"audit.read\"]\ntenants = [\"{tenants}\"]\nproviders = [\"*\"]\nreveal = \"none\"\n"
        )
    };
    fs::write(
        &policy,
        text + &grant(ORDERS, "one") + &grant("spiffe://dynarex.local/operator", "*"),
    )
    .unwrap();
    let server = Server::serve(directory.path(), &[]);
    let (operator, orders) = (server.operator(), server.order_service());
    for tenant in ["one", "other"] {
        operator
            .save(put_login(name(tenant, "dat", general()), login("x")))
            .await;
        orders.resolve(tenant, "dat", "").await.unwrap();
    }
    let read = async |callers: &Callers, request: v1::ReadAuditRequest| -> Result<Vec<v1::AuditRecord>, Status> {
        let mut stream = callers.operator.clone().read_audit(request).await?.into_inner();
        let mut records = Vec::new();
        while let Some(answer) = stream.message().await? {
            records.extend(answer.record);
        }
        Ok(records)
    };
    let all = v1::ReadAuditRequest::default;
    let seen = read(&orders, all()).await.unwrap();
    assert_eq!(seen.len(), 3, "{seen:#?}");
    assert!(seen.iter().all(|record| record.tenant == "one"));
    let of_other = v1::ReadAuditRequest {
        tenant: "other".into(),
        ..all()
    };
    assert_eq!(told(read(&orders, of_other.clone()).await).1, "NOT_GRANTED");
    assert_eq!(
        read(&operator, of_other).await.unwrap().len(),
        4,
        "the denied reading too"
    );
    let everything = read(&operator, all()).await.unwrap();
    assert!(everything.iter().any(|record| record.event == "started"));
    let resolves = v1::ReadAuditRequest {
        method: "ResolveForOrder".into(),
        caller: ORDERS.into(),
        order_id: "2026-0815".into(),
        outcome: "ok".into(),
        ..all()
    };
    let found = read(&operator, resolves).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found[0].json.contains("\"prev\":") && found[0].time.is_some());
    // Reading is listed, too: that it began, and how much was read.
    let readings = lines(&directory.path().join("audit"));
    let ended = readings.iter().filter(|line| line["event"] == "stream_ended");
    assert!(
        ended.clone().any(|line| line["messages"] == 3),
        "{:#?}",
        ended.collect::<Vec<_>>()
    );
    server.stop().await;
}

#[tokio::test]
async fn the_command_line_shows_and_verifies_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    resolve(&server.order_service(), "2026-0815").await.unwrap();
    resolve(&server.order_service(), "other").await.unwrap();
    let audit = audit_of(directory.path());
    let url = format!("https://localhost:{}", server.listen.port());
    let data = directory.path().join("data").display().to_string();
    let online = ["--server", &url, "--dev-dir", &data];
    let run = async |arguments: &[&str]| {
        let mut command = tresor(arguments);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let directory_text = audit.display().to_string();
    let show = ["audit", "show", "--order", "2026-0815"];
    let (code, shown, _) = run(&[&show[..], &online].concat()).await;
    assert!(
        code == Some(0) && shown.contains("demo/dat/office/leipzig v1"),
        "{shown}"
    );
    assert!(shown.contains(ORDERS) && !shown.contains(" other "), "{shown}");
    let (code, offline, _) = run(&[&show[..], &["--dir", &directory_text, "--output", "json"]].concat()).await;
    let offline: Value = serde_json::from_str(&offline).unwrap();
    assert_eq!(
        (code, offline["lines"][0]["order_id"].as_str()),
        (Some(0), Some("2026-0815"))
    );

    let verify = ["audit", "verify", &directory_text, "--output", "json"];
    let (code, verdict, said) = run(&[&verify[..], &online].concat()).await;
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!(
        (code, &verdict["is_whole"]),
        (Some(0), &true.into()),
        "{verdict} {said}"
    );
    let jwks = directory.path().join("jwks.json").display().to_string();
    let keys = server
        .operator()
        .resolver
        .clone()
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await;
    fs::write(&jwks, keys.unwrap().into_inner().jwks).unwrap();
    server.stop().await;
    let offline = [&verify[..], &["--jwks", &jwks]].concat();
    let (code, verdict, _) = run(&offline).await;
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!((code, &verdict["signed_line"]), (Some(0), &verdict["last_line"]));
    let file = audit.join("audit-000001.jsonl");
    let changed = fs::read_to_string(&file).unwrap().replacen("2026-0815", "2026-0816", 1);
    fs::write(&file, changed).unwrap();
    let (code, verdict, _) = run(&offline).await;
    assert_eq!(code, Some(9));
    assert!(verdict.contains("they do not fit together"), "{verdict}");
}
