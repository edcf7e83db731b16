//! What `tresor serve` gives up before it serves, seen from outside the process.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(target_os = "linux")]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kernel::{has_landlock, has_seccomp_filters};
use landlock::ABI;
use support::callers::password;
use support::process::{Server, prepare, refusal, serve_command, tresor};
use support::requests::{general, login, name, put_login};
use support::wait_for;

/// Nobody in particular: who tests as root looks at a server of this user, because root may do everything anyway.
const NOBODY: u32 = 65534;

/// A deployment that belongs to whom its server will run as.
struct Deployment {
    directory: tempfile::TempDir,
    user: Option<u32>,
}

impl Deployment {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let is_root = directory.path().metadata().unwrap().uid() == 0;
        let user = is_root.then_some(NOBODY);
        let made = Self { directory, user };
        // The folder of the build need not be open to everybody. It is another program that writes the copy: what this one has
        // open for writing, a process that another test starts has too, and then nobody can run it.
        let copied = Command::new("cp")
            .args([Path::new(env!("CARGO_BIN_EXE_tresor")), &made.path("tresor")])
            .status();
        assert!(copied.unwrap().success());
        made.hand_over(made.directory.path());
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn hand_over(&self, path: &Path) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.hand_over(&entry.unwrap().path());
            }
        }
        if let Some(user) = self.user {
            chown(path, Some(user), Some(user)).unwrap();
        }
    }

    /// A program, as the user of the server and without any privilege.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// `tresor serve` under limits that a shell sets.
    fn serve_command(&self, limits: &str) -> Command {
        let mut command = self.command("/bin/sh");
        command
            .args(["-c", &format!("{limits} exec \"$0\" serve --config \"$1\"")])
            .args([self.path("tresor"), self.path("tresor.toml")])
            .env("TRESOR_METRICS_LISTEN", "off");
        command
    }

    fn serve(&self, limits: &str, environment: &[(&str, &str)]) -> Server {
        let mut command = self.serve_command(limits);
        command.env("TRESOR_METRICS_LISTEN", "off");
        Server::serve_by(command.envs(environment.iter().copied()), self.directory.path())
    }

    /// Whether another process of the server's user may read a file.
    fn may_read(&self, path: &Path) -> bool {
        let mut command = self.command("/bin/dd");
        command
            .arg(format!("if={}", path.display()))
            .args(["of=/dev/null", "count=0"]);
        command.stderr(Stdio::null()).status().unwrap().success()
    }
}

/// A line of the log with this message.
fn logged(server: &Server, message: &str) -> Option<serde_json::Value> {
    let lines = server.lines("stderr").into_iter();
    let mut lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
    lines.find(|line| line["message"].as_str().unwrap().starts_with(message))
}

/// A value of `/proc/PID/status`.
fn status(path: &Path, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| *name == key).unwrap();
    value.trim().to_owned()
}

