//! Keys that are replaced, lost and destroyed: the real program, killed in the middle and run as `docs/KEYS.md` says.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Code;
use tresor::pb::v1;
use tresor::pb::v1::rotate_data_key_request::Target;

use support::callers::{Callers, password};
use support::process::{Server, prepare, refusal, serve_command, tresor};
use support::requests::{general, login, name, office, put_login};
use support::{PATIENCE, told};

const KEYS: &str = include_str!("../docs/KEYS.md");

/// Runs the commands that the document has under a mark, in a folder.
fn run_documented(mark: &str, folder: &Path) -> String {
    let (_, after) = KEYS
        .split_once(&format!("<!-- test: {mark} -->\n```console\n"))
        .unwrap();
    let block = after.split("```").next().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tresor"))
        .parent()
        .unwrap()
        .display()
        .to_string();
    let mut said = String::new();
    for command in block.lines().map(|line| line.strip_prefix("$ ").unwrap()) {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(folder).env_clear();
        let ran = shell.env("PATH", format!("{program}:/usr/bin:/bin")).output().unwrap();
        assert!(
            ran.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        said += &String::from_utf8(ran.stdout).unwrap();
    }
    said
}

/// The operator's command line against a server.
fn command(server: &Server, words: &[&str]) -> String {
    let pair = &server.pki.operator;
    let mut command = tresor(words);
    command
        .args(["--server", &format!("https://localhost:{}", server.listen.port())])
        .args(["--timeout", "30s"])
        .arg("--ca")
        .arg(&server.pki.ca)
        .arg("--cert")
        .arg(&pair.certificate)
        .arg("--key")
        .arg(&pair.key);
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

async fn resolved(server: &Server, tenant: &str) -> String {
    let found = server.order_service().resolve(tenant, "dat", "").await.unwrap();
    password(&found).to_owned()
}

async fn save(operator: &Callers, tenant: &str, word: &str) {
    operator
        .save(put_login(name(tenant, "dat", general()), login(word)))
        .await;
}

/// Waits until the operator's status is so.
async fn status_until(operator: &Callers, is_so: impl Fn(&v1::GetStatusResponse) -> bool) -> v1::GetStatusResponse {
    let reached = async {
        loop {
            let status = operator.status().await.unwrap();
            if is_so(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached)
        .await
        .expect("the status is reached")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_survives_kills_and_loses_no_acknowledged_save() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for life in 0..6 {
        let server = Server::dev(directory.path());
        let operator = server.operator();
        for number in 0..60 {
            let (office_id, word) = (format!("{number}"), format!("{life}-{number}"));
            operator
                .save(put_login(name("firm", "wom", office(&office_id)), login(&word)))
                .await;
            acknowledged.insert(office_id, word);
        }
        let request = v1::RotateDataKeyRequest {
            target: Some(Target::Tenant("firm".into())),
        };
        operator.operator.clone().rotate_data_key(request).await.unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (operator, is_over) = (operator.clone(), Arc::clone(&is_over));
            async move {
                let mut saved = BTreeMap::new();
                for number in 0.. {
                    let (office_id, word) = (format!("w{}", number % 7), format!("{life}-w-{number}"));
                    let request = put_login(name("firm", "wom", office(&office_id)), login(&word));
                    if is_over.load(Ordering::Relaxed) || operator.admin.clone().put_credential(request).await.is_err()
                    {
                        break;
                    }
                    saved.insert(office_id, word);
                }
                saved
            }
        });
        // Each life gets further into the work than the one before.
        status_until(&operator, |status| {
            let rotation = status.rotations.iter().find(|rotation| rotation.tenant == "firm");
            rotation.is_none_or(|rotation| rotation.records_done >= life * 30)
        })
        .await;
        is_over.store(true, Ordering::Relaxed);
        server.kill();
        acknowledged.extend(writer.await.unwrap());
    }
    let server = Server::dev(directory.path());
    let operator = server.operator();
    status_until(&operator, |status| status.rotation_count == 0).await;
    operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
    for (office_id, word) in acknowledged {
        let found = server.order_service().resolve("firm", "wom", &office_id).await.unwrap();
        // A save whose answer was lost may be there all the same.
        if office_id.starts_with('w') {
            assert!(password(&found).contains("-w-"));
        } else {
            assert_eq!(password(&found), word);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_key_file_is_replaced_as_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Server::serve(directory.path(), &[]);
    save(&server.operator(), "firm", "kept").await;
    let old = server.operator().status().await.unwrap().kek_id;
    server.stop().await;

    run_documented("replace", directory.path());
    assert!(refusal(&mut serve_command(directory.path()))[0].contains("was wrapped by the key-encryption key"));
    let server = Server::serve(directory.path(), &[("TRESOR_KEYS_PREVIOUS_KEK_FILE", "old.key")]);
    let wrapping = server.operator().status().await.unwrap().wrapping.unwrap();
    assert_eq!((wrapping.keys, wrapping.wrapped_by_another), (2, 2));
    assert_eq!(command(&server, &["rewrap", "--wait"]), "wrapped 2 keys\n");
    let wrapping = server.operator().status().await.unwrap().wrapping.unwrap();
    assert_eq!((wrapping.keys, wrapping.wrapped_by_another), (2, 0));
    server.stop().await;

    fs::remove_file(directory.path().join("old.key")).unwrap();
    let server = Server::serve(directory.path(), &[]);
    assert_eq!(resolved(&server, "firm").await, "kept");
    assert_ne!(server.operator().status().await.unwrap().kek_id, old);
    server.stop().await;
}

#[tokio::test]
async fn a_vault_whose_key_is_lost_is_recovered_as_the_document_says() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Server::serve(directory.path(), &[]);
    save(&server.operator(), "before", "made before there was a recovery key").await;
    server.stop().await;

    let said = run_documented("prepare", directory.path());
    let public = said
        .lines()
        .find_map(|line| line.strip_prefix("public half"))
        .unwrap()
        .trim();
    let environment = [("TRESOR_KEYS_RECOVERY_PUBLIC_KEY", public)];
    let server = Server::serve(directory.path(), &environment);
    save(&server.operator(), "after", "made since").await;
    let wrapping = server.operator().status().await.unwrap().wrapping.unwrap();
    assert!(wrapping.has_recovery_key);
    assert_eq!((wrapping.keys, wrapping.lacking_recovery), (3, 0));
    let keys = server
        .order_service()
        .resolver
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await;
    let path = |name: &str| directory.path().join(name);
    fs::write(path("keys.json"), keys.unwrap().into_inner().jwks).unwrap();
    server.stop().await;
    let offline = |words: &[&str]| {
        let mut command = tresor(words);
        command.args(["--config", "tresor.toml"]).current_dir(directory.path());
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    offline(&["backup", "vault.backup"]);

    // The store is lost, too, so what proves the backup are the public keys.
    fs::remove_file(path("kek.key")).unwrap();
    fs::remove_dir_all(path("data")).unwrap();
    offline(&["restore", "vault.backup", "--jwks", "keys.json"]);
    let said = run_documented("recover", directory.path());
    assert!(said.contains("wrapped 3 keys"), "{said}");
    let server = Server::serve(directory.path(), &environment);
    server.has_logged("the store was restored from a backup", 1).await;
    assert_eq!(
        resolved(&server, "before").await,
        "made before there was a recovery key"
    );
    assert_eq!(resolved(&server, "after").await, "made since");
    server.stop().await;
}

#[tokio::test]
async fn a_recovery_with_the_wrong_secret_or_an_open_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Server::serve(directory.path(), &[]);
    save(&server.operator(), "firm", "kept").await;
    server.stop().await;
    run_documented("prepare", directory.path());
    let secret = directory.path().join("recovery.key");
    let mut restore = tresor(&["recovery", "restore", "--config"]);
    restore
        .arg(directory.path().join("tresor.toml"))
        .arg("--secret-file")
        .arg(&secret);
    let said = refusal(&mut restore);
    assert!(
        said[0].contains("2 of the store's keys are not wrapped for this recovery key"),
        "{said:?}"
    );
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(refusal(&mut restore)[0].contains("chmod 600"));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    // Where there is no store, none is made.
    let (store, aside) = (directory.path().join("data"), directory.path().join("aside"));
    fs::rename(&store, &aside).unwrap();
    fs::create_dir(&store).unwrap();
    assert!(refusal(&mut restore)[0].contains("there is no store"));
    fs::remove_dir(&store).expect("it is empty");
    fs::rename(&aside, &store).unwrap();
    let server = Server::serve(directory.path(), &[]);
    assert_eq!(resolved(&server, "firm").await, "kept");
    server.stop().await;
}

#[tokio::test]
async fn an_operator_rotates_and_erases_with_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let operator = server.operator();
    save(&operator, "firm", "kept").await;
    save(&operator, "leaving", "gone").await;

    assert_eq!(
        command(&server, &["rotate", "data-key", "firm", "--wait"]),
        "rotated the data key of 1 tenant\n"
    );
    assert_eq!(
        command(&server, &["rotate", "data-key", "--all", "--wait"]),
        "rotated the data key of 3 tenants\n"
    );
    let made = command(&server, &["rotate", "signing-key", "--at-once", "--output", "json"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    save(&operator, "firm", "kept").await;
    let answer = server.order_service().resolve("firm", "dat", "").await.unwrap();
    let header = jsonwebtoken::decode_header(&answer.signed_credential).unwrap();
    assert_eq!(header.kid.as_deref(), made["kid"].as_str());
    assert_eq!(command(&server, &["rewrap"]), "every key is wrapped as it should be\n");
    let status = status_until(&operator, |status| status.signing_keys.unwrap().count == 1).await;
    assert_eq!(status.published_signing_keys, 2);
    assert!(command(&server, &["status"]).contains("recovery key"));

    let said = command(&server, &["erase-tenant", "leaving", "--confirm", "leaving", "--wait"]);
    assert!(said.starts_with("erased leaving: revision "), "{said}");
    let gone = (Code::NotFound, "CREDENTIAL_NOT_CONFIGURED".to_owned());
    assert_eq!(told(server.order_service().resolve("leaving", "dat", "").await), gone);
    assert_eq!(resolved(&server, "firm").await, "kept");
    server.stop().await;
}

#[tokio::test]
async fn what_is_for_good_or_unclear_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let operator = server.operator();
    let erase = async |tenant: &str, confirm: &str| {
        let (tenant, confirm) = (tenant.to_owned(), confirm.to_owned());
        let request = v1::EraseTenantRequest { tenant, confirm };
        told(operator.operator.clone().erase_tenant(request).await)
    };
    let invalid = (Code::InvalidArgument, "INVALID_FIELD".to_owned());
    assert_eq!(erase("demo", "").await, invalid);
    assert_eq!(erase("demo", "Demo").await, invalid);
    assert_eq!(
        erase("nobody", "nobody").await,
        (Code::NotFound, "TENANT_NOT_FOUND".into())
    );
    for target in [None, Some(Target::All(false)), Some(Target::Tenant("a/b".into()))] {
        let request = v1::RotateDataKeyRequest { target };
        assert_eq!(told(operator.operator.clone().rotate_data_key(request).await), invalid);
    }
    let denied = (Code::PermissionDenied, "NOT_GRANTED".to_owned());
    let stranger = server.order_service().operator;
    let request = v1::EraseTenantRequest {
        tenant: "demo".into(),
        confirm: "demo".into(),
    };
    assert_eq!(told(stranger.clone().erase_tenant(request).await), denied);
    let request = v1::RotateDataKeyRequest { target: None };
    assert_eq!(told(stranger.clone().rotate_data_key(request).await), denied);
    assert_eq!(
        told(stranger.clone().rewrap_keys(v1::RewrapKeysRequest {}).await),
        denied
    );
    let request = v1::RotateSigningKeyRequest::default();
    assert_eq!(told(stranger.clone().rotate_signing_key(request).await), denied);
    server.stop().await;
}
