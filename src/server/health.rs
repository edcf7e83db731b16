//! `grpc.health.v1`: one status per service, on both listeners.

use tokio::net::TcpListener;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::api::{BySize, Operator, Resolver};
use crate::pb::v1::credential_resolver_server::CredentialResolverServer;
use crate::pb::v1::vault_operator_server::VaultOperatorServer;

/// The statuses.
#[derive(Clone)]
pub(super) struct Health(HealthReporter);

/// The whole server, and each service.
const SERVICES: [&str; 4] = [
    "",
    <CredentialResolverServer<Resolver> as NamedService>::NAME,
    <BySize as NamedService>::NAME,
    <VaultOperatorServer<Operator> as NamedService>::NAME,
];

impl Health {
    /// Says that nothing is served yet.
    pub(super) async fn new() -> Self {
        let health = Self(HealthReporter::new());
        health.set(false).await;
        health
    }

    pub(super) async fn set(&self, is_serving: bool) {
        let status = if is_serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }

    pub(super) fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.0.clone()))
    }

    /// Serves health alone, in plaintext: the kubelet has no certificate.
    pub(super) async fn serve(self, listener: TcpListener) {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tonic::transport::Server::builder()
            .max_concurrent_streams(16)
            .add_service(self.server());
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!(%error, "the health listener has ended");
        }
    }
}
