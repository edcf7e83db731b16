//! A deployment: made by `tresor init`, served by `tresor serve`, and refused as a whole if something is wrong with it.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "disks/faults.rs"]
mod faults;
mod support;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use faults::Faults;
use support::PATIENCE;
use support::callers::password;
use support::certificates::replace;
use support::process::{DEV, Server, free_address, prepare, refusal, serve_command, tresor};
use support::requests::{general, login, name, office, put_login};
use support::{files, told};

#[tokio::test]
async fn what_init_makes_can_be_served_with_its_own_certificates() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Server::serve(directory.path(), &[("TRESOR_SIGNING_ISSUER", "the firm's vault")]);
    let (operator, order_service) = (server.operator(), server.order_service());
    operator
        .save(put_login(name("firm", "dat", general()), login("kept")))
        .await;
    let resolved = order_service.resolve("firm", "dat", "").await.unwrap();
    assert_eq!(password(&resolved), "kept");
    let denied = (Code::PermissionDenied, "NOT_GRANTED".into());
    assert_eq!(
        told(operator.resolve("firm", "dat", "").await),
        denied,
        "its operator can read no secret"
    );
    assert_eq!(told(order_service.status().await), denied);
    let before = operator.status().await.unwrap();
    assert_eq!(before.store, "sled");
    server.stop().await;

    // The store is there, and must neither open with another key nor be changed by it.
    another_key_is_refused(directory.path());
    let server = Server::serve(directory.path(), &[]);
    assert_eq!(
        password(&server.order_service().resolve("firm", "dat", "").await.unwrap()),
        "kept"
    );
    server.stop().await;
}

/// What is refused with one line that names this.
fn assert_one_line(command: &mut Command, named: &str) {
    let lines = refusal(command);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].starts_with("error: ") && lines[0].contains(named),
        "{}",
        lines[0]
    );
}

/// The same, while every file stays as it is.
fn assert_refused(directory: &Path, command: &mut Command, named: &str) {
    let before = files(directory);
    assert_one_line(command, named);
    let after = files(directory);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after == before, "a file was changed");
}

/// The same, and `--check` says just what the start says.
fn assert_refused_and_told(directory: &Path, named: &str) {
    assert_refused(directory, &mut serve(directory), named);
    let mut check = serve(directory);
    assert_refused(directory, check.arg("--check"), named);
    assert_eq!(refusal(serve(directory).arg("--check")), refusal(&mut serve(directory)));
}

/// `tresor serve` on ports that are free.
fn serve(directory: &Path) -> Command {
    let mut command = serve_command(directory);
    command
        .env("TRESOR_SERVER_LISTEN", free_address().to_string())
        .env("TRESOR_SERVER_HEALTH_LISTEN", free_address().to_string());
    command
}

fn another_key_is_refused(directory: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    prepare(elsewhere.path());
    let other = elsewhere.path().join("kek.key");
    let mut command = serve(directory);
    command.env("TRESOR_KEYS_KEK_FILE", &other);
    // sled tidies its files up whenever it is opened, so what they hold is looked at afterwards.
    assert_one_line(&mut command, "another store's key");
}

#[test]
fn a_key_that_is_none_or_that_others_may_read_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let key = directory.path().join("kek.key");
    let refused = |named: &str| assert_refused_and_told(directory.path(), named);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    refused(&format!("chmod 600 {}", key.display()));
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let right = fs::read(&key).unwrap();
    for wrong in [&b""[..], b"no key", &right[..right.len() - 5]] {
        fs::write(&key, wrong).unwrap();
        refused(&key.display().to_string());
    }
    fs::remove_file(&key).unwrap();
    refused(&key.display().to_string());
    assert!(!directory.path().join("data").exists());
}

#[test]
fn a_certificate_that_is_missing_or_not_the_keys_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let pki = prepare(directory.path());
    let refused = |named: &Path| assert_refused_and_told(directory.path(), &named.display().to_string());
    let client_ca = directory.path().join("tls/client-ca.pem");
    for file in [&pki.server.certificate, &pki.server.key, &client_ca] {
        let right = fs::read(file).unwrap();
        fs::write(file, "no PEM").unwrap();
        refused(file);
        fs::remove_file(file).unwrap();
        refused(file);
        replace(file, right);
    }
    fs::copy(&pki.operator.key, &pki.server.key).unwrap();
    refused(&pki.server.key);
    assert!(!directory.path().join("data").exists());
}

#[test]
fn a_port_in_use_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in [
        "TRESOR_SERVER_LISTEN",
        "TRESOR_SERVER_HEALTH_LISTEN",
        "TRESOR_METRICS_LISTEN",
    ] {
        let mut command = serve(directory.path());
        command.env(setting, &address);
        assert_refused(directory.path(), &mut command, &address);
    }
    assert!(!directory.path().join("data").exists());
}

