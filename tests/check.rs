//! `tresor check` on a server and on a store at rest, and setting aside what is broken.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::process::{Server, prepare, tresor};
use support::requests::{general, login, name, office, put_login};
use tresor::store::{Key, SledStore, Store as _, Transaction};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The exit code, and the answer.
fn run(mut command: Command) -> (i32, serde_json::Value) {
    let ran = command.args(["--output", "json"]).output().unwrap();
    let answer = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", said(&ran)));
    (ran.status.code().unwrap(), answer)
}

fn offline(folder: &Path) -> Command {
    let mut command = tresor(&["check", "--config"]);
    command.arg(folder.join("tresor.toml"));
    command
}

async fn online(server: &Server) -> (i32, serde_json::Value) {
    let mut command = tresor(&["check", "--timeout", "30s", "--server"]);
    command
        .arg(format!("https://localhost:{}", server.listen.port()))
        .arg("--ca")
        .arg(&server.pki.ca)
        .arg("--cert")
        .arg(&server.pki.operator.certificate)
        .arg("--key")
        .arg(&server.pki.operator.key);
    tokio::task::spawn_blocking(|| run(command)).await.unwrap()
}

/// Changes a byte of a record while nobody has the store open.
async fn damage(folder: &Path, key: &str) {
    let store = SledStore::open(&folder.join("data")).unwrap();
    let key = Key::new(key);
    let mut value = store.get(&key).await.unwrap().unwrap().value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    store.commit(Transaction::new().put(key, value)).await.unwrap();
}

fn records(answer: &serde_json::Value, list: &str) -> Vec<String> {
    let entries = answer[list].as_array().unwrap().iter();
    entries
        .map(|entry| entry["record"].as_str().or(entry.as_str()).unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_named_and_set_aside_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let server = Server::serve(folder, &[]);
    let operator = server.operator();
    for word in ["first", "second", "third"] {
        operator
            .save(put_login(name("firm", "wom", office("leipzig")), login(word)))
            .await;
        operator
            .save(put_login(name("firm", "wom", office("dresden")), login(word)))
            .await;
        operator
            .save(put_login(name("firm", "wom", general()), login(word)))
            .await;
    }
    let (code, answer) = online(&server).await;
    assert_eq!(
        (code, &answer["is_sound"], &answer["records"]),
        (0, &true.into(), &14.into())
    );
    server.stop().await;

    let version = "version/firm/wom/office/dresden/00000000000000000001";
    let head = "head/firm/wom/office/leipzig";
    damage(folder, version).await;
    damage(folder, head).await;
    let (code, answer) = run(offline(folder));
    assert_eq!(
        (code, records(&answer, "findings")),
        (9, vec![head.to_owned(), version.to_owned()])
    );
    let server = Server::serve(folder, &[]);
    let (code, answer) = online(&server).await;
    assert_eq!(
        (code, records(&answer, "findings")),
        (9, vec![head.to_owned(), version.to_owned()])
    );
    server.stop().await;

    let file = folder.join("aside.jsonl");
    let mut repair = offline(folder);
    repair.arg("--repair").arg(&file);
    let (code, answer) = run(repair);
    // The head takes its versions with it: nobody could get at them.
    let leipzig = |n| format!("version/firm/wom/office/leipzig/{n:020}");
    let expected = vec![head.to_owned(), version.to_owned(), leipzig(1), leipzig(2), leipzig(3)];
    assert_eq!((code, records(&answer, "set_aside")), (9, expected.clone()));
    let lines = fs::read_to_string(&file).unwrap();
    let aside: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: Vec<_> = aside
        .iter()
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys, expected);
    assert!(aside.iter().all(|line| line["value"].as_str().unwrap().len() > 100));
    // It is not overwritten.
    let mut repair = offline(folder);
    let refused = repair.arg("--repair").arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));

    // What is gone from a history stays gone, and is told.
    let (code, answer) = run(offline(folder));
    let second = "version/firm/wom/office/dresden/00000000000000000002".to_owned();
    assert_eq!((code, records(&answer, "findings")), (9, vec![second, head.to_owned()]));
    let defect = |at: usize| answer["findings"][at]["defect"].as_str().unwrap();
    assert!(defect(0).contains("the version before it, 1, is not there"));
    assert!(defect(1).contains("the audit log says that it was written"));
    let server = Server::serve(folder, &[]);
    let anew = put_login(name("firm", "wom", office("leipzig")), login("anew"));
    let saved = server.operator().admin.put_credential(anew).await.unwrap().into_inner();
    assert_eq!(saved.credential.unwrap().version, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_open_for_want_of_a_key_is_told_and_never_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let server = Server::serve(folder, &[]);
    server
        .operator()
        .save(put_login(name("firm", "wom", general()), login("word")))
        .await;
    server.stop().await;
    damage(folder, "data-key/firm/0000000001").await;
    let mut repair = offline(folder);
    repair.arg("--repair").arg(folder.join("aside.jsonl"));
    let (code, answer) = run(repair);
    let found = records(&answer, "findings");
    assert_eq!(
        (code, found[0].as_str(), found.len()),
        (9, "data-key/firm/0000000001", 3)
    );
    assert_eq!(answer["set_aside"], serde_json::json!([]));
    assert!(!folder.join("aside.jsonl").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_open_is_told_to_be_restored() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let none = offline(folder).output().unwrap();
    assert!(said(&none).contains("there is no store"), "{}", said(&none));
    let server = Server::serve(folder, &[]);
    server
        .operator()
        .save(put_login(name("firm", "wom", general()), login("word")))
        .await;
    server.stop().await;
    let db = folder.join("data/db");
    let whole = fs::read(&db).unwrap();
    fs::write(&db, &whole[..whole.len() / 2]).unwrap();
    let refused = offline(folder).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("restore it from a backup"),
        "{}",
        said(&refused)
    );
}
