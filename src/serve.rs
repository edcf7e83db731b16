//! A vault that serves, put together from its configuration.

mod auditing;
mod backups;
mod journal;
mod kept;
pub mod manager;
mod readings;
mod restored;
mod revisions;
mod storing;
mod taken;
mod unsealing;
mod vitality;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;

use self::backups::Schedule;
use self::kept::Kept;
use self::restored::Restored;
use self::unsealing::{Opener, keep_up};
use self::vitality::Vitality;
use crate::access::{LivePolicy, Policy};
use crate::api::{Calls, Services};
use crate::audit::{self, Audit};
use crate::config::{Config, ConfigErrors, Kek, ServerConfig, TracesConfig};
use crate::hardening::{self, HardeningError, Reach};
use crate::keyring::KekError;
use crate::reload::{PolicyFile, Reload};
use crate::server::{
    Access, Expiry, Limits, Listeners, LiveTls, Look, Obstacle, Server, ServerError, TlsError, TlsFiles,
};
use crate::store::{SledStore, Store, StoreError};
use crate::telemetry::metrics::Process;
use crate::telemetry::traces::{Collector, NoCollector, Traces};
use crate::time::{Clock as _, SystemClock};
use crate::vault::{Door, KeyAges, OpenError, Settings};

/// What a vault does not start without. Nothing has been written then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration or the policy.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What the process must give up.
    #[error(transparent)]
    Hardening(#[from] HardeningError),
    /// The listeners.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The thread that reloads.
    #[error("the server cannot start: {0}")]
    Reload(#[from] std::io::Error),
    /// The key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// One of the vault's folders is where it keeps something else.
    #[error("{setting} {}: is the folder of {other}, or within it; give it one of its own", path.display())]
    Inside {
        /// The one that lies wrong.
        setting: &'static str,
        /// The folder.
        path: PathBuf,
        /// What it lies in.
        other: &'static str,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds.
    #[error("the store {path} does not open: {error}")]
    Open {
        /// Where it is.
        path: String,
        /// What is in the way.
        error: OpenError,
    },
}

/// Who may do what, and where that is from.
pub struct Grants {
    policy: Policy,
    file: Option<PolicyFile>,
}

impl Grants {
    /// From a file; when that changes, it is read again.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let (policy, text) = Policy::load_with_text(path)?;
        let path = path.to_owned();
        let file = Some(PolicyFile { path, text });
        Ok(Self { policy, file })
    }

    /// A part of the program, which does not change.
    #[must_use]
    pub fn built_in(policy: Policy) -> Self {
        Self { policy, file: None }
    }
}

/// A server that serves and is not ready yet: somebody calls [`Server::set_ready`].
pub struct Serving {
    /// The server.
    pub server: Server,
    /// The way to what it serves.
    pub door: Arc<Door>,
    /// Takes changed certificates and a changed policy into use.
    pub reload: Reload,
    /// Where its calls are listed.
    pub audit: Audit,
    kept: Kept,
    auditing: [JoinHandle<()>; 2],
    /// Tells what the store was restored from, and makes backups.
    backups: JoinHandle<()>,
    /// Compares the store with the audit log, and tells the log of revisions.
    revisions: JoinHandle<()>,
    /// Mends the store, and tells whether it takes writes.
    storing: JoinHandle<()>,
    /// Opens the vault if it is sealed, then tends it.
    upkeep: JoinHandle<()>,
    /// Tells whether the server gets on with its work.
    vitality: JoinHandle<()>,
    traces: Option<Traces>,
}

impl Serving {
    /// Lets open calls finish, signs and closes the audit log, then ends.
    pub async fn stop(self) {
        // Workers that end are no trouble.
        self.vitality.abort();
        let _ = self.vitality.await;
        self.server.stop().await;
        // Wherever the upkeep is, what it does is done or not begun.
        let [signing, telling] = self.auditing;
        for task in [
            self.upkeep,
            self.backups,
            self.revisions,
            self.storing,
            signing,
            telling,
        ] {
            task.abort();
            let _ = task.await;
        }
        revisions::tell_last(&self.audit, &self.door);
        self.audit.close().await;
        auditing::keep_newest(&self.audit, &self.kept).await;
        if let Some(traces) = self.traces {
            traces.stop().await;
        }
    }
}

/// What is loaded before the store is touched.
pub struct Prepared {
    grants: Grants,
    listeners: Listeners,
    tls: Arc<LiveTls>,
    files: TlsFiles,
    kek: Kek,
    process: Process,
    collector: Option<Collector>,
    folders: Folders,
}

/// The folders of the store, of the audit log and of the backups, by their names without links.
#[derive(Clone)]
struct Folders {
    store: PathBuf,
    audit: PathBuf,
    backups: Option<PathBuf>,
}

impl Folders {
    /// Those of a configuration, each its own.
    fn of(config: &Config, claim: fn(&Path) -> Result<PathBuf, HardeningError>) -> Result<Self, StartError> {
        let folders = Self {
            store: claim(&config.store.path)?,
            audit: claim(&config.audit.directory)?,
            backups: config.backup.directory.as_deref().map(claim).transpose()?,
        };
        folders.refuse_inside()?;
        Ok(folders)
    }

    fn refuse_inside(&self) -> Result<(), StartError> {
        let store = ("store.path", Some(&self.store));
        let audit = ("audit.directory", Some(&self.audit));
        let backups = ("backup.directory", self.backups.as_ref());
        for ((setting, inner), (other, outer)) in [(store, audit), (audit, store), (backups, store), (backups, audit)] {
            if let (Some(inner), Some(outer)) = (inner, outer)
                && inner.starts_with(outer)
            {
                let path = inner.clone();
                return Err(StartError::Inside { setting, path, other });
            }
        }
        Ok(())
    }
}

/// Loads what can be checked without the store, and makes the folders that are not there.
///
/// # Errors
/// [`StartError`].
pub fn prepare(config: &Config, grants: Grants, listeners: Listeners) -> Result<Prepared, StartError> {
    let files = tls_files(&config.server);
    let tls = LiveTls::new(files.load(SystemClock.now())?);
    let kek = Kek::new(&config.keys)?;
    // Last: what is refused has written nothing.
    Folders::of(config, hardening::would_claim)?;
    let folders = Folders::of(config, hardening::claim)?;
    Ok(Prepared {
        grants,
        listeners,
        tls,
        files,
        kek,
        // Nothing of /proc can be opened later.
        process: Process::this(),
        collector: collector(&config.traces),
        folders,
    })
}

/// Reads what a start reads before it opens the store, and says what expires when. Nothing is made, no port is listened on, and a KMS
/// is not asked for anything.
///
/// # Errors
/// [`StartError`], as a start would end with it.
pub fn check(config: &Config) -> Result<Vec<Expiry>, StartError> {
    let tls = tls_files(&config.server).load(SystemClock.now())?;
    Kek::new(&config.keys)?;
    let folders = Folders::of(config, hardening::would_claim)?;
    hardening::keeps_apart(config.hardening.sandbox, &reach_of(config, folders))?;
    Ok(tls.expiries().cloned().collect())
}

fn tls_files(server: &ServerConfig) -> TlsFiles {
    TlsFiles {
        certificate: server.certificate.clone(),
        private_key: server.private_key.clone(),
        client_ca: server.client_ca.clone(),
        client_crl: server.client_crl.clone(),
    }
}

/// The collector, looked up while names can be looked up.
fn collector(config: &TracesConfig) -> Option<Collector> {
    let endpoint = config.endpoint.as_ref()?;
    untraced(Collector::find(endpoint, config.ca.as_deref(), config.one_in.get()))
}

/// A vault without traces is better than none.
fn untraced<T>(found: Result<T, NoCollector>) -> Option<T> {
    found
        .inspect_err(|error| tracing::error!(%error, "nothing is traced until the server is started again"))
        .ok()
}

/// The files that a vault needs while it runs. Not key files, which are read once; nor the socket of a KMS, since what can be
/// connected to is not a matter of files.
#[must_use]
pub fn reach(config: &Config, prepared: &Prepared) -> Reach {
    reach_of(config, prepared.folders.clone())
}

fn reach_of(config: &Config, folders: Folders) -> Reach {
    let Folders { store, audit, backups } = folders;
    let server = &config.server;
    let reads = [
        &server.certificate,
        &server.private_key,
        &server.client_ca,
        &config.policy.file,
    ];
    Reach {
        reads: reads.into_iter().chain(&server.client_crl).cloned().collect(),
        writes: [store, audit].into_iter().chain(backups).collect(),
    }
}

/// What a configuration chooses for the vault itself.
#[must_use]
pub fn settings(config: &Config) -> Settings {
    Settings {
        issuer: config.signing.issuer.clone(),
        cache_for: config.resolver.cache_for,
        receipt_lifetime: config.resolver.receipt_lifetime,
        stale_wait: config.resolver.stale_wait,
        allows_plaintext_mail: config.mail.allow_plaintext,
        recovery_key: config.keys.recovery_public_key.clone(),
        key_ages: KeyAges {
            data_key: config.keys.data_key_max_age,
            signing_key: config.signing.key_max_age,
            publish_before: config.signing.publish_before,
        },
    }
}

/// Opens the vault that `config` describes and serves it. If the keys are not at hand for a passing reason, it serves as a
/// sealed one and opens when they are.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: &Config, prepared: Prepared) -> Result<Serving, StartError> {
    let Prepared {
        grants,
        listeners,
        tls,
        files,
        kek,
        process,
        collector,
        folders,
    } = prepared;
    let Folders {
        store: folder, backups, ..
    } = folders;
    let kept = auditing::kept_beside(&folder);
    let taken = taken::kept_beside(&folder);
    let restored = Arc::new(Restored::beside(&folder));
    // Opening may read a lot, and this thread has other things to do.
    let store = tokio::task::spawn_blocking(move || SledStore::open_in(&folder))
        .await
        .map_err(|_| StoreError::Closed)??;
    let left_at = store.left_at();
    let store: Arc<dyn Store> = Arc::new(store);
    let opener = Opener {
        store: Arc::clone(&store),
        kek: Arc::clone(&kek.source),
        catalogue: config.catalogue.clone(),
        settings: settings(config),
    };
    let door = Arc::new(Door::default());
    open(&opener, &door, config).await?;
    // After the store: a start that fails leaves no line.
    let audit = open_audit(&config.audit).await?;
    let found = audit.newest();
    let server = &config.server;
    let limits = limits(server);
    let calls = Calls::new(audit.clone(), Arc::default());
    let services = Services::new(&door, &calls);
    grants.policy.warn_of_untaken(&server.trust_domains);
    let access = Access {
        tls,
        trust_domains: server.trust_domains.clone(),
        policy: LivePolicy::new(grants.policy),
    };
    let traces = collector.and_then(|collector| untraced(Traces::start(&collector)));
    let reload = Reload::start(files, grants.file, &access, &audit).await?;
    let look = look(process, &door, &audit, &access, config);
    let server = Server::start(listeners, access, &services, &calls, limits, look).await?;
    if door.vault().is_err() {
        server.health().obstruct(Obstacle::Sealed).await;
    }
    let tending = storing::tend(Arc::clone(&opener.store), Arc::clone(&door), server.health(), left_at);
    let storing = tokio::spawn(tending);
    let vitality = Vitality {
        pulse: server.pulse(),
        store,
        door: Arc::clone(&door),
        health: server.health(),
    };
    let vitality = tokio::spawn(vitality.keep());
    let upkeep = tokio::spawn(keep_up(
        opener,
        kek.plugin,
        Arc::clone(&door),
        server.health(),
        Arc::new(audit.clone()),
    ));
    let revisions = tokio::spawn(revisions::keep(
        audit.clone(),
        found,
        Arc::clone(&door),
        Arc::clone(&restored),
    ));
    let backups = tokio::spawn(backups::keep(
        backups.map(|folder| Schedule::new(folder, &config.backup)),
        restored,
        taken,
        audit.clone(),
        Arc::clone(&door),
    ));
    let auditing = [
        tokio::spawn(auditing::keep_signed(audit.clone(), Arc::clone(&door), kept.clone())),
        tokio::spawn(auditing::tell(audit.clone(), server.health())),
    ];
    Ok(Serving {
        server,
        door,
        reload,
        audit,
        kept,
        auditing,
        backups,
        revisions,
        storing,
        upkeep,
        vitality,
        traces,
    })
}