#[test]
fn everything_that_is_wrong_with_a_configuration_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let file = directory.path().join("tresor.toml");
    let configuration = "[server]\nlisten = \"nowhere\"\ncertificat = \"tls/server.pem\"\nworkers = 0\n[store]\npath = 7\n\
                         [keys]\n[policy]\nfile = \"policy.toml\"\n[log]\nlevel = \"loud\"\n";
    fs::write(&file, configuration).unwrap();
    let before = files(directory.path());
    let lines = refusal(serve_command(directory.path()).env("TRESOR_SERVER_WORKRES", "2"));
    let said = lines.join("\n");
    for wrong in [
        "tresor.toml:2: server.listen:",
        "tresor.toml:3: server.certificat:",
        "tresor.toml:4: server.workers:",
        "server.certificate",
        "server.private_key",
        "server.client_ca",
        "tresor.toml:6: store.path:",
        "keys.kek_file",
        "tresor.toml:11: log.level:",
        "TRESOR_SERVER_WORKRES",
    ] {
        assert!(said.contains(wrong), "{wrong} is not in:\n{said}");
    }
    assert!(lines.iter().all(|line| line.starts_with("error: ")), "{said}");
    assert!(files(directory.path()) == before);
}

#[test]
fn everything_that_is_wrong_with_a_policy_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let policy = "[[grant]]\nwho = \"spiffe://Firm/x y\"\nmay = [\"everything\"]\ntenants = [\"a/b\"]\nproviders = [\"*\"]\n\
                  [[grant]]\nwho = \"a.example\"\nmay = [\"resolve\"]\ntenants = [\"*\"]\nproviders = [\"*\"]\n";
    fs::write(directory.path().join("policy.toml"), policy).unwrap();
    let said = refusal(&mut serve(directory.path())).join("\n");
    for wrong in ["policy.toml:2:", "policy.toml:3:", "policy.toml:4:", "reveal"] {
        assert!(said.contains(wrong), "{wrong} is not in:\n{said}");
    }
    assert_eq!(refusal(serve(directory.path()).arg("--check")).join("\n"), said);
    assert!(!directory.path().join("data").exists());
}

/// What one of them clears away, the other would lose.
#[test]
fn folders_within_one_another_are_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let file = directory.path().join("tresor.toml");
    let original = fs::read_to_string(&file).unwrap();
    let written = |section: &str, key: &str| {
        let configuration: toml::Table = original.parse().unwrap();
        configuration[section][key].as_str().unwrap().to_owned()
    };
    let (store, audit) = (written("store", "path"), written("audit", "directory"));
    for (from, to, told) in [
        (&audit, store.clone(), "is the folder of audit.directory, or within it"),
        (&audit, format!("{store}/audit"), "audit.directory"),
        (&store, format!("{audit}/../{audit}/store"), "store.path"),
    ] {
        fs::write(&file, original.replace(&format!("\"{from}\""), &format!("\"{to}\""))).unwrap();
        assert_refused_and_told(directory.path(), told);
    }
}

#[test]
fn a_vault_for_development_takes_no_folder_that_holds_something_else() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let dev = |folder: &Path| {
        let mut dev = tresor(&DEV);
        dev.arg(folder);
        dev
    };
    assert_refused(directory.path(), &mut dev(directory.path()), "has not put there");
    // Nor is the folder one in which such a folder is.
    fs::create_dir(directory.path().join("tresor-dev")).unwrap();
    assert_refused(directory.path(), &mut dev(directory.path()), "has not put there");

    let started = Server::dev(directory.path());
    started.kill();
    // One that was made before there was a mark.
    fs::remove_file(directory.path().join("data/made-by-tresor-dev")).unwrap();
    Server::dev(directory.path()).kill();
    fs::remove_file(directory.path().join("data/sample-loaded")).unwrap();
    assert_one_line(&mut dev(&directory.path().join("data")), "has not put there");
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tresor.toml");
    assert_refused_and_told(directory.path(), &file.display().to_string());
}

