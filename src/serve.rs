//! A vault that serves, put together from its configuration.

use std::sync::Arc;

use crate::access::{LivePolicy, Policy};
use crate::api::{Calls, Services};
use crate::config::{Config, ConfigErrors};
use crate::hardening::{HardeningError, Reach};
use crate::keyring::{KekError, KeyFile};
use crate::server::{Limits, Listeners, Server, ServerError, TlsError, TlsFiles};
use crate::store::{SledStore, StoreError};
use crate::time::SystemClock;
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

/// A vault that serves and is not ready yet: somebody calls [`Server::set_ready`].
pub struct Serving {
    /// The server.
    pub server: Server,
    /// What it serves.
    pub vault: Arc<Vault>,
}

/// What is loaded before anything is written.
pub struct Prepared {
    policy: Policy,
    listeners: Listeners,
    tls: Arc<rustls::ServerConfig>,
    kek: Arc<KeyFile>,
}

/// Loads what can be checked without the store.
///
/// # Errors
/// [`StartError`].
pub fn prepare(config: &Config, policy: Policy, listeners: Listeners) -> Result<Prepared, StartError> {
    let server = &config.server;
    let tls = TlsFiles {
        certificate: server.certificate.clone(),
        private_key: server.private_key.clone(),
        client_ca: server.client_ca.clone(),
    };
    Ok(Prepared {
        policy,
        listeners,
        tls: tls.load()?,
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
        reads: reads.into_iter().cloned().collect(),
        writes: vec![config.store.path.clone()],
    }
}

/// Opens the vault that `config` describes and serves it.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: &Config, prepared: Prepared) -> Result<Serving, StartError> {
    let Prepared {
        policy,
        listeners,
        tls,
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
    let server = Server::start(listeners, tls, LivePolicy::new(policy), &services, limits).await?;
    Ok(Serving { server, vault })
}
