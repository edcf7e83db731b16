//! What stands in the log after kills, lost files, full disks and collectors that hang.

use super::*;

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
async fn a_policy_that_cannot_be_announced_is_not_in_force_until_it_can() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    // A sandbox would hold on to the folder that is moved away.
    let environment = [("TRESOR_AUDIT_TIMEOUT", "200ms"), ("TRESOR_HARDENING_SANDBOX", "off")];
    let server = Server::serve(directory.path(), &environment);
    assert!(server.operator().status().await.is_ok());
    let audit = directory.path().join("audit");
    let away = directory.path().join("away");
    fs::rename(&audit, &away).unwrap();
    fs::write(&audit, "in the way").unwrap();
    let file = directory.path().join("policy.toml");
    let policy = fs::read_to_string(&file).unwrap().replace(" \"operate\",", "");
    replace(&file, &policy);
    server.has_logged("must not go without a line", 1).await;
    fs::remove_file(&audit).unwrap();
    server.has_logged("\"reloaded\"", 1).await;
    until_serving(&server, true).await;
    assert_eq!(told(server.operator().status().await).1, "NOT_GRANTED");
    let lines = lines(&audit);
    let place = |name: &str, value: &str| lines.iter().position(|line| line[name] == value).unwrap();
    let hash = tresor::audit::Hash::of(policy.as_bytes()).to_string();
    assert!(place("sha256", &hash) < place("reason", "NOT_GRANTED"), "{lines:#?}");
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
