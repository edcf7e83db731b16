//! Listeners, TLS, health and shutdown.
//!
//! One loop accepts connections and deals them out to the workers. Each worker is a thread with a runtime of its own, so
//! that a call stays on one core from its first byte to its last; what may block (the store, the key sources) runs
//! elsewhere. Liveness in plaintext has a listener of its own.

mod accept;
mod admission;
mod answering;
mod aside;
mod class;
mod connection;
mod counted;
mod dispatch;
mod ending;
mod gate;
mod health;
mod held;
mod metrics;
mod newcomers;
mod protocol;
mod pulse;
mod refusal;
mod seldom;
mod standing;
mod tls;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::task::JoinHandle;

use self::accept::Acceptor;
pub use self::accept::Access;
use self::admission::Admission;
use self::dispatch::Dispatch;
use self::gate::Gate;
pub use self::health::{Health, Obstacle};
use self::metrics::Board;
pub use self::metrics::Look;
pub use self::pulse::Pulse;
pub use self::tls::{Expiry, LiveTls, Tls, TlsError, TlsFiles};
use self::worker::Worker;
use crate::api::{Calls, Orphans, Services};

/// How long the end waits for changes that their calls have left.
const ORPHANS: Duration = Duration::from_secs(5);

/// The sockets. Bound before anything else is done, so that a port in use costs nothing.
pub struct Listeners {
    main: TcpListener,
    health: TcpListener,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds the two that every server has.
    ///
    /// # Errors
    /// [`ServerError::Bind`] names the address that is not to be had.
    pub fn bind(main: SocketAddr, health: SocketAddr) -> Result<Self, ServerError> {
        Ok(Self {
            main: bind(main, "listen")?,
            health: bind(health, "health_listen")?,
            metrics: None,
        })
    }

    /// Binds the one for metrics too, if there is an address for it.
    ///
    /// # Errors
    /// [`ServerError::Bind`] if that is not to be had.
    pub fn with_metrics(mut self, address: Option<SocketAddr>) -> Result<Self, ServerError> {
        self.metrics = address.map(|address| bind(address, "metrics.listen")).transpose()?;
        Ok(self)
    }

    /// The address of the one for metrics, with the port that the system chose.
    ///
    /// # Errors
    /// [`ServerError::Io`] if the system does not tell.
    pub fn metrics_address(&self) -> Result<Option<SocketAddr>, ServerError> {
        Ok(self.metrics.as_ref().map(TcpListener::local_addr).transpose()?)
    }

    /// The addresses, with the ports that the system chose where 0 was asked for: main and health.
    ///
    /// # Errors
    /// [`ServerError::Io`] if the system does not tell.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr), ServerError> {
        Ok((self.main.local_addr()?, self.health.local_addr()?))
    }
}

fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, ServerError> {
    let bind = |error| ServerError::Bind {
        address,
        setting,
        error,
    };
    let listener = TcpListener::bind(address).map_err(bind)?;
    listener.set_nonblocking(true).map_err(bind)?;
    Ok(listener)
}

/// What a server does not come up without.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address is not to be had.
    #[error(
        "cannot listen on {address}: {error}; stop whatever uses the port, or choose another address for `{setting}`"
    )]
    Bind {
        /// Which.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A certificate, a key or an authority is not to be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system refuses.
    #[error("the server cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// How much a server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that serve calls.
    pub workers: NonZeroUsize,
    /// Open connections of callers with an identity.
    pub max_connections: NonZeroUsize,
    /// Open connections of one caller.
    pub max_connections_per_caller: NonZeroUsize,
    /// Open calls of one caller, on all of its connections.
    pub max_calls_per_caller: NonZeroUsize,
    /// Open calls on a connection.
    pub max_streams_per_connection: NonZeroU32,
    /// How long a call may wait for its turn while there is more to do than can be done.
    pub longest_wait: Duration,
    /// The deadline of a call whose client sets none.
    pub default_deadline: Duration,
    /// How long open calls may take to finish at shutdown.
    pub drain_timeout: Duration,
}

/// A server that serves.
pub struct Server {
    health: Health,
    drain_timeout: Duration,
    /// Turns true when nothing new is taken on.
    is_ending: signal::Sender<bool>,
    acceptor: JoinHandle<()>,
    workers: Vec<Worker>,
    orphans: Orphans,
    health_listener: JoinHandle<()>,
    metrics_listener: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `services` to those whom `access` lets in; `calls` counts and lists them. What is not counted on the way is looked
    /// up by `look` when somebody asks for metrics.
    ///
    /// # Errors
    /// [`ServerError::Io`] if the system gives no threads or sockets.
    pub async fn start(
        listeners: Listeners,
        access: Access,
        services: &Services,
        calls: &Calls,
        limits: Limits,
        look: Look,
    ) -> Result<Self, ServerError> {
        let (is_ending, ending) = signal::channel(false);
        let health = Health::new().await;
        let workers = (0..limits.workers.get())
            .map(|number| {
                let gate = Gate::new(
                    Dispatch::new(services, &health),
                    calls.clone(),
                    Admission::new(limits.longest_wait),
                    limits.default_deadline,
                    ending.clone(),
                );
                Worker::start(number, gate, &limits, ending.clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let main = tokio::net::TcpListener::from_std(listeners.main)?;
        let acceptor = Acceptor::new(main, access, &limits, workers.iter().map(Worker::inlet).collect());
        let board = Board::new(look, acceptor.occupancy(), health.clone());
        let acceptor = tokio::spawn(acceptor.run(ending));
        let health_listener = tokio::net::TcpListener::from_std(listeners.health)?;
        let health_listener = tokio::spawn(health.clone().serve(health_listener));
        let metrics_listener = listeners.metrics.map(tokio::net::TcpListener::from_std).transpose()?;
        let metrics_listener = metrics_listener.map(|listener| tokio::spawn(metrics::serve(listener, board)));
        Ok(Self {
            health,
            drain_timeout: limits.drain_timeout,
            is_ending,
            acceptor,
            workers,
            orphans: calls.orphans().clone(),
            health_listener,
            metrics_listener,
        })
    }

    /// Says that it serves, unless something else is in the way.
    pub async fn set_ready(&self) {
        self.health.clear(Obstacle::Starting).await;
    }

    /// What it says of itself, for those who know what is in the way.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Whether its workers get on with their work, for those who look after that.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse::new(self.workers.iter().map(Worker::runtime))
    }

    /// Ends: says so, takes nothing new on, lets open calls finish within the drain time, then closes what is left.
    pub async fn stop(self) {
        self.health.obstruct(Obstacle::Ending).await;
        self.is_ending.send_replace(true);
        let deadline = tokio::time::Instant::now() + self.drain_timeout;
        let _ = self.acceptor.await;
        let mut cut_off = false;
        for worker in self.workers {
            cut_off |= !worker.join(deadline).await;
        }
        if cut_off {
            tracing::warn!("calls were still open after the drain time and have been cut off");
        }
        if tokio::time::timeout(ORPHANS, self.orphans.all_done()).await.is_err() {
            tracing::error!(
                "changes that their calls have left are still under way; what becomes of them is not recorded"
            );
        }
        self.health_listener.abort();
        self.metrics_listener.iter().for_each(JoinHandle::abort);
    }
}
