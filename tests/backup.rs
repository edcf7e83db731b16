//! Backups of a vault that serves, and vaults restored from them: the real program, killed in the middle and run as
//! `docs/BACKUP.md` says.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;
#[path = "backup/verifying.rs"]
mod verifying;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::callers::{Callers, password};
use support::documented::run_documented;
use support::process::{Server, prepare, refusal, serve_command, tresor};
use support::requests::{general, login, name, office, order, put_login};
use support::{PATIENCE, audit_lines, told, wait_for};
use tonic::Code;
use tresor::pb::v1;

const BACKUP: &str = include_str!("../docs/BACKUP.md");

/// The operator's command line against a server.
fn command(server: &Server, words: &[&str]) -> Command {
    let pair = &server.pki.operator;
    let mut command = tresor(words);
    command
        .args(["--server", &format!("https://localhost:{}", server.listen.port())])
        .args(["--timeout", "30s", "--ca"])
        .arg(&server.pki.ca)
        .arg("--cert")
        .arg(&pair.certificate)
        .arg("--key")
        .arg(&pair.key);
    command
}

fn done(mut command: Command) -> serde_json::Value {
    let ran = command.args(["--output", "json"]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn save(operator: &Callers, number: usize, word: &str) {
    let request = put_login(name("firm", "wom", office(&format!("{number}"))), login(word));
    operator.save(request).await;
}

async fn resolved(server: &Server, number: usize) -> String {
    let mut resolver = server.order_service().resolver;
    let request = v1::ResolveForOrderRequest {
        tenant: "firm".into(),
        provider: "wom".into(),
        order: Some(order(&format!("{number}"))),
        ..v1::ResolveForOrderRequest::default()
    };
    let answer = resolver.resolve_for_order(request).await.unwrap().into_inner();
    password(&answer.credential.unwrap()).to_owned()
}

fn backups_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_restore_drill_brings_back_what_was_backed_up_while_the_vault_served() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let server = Server::serve(folder, &[]);
    let operator = server.operator();
    for number in 0..40 {
        save(&operator, number, "first").await;
        save(&operator, number, &format!("word {number}")).await;
    }
    operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (operator, is_over) = (operator.clone(), Arc::clone(&is_over));
        async move {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                save(&operator, 100 + count % 50, "meanwhile").await;
                count += 1;
            }
            count
        }
    });
    let file = folder.join("vault.backup").display().to_string();
    let making = command(&server, &["backup", &file]);
    let made = tokio::task::spawn_blocking(|| done(making)).await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    let verifying = command(&server, &["backup", "verify", &file]);
    let verified = tokio::task::spawn_blocking(|| done(verifying)).await.unwrap();
    assert_eq!(
        (&verified["is_whole"], &verified["backup"]["id"]),
        (&true.into(), &made["id"])
    );
    save(&operator, 0, "after the backup").await;
    let keys = operator
        .resolver
        .clone()
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await
        .unwrap();
    // What the log says of it.
    let revision = made["revision"].to_string();
    let lines = audit_lines(folder);
    let ended = lines
        .lines()
        .find(|line| line.contains(r#""event":"stream_ended","method":"Backup""#))
        .unwrap();
    assert!(ended.contains(&format!(r#""revision":{revision},"#)), "{ended}");
    server.stop().await;

    run_documented(BACKUP, "drill", folder);
    let server = Server::serve(folder, &[]);
    server.has_logged("the store was restored from a backup", 1).await;
    for number in 0..40 {
        assert_eq!(resolved(&server, number).await, format!("word {number}"));
    }
    let operator = server.operator();
    assert!(operator.status().await.unwrap().revision >= made["revision"].as_u64().unwrap());
    let versions = v1::ListCredentialVersionsRequest {
        r#ref: Some(name("firm", "wom", office("7"))),
    };
    let versions = operator
        .admin
        .clone()
        .list_credential_versions(versions)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(versions.versions.len(), 2);
    let keys_now = operator
        .resolver
        .clone()
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await
        .unwrap();
    assert_eq!(keys.into_inner().jwks, keys_now.into_inner().jwks);
    save(&operator, 0, "it goes on").await;
    server.stop().await;
    let lines = audit_lines(folder);
    let restored = lines
        .lines()
        .filter(|line| line.contains(r#""event":"upkeep","method":"Restore""#));
    assert_eq!(restored.count(), 1, "{lines}");
    // Told once.
    assert!(!folder.join("data/restored").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_killed_leaves_nothing_that_starts_as_a_vault() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let server = Server::serve(folder, &[]);
    let operator = server.operator();
    for number in 0..30 {
        save(&operator, number, "kept").await;
    }
    server.stop().await;
    let (configuration, file) = (folder.join("tresor.toml"), folder.join("vault.backup"));
    let mut backup = tresor(&["backup"]);
    backup.arg(&file).arg("--config").arg(&configuration);
    done(backup);
    let whole = fs::read(&file).unwrap();
    let store = folder.join("data");
    fs::rename(&store, folder.join("before")).unwrap();
    let restore = || {
        let mut command = tresor(&["restore", "-", "--config"]);
        command.arg(&configuration);
        command
    };
    // A part of the file by a pipe that stays open, so that the process is certainly in the middle of it.
    for length in [17, whole.len() / 2, whole.len() - 1] {
        let mut child = restore()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&whole[..length]).unwrap();
        pipe.flush().unwrap();
        wait_for("the beginning of the store", || store.join("db").exists().then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(store.join("restoring").exists());
        let said = refusal(&mut serve_command(folder)).join("\n");
        assert!(said.contains("was not restored to its end"), "{said}");
    }
    // A pipe that ends too early is no backup either, and then there is nothing at all.
    let mut child = restore()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&whole[..whole.len() - 1])
        .unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert!(said(&ended).contains("cut short"), "{}", said(&ended));
    assert!(!store.join("db").exists() && !store.join("restoring").exists());
    let mut child = restore()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&whole).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", said(&ended));
    // Not a second time: it is not empty now.
    let again = restore().stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert!(said(&again).contains("is not empty"), "{}", said(&again));
    let server = Server::serve(folder, &[]);
    let operator = server.operator();
    operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
    assert_eq!(resolved(&server, 7).await, "kept");
}

#[tokio::test]
async fn nothing_is_put_beside_a_server_that_still_runs_though_its_store_was_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let server = Server::serve(folder, &[]);
    save(&server.operator(), 1, "word").await;
    let file = folder.join("vault.backup");
    done(command(&server, &["backup", file.to_str().unwrap()]));
    let (store, moved) = (folder.join("data"), folder.join("moved"));
    fs::rename(&store, &moved).unwrap();
    let run = |word: &str, subject: &Path, more: &[&str]| {
        let mut command = tresor(&[word]);
        command
            .arg(subject)
            .arg("--config")
            .arg(folder.join("tresor.toml"))
            .args(more);
        command.output().unwrap()
    };
    for (word, subject) in [("restore", &file), ("rescue", &moved)] {
        let refused = run(word, subject, &[]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(
            said(&refused).contains("in use by another process"),
            "{}",
            said(&refused)
        );
        assert!(!store.exists());
    }
    // Who only looks disturbs nobody.
    let looked = run("restore", &file, &["--dry-run"]);
    assert_eq!(looked.status.code(), Some(0), "{}", said(&looked));
    server.kill();
    let restored = run("restore", &file, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", said(&restored));
    let server = Server::serve(folder, &[]);
    let found = v1::GetCredentialRequest {
        r#ref: Some(name("firm", "wom", office("1"))),
    };
    assert!(server.operator().admin.clone().get_credential(found).await.is_ok());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_may_back_up_gets_a_backup_and_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let operator = server.operator();
    save(&operator, 1, "word").await;
    let mut orders = server.order_service().operator;
    let denied = told(orders.backup(v1::BackupRequest {}).await);
    assert_eq!(denied, (Code::PermissionDenied, "NOT_GRANTED".to_owned()));
    // One that is not taken occupies the place until it is dropped.
    let mut operators = operator.operator.clone();
    let first = operators.backup(v1::BackupRequest {}).await.unwrap();
    drop(first);
    let second = async {
        loop {
            match operators.backup(v1::BackupRequest {}).await {
                Ok(stream) => return stream.into_inner(),
                Err(status) => assert_eq!(told::<()>(Err(status)).1, "ALREADY_BACKING_UP"),
            }
        }
    };
    let mut stream = tokio::time::timeout(PATIENCE, second).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        assert!(message.chunk.len() <= 128 * 1024);
        bytes.extend_from_slice(&message.chunk);
    }
    let mut reading = tresor::backup::Reading::new();
    reading.check(&bytes).unwrap();
    assert!(reading.finish().unwrap().is_consistent().is_ok());
    // Sealed: no secret and no user name is in it.
    assert!(!bytes.windows(6).any(|part| part == b"myuser"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduled_backups_are_made_kept_and_removed_and_each_can_be_restored() {
    use age::secrecy::ExposeSecret as _;

    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let identity = age::x25519::Identity::generate();
    let kept = folder.join("backups");
    let recipient = identity.to_public().to_string();
    let environment = [
        ("TRESOR_BACKUP_DIRECTORY", kept.to_str().unwrap()),
        ("TRESOR_BACKUP_EVERY", "1s"),
        ("TRESOR_BACKUP_KEEP", "2"),
        ("TRESOR_BACKUP_RECIPIENTS", &recipient),
    ];
    let server = Server::serve(folder, &environment);
    save(&server.operator(), 1, "word").await;
    server.has_logged("a backup was made", 4).await;
    server.has_logged("old backups were removed", 1).await;
    server.stop().await;
    let files = backups_in(&kept);
    assert!((2..=3).contains(&files.len()), "{files:?}");
    let newest = files.last().unwrap();
    assert!(newest.to_str().unwrap().ends_with(".backup.age"), "{files:?}");
    let secret = folder.join("age.key");
    fs::write(&secret, identity.to_string().expose_secret()).unwrap();
    fs::rename(folder.join("data"), folder.join("before")).unwrap();
    let mut restore = tresor(&["restore"]);
    restore
        .arg(newest)
        .arg("--config")
        .arg(folder.join("tresor.toml"))
        .arg("--identity")
        .arg(&secret);
    done(restore);
    let server = Server::serve(folder, &[]);
    server
        .operator()
        .assign("firm", "wom", v1::AssignmentMode::PerOffice)
        .await;
    assert_eq!(resolved(&server, 1).await, "word");
    server.stop().await;

    // An older copy of the store in its place shows.
    let old = folder.join("old");
    copy(&folder.join("data"), &old);
    let server = Server::serve(folder, &environment);
    let operator = server.operator();
    for number in 0..20 {
        save(&operator, number, "newer").await;
    }
    let revision = operator.status().await.unwrap().revision;
    wait_for("a backup of that revision", || {
        let is_it = |path: &PathBuf| path.to_str().unwrap().contains(&format!("-r{revision}."));
        backups_in(&kept).iter().any(is_it).then_some(())
    });
    server.stop().await;
    fs::remove_dir_all(folder.join("data")).unwrap();
    copy(&old, &folder.join("data"));
    let server = Server::serve(folder, &environment);
    server.has_logged("the store is older than a backup of it", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_put_back_shows_by_the_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    prepare(folder);
    let (store, old) = (folder.join("data"), folder.join("old"));
    let server = Server::serve(folder, &[]);
    save(&server.operator(), 1, "older").await;
    server.stop().await;
    copy(&store, &old);
    let server = Server::serve(folder, &[]);
    save(&server.operator(), 1, "newer").await;
    server.stop().await;
    let told = |lines: &str| lines.matches(r#""method":"StoreIsOlder""#).count();
    assert_eq!(told(&audit_lines(folder)), 0);
    fs::remove_dir_all(&store).unwrap();
    copy(&old, &store);
    // Nor does it help to say that it was restored.
    let forged = r#"{"backup":"00","made_at":"","revision":1,"restored_at":"2026-01-01T00:00:00Z"}"#;
    fs::write(store.join("restored"), forged).unwrap();
    let server = Server::serve(folder, &[]);
    server.has_logged("the store is older than the audit log says", 1).await;
    server.has_logged("is not signed by this vault", 1).await;
    server.stop().await;
    assert!(!audit_lines(folder).contains(r#""method":"Restore""#));
    assert_eq!(told(&audit_lines(folder)), 1);
    // Once: from then on that is how it is.
    Server::serve(folder, &[]).stop().await;
    assert_eq!(told(&audit_lines(folder)), 1);
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