/// What is looked up when somebody asks for metrics.
fn look(process: Process, door: &Arc<Door>, audit: &Audit, access: &Access, config: &Config) -> Look {
    let (door, tls) = (Arc::clone(door), Arc::clone(&access.tls));
    let look = readings::look(door, audit.clone(), tls, config.backup.expected_every());
    Look { process, look }
}

/// Opens the vault, or leaves it sealed if its keys are not at hand for a passing reason.
async fn open(opener: &Opener, door: &Door, config: &Config) -> Result<(), StartError> {
    match opener.open().await {
        Ok(vault) => door.open(vault),
        Err(error) if error.is_passing() => door.stays_closed(error.to_string()),
        Err(error) => {
            let path = config.store.path.display().to_string();
            return Err(StartError::Open { path, error });
        }
    }
    Ok(())
}

/// Reads the newest file of the log, which may take a while.
async fn open_audit(settings: &audit::Settings) -> Result<Audit, StartError> {
    let opening = settings.clone();
    let audit = tokio::task::spawn_blocking(move || Audit::open(&opening, Arc::new(SystemClock)));
    let audit = audit.await.map_err(|error| audit::OpenError::Io {
        path: settings.directory.clone(),
        error: error.into(),
    })??;
    Ok(audit)
}

fn limits(server: &ServerConfig) -> Limits {
    Limits {
        workers: server.workers,
        max_connections: server.max_connections,
        max_connections_per_caller: server.max_connections_per_caller,
        max_calls_per_caller: server.max_calls_per_caller,
        max_streams_per_connection: server.max_streams_per_connection,
        longest_wait: server.longest_wait,
        default_deadline: server.default_deadline,
        drain_timeout: server.drain_timeout,
    }
}
