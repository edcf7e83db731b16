//! `tresor dev` and `tresor serve` as processes.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tresor::pki::{self, DevPki};
use tresor::time::{Clock as _, SystemClock};

use super::callers::Callers;
use super::wait_for;

/// Where the program is: the one that was built with these tests, or another that is named.
fn program() -> OsString {
    std::env::var_os("TRESOR_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_tresor").into())
}

/// The program, without anything of this process's environment.
pub(crate) fn tresor(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// A development vault on ports that are free; its directory follows.
pub(crate) const DEV: [&str; 6] = [
    "dev",
    "--listen",
    "127.0.0.1:0",
    "--health-listen",
    "127.0.0.1:0",
    "--data-dir",
];

/// A vault that serves. It is killed when it is dropped, and asked to end by [`Server::stop`].
pub(crate) struct Server {
    child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) health_listen: SocketAddr,
    pub(crate) pki: DevPki,
    /// Where its files are, and what it writes: `stdout` and `stderr`.
    pub(crate) directory: PathBuf,
}

impl Server {
    /// `tresor dev` in a directory, on ports that are free.
    pub(crate) fn dev(directory: &Path) -> Self {
        Self::dev_with(directory, &[])
    }

    pub(crate) fn dev_with(directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = tresor(&DEV);
        command.envs(environment.iter().copied());
        Self::dev_as(directory, command)
    }

    /// The same, as a process that gets an error where a limit on the size of files would end it.
    pub(crate) fn dev_ignoring_size_signals(directory: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = r#"trap '' XFSZ; exec "$0" "$@""#;
        command.args(["-c", script]).arg(program()).args(DEV);
        command.env_clear().stdin(Stdio::null());
        Self::dev_as(directory, command)
    }

    fn dev_as(directory: &Path, mut command: Command) -> Self {
        let data = directory.join("data");
        command.arg(&data);
        let child = spawn(&mut command, directory);
        let mut server = Self {
            child,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            health_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            pki: certificates(&data.join("pki")),
            directory: directory.into(),
        };
        server.wait_until("ready", |server| {
            server.lines("stdout").iter().any(|line| line == "ready")
        });
        server.listen = server.address_after("gRPC with mutual TLS");
        server.health_listen = server.address_after("health in plaintext");
        server
    }

    /// `tresor serve` with the configuration in a directory that [`prepare`] has made.
    pub(crate) fn serve(directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = serve_command(directory);
        command.envs(environment.iter().copied());
        Self::serve_by(&mut command, directory)
    }

    /// The same by a command of one's own, which is or becomes `tresor serve`.
    pub(crate) fn serve_by(command: &mut Command, directory: &Path) -> Self {
        Self::serve_with(command, directory, [free_address(), free_address()], spawn)
    }

    /// Asks a [served](Self::serve) one to end, and starts another one at the same addresses.
    pub(crate) async fn restart(self) -> Self {
        let (directory, addresses) = (self.directory.clone(), [self.listen, self.health_listen]);
        self.stop().await;
        Self::serve_with(&mut serve_command(&directory), &directory, addresses, spawn)
    }

    /// The same, and what it writes to standard output, which goes nowhere unless it is read.
    pub(crate) fn serve_piped(directory: &Path, environment: &[(&str, &str)]) -> (Self, ChildStdout) {
        let mut command = serve_command(directory);
        command.envs(environment.iter().copied());
        let addresses = [free_address(), free_address()];
        let mut server = Self::serve_with(&mut command, directory, addresses, |command, directory| {
            let log = File::create(directory.join("stderr")).unwrap();
            command.stdout(Stdio::piped()).stderr(log).spawn().unwrap()
        });
        let output = server.child.stdout.take().unwrap();
        (server, output)
    }

    fn serve_with(
        command: &mut Command,
        directory: &Path,
        [listen, health_listen]: [SocketAddr; 2],
        spawn: impl FnOnce(&mut Command, &Path) -> Child,
    ) -> Self {
        command
            .env("TRESOR_SERVER_LISTEN", listen.to_string())
            .env("TRESOR_SERVER_HEALTH_LISTEN", health_listen.to_string());
        let mut server = Self {
            child: spawn(command, directory),
            listen,
            health_listen,
            pki: certificates(&directory.join("tls")),
            directory: directory.into(),
        };
        server.wait_until("serving", |server| {
            server.lines("stderr").iter().any(|line| line.contains("\"serving\""))
        });
        server
    }

