//! The servers, each a process of its own that ends with the run, and what the operating system says of them.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::Error;
use crate::support::deployment::Deployment;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_mins(2);
/// The kernel counts CPU time in hundredths of a second for everybody (`USER_HZ`).
const TICKS_PER_SECOND: u32 = 100;

/// A server. It is killed when this is dropped.
pub(crate) struct Process(Child);

/// A vault that serves.
pub(crate) struct Vault {
    pub(crate) process: Process,
    pub(crate) port: u16,
    /// Where health is asked for in plaintext.
    pub(crate) health_port: u16,
    /// From the start of the process until health said `SERVING`.
    pub(crate) started_in: Duration,
}

/// How much memory a process has, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Process {
    /// User and system time of all of its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Error> {
        cpu_of(&self.0.id().to_string())
    }

    pub(crate) fn memory(&self) -> Result<Memory, Error> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.ok_or_else(|| format!("/proc/…/status does not say {name}"))
        };
        Ok(Memory {
            resident: kibibytes("VmRSS:")? * 1024,
            peak: kibibytes("VmHWM:")? * 1024,
        })
    }

    fn pid(&self) -> Result<Pid, Error> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        Ok(pid.ok_or("the process has no id")?)
    }

    fn has_ended(&mut self) -> Result<bool, Error> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// User and system time of a process, or of this one with `self`: proc(5), fields 14 and 15.
pub(crate) fn cpu_of(process: &str) -> Result<Duration, Error> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name before it may hold anything.
    let (_, fields) = stat.rsplit_once(") ").ok_or("/proc/…/stat is not as it should be")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || {
        let field = fields.next().ok_or("/proc/…/stat is cut short")?;
        field.parse::<u32>().map_err(Error::from)
    };
    Ok(Duration::from_secs(1) * (ticks()? + ticks()?) / TICKS_PER_SECOND)
}

impl Vault {
    /// Serves a deployment and waits until it is ready.
    pub(crate) async fn start(deployment: &Deployment) -> Result<Self, Error> {
        Self::start_with(deployment, &[], None).await
    }

    /// The same with some more settings, by their variables, and on some cores alone.
    pub(crate) async fn start_with(
        deployment: &Deployment,
        settings: &[(&str, &str)],
        cores: Option<&CpuSet>,
    ) -> Result<Self, Error> {
        let (port, health_port) = (free_port()?, free_port()?);
        let log = deployment.directory().join("log");
        let began = Instant::now();
        let child = Command::new(binary())
            .args(["serve", "--config"])
            .arg(&deployment.configuration)
            .env_clear()
            .env("TRESOR_SERVER_LISTEN", format!("127.0.0.1:{port}"))
            .env("TRESOR_SERVER_HEALTH_LISTEN", format!("127.0.0.1:{health_port}"))
            .env("TRESOR_METRICS_LISTEN", format!("127.0.0.1:{}", free_port()?))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut process = Process(child);
        if let Some(cores) = cores {
            // The threads that it starts later are bound by it too.
            sched_setaffinity(Some(process.pid()?), cores)?;
        }
        while !is_serving(health_port).await {
            if process.has_ended()? || began.elapsed() > PATIENCE {
                return Err(format!("the vault did not start: {}", last_line(&log)?).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(Self {
            process,
            port,
            health_port,
            started_in: began.elapsed(),
        })
    }

    /// Asks it to end, and waits until it has ended well.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        kill_process(self.process.pid()?, Signal::TERM)?;
        let began = Instant::now();
        loop {
            match self.process.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the vault ended badly: {status}").into()),
                None if began.elapsed() > PATIENCE => return Err("the vault does not end".into()),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// The vault's program: the one that was built with this, or the one that `TRESOR_BIN` names.
fn binary() -> OsString {
    env::var_os("TRESOR_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_tresor").into())
}

/// Whether health says so in plaintext, over a connection of its own, as a kubelet asks.
pub(crate) async fn is_serving(health_port: u16) -> bool {
    let endpoint = Endpoint::try_from(format!("http://127.0.0.1:{health_port}")).expect("it is a URL");
    let Ok(channel) = endpoint.connect().await else {
        return false;
    };
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
}

/// tonic's own server, in a process of its own. Returns the port that it serves at.
pub(crate) fn start_stock(tls: &Path) -> Result<(Process, u16), Error> {
    let mut child = Command::new(env::current_exe()?)
        .arg(super::stock::SUBCOMMAND)
        .arg(tls)
        // It ends when this closes, so also when this process is killed.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the stock server has no output")?;
    let process = Process(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let port = line.trim().parse().map_err(|_| "the stock server did not start")?;
    Ok((process, port))
}

/// Another process may take it meanwhile; then the server does not start and says so.
fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn last_line(log: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(log)?;
    Ok(text.lines().next_back().unwrap_or("it said nothing").to_owned())
}
