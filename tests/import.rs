//! `tresor import`: many credentials from a file, by the real program against the real server.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "import/interrupted.rs"]
mod interrupted;
mod support;
#[path = "import/waiting.rs"]
mod waiting;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tresor::pb::v1;

use support::callers::{Callers, password};
use support::process::{Server, prepare, tresor};
use support::requests::{general, login, name, office, put_login};
use support::wait_for;

/// How many lines an import has that is interrupted: far more than are acknowledged before that.
const MANY: usize = 20_000;

/// `tresor import` as the operator.
fn import(server: &Server, file: &Path, arguments: &[&str]) -> Command {
    let mut command = tresor(&["import"]);
    let [ca, cert, key] = [
        &server.pki.ca,
        &server.pki.operator.certificate,
        &server.pki.operator.key,
    ];
    command.arg(file).args(["--output", "json", "--server"]);
    command.arg(format!("https://localhost:{}", server.listen.port()));
    command
        .arg("--ca")
        .arg(ca)
        .arg("--cert")
        .arg(cert)
        .arg("--key")
        .arg(key);
    command.args(arguments);
    command
}

/// Exit code, answer and messages.
fn run(command: &mut Command) -> (i32, Value, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let messages = String::from_utf8(stderr).unwrap();
    let answer = serde_json::from_slice(&stdout).unwrap_or_default();
    (status.code().unwrap(), answer, messages)
}

fn counts(answer: &Value) -> [Option<u64>; 3] {
    ["saved", "unchanged", "failed"].map(|name| answer[name].as_u64())
}