    /// A file of `/proc` about the process.
    pub(crate) fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.id())).join(name)
    }

    pub(crate) fn operator(&self) -> Callers {
        Callers::connect(self, Some(&self.pki.operator))
    }

    pub(crate) fn order_service(&self) -> Callers {
        Callers::connect(self, Some(&self.pki.order_service))
    }

    /// Asks it to end, and insists that it ends well. Its callers must be able to answer meanwhile.
    pub(crate) async fn stop(self) {
        tokio::task::spawn_blocking(|| self.stop_here()).await.unwrap();
    }

    fn stop_here(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.wait();
        let log = self.lines("stderr").join("\n");
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Asks it to reload.
    pub(crate) fn hang_up(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    /// Waits until the log has `count` lines with these words.
    pub(crate) async fn has_logged(&self, words: &str, count: usize) {
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            let lines = self.lines("stderr");
            if lines.iter().filter(|line| line.contains(words)).count() >= count {
                return;
            }
            let log = lines.join("\n");
            assert!(
                tokio::time::Instant::now() < deadline,
                "waited in vain for {words:?} in {log}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without asking.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn lines(&self, output: &str) -> Vec<String> {
        let file = File::open(self.directory.join(output)).unwrap();
        BufReader::new(file).lines().map_while(Result::ok).collect()
    }

    fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the process", || self.child.try_wait().unwrap())
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        wait_for(what, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", self.lines("stderr").join("\n"));
            }
            is_so(self).then_some(())
        });
    }

    fn address_after(&self, label: &str) -> SocketAddr {
        let lines = self.lines("stdout");
        let line = lines.iter().rev().find(|line| line.trim_start().starts_with(label));
        line.unwrap().split_whitespace().last().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a key, a configuration, a policy and certificates, as an operator would.
pub(crate) fn prepare(directory: &Path) -> DevPki {
    let made = tresor(&["init"]).arg(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pki = pki::ensure(&directory.join("tls"), SystemClock.now()).unwrap();
    std::fs::copy(&pki.ca, directory.join("tls/client-ca.pem")).unwrap();
    pki
}

pub(crate) fn serve_command(directory: &Path) -> Command {
    let mut command = tresor(&["serve", "--config"]);
    // Whoever tests them names a port: not two servers of these tests have the same.
    command
        .arg(directory.join("tresor.toml"))
        .env("TRESOR_METRICS_LISTEN", "off")
        // Other tests keep the machine and its disk busy meanwhile.
        .env("TRESOR_SERVER_LONGEST_WAIT", "1s")
        .env("TRESOR_AUDIT_TIMEOUT", "20s");
    command
}

/// Starts it, insists that it refuses, and returns the lines that it says.
pub(crate) fn refusal(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{said}");
    said.lines().map(str::to_owned).collect()
}

/// An address that nobody listens on, that no other test of this process gets, and none that the system could give to whoever
/// connects next: those are above 32767.
pub(crate) fn free_address() -> SocketAddr {
    const PORTS: u32 = 20_000;
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(getrandom::u32().unwrap() % PORTS));
    loop {
        let port = 10_000 + u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % PORTS).unwrap();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

fn spawn(command: &mut Command, directory: &Path) -> Child {
    let output = |name| {
        let path = directory.join(name);
        Stdio::from(OpenOptions::new().create(true).append(true).open(path).unwrap())
    };
    // What an earlier life said would be taken for what this one says.
    for name in ["stdout", "stderr"] {
        let path = directory.join(name);
        if path.exists() {
            std::fs::rename(&path, directory.join(format!("{name}-before"))).unwrap();
        }
    }
    command
        .stdout(output("stdout"))
        .stderr(output("stderr"))
        .spawn()
        .unwrap()
}

/// The certificates that `tresor` has made, or will make, in a folder.
fn certificates(folder: &Path) -> DevPki {
    let pair = |name: &str| pki::Pair {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    DevPki {
        ca: folder.join("ca.pem"),
        server: pair("server"),
        operator: pair("operator"),
        order_service: pair("order-service"),
    }
}
