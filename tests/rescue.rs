//! Stores that do not open, and records that somebody put back: what is left is saved, and what is older than the audit log says is
//! named.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use support::audit_lines;
use support::callers::password;
use support::documented::run_documented;
use support::process::{Server, prepare, refusal, serve_command, tresor};
use support::requests::{general, login, name, office, put_login};
use tresor::pb::v1;
use tresor::store::{Key, SledStore, Store as _, Transaction};

const BACKUP: &str = include_str!("../docs/BACKUP.md");

/// The exit code, and the answer.
fn run(mut command: Command) -> (i32, serde_json::Value) {
    let ran = command.args(["--output", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let answer = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{said}"));
    (ran.status.code().unwrap(), answer)
}

fn check(folder: &Path) -> (i32, serde_json::Value) {
    let mut command = tresor(&["check", "--config"]);
    command.arg(folder.join("tresor.toml"));
    run(command)
}

fn rescue(folder: &Path, more: &[&str]) -> (i32, serde_json::Value) {
    let mut command = tresor(&["rescue"]);
    command.arg(folder.join("damaged"));
    command.arg("--config").arg(folder.join("tresor.toml")).args(more);
    run(command)
}

/// A deployment whose server has run twice and saved in each of its lives.
async fn deployed(folder: &Path) {
    prepare(folder);
    for word in ["first", "second"] {
        let server = Server::serve(folder, &[]);
        let operator = server.operator();
        for number in 0..12 {
            let name = name("firm", "wom", office(&format!("{number}")));
            operator.save(put_login(name, login(&format!("{word} {number}")))).await;
        }
        operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
        server.stop().await;
    }
}

/// What an office gets; none if that is refused.
async fn handed_out(server: &Server, number: usize) -> Option<String> {
    let resolved = server.order_service().resolve("firm", "wom", &number.to_string()).await;
    resolved.ok().map(|credential| password(&credential).to_owned())
}

fn snapshot(store: &Path) -> std::path::PathBuf {
    let mut files = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.to_str().unwrap().contains("/snap.")).unwrap()
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_open_is_saved_as_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    deployed(folder).await;
    flip(&snapshot(&folder.join("data")), 9);
    let said = refusal(&mut serve_command(folder)).join("\n");
    assert!(said.contains("is damaged") && said.contains("tresor rescue"), "{said}");

    run_documented(BACKUP, "rescue", folder);
    assert!(!folder.join("set-aside.jsonl").exists());
    let server = Server::serve(folder, &[]);
    server.has_logged("the store was saved from a damaged one", 1).await;
    for number in 0..12 {
        assert_eq!(handed_out(&server, number).await, Some(format!("second {number}")));
    }
    let anew = put_login(name("firm", "wom", office("3")), login("third"));
    let saved = server.operator().admin.put_credential(anew).await.unwrap().into_inner();
    assert_eq!(saved.credential.unwrap().version, 3);
    server.stop().await;
    assert_eq!(audit_lines(folder).matches(r#""method":"Rescue""#).count(), 1);
    // Nothing is saved over a store.
    let refused = tresor(&["rescue", "damaged", "--config", "tresor.toml"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not empty"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_saved_into_itself_or_with_another_key() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    deployed(folder).await;
    let refused = |words: &[&str], told: &str| {
        let mut rescue = tresor(&["rescue"]);
        let refused = rescue
            .args(words)
            .args(["--config", "tresor.toml"])
            .current_dir(folder)
            .output();
        let refused = refused.unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains(told), "{said}");
    };
    refused(&["data"], "move it away first");
    fs::rename(folder.join("data"), folder.join("damaged")).unwrap();
    refused(&["nothing"], "there is no store");
    fs::remove_file(folder.join("kek.key")).unwrap();
    tresor::init::make_kek(&folder.join("kek.key")).unwrap();
    for more in [&["damaged"][..], &["damaged", "--dry-run"]] {
        refused(more, "was wrapped by the key-encryption key");
    }
    assert!(!folder.join("data").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rotten_log_has_lost_is_counted_and_what_is_older_for_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    deployed(folder).await;
    let store = folder.join("data");
    let content = fs::read(store.join("db")).unwrap();
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    // In what sled has written since its last snapshot, so that it would cut all of it off.
    let name = snapshot(&store);
    let since = name.to_str().unwrap().rsplit_once('.').unwrap().1.to_owned();
    let since = u64::from_str_radix(&since, 16).unwrap();
    flip(&store.join("db"), since + (used - since) / 3);
    let rotten = fs::read(store.join("db")).unwrap();
    let said = refusal(&mut serve_command(folder)).join("\n");
    assert!(
        said.contains("had acknowledged revision") && said.contains("tresor rescue"),
        "{said}"
    );
    assert!(fs::read(store.join("db")).unwrap() == rotten, "the file was changed");

    fs::rename(&store, folder.join("damaged")).unwrap();
    let (code, dry) = rescue(folder, &["--dry-run"]);
    assert_eq!((code, &dry["gaps"], store.exists()), (9, &1.into(), false), "{dry}");
    let (code, saved) = rescue(folder, &[]);
    assert_eq!((code, &saved["records"]), (9, &dry["records"]), "{saved}");
    let (_, checked) = check(folder);
    let named = checked["findings"].to_string();
    let server = Server::serve(folder, &[]);
    let mut right = 0;
    for number in 0..12 {
        // Right, or refused; older only if that is told.
        match handed_out(&server, number).await {
            Some(word) if word == format!("second {number}") => right += 1,
            _ => assert!(
                named.contains(&format!("head/firm/wom/office/{number}")),
                "{number}: {named}"
            ),
        }
    }
    assert!(right >= 8, "{right}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_saved_and_could_not_be_checked_is_not_said_to_be_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    deployed(folder).await;
    fs::rename(folder.join("data"), folder.join("damaged")).unwrap();
    // A file is no log that could be read.
    let mut command = tresor(&["rescue", "damaged", "--config", "tresor.toml"]);
    command.current_dir(folder).env("TRESOR_AUDIT_DIRECTORY", "policy.toml");
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success(), "{said}");
    assert!(
        said.contains("was saved") && said.contains("not checked") && !said.contains("nothing was changed"),
        "{said}"
    );
    let server = Server::serve(folder, &[]);
    assert_eq!(handed_out(&server, 3).await, Some("second 3".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_put_back_or_removed_by_itself_shows_by_the_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let server = Server::serve(folder, &[]);
    let operator = server.operator();
    for (provider, word) in [("wom", "old"), ("dat", "kept"), ("cartv", "gone"), ("egub", "purged")] {
        operator
            .save(put_login(name("firm", provider, general()), login(word)))
            .await;
    }
    operator.assign("firm", "wom", v1::AssignmentMode::General).await;
    server.stop().await;
    let head = Key::new("head/firm/wom/general");
    let version = |number| Key::new(&format!("version/firm/wom/general/{number:020}"));
    let open = || SledStore::open(&folder.join("data")).unwrap();
    let old = open().get(&head).await.unwrap().unwrap().value;
    let server = Server::serve(folder, &[]);
    let operator = server.operator();
    operator
        .save(put_login(name("firm", "wom", general()), login("new")))
        .await;
    let purge = v1::PurgeCredentialRequest {
        r#ref: Some(name("firm", "egub", general())),
        confirm: "firm/egub/general".into(),
    };
    operator.admin.clone().purge_credential(purge).await.unwrap();
    server.stop().await;
    assert_eq!(check(folder).0, 0);

    // Everything that says of itself that there was a second version, and a credential and an assignment as if they had never been.
    let put_back = Transaction::new()
        .put(head.clone(), old)
        .remove(version(2))
        .remove(Key::new("head/firm/cartv/general"))
        .remove(Key::new("version/firm/cartv/general/00000000000000000001"))
        .remove(Key::new("assignment/firm/wom"));
    open().commit(put_back).await.unwrap();
    let (code, answer) = check(folder);
    let findings = answer["findings"].as_array().unwrap();
    let named: Vec<_> = findings
        .iter()
        .map(|finding| finding["record"].as_str().unwrap())
        .collect();
    assert_eq!(code, 9);
    assert_eq!(
        named,
        [
            "head/firm/wom/general",
            "assignment/firm/wom",
            "head/firm/cartv/general"
        ]
    );
    assert!(
        findings[0]["defect"]
            .as_str()
            .unwrap()
            .contains("older than the audit log says, which has version 2")
    );
    // The same of a server, which goes on.
    let server = Server::serve(folder, &[]);
    let mut online = tresor(&["check", "--timeout", "30s", "--server"]);
    online.arg(format!("https://localhost:{}", server.listen.port()));
    online
        .arg("--ca")
        .arg(&server.pki.ca)
        .arg("--cert")
        .arg(&server.pki.operator.certificate);
    online.arg("--key").arg(&server.pki.operator.key);
    let (code, seen) = tokio::task::spawn_blocking(|| run(online)).await.unwrap();
    assert_eq!((code, seen["findings"].as_array().unwrap().len()), (9, 3), "{seen}");
}