/// A file that others may not read.
fn write(directory: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// The line of a login with this password.
fn line(path: &str, password: &str) -> String {
    format!(r#"{{"path":"{path}","customerNumber":"1234567","username":"myuser","password":"{password}"}}"#) + "\n"
}

/// So many logins of a firm, each of another office.
fn many(tenant: &str, count: usize) -> String {
    let mut lines = String::new();
    for number in 0..count {
        lines += &line(
            &format!("{tenant}/dat/office/o{number:06}"),
            &format!("password-{number}"),
        );
    }
    lines
}

/// Every credential of a firm with its version.
async fn stored(callers: &Callers, tenant: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut request = v1::ListCredentialsRequest {
        tenant: tenant.into(),
        page_size: 1000,
        ..v1::ListCredentialsRequest::default()
    };
    loop {
        let page = callers.admin.clone().list_credentials(request.clone()).await;
        let page = page.unwrap().into_inner();
        found.extend(page.credentials.into_iter().map(|one| (one.path, one.version)));
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

/// Every line of the audit log about imports.
fn listed(directory: &Path) -> Vec<Value> {
    let files = tresor::audit::files_in(directory).unwrap().into_iter();
    let text: String = files.map(|(_, path)| fs::read_to_string(path).unwrap()).collect();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["method"] == "ImportCredentials").collect()
}

#[tokio::test]
async fn csv_and_json_lines_are_saved_and_what_is_stored_already_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let json = line("firm/dat/general", "päss \\\"word\\\"")
        + "\n"
        + r#"{"path":"firm/email/general","host":"smtp.example.org","port":587,"security":"starttls","username":"u","password":"mail","from_address":"u@example.org","from_name":"U"}"#;
    let csv = "\u{feff}Path;customer_number;username;password;validUntil;note\n\
               firm/dat/office/leipzig;1234567;anna;\"semi;colon, \"\"quoted\"\"\";2999-12-31;of Leipzig\n\
               firm/audatex/general;;bert;simple;;\n";
    let (json, csv) = (
        write(&directory, "logins.jsonl", &json),
        write(&directory, "logins.csv", csv),
    );
    for file in [&json, &csv] {
        let (code, answer, messages) = run(&mut import(&server, file, &[]));
        assert_eq!((code, counts(&answer)), (0, [Some(2), Some(0), Some(0)]), "{messages}");
        assert_eq!(messages, "");
    }
    let operator = server.operator();
    operator.assign("firm", "dat", v1::AssignmentMode::PerOffice).await;
    for (provider, expected) in [
        ("dat", "semi;colon, \"quoted\""),
        ("audatex", "simple"),
        ("email", "mail"),
    ] {
        let resolved = operator.resolve("firm", provider, "leipzig").await.unwrap();
        assert_eq!(password(&resolved), expected);
    }
    let before = stored(&operator, "firm").await;
    assert!(
        before.len() == 4 && before.values().all(|version| *version == 1),
        "{before:?}"
    );
    for file in [&json, &csv] {
        let (code, answer, _) = run(&mut import(&server, file, &[]));
        assert_eq!((code, counts(&answer)), (0, [Some(0), Some(2), Some(0)]));
    }
    assert_eq!(stored(&operator, "firm").await, before);
    server.stop().await;
}

#[tokio::test]
async fn a_line_that_cannot_be_saved_is_told_by_its_number_and_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let bad = r#"{"path":"firm/dat/office/bad","customerNumber":"Zq-number","username":"","password":"Zq-password"}"#;
    let text = [
        line("firm/dat/office/first", "Zq-1"),
        bad.to_owned() + "\n",
        "{\"path\":\"firm/dat/general\",\"password\":Zq-broken}\n".to_owned(),
        line("firm/nobody/general", "Zq-2"),
        line("firm/dat/office/last", "Zq-3"),
    ]
    .concat();
    let file = write(&directory, "logins.jsonl", &text);
    let errors = directory.path().join("errors.txt");
    let (code, answer, messages) = run(&mut import(&server, &file, &["--errors", errors.to_str().unwrap()]));
    assert_eq!((code, counts(&answer)), (3, [Some(2), Some(0), Some(3)]), "{messages}");
    let told: Vec<_> = messages.lines().collect();
    assert_eq!(fs::read_to_string(&errors).unwrap(), messages);
    assert_eq!(fs::metadata(&errors).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(told.len(), 4, "{messages}");
    for (told, beginning) in told.iter().zip([
        "line 2: login.customer_number: ",
        "line 2: login.username: is required",
        "line 3: is not the JSON object that is expected, at column ",
        "line 4: ref.provider: is not in the catalogue",
    ]) {
        assert!(told.starts_with(beginning), "{messages}");
    }
    assert!(!messages.contains("Zq"), "{messages}");
    let stored = stored(&server.operator(), "firm").await;
    let expected = ["firm/dat/office/first", "firm/dat/office/last"];
    assert_eq!(stored.into_keys().collect::<Vec<_>>(), expected);

    // No file is overwritten, least of all the one that is imported.
    let before = fs::read(&errors).unwrap();
    for taken in [&errors, &file] {
        for more in [&[][..], &["--resume"]] {
            let taken = taken.to_str().unwrap();
            let mut import = import(&server, &file, &["--errors", taken]);
            let refused = import.args(more).output().unwrap();
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(2), "{said}");
            assert!(said.contains("name another one"), "{said}");
        }
    }
    assert_eq!(fs::read(&errors).unwrap(), before);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    // Of very many, only the first are told.
    let many = "nothing\n".repeat(1500);
    let (_, answer, messages) = run(&mut import(&server, &write(&directory, "many.jsonl", &many), &[]));
    assert_eq!(answer["failed"], 1500);
    assert_eq!(messages.lines().count(), 21, "{messages}");
    assert!(
        messages.ends_with("and 1480 more; --errors FILE writes all of them\n"),
        "{messages}"
    );
    server.stop().await;
}

#[test]
fn a_file_that_cannot_be_meant_so_is_refused_before_anything_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    for (name, content, told) in [
        ("a.csv", "", "is empty"),
        ("b.csv", "path,pass word\n", "column 2 has no name that is known"),
        ("c.csv", "username,password\n", "there is no column path"),
        ("d.csv", "path,username,user-name\n", "column 3 has no name"),
        ("e.csv", "path,username,username\n", "column username is there twice"),
        ("f.csv", "firm/dat/general,Zq-secret\n", "column 1 has no name"),
        ("g.txt", "", "--format"),
    ] {
        let (code, _, messages) = run(&mut import(&server, &write(&directory, name, content), &[]));
        assert_eq!(code, 2, "{name}: {messages}");
        assert!(
            messages.contains(told) && !messages.contains("Zq"),
            "{name}: {messages}"
        );
    }
    assert!(
        listed(&directory.path().join("data/audit"))
            .iter()
            .all(|line| line["event"] != "intent")
    );
}