#[tokio::test]
async fn what_could_be_served_is_checked_beside_a_server_and_nothing_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let before = files(directory.path());
    let checked = |arguments: &[&str]| {
        let output = serve_command(directory.path())
            .arg("--check")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    };
    let (text, said) = checked(&[]);
    assert!(said.is_empty(), "{said}");
    for told in ["listens on", "policy.toml, 2 grants", "server.pem", "valid until"] {
        assert!(text.contains(told), "{told} is not in:\n{text}");
    }
    assert!(files(directory.path()) == before, "a file was changed");

    let server = Server::serve(directory.path(), &[]);
    // What a start would take and its operator should hear of.
    let policy = directory.path().join("policy.toml");
    let more = "\n[[grant]]\nwho = \"spiffe://elsewhere.example/x\"\nmay = [\"watch\"]\ntenants = [\"*\"]\nproviders = [\"nothing\"]\n";
    replace(&policy, fs::read_to_string(&policy).unwrap() + more);
    let (json, said) = checked(&["--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["grants"], 3);
    let warnings = told["warnings"].as_array().unwrap();
    assert!(!warnings.is_empty(), "{json}");
    assert!(
        warnings.iter().all(|warning| said.contains(warning.as_str().unwrap())),
        "{said}"
    );
    assert!(server.operator().status().await.is_ok());
    server.stop().await;

    let inside = directory.path().join("data/store/backups");
    let lines = refusal(
        serve(directory.path())
            .arg("--check")
            .env("TRESOR_BACKUP_DIRECTORY", &inside),
    );
    assert!(
        lines[0].contains("backup.directory") && lines[0].contains("is the folder of store.path, or within it"),
        "{lines:?}"
    );
    assert!(!inside.exists());

    let store = directory.path().join("data");
    fs::set_permissions(&store, Permissions::from_mode(0o755)).unwrap();
    assert_refused_and_told(directory.path(), "chmod");
    fs::set_permissions(&store, Permissions::from_mode(0o700)).unwrap();
    let policy = store.join("policy.toml");
    fs::copy(directory.path().join("policy.toml"), &policy).unwrap();
    for folder in ["audit", "audit/there/not/yet"] {
        let refused = |more: &[&str]| {
            let mut command = serve(directory.path());
            command.env("TRESOR_POLICY_FILE", &policy).args(more);
            refusal(command.env("TRESOR_AUDIT_DIRECTORY", directory.path().join(folder)))
        };
        let lines = refused(&["--check"]);
        assert!(lines[0].contains("where the server can write"), "{lines:?}");
        assert_eq!(refused(&[]), lines);
    }
}

/// Whatever holds on to the store when the process ends keeps it from being closed.
#[tokio::test]
async fn a_server_that_is_stopped_has_closed_its_store() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    for round in 0..8 {
        let server = Server::serve(directory.path(), &[]);
        let log = server.lines("stderr").join("\n");
        assert!(!log.contains("takes from its journal"), "round {round}: {log}");
        let saved = put_login(name("firm", "dat", general()), login(&format!("{round}")));
        server.operator().save(saved).await;
        server.stop().await;
    }
}

#[test]
fn init_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let mut again = tresor(&["init"]);
    assert_refused(directory.path(), again.arg(directory.path()), "kek.key");
}

#[tokio::test]
async fn a_second_process_does_not_share_the_store() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Server::serve(directory.path(), &[]);
    server
        .operator()
        .save(put_login(name("firm", "wom", office("leipzig")), without_number()))
        .await;
    assert_one_line(&mut serve(directory.path()), "in use by another process");
    assert!(server.operator().status().await.is_ok());
    server.stop().await;
}

fn without_number() -> tresor::pb::v1::Login {
    tresor::pb::v1::Login {
        customer_number: String::new(),
        ..login("password")
    }
}

#[tokio::test]
async fn a_catalogue_that_lacks_a_provider_in_use_is_refused_with_the_list() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Server::serve(directory.path(), &[]);
    server
        .operator()
        .save(put_login(name("firm", "wom", general()), without_number()))
        .await;
    server.stop().await;
    let file = directory.path().join("tresor.toml");
    let configuration = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{configuration}\n[[provider]]\nid = \"wom\"\nremoved = true\n"),
    )
    .unwrap();
    assert_one_line(&mut serve(directory.path()), "wom (1: firm/wom/general)");
    fs::write(&file, configuration).unwrap();
    Server::serve(directory.path(), &[]).stop().await;
}

/// What a kubelet hears.
async fn is_alive(server: &Server) -> bool {
    let channel = Endpoint::try_from(format!("http://{}", server.health_listen)).unwrap();
    let request = HealthCheckRequest {
        service: "liveness".into(),
    };
    let answer = HealthClient::new(channel.connect_lazy()).check(request).await.unwrap();
    answer.into_inner().status == i32::from(ServingStatus::Serving)
}

/// Whether the service manager hears a sign of life within this time.
fn hears_of_life(manager: &UnixDatagram, within: Duration) -> bool {
    let deadline = std::time::Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return false;
        }
        manager.set_read_timeout(Some(left)).unwrap();
        let mut told = [0; 4096];
        let Ok(length) = manager.recv(&mut told) else {
            return false;
        };
        if told[..length]
            .split(|byte| *byte == b'\n')
            .any(|line| line == b"WATCHDOG=1")
        {
            return true;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_stuck_is_told_to_the_watchdog_and_to_the_kubelet_until_it_gets_on() {
    /// How long the manager waits for a sign of life.
    const WATCHDOG: Duration = Duration::from_secs(1);
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let faults = Faults::build();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let mut environment = faults.environment("STUCK", "worker-0");
    environment.extend([
        ("NOTIFY_SOCKET", socket.display().to_string()),
        ("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()),
        ("TRESOR_SERVER_WORKERS", "2".into()),
    ]);
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let server = Server::serve(directory.path(), &environment);
    assert!(hears_of_life(&manager, PATIENCE));
    assert!(is_alive(&server).await);

    faults.begin();
    server.has_logged("the server is stuck", 1).await;
    assert!(!is_alive(&server).await);
    // What was told before that, and then nothing: systemd would have started it again.
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 4096]).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    assert!(!hears_of_life(&manager, 2 * WATCHDOG));

    faults.end();
    server.has_logged("the server gets on again", 1).await;
    assert!(hears_of_life(&manager, PATIENCE));
    assert!(is_alive(&server).await);
    server.stop().await;
}
