//! `grpc.health.v1`: one status per service, on both listeners.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::connection::{Connection, Room};
use super::newcomers::Newcomers;
use crate::api::{BySize, MAX_REQUEST, Operator, Peer, Resolver};
use crate::pb::v1::credential_resolver_server::CredentialResolverServer;
use crate::pb::v1::vault_operator_server::VaultOperatorServer;

/// How many plaintext connections may be open at once. Of more, the oldest is closed.
const MOST_PROBES: NonZeroUsize = NonZeroUsize::new(64).expect("it is not 0");
/// How long to wait when the system has no more sockets.
const BREATHER: Duration = Duration::from_millis(50);

/// The statuses. A service says that it serves while nothing is in the way of that.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    obstacles: Arc<Mutex<BTreeSet<Obstacle>>>,
}

/// What keeps a service from serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It is not ready yet.
    Starting,
    /// Its keys are not at hand.
    Sealed,
    /// Its audit log cannot be written, so that every call fails.
    Audit,
    /// Its store takes no writes, so that nothing can be changed. What is in memory is handed out as before.
    Store,
    /// It is ending.
    Ending,
}

impl Obstacle {
    fn stops(self, service: &str) -> bool {
        match self {
            Self::Starting | Self::Sealed | Self::Audit | Self::Ending => true,
            // Not the whole server: an orchestrator that took it out would take it from the order services, too.
            Self::Store => service == ADMIN,
        }
    }
}

const ADMIN: &str = <BySize as NamedService>::NAME;

/// The whole server, and each service.
const SERVICES: [&str; 4] = [
    "",
    <CredentialResolverServer<Resolver> as NamedService>::NAME,
    ADMIN,
    <VaultOperatorServer<Operator> as NamedService>::NAME,
];

/// What a liveness probe asks for: whether the process gets on with its work, whatever keeps it from serving. A server without
/// its keys is alive, and would come up sealed again.
const LIVENESS: &str = "liveness";

impl Health {
    /// Says that it is alive and that nothing is served yet.
    pub(super) async fn new() -> Self {
        let health = Self {
            reporter: HealthReporter::new(),
            obstacles: Arc::default(),
        };
        health.obstruct(Obstacle::Starting).await;
        health.set_alive(true).await;
        health
    }

    /// Whether the process gets on with its work; if it does not, it has to be started again.
    pub async fn set_alive(&self, is_alive: bool) {
        let status = if is_alive {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.reporter.set_service_status(LIVENESS, status).await;
    }

    /// Something is in the way from now on.
    pub async fn obstruct(&self, obstacle: Obstacle) {
        self.change(|obstacles| obstacles.insert(obstacle)).await;
    }

    /// It is not in the way any more.
    pub async fn clear(&self, obstacle: Obstacle) {
        self.change(|obstacles| obstacles.remove(&obstacle)).await;
    }

    /// Whether it says that it serves. Not for a thread that serves others.
    pub(super) fn is_serving(&self) -> bool {
        !self.obstacles.blocking_lock().iter().any(|obstacle| obstacle.stops(""))
    }

    async fn change(&self, change: impl FnOnce(&mut BTreeSet<Obstacle>) -> bool) {
        // Held while it is told, so that what is told last is what holds.
        let mut obstacles = self.obstacles.lock().await;
        if !change(&mut obstacles) {
            return;
        }
        for service in SERVICES {
            let status = if obstacles.iter().any(|obstacle| obstacle.stops(service)) {
                ServingStatus::NotServing
            } else {
                ServingStatus::Serving
            };
            self.reporter.set_service_status(service, status).await;
        }
    }

    pub(super) fn server(&self) -> HealthServer<HealthService> {
        let service = HealthService::from_health_reporter(self.reporter.clone());
        HealthServer::new(service).max_decoding_message_size(MAX_REQUEST)
    }

    /// Serves health alone, in plaintext: the kubelet has no certificate. Each connection lives for a few seconds, which is
    /// enough for a probe, and there are few of them, so that nobody can use up the process's descriptors here, nor keep the
    /// kubelet out.
    pub(super) async fn serve(self, listener: TcpListener) {
        let room = Newcomers::new(MOST_PROBES);
        let (inlet, probes) = mpsc::channel(MOST_PROBES.get());
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, address)) => {
                        let peer = Peer::new(address, Err("health alone is served here".into()));
                        // Small answers must not wait for the client's delayed acknowledgement.
                        let _ = stream.set_nodelay(true);
                        let probe = Connection::new(stream, peer, Room::Lent(room.enter(address.ip())));
                        // Not tried: the last one of a crowd is the one that must get in.
                        let _ = inlet.send(probe).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a health probe could not be accepted");
                        tokio::time::sleep(BREATHER).await;
                    }
                }
            }
        };
        let server = tonic::transport::Server::builder()
            .max_concurrent_streams(16)
            .add_service(self.server());
        tokio::select! {
            () = accept => {}
            ended = server.serve_with_incoming(ReceiverStream::new(probes).map(Ok::<_, Infallible>)) => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the health listener has ended");
                }
            }
        }
    }
}