#[tokio::test]
async fn a_quote_that_is_not_closed_takes_no_other_rows_into_a_password() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let row = |office: &str, password: &str| format!("firm/dat/office/{office},1234567,myuser,{password}\n");
    let long = "Zq".repeat(1024 * 1024);
    let table = [
        "path,customerNumber,username,password\n".to_owned(),
        row("open", "\"Zq"),
        row("a", "Zq"),
        row("after", "\"Zq\"x"),
        row("long", &long),
        row("lines", "\"Zq\nZq\""),
        row("b", "\"Z\"\"q\""),
    ];
    let file = write(&directory, "logins.csv", &table.concat());
    let (code, answer, messages) = run(&mut import(&server, &file, &["--resume"]));
    assert_eq!((code, counts(&answer)), (3, [Some(2), Some(0), Some(4)]), "{messages}");
    for (told, expected) in messages.lines().zip([
        "line 2: a quote is not closed",
        "line 4: its quotes are not those of a table",
        "line 5: is longer than any credential",
        "line 6: its row goes on to line 7; a table's cells hold no line breaks",
    ]) {
        assert!(told.starts_with(expected), "{messages}");
    }
    assert!(!messages.contains("Zq"), "{messages}");
    let operator = server.operator();
    let stored = stored(&operator, "firm").await;
    assert_eq!(
        stored.into_keys().collect::<Vec<_>>(),
        ["firm/dat/office/a", "firm/dat/office/b"]
    );
    operator.assign("firm", "dat", v1::AssignmentMode::PerOffice).await;
    assert_eq!(password(&operator.resolve("firm", "dat", "b").await.unwrap()), "Z\"q");
    server.stop().await;
}

#[test]
fn a_file_that_others_may_read_is_imported_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let file = write(&directory, "logins.jsonl", &line("firm/dat/general", "x"));
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let (code, answer, messages) = run(&mut import(&server, &file, &[]));
    assert_eq!((code, counts(&answer)[0]), (0, Some(1)));
    assert!(
        messages.contains(&format!("chmod 600 {}", file.display())),
        "{messages}"
    );
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let operator = server.operator();
    operator
        .save(put_login(name("firm", "dat", general()), login("stored")))
        .await;
    let before = operator.status().await.unwrap().revision;
    let text =
        line("firm/dat/general", "stored") + &line("firm/dat/general", "new") + &line("firm/nobody/general", "x");
    let file = write(&directory, "logins.jsonl", &text);
    let (code, answer, messages) = run(&mut import(&server, &file, &["--dry-run"]));
    // It does not tell which of them is the stored one.
    assert_eq!((code, counts(&answer)), (3, [Some(2), Some(0), Some(1)]), "{messages}");
    assert_eq!(operator.status().await.unwrap().revision, before);
    assert!(
        listed(&directory.path().join("data/audit"))
            .iter()
            .all(|line| line["event"] != "intent")
    );
    server.stop().await;
}

#[tokio::test]
async fn of_several_lines_for_one_credential_the_last_one_counts() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let mut lines = String::new();
    // In one batch, and in batches that are under way at once.
    for number in 0..2000 {
        lines += &line(
            &format!("firm/dat/office/o{}", number % 700),
            &format!("password-{number}"),
        );
    }
    lines += &line("firm/dat/general", "first");
    lines += &line("firm/dat/general", "last");
    let (code, answer, messages) = run(&mut import(&server, &write(&directory, "twice.jsonl", &lines), &[]));
    assert_eq!(
        (code, counts(&answer)),
        (0, [Some(2002), Some(0), Some(0)]),
        "{messages}"
    );
    let operator = server.operator();
    assert_eq!(password(&operator.resolve("firm", "dat", "").await.unwrap()), "last");
    operator.assign("firm", "dat", v1::AssignmentMode::PerOffice).await;
    for (office, last) in [("o0", 1400), ("o599", 1999), ("o600", 1300), ("o699", 1399)] {
        let resolved = operator.resolve("firm", "dat", office).await.unwrap();
        assert_eq!(password(&resolved), format!("password-{last}"), "{office}");
    }
    server.stop().await;
}

/// A deployment whose operator may do just this.
fn serve(directory: &Path, grants: &str) -> Server {
    prepare(directory);
    fs::write(directory.join("policy.toml"), grants).unwrap();
    Server::serve(directory, &[])
}

const NARROW: &str = "
[[grant]]
who = 'spiffe://dynarex.local/operator'
may = ['credentials.read', 'credentials.write']
tenants = ['firm']
providers = ['dat']
scopes = ['office']
calls_per_second = 100
";