/// Soft and hard, of `/proc/PID/limits`.
fn limits(server: &Server, name: &str) -> (String, String) {
    let text = fs::read_to_string(server.proc("limits")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    let mut values = line[name.len()..].split_whitespace().map(str::to_owned);
    (values.next().unwrap(), values.next().unwrap())
}

#[tokio::test]
async fn nobody_but_root_sees_into_a_serving_process() {
    let deployment = Deployment::new();
    let server = deployment.serve("", &[]);
    assert_eq!(limits(&server, "Max core file size"), ("0".into(), "0".into()));
    assert_eq!(server.proc("mem").metadata().unwrap().uid(), 0);
    for secret in ["mem", "maps", "environ", "auxv"] {
        assert!(!deployment.may_read(&server.proc(secret)), "{secret}");
    }
    // Another process of the same user is not as reserved.
    let mut open = deployment.command("/bin/sleep").arg("60").spawn().unwrap();
    let seen = PathBuf::from(format!("/proc/{}/mem", open.id()));
    wait_for("a process that can be looked into", || {
        deployment.may_read(&seen).then_some(())
    });
    open.kill().unwrap();
    open.wait().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn every_thread_is_without_new_privileges_and_its_system_calls_are_filtered() {
    let deployment = Deployment::new();
    let server = deployment.serve("", &[]);
    let threads: Vec<_> = fs::read_dir(server.proc("task")).unwrap().collect();
    assert!(threads.len() > 3, "accepting, workers and the store have threads");
    let line = logged(&server, "hardened").unwrap();
    let filter = line["system_call_filter"].as_str().unwrap();
    assert_eq!(filter == "on", has_seccomp_filters());
    for thread in threads {
        let thread = thread.unwrap().path().join("status");
        assert_eq!(status(&thread, "NoNewPrivs"), "1");
        // 2 is a filter. Where the system has none, the log must have said so.
        let expected = if filter == "on" { "2" } else { "0" };
        assert_eq!(status(&thread, "Seccomp"), expected);
    }
    assert_eq!(
        filter == "on",
        logged(&server, "system calls are not filtered").is_none()
    );
    assert_eq!(status(&server.proc("status"), "Umask"), "0077");
    server.stop().await;
}

#[tokio::test]
async fn a_confined_vault_serves_and_keeps_what_it_is_given() {
    let deployment = Deployment::new();
    let server = deployment.serve("", &[]);
    let put = put_login(name("firm", "dat", general()), login("kept"));
    server.operator().save(put).await;
    server.stop().await;
    let server = deployment.serve("", &[]);
    let resolved = server.order_service().resolve("firm", "dat", "").await.unwrap();
    assert_eq!(password(&resolved), "kept");
    let line = logged(&server, "hardened").unwrap();
    assert_eq!(line["file_sandbox"] == "on", has_landlock(ABI::V6), "{line}");
    let is_told = logged(&server, "files outside of the vault's folders are in its reach").is_some();
    assert_eq!(line["file_sandbox"] == "not available", is_told, "{line}");
    assert_eq!(is_told, !has_landlock(ABI::V1));
    let is_partly = logged(&server, "this kernel knows only a part of the sandbox").is_some();
    assert_eq!(is_partly, has_landlock(ABI::V1) && !has_landlock(ABI::V6));
    server.stop().await;
}

#[tokio::test]
async fn a_serving_process_reaches_no_file_outside_of_its_folders() {
    let deployment = Deployment::new();
    let (policy, elsewhere) = (deployment.path("policy/policy.toml"), deployment.path("elsewhere"));
    for folder in [policy.parent().unwrap(), &elsewhere] {
        fs::create_dir(folder).unwrap();
    }
    fs::copy(deployment.path("policy.toml"), &policy).unwrap();
    let narrower = fs::read_to_string(&policy).unwrap().replace("operator", "somebody");
    fs::write(elsewhere.join("policy.toml"), narrower).unwrap();
    deployment.hand_over(deployment.directory.path());
    let turn_to = |target: PathBuf| {
        symlink(target, policy.with_file_name("new")).unwrap();
        fs::rename(policy.with_file_name("new"), &policy).unwrap();
    };
    let served_with = |sandbox| {
        let environment = [
            ("TRESOR_POLICY_FILE", policy.to_str().unwrap()),
            ("TRESOR_HARDENING_SANDBOX", sandbox),
        ];
        deployment.serve("", &environment)
    };
    if has_landlock(ABI::V1) {
        let server = served_with("auto");
        turn_to(elsewhere.join("policy.toml"));
        server.hang_up();
        server
            .has_logged("policy.toml: cannot be read: Permission denied", 1)
            .await;
        assert!(logged(&server, "reloaded").is_none());
        server.stop().await;
    }
    // Without a sandbox the same is taken into use.
    fs::remove_file(&policy).unwrap();
    fs::copy(deployment.path("policy.toml"), &policy).unwrap();
    deployment.hand_over(&policy);
    let server = served_with("off");
    turn_to(elsewhere.join("policy.toml"));
    server.hang_up();
    server.has_logged("\"reloaded\"", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_store_behind_a_link_is_confined_like_any_other() {
    let deployment = Deployment::new();
    fs::create_dir(deployment.path("disk")).unwrap();
    fs::create_dir(deployment.path("disk/store")).unwrap();
    fs::set_permissions(deployment.path("disk/store"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("disk/store", deployment.path("data")).unwrap();
    deployment.hand_over(deployment.directory.path());
    for _ in 0..2 {
        deployment.serve("", &[]).stop().await;
    }
    assert!(deployment.path("disk/store/db").exists());
}

#[test]
fn a_store_around_what_decides_over_it_is_refused() {
    let deployment = Deployment::new();
    let folder = deployment.path("tls");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    deployment.hand_over(&folder);
    let told = refusal(deployment.serve_command("").env("TRESOR_STORE_PATH", &folder));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("where the server can write"), "{told:?}");
}

#[tokio::test]
async fn what_is_on_is_told_before_the_server_says_that_it_serves() {
    let deployment = Deployment::new();
    let server = deployment.serve("", &[]);
    let lines = server.lines("stderr");
    let place = |message: &str| lines.iter().position(|line| line.contains(message)).unwrap();
    assert!(place("\"hardened\"") < place("\"serving\""));
    server.stop().await;
}

#[tokio::test]
async fn what_is_switched_off_is_off_and_the_log_says_so() {
    let deployment = Deployment::new();
    let off = [
        ("TRESOR_HARDENING_SANDBOX", "off"),
        ("TRESOR_HARDENING_LOCK_MEMORY", "off"),
    ];
    let server = deployment.serve("", &off);
    let line = logged(&server, "hardened").unwrap();
    for measure in ["file_sandbox", "system_call_filter", "memory_lock"] {
        assert_eq!(line[measure], "off", "{line}");
    }
    assert_eq!(line["core_dumps"], "off", "it has no switch: {line}");
    // What the store needs has no switch, either.
    assert_eq!(line["whole_syncs"], "on", "{line}");
    assert_eq!(status(&server.proc("status"), "Seccomp_filters"), "1");
    assert_eq!(status(&server.proc("status"), "NoNewPrivs"), "1");
    assert_eq!(status(&server.proc("status"), "VmLck"), "0 kB");
    server.stop().await;
}

/// They hold the key-encryption key, and write to the store.
#[test]
fn commands_that_open_a_store_are_hardened_as_far_as_it_needs_no_configuration() {
    let mut verify = tresor(&["backup", "verify", "-", "--jwks"]);
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys.json");
    fs::write(&keys, r#"{"keys":[]}"#).unwrap();
    let mut verifying = verify.arg(&keys).stdin(Stdio::piped()).spawn().unwrap();
    let of_process = Path::new("/proc").join(verifying.id().to_string()).join("status");
    wait_for("what needs no configuration", || {
        let is_filtered = status(&of_process, "Seccomp_filters") != "0" || !has_seccomp_filters();
        let is = |name: &str, value: &str| status(&of_process, name) == value;
        (is_filtered && is("NoNewPrivs", "1") && is("Umask", "0077")).then_some(())
    });
    drop(verifying.stdin.take());
    assert_ne!(verifying.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn memory_is_locked_where_nothing_can_stand_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let server = Server::serve(directory.path(), &[]);
    let locked = status(&server.proc("status"), "VmLck") != "0 kB";
    let warning = logged(&server, "memory is not locked");
    if limits(&server, "Max locked memory").1 == "unlimited" {
        assert!(locked, "{warning:?}");
    }
    assert_eq!(logged(&server, "hardened").unwrap()["memory_lock"] == "on", locked);
    assert_eq!(warning.is_none(), locked);
    server.stop().await;
}

#[tokio::test]
async fn memory_stays_unlocked_under_a_limit_and_the_log_says_how_to_mend_it() {
    let deployment = Deployment::new();
    let server = deployment.serve("ulimit -l 64;", &[]);
    assert_eq!(status(&server.proc("status"), "VmLck"), "0 kB");
    assert_eq!(logged(&server, "hardened").unwrap()["memory_lock"], "not available");
    let warning = logged(&server, "memory is not locked").unwrap();
    assert!(warning["reason"].as_str().unwrap().contains("64 KiB"), "{warning}");
    assert!(
        warning["remedy"].as_str().unwrap().contains("LimitMEMLOCK"),
        "{warning}"
    );
    server.stop().await;
    let mut required = deployment.serve_command("ulimit -l 64;");
    let told = refusal(required.env("TRESOR_HARDENING_LOCK_MEMORY", "required")).join("\n");
    assert!(told.contains("\"required\"") && told.contains("LimitMEMLOCK"), "{told}");
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_compared_with_the_connections() {
    let deployment = Deployment::new();
    let server = deployment.serve("ulimit -Sn 256; ulimit -Hn 2000;", &[]);
    assert_eq!(limits(&server, "Max open files"), ("2000".into(), "2000".into()));
    let warning = logged(&server, "the limit of open files is too low").unwrap();
    assert_eq!(warning["limit"], 2000);
    assert!(
        warning["remedy"].as_str().unwrap().contains("server.max_connections"),
        "{warning}"
    );
    server.stop().await;
    let few = [("TRESOR_SERVER_MAX_CONNECTIONS", "900")];
    let server = deployment.serve("ulimit -Sn 256; ulimit -Hn 2000;", &few);
    assert!(logged(&server, "the limit of open files is too low").is_none());
    server.stop().await;
}

#[tokio::test]
async fn what_decides_and_what_is_secret_is_refused_if_it_is_another_users_unless_that_is_root() {
    let deployment = Deployment::new();
    fs::create_dir(deployment.path("data")).unwrap();
    fs::set_permissions(deployment.path("data"), fs::Permissions::from_mode(0o700)).unwrap();
    deployment.hand_over(&deployment.path("data"));
    deployment.serve("", &[]).stop().await;
    // Only root can give a file away.
    let Some(user) = deployment.user else { return };
    let files = [
        "tresor.toml",
        "policy.toml",
        "tls/server.pem",
        "tls/server.key",
        "tls/client-ca.pem",
        "kek.key",
        "data",
    ];
    for file in files {
        let path = deployment.path(file);
        for (owner, process, told) in [
            (user + 1, user, "belongs to user 65535"),
            (user, 0, "belongs to user 65534"),
        ] {
            // All but this one are of whom the process runs as.
            for other in files {
                chown(deployment.path(other), Some(process), Some(process)).unwrap();
            }
            chown(&path, Some(owner), Some(process)).unwrap();
            // Readable for all the same, so that it is the owner that matters.
            let mode = path.metadata().unwrap().mode();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o040)).unwrap();
            let said = if process == 0 {
                refusal(&mut serve_command(deployment.directory.path()))
            } else {
                refusal(&mut deployment.serve_command(""))
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let shown = path.display().to_string();
            assert!(
                said[0].contains(told) && said[0].contains(&format!("chown {process} {shown}")),
                "{file}: {said:?}"
            );
        }
    }
}

/// Kubernetes mounts secrets as root's, with the group of the pod and a mode of one's choice.
#[tokio::test]
async fn a_key_file_that_root_lets_the_servers_group_read_is_taken() {
    let deployment = Deployment::new();
    let Some(user) = deployment.user else { return };
    let key = deployment.path("kek.key");
    let hand_over = |mode| {
        chown(&key, Some(0), Some(user)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o440, 0o640] {
        hand_over(mode);
        deployment.serve("", &[]).stop().await;
    }
    for (mode, verb) in [(0o460, "write"), (0o444, "read"), (0o450, "enter")] {
        hand_over(mode);
        let told = refusal(&mut deployment.serve_command("")).join("\n");
        assert!(
            told.contains(&format!("others may {verb} it")) && told.contains("chmod g-wx,o-rwx"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn files_that_the_vault_makes_are_its_owners_alone() {
    let deployment = Deployment::new();
    let server = deployment.serve("umask 000;", &[]);
    server
        .operator()
        .save(put_login(name("firm", "dat", general()), login("kept")))
        .await;
    let mut folders = vec![deployment.path("data")];
    while let Some(folder) = folders.pop() {
        assert_eq!(folder.metadata().unwrap().mode() & 0o077, 0, "{}", folder.display());
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(path.metadata().unwrap().mode() & 0o077, 0, "{}", path.display());
            folders.extend(path.is_dir().then_some(path));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_vault_for_development_can_be_looked_into() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    assert_eq!(status(&server.proc("status"), "NoNewPrivs"), "1");
    assert_eq!(status(&server.proc("status"), "Umask"), "0077");
    File::open(server.proc("mem")).unwrap();
    server.stop().await;
}
