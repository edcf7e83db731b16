//! `tresor serve`: the vault itself.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use serde::Serialize;
use tresor::access::{Policy, ServedBy};
use tresor::config::Config;
use tresor::hardening::{Debugging, Hardening};
use tresor::serve::{self, Grants, Serving, StartError, manager};
use tresor::server::Listeners;
use tresor::telemetry;
use tresor::time::{Clock as _, SystemClock};

use super::failure::{Exit, Failure};
use super::output::{Output, details};

/// Serve a vault, until SIGTERM or Ctrl-C. SIGHUP takes changed certificates and a changed policy into use at once.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor serve --config /etc/tresor/tresor.toml\n  \
    tresor serve --config /etc/tresor/tresor.toml --check\n\n\
    JSON, of --check: {listen, health_listen, metrics_listen, store, audit, policy, grants, expiries[], warnings[]}, each of \
    expiries {what, at}")]
pub(crate) struct Serve {
    /// The configuration; `tresor init` makes one to start from.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only say whether a start would take the configuration, the policy, the certificates, the key-encryption key and the folders. A
    /// server may be running meanwhile. Ports, the store, a KMS and what the system has of a sandbox are not tried. Run it as the
    /// server's user and with its environment: modes and `TRESOR_…` variables count.
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Checked {
    listen: String,
    health_listen: String,
    metrics_listen: Option<String>,
    store: PathBuf,
    audit: PathBuf,
    policy: PathBuf,
    grants: usize,
    expiries: Vec<ExpiryView>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct ExpiryView {
    what: String,
    at: String,
}

impl Serve {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Exit, Failure> {
        if self.check {
            return self.check(output);
        }
        let mut hardening = Hardening::begin(Debugging::Refused).map_err(start)?;
        let config = Config::load(&self.config).map_err(start)?;
        let grants = Grants::load(&config.policy.file).map_err(start)?;
        telemetry::init(config.log.format, &config.log.level);
        hardening.lock_memory(config.hardening.lock_memory).map_err(start)?;
        let listeners = Listeners::bind(config.server.listen, config.server.health_listen)
            .and_then(|listeners| listeners.with_metrics(config.metrics.listen))
            .map_err(start)?;
        let (listen, health_listen) = listeners.addresses().map_err(start)?;
        let metrics_listen = listeners.metrics_address().map_err(start)?;
        let prepared = serve::prepare(&config, grants, listeners).map_err(start)?;
        // Still the only thread: those of the runtime and of the workers are bound by what binds this one.
        let reach = serve::reach(&config, &prepared);
        let hardened = hardening.confine(config.hardening.sandbox, &reach).map_err(start)?;
        on_server_runtime(async {
            let signals = StopSignals::new()?;
            let mut hangup = signal(SignalKind::hangup()).map_err(Failure::Runtime)?;
            let serving = serve::start(&config, prepared).await.map_err(start)?;
            // Not before: a start that is refused says so in one line.
            hardened.log(config.server.max_connections.get());
            serving.server.set_ready().await;
            let metrics_listen = metrics_listen.map(tracing::field::display);
            if let Ok(vault) = serving.door.vault() {
                tracing::info!(%listen, %health_listen, metrics_listen, revision = vault.revision().0, "serving");
            } else {
                tracing::warn!(%listen, %health_listen, metrics_listen, "listening, and sealed");
            }
            manager::ready().await;
            let trigger = serving.reload.trigger();
            let reloading = tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    manager::reloading().await;
                    trigger.pull().await;
                    manager::ready().await;
                }
            });
            let ended = signals.then_stop(serving).await;
            reloading.abort();
            ended
        })
    }
}

impl Serve {
    fn check(&self, output: &mut Output) -> Result<Exit, Failure> {
        let _hardening = Hardening::begin(Debugging::Refused).map_err(start)?;
        let config = Config::load(&self.config).map_err(start)?;
        let policy = Policy::load(&config.policy.file).map_err(start)?;
        let expiries = serve::check(&config).map_err(start)?;
        let served_by = ServedBy {
            catalogue: &config.catalogue,
            trust_domains: &config.server.trust_domains,
        };
        let remarks = policy.remarks(Some(&served_by)).into_iter();
        let remarks =
            remarks.map(|remark| format!("{}:{}: {}", config.policy.file.display(), remark.line, remark.text));
        let now = SystemClock.now();
        let near = expiries.iter().filter(|expiry| expiry.is_near(now));
        let near = near.map(|expiry| {
            let when = if expiry.at() <= now {
                "has expired"
            } else {
                "expires soon"
            };
            format!("{} {when}, {}: renew it", expiry.what(), expiry.at())
        });
        let checked = Checked {
            listen: config.server.listen.to_string(),
            health_listen: config.server.health_listen.to_string(),
            metrics_listen: config.metrics.listen.map(|address| address.to_string()),
            grants: policy.shown().len(),
            warnings: remarks.chain(near).collect(),
            expiries: expiries
                .iter()
                .map(|expiry| ExpiryView {
                    what: expiry.what().to_owned(),
                    at: expiry.at().to_string(),
                })
                .collect(),
            store: config.store.path,
            audit: config.audit.directory,
            policy: config.policy.file,
        };
        for warning in &checked.warnings {
            output.warn(warning);
        }
        output.show(&checked, Checked::text)?;
        Ok(Exit::Done)
    }
}

impl Checked {
    fn text(&self) -> String {
        let path = |path: &Path| path.display().to_string();
        let mut rows = vec![
            ("listens on", self.listen.clone()),
            ("health on", self.health_listen.clone()),
        ];
        rows.extend(self.metrics_listen.clone().map(|address| ("metrics on", address)));
        rows.extend([
            ("store", path(&self.store)),
            ("audit log", path(&self.audit)),
            ("policy", format!("{}, {} grants", path(&self.policy), self.grants)),
        ]);
        let expiry = |expiry: &ExpiryView| ("valid until", format!("{}: {}", expiry.at, expiry.what));
        rows.extend(self.expiries.iter().map(expiry));
        details(&rows)
    }
}

/// What a server runs on, beside its workers: accepting, the store's changes, blocking work.
pub(super) fn on_server_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let done = runtime.block_on(work);
    // What is left has nobody waiting for it.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    done
}

/// SIGTERM and SIGINT. Made before anybody is told that the server is ready, so that none is missed.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::Runtime);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for one, then lets open calls finish.
    pub(super) async fn then_stop(mut self, serving: Serving) -> Result<Exit, Failure> {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("stopping: open calls may finish");
        manager::stopping().await;
        serving.stop().await;
        tracing::info!("stopped");
        Ok(Exit::Done)
    }
}

pub(super) fn start(error: impl Into<StartError>) -> Failure {
    Failure::Start(error.into().to_string())
}