#[tokio::test]
async fn a_line_out_of_the_callers_reach_is_denied_like_a_put_and_quotas_slow_down() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), NARROW);
    let denied = [
        "firm/dat/general",
        "other/dat/office/leipzig",
        "firm/wom/office/leipzig",
        "firm/nobody/office/leipzig",
    ];
    let mut lines = many("firm", 150);
    for path in denied {
        lines += &line(path, "x");
    }
    let (code, answer, messages) = run(&mut import(&server, &write(&directory, "logins.jsonl", &lines), &[]));
    assert_eq!(
        (code, counts(&answer)),
        (3, [Some(150), Some(0), Some(4)]),
        "{messages}"
    );
    let operator = server.operator();
    for (told, number) in messages.lines().zip(151..155) {
        assert!(told.starts_with(&format!("line {number}: no grant lets ")), "{told}");
    }
    let warned = messages.lines().filter(|told| told.contains("raise calls_per_second"));
    assert_eq!(warned.count(), 1, "what slows it down is told once: {messages}");
    let put = put_login(name("other", "dat", office("leipzig")), login("x"));
    let refused = operator.admin.clone().put_credential(put).await.unwrap_err();
    assert!(
        messages.contains(&format!("line 152: {} (NOT_GRANTED)", refused.message())),
        "{messages}"
    );
    assert_eq!(stored(&operator, "firm").await.len(), 150);

    // Whoever may write nothing learns nothing of the lines.
    fs::write(
        directory.path().join("policy.toml"),
        NARROW.replace("'credentials.write'", "'watch'"),
    )
    .unwrap();
    server.hang_up();
    server.has_logged("\"reloaded\"", 1).await;
    let (code, answer, messages) = run(&mut import(&server, &directory.path().join("logins.jsonl"), &[]));
    assert_eq!((code, answer), (5, Value::Null), "{messages}");
    server.stop().await;
}

#[tokio::test]
async fn whoever_may_not_read_is_not_told_what_is_stored_already() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), &NARROW.replace("'credentials.read', ", ""));
    let file = write(&directory, "logins.jsonl", &many("firm", 3));
    for _ in 0..2 {
        let (code, answer, _) = run(&mut import(&server, &file, &[]));
        assert_eq!((code, counts(&answer)), (0, [Some(3), Some(0), Some(0)]));
    }
    server.stop().await;
}

#[tokio::test]
async fn each_credential_is_announced_and_listed_and_no_secret_is() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let lines = many("firm", 1500) + &line("firm/nobody/general", "password-x");
    let (code, ..) = run(&mut import(&server, &write(&directory, "logins.jsonl", &lines), &[]));
    assert_eq!(code, 3);
    let keys = server.operator().resolver.clone();
    let jwks = keys
        .clone()
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await
        .unwrap();
    server.stop().await;
    let audit = directory.path().join("data/audit");
    let listed = listed(&audit);
    let intents: BTreeMap<_, _> = listed
        .iter()
        .filter(|line| line["event"] == "intent")
        .map(|line| (line["seq"].as_u64().unwrap(), line["scope"].as_str().unwrap()))
        .collect();
    assert_eq!(intents.len(), 1500);
    let mut done = 0;
    for line in listed
        .iter()
        .filter(|line| line["event"] == "call" && line["provider"] == "dat")
    {
        let scope = line["scope"].as_str().unwrap();
        assert_eq!(intents[&line["intent"].as_u64().unwrap()], scope);
        assert_eq!(
            (&line["tenant"], &line["version"], &line["outcome"]),
            (&"firm".into(), &1.into(), &"ok".into())
        );
        assert_eq!(line["caller"], "spiffe://dynarex.local/operator");
        done += 1;
    }
    assert_eq!(done, 1500);
    let failed = listed.iter().find(|line| line["provider"] == "nobody").unwrap();
    assert_eq!(
        (&failed["outcome"], &failed["reason"]),
        (&"failed".into(), &"UNKNOWN_PROVIDER".into())
    );
    let ended = listed.iter().find(|line| line["event"] == "stream_ended").unwrap();
    assert!(ended["messages"].as_u64().unwrap() > 1);
    let keys = tresor::audit::Keys::parse(&jwks.into_inner().jwks).unwrap();
    let report = tresor::audit::verify(&audit, Some(keys), None).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let mut text = String::new();
    write!(text, "{listed:?}").unwrap();
    assert!(!text.contains("password-"));
}
