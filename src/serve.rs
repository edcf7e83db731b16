//! A vault that serves, put together from its configuration.

use std::path::Path;
use std::sync::Arc;

use crate::access::{LivePolicy, Policy};
use crate::api::{Calls, Services};
use crate::config::{Config, ConfigErrors};
use crate::hardening::{HardeningError, Reach};
use crate::keyring::{KekError, KeyFile};
use crate::reload::{PolicyFile, Reload};
use crate::server::{Access, Limits, Listeners, LiveTls, Server, ServerError, TlsError, TlsFiles};
use crate::store::{SledStore, StoreError};
use crate::time::{Clock as _, SystemClock};
use crate::vault::{Door, OpenError, Settings, Vault};

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

/// A vault that serves and is not ready yet: somebody calls [`Server::set_ready`].
pub struct Serving {
    /// The server.
    pub server: Server,
    /// What it serves.
    pub vault: Arc<Vault>,
    /// Takes changed certificates and a changed policy into use.
    pub reload: Reload,
}

/// What is loaded before anything is written.
pub struct Prepared {
    grants: Grants,
    listeners: Listeners,
    tls: Arc<LiveTls>,
    files: TlsFiles,
    kek: Arc<KeyFile>,
}

/// Loads what can be checked without the store.
///
/// # Errors
/// [`StartError`].
pub fn prepare(config: &Config, grants: Grants, listeners: Listeners) -> Result<Prepared, StartError> {
    let server = &config.server;
    let files = TlsFiles {
        certificate: server.certificate.clone(),
        private_key: server.private_key.clone(),
        client_ca: server.client_ca.clone(),
        client_crl: server.client_crl.clone(),
    };
    Ok(Prepared {
        grants,
        listeners,
        tls: LiveTls::new(files.load(SystemClock.now())?),
        files,
        kek: Arc::new(KeyFile::read(&config.keys.kek_file)?),
    })
}

/// The files that a vault needs while it runs.
#[must_use]
pub fn reach(config: &Config) -> Reach {
    let server = &config.server;
    let reads = [
        &server.certificate,
        &server.private_key,
        &server.client_ca,
        &config.keys.kek_file,
        &config.policy.file,
    ];
    Reach {
        reads: reads.into_iter().chain(&server.client_crl).cloned().collect(),
        writes: vec![config.store.path.clone()],
    }
}

/// Opens the vault that `config` describes and serves it.
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
    } = prepared;
    let path = config.store.path.clone();
    // Opening may read a lot, and this thread has other things to do.
    let store = tokio::task::spawn_blocking(move || SledStore::open(&path))
        .await
        .map_err(|_| StoreError::Closed)??;
    let settings = Settings {
        issuer: config.signing.issuer.clone(),
        cache_for: config.resolver.cache_for,
        receipt_lifetime: config.resolver.receipt_lifetime,
        stale_wait: config.resolver.stale_wait,
        allows_plaintext_mail: config.mail.allow_plaintext,
    };
    let opened = Vault::open(
        Arc::new(store),
        kek,
        Arc::new(SystemClock),
        config.catalogue.clone(),
        settings,
    )
    .await;
    let vault = opened.map_err(|error| StartError::Open {
        path: config.store.path.display().to_string(),
        error,
    })?;
    let server = &config.server;
    let limits = Limits {
        workers: server.workers,
        max_connections: server.max_connections,
        max_connections_per_caller: server.max_connections_per_caller,
        max_calls_per_caller: server.max_calls_per_caller,
        max_streams_per_connection: server.max_streams_per_connection,
        default_deadline: server.default_deadline,
        drain_timeout: server.drain_timeout,
    };
    let door = Door::open_to(Arc::clone(&vault));
    let services = Services::new(&door, &Calls::default());
    let access = Access {
        tls,
        trust_domains: server.trust_domains.clone(),
        policy: LivePolicy::new(grants.policy),
    };
    let reload = Reload::start(files, grants.file, &access)?;
    let server = Server::start(listeners, access, &services, limits).await?;
    Ok(Serving { server, vault, reload })
}
