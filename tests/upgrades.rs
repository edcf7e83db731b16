//! What earlier versions have written is opened by this one: stores, backups and audit logs are kept in `tests/fixtures`, one folder
//! for each format of the store. `docs/COMPATIBILITY.md` has the rules.
//!
//! A new fixture, once the format has grown: `TRESOR_FIXTURE=write cargo test --test upgrades`.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::callers::{Callers, password};
use support::process::{Server, free_address, prepare, serve_command, tresor};
use support::requests::{general, login, mail_account, name, office, put_login, put_mail};
use tresor::audit::{Keys, verify};
use tresor::pb::v1;
use tresor::store::FORMAT;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The formats of which a fixture is kept.
fn formats() -> Vec<u32> {
    let folders = fs::read_dir(fixtures()).unwrap();
    let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut formats: Vec<u32> = names
        .filter_map(|name| name.strip_prefix("format-")?.parse().ok())
        .collect();
    formats.sort_unstable();
    formats
}

/// Names, credentials, histories, states, choices: something of everything that a store can hold.
async fn fill(operator: &Callers) {
    let admin = || operator.admin.clone();
    for word in ["first", "second", "third"] {
        operator
            .save(put_login(name("firm", "wom", office("leipzig")), login(word)))
            .await;
    }
    operator
        .save(put_login(name("firm", "wom", general()), login("general")))
        .await;
    operator
        .save(put_login(name("firm", "dat", general()), login("dat")))
        .await;
    operator
        .save(put_mail(name("firm", "email", general()), mail_account("mail")))
        .await;
    operator
        .save(put_login(name("firm", "cartv", general()), login("disabled")))
        .await;
    operator
        .save(put_login(name("firm", "cardetektiv", general()), login("deleted")))
        .await;
    operator
        .save(put_login(name("other", "wom", general()), login("other")))
        .await;
    operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
    let disable = v1::SetCredentialStateRequest {
        r#ref: Some(name("firm", "cartv", general())),
        state: v1::CredentialState::Disabled.into(),
        expected_version: None,
    };
    admin().set_credential_state(disable).await.unwrap();
    let delete = v1::DeleteCredentialRequest {
        r#ref: Some(name("firm", "cardetektiv", general())),
        expected_version: None,
    };
    admin().delete_credential(delete).await.unwrap();
    // What is sealed by the first key and what is by the second.
    let rotate = v1::RotateDataKeyRequest {
        target: Some(v1::rotate_data_key_request::Target::Tenant("other".into())),
    };
    operator.operator.clone().rotate_data_key(rotate).await.unwrap();
    let is_done = || async { operator.status().await.unwrap().rotations.is_empty() };
    while !is_done().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a vault tells of all that.
async fn told(server: &Server) -> Value {
    let (operator, orders) = (server.operator(), server.order_service());
    let mut resolved = Vec::new();
    for (tenant, provider, office) in [
        ("firm", "wom", "leipzig"),
        ("firm", "dat", "leipzig"),
        ("firm", "email", "leipzig"),
        ("firm", "cartv", "leipzig"),
        ("firm", "cardetektiv", "leipzig"),
        ("other", "wom", "leipzig"),
    ] {
        let answer = orders.resolve(tenant, provider, office).await;
        resolved.push(match &answer {
            Ok(credential) => json!([
                tenant,
                provider,
                password(credential),
                credential.version,
                credential.signed_credential
            ]),
            Err(status) => json!([tenant, provider, format!("{:?}", status.code())]),
        });
    }
    let mut credentials = Vec::new();
    for tenant in ["firm", "other"] {
        let list = v1::ListCredentialsRequest {
            tenant: tenant.into(),
            states: vec![
                v1::CredentialState::Enabled.into(),
                v1::CredentialState::Disabled.into(),
                v1::CredentialState::Deleted.into(),
            ],
            ..v1::ListCredentialsRequest::default()
        };
        let listed = operator
            .admin
            .clone()
            .list_credentials(list)
            .await
            .unwrap()
            .into_inner();
        for credential in listed.credentials {
            let ask = v1::ListCredentialVersionsRequest {
                r#ref: credential.r#ref.clone(),
            };
            let history = operator.admin.clone().list_credential_versions(ask).await.unwrap();
            let history: Vec<_> = history
                .into_inner()
                .versions
                .iter()
                .map(|version| json!([version.version, version.saved_at.unwrap().to_string(), version.saved_by]))
                .collect();
            credentials.push(json!([credential.path, credential.state, credential.version, history]));
        }
    }
    let keys = v1::GetSigningKeysRequest {};
    let keys = orders
        .resolver
        .clone()
        .get_signing_keys(keys)
        .await
        .unwrap()
        .into_inner();
    json!({"resolved": resolved, "credentials": credentials, "jwks": keys.jwks})
}

fn done(mut command: Command) -> String {
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    said
}

fn with_configuration(folder: &Path, words: &[&str]) -> Command {
    let mut command = tresor(words);
    command.arg("--config").arg(folder.join("tresor.toml"));
    command
}

/// A deployment with the key-encryption key of a fixture.
fn deployment(fixture: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let key = folder.path().join("kek.key");
    fs::remove_file(&key).unwrap();
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(key).unwrap();
    file.write_all(&fs::read(fixture.join("kek.key")).unwrap()).unwrap();
    folder
}

/// The files that are mostly empty: they are kept without that, and have their length in a file of its own.
const LARGE: [&str; 2] = ["db", "journal"];

fn pack(store: &Path, fixture: &Path) {
    fs::create_dir_all(fixture).unwrap();
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !path.is_file() || name == "lock" {
            continue;
        }
        if LARGE.contains(&&*name) {
            let content = fs::read(&path).unwrap();
            let compressed = zstd::bulk::compress(&content, 19).unwrap();
            fs::write(fixture.join(format!("{name}.zst")), compressed).unwrap();
            fs::write(fixture.join(format!("{name}.length")), content.len().to_string()).unwrap();
        } else {
            fs::copy(&path, fixture.join(name)).unwrap();
        }
    }
}

