//! Who reads the log, and what it is shown.

use super::*;

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
    let mut named = Request::new(v1::GetStatusRequest {});
    named
        .metadata_mut()
        .insert("x-request-id", "order-7.3".parse().unwrap());
    operator.operator.clone().get_status(named).await.unwrap();
    let of_request = v1::ReadAuditRequest {
        request_id: "order-7.3".into(),
        ..all()
    };
    let found = read(&operator, of_request).await.unwrap();
    assert_eq!((found.len(), &*found[0].method), (1, "GetStatus"));
    let no_id = v1::ReadAuditRequest {
        request_id: "no id".into(),
        ..all()
    };
    assert_eq!(told(read(&operator, no_id).await).1, "INVALID_FIELD");
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

    let resolved = server.order_service().resolve("nobody", "wom", "leipzig").await;
    let refused = resolved.err().unwrap();
    let id = refused.get_details_request_info().unwrap().request_id;
    for place in [&online[..], &["--dir", &directory_text]] {
        let one = ["audit", "show", "--output", "json", "--request", &id];
        let shown: Value = serde_json::from_str(&run(&[&one[..], place].concat()).await.1).unwrap();
        let shown = shown["lines"].as_array().unwrap();
        assert_eq!(
            (shown.len(), &shown[0]["request_id"]),
            (1, &id.as_str().into()),
            "{shown:?}"
        );
    }

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