fn unpack(fixture: &Path, store: &Path) {
    fs::create_dir_all(store).unwrap();
    for entry in fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match name.split_once('.') {
            Some((_, "length")) => {}
            Some((large, "zst")) => {
                let length = fs::read_to_string(fixture.join(format!("{large}.length"))).unwrap();
                let length: usize = length.parse().unwrap();
                let content = zstd::bulk::decompress(&fs::read(&path).unwrap(), length).unwrap();
                let file = File::create(store.join(large)).unwrap();
                let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                file.write_all_at(&content[..used], 0).unwrap();
                file.set_len(length as u64).unwrap();
            }
            _ => drop(fs::copy(&path, store.join(name)).unwrap()),
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(store, mode).unwrap();
}

fn expected(fixture: &Path) -> Value {
    serde_json::from_slice(&fs::read(fixture.join("expected.json")).unwrap()).unwrap()
}

/// Writes the fixture of this program's format, or of an older program's: `TRESOR_FIXTURE_PROGRAM`, `TRESOR_FIXTURE_FORMAT`.
async fn write() {
    let format = std::env::var("TRESOR_FIXTURE_FORMAT").unwrap_or(FORMAT.to_string());
    let fixture = fixtures().join(format!("format-{format}"));
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let mut command = match std::env::var("TRESOR_FIXTURE_PROGRAM") {
        Ok(program) => {
            let configuration = fs::read_to_string(folder.join("tresor.toml")).unwrap();
            let known = configuration.split("[backup]").next().unwrap().to_owned();
            let policy = fs::read_to_string(folder.join("policy.toml")).unwrap();
            fs::write(folder.join("tresor.toml"), known).unwrap();
            fs::write(folder.join("policy.toml"), policy.replace(", \"backup\"", "")).unwrap();
            let mut command = Command::new(program);
            command
                .args(["serve", "--config"])
                .arg(folder.join("tresor.toml"))
                .env_clear();
            command.env("TRESOR_METRICS_LISTEN", "off");
            command
        }
        Err(_) => serve_command(folder),
    };
    let server = Server::serve_by(&mut command, folder);
    fill(&server.operator()).await;
    let told = told(&server).await;
    // As it is left by a program that is killed.
    pack(&folder.join("data"), &fixture.join("store-left"));
    server.stop().await;
    fs::write(
        fixture.join("expected.json"),
        serde_json::to_string_pretty(&told).unwrap() + "\n",
    )
    .unwrap();
    fs::copy(folder.join("kek.key"), fixture.join("kek.key")).unwrap();
    pack(&folder.join("data"), &fixture.join("store"));
    fs::create_dir_all(fixture.join("audit")).unwrap();
    for (_, path) in tresor::audit::files_in(&folder.join("audit")).unwrap() {
        fs::copy(&path, fixture.join("audit").join(path.file_name().unwrap())).unwrap();
    }
    if std::env::var("TRESOR_FIXTURE_PROGRAM").is_err() {
        let mut backup = tresor(&["backup"]);
        backup.arg(fixture.join("vault.backup"));
        backup.arg("--config").arg(folder.join("tresor.toml"));
        done(backup);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_an_earlier_version_wrote_is_opened_and_is_what_it_was() {
    if std::env::var("TRESOR_FIXTURE").is_ok_and(|value| value == "write") {
        write().await;
    }
    assert_eq!(formats().last(), Some(&FORMAT), "the newest format has its fixture");
    for format in formats() {
        let fixture = fixtures().join(format!("format-{format}"));
        // Closed; and as a killed program left it, with a journal that has what sled's file has not.
        let stores = ["store", "store-left"].map(|name| fixture.join(name));
        assert!(stores[1].exists() == (format >= 3), "format {format}");
        for store in stores.into_iter().filter(|store| store.exists()) {
            is_opened_and_gone_on_with(&fixture, &store).await;
        }
    }
}

/// Again and again, each time a little later: while it is being raised or takes from its journal what it lacks.
fn kill_while_it_starts(folder: &Path) {
    for later in 0..12 {
        let mut command = serve_command(folder);
        command
            .env("TRESOR_SERVER_LISTEN", free_address().to_string())
            .env("TRESOR_SERVER_HEALTH_LISTEN", free_address().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut starting = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15 * later));
        starting.kill().unwrap();
        starting.wait().unwrap();
    }
}

async fn is_opened_and_gone_on_with(fixture: &Path, store: &Path) {
    let folder = deployment(fixture);
    unpack(store, &folder.path().join("data"));
    kill_while_it_starts(folder.path());
    let server = Server::serve(folder.path(), &[]);
    assert_eq!(told(&server).await, expected(fixture), "{}", store.display());
    let operator = server.operator();
    let anew = put_login(name("firm", "wom", office("leipzig")), login("fourth"));
    let saved = operator.admin.clone().put_credential(anew).await.unwrap().into_inner();
    assert_eq!(saved.credential.unwrap().version, 4, "{}", store.display());
    server.stop().await;
    let said = done(with_configuration(folder.path(), &["check"]));
    assert!(said.contains("sound"), "{}: {said}", store.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_an_earlier_version_made_is_restored() {
    let kept = formats()
        .into_iter()
        .map(|format| fixtures().join(format!("format-{format}")));
    let kept: Vec<_> = kept.filter(|fixture| fixture.join("vault.backup").exists()).collect();
    assert!(!kept.is_empty());
    for fixture in kept {
        let folder = deployment(&fixture);
        let mut restore = tresor(&["restore"]);
        restore.arg(fixture.join("vault.backup"));
        restore.arg("--config").arg(folder.path().join("tresor.toml"));
        done(restore);
        let server = Server::serve(folder.path(), &[]);
        assert_eq!(told(&server).await, expected(&fixture), "{}", fixture.display());
        server.stop().await;
    }
}

#[test]
fn an_audit_log_that_an_earlier_version_wrote_is_verified() {
    for format in formats() {
        let fixture = fixtures().join(format!("format-{format}"));
        let keys = expected(&fixture)["jwks"].as_str().unwrap().to_owned();
        let report = verify(&fixture.join("audit"), Some(Keys::parse(&keys).unwrap()), []).unwrap();
        assert!(report.findings.is_empty(), "format {format}: {:#?}", report.findings);
        assert!(report.lines > 20, "format {format}");
    }
}

/// Whoever changes what a record, or a backup, can hold, thinks of those who read it. If an older program would misread what is new:
/// raise `store::FORMAT` (or the first line of backups) and write a fixture. If it may ignore it: note the new digest here.
#[test]
fn what_a_record_and_a_backup_can_hold_has_not_changed_by_accident() {
    for (file, known) in [
        (
            "storage",
            "b7b7925a01c1f2e0f5474383a783daf5587c03551afb8f7671b81517a658a48b",
        ),
        (
            "backup",
            "38195f08a6372090af44dfbd890b5cd223a976f589d73b678d8736643a1e2b75",
        ),
    ] {
        let path = format!("proto/tresor/{file}/v1/{file}.proto");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap().trim());
        let said: String = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        assert_eq!(hex::encode(Sha256::digest(said)), known, "{file}.proto");
    }
}
