//! Finds the service of a call by its path.

use std::convert::Infallible;
use std::pin::Pin;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tower::Service as _;

use super::health::Health;
use crate::api::{BySize, MAX_REQUEST, Operator, Resolving, Services};
use crate::pb;
use crate::pb::v1::vault_operator_server::VaultOperatorServer;

type OperatorServer = VaultOperatorServer<Operator>;
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Every service of the main listener. A comparison or two find the one; tonic's own router, which matches patterns and clones
/// boxed services for each call, is left to what is seldom asked.
#[derive(Clone)]
pub(super) struct Dispatch {
    services: Services,
    health: HealthServer<HealthService>,
    reflection: Routes,
}

impl Dispatch {
    pub(super) fn new(services: &Services, health: &Health) -> Self {
        Self {
            services: services.clone(),
            health: health.server(),
            reflection: reflection(),
        }
    }

    pub(super) fn call(&self, request: Request<Body>) -> Answer {
        match service(request.uri().path()) {
            Resolving::NAME => self.services.resolver.clone().call(request),
            BySize::NAME => self.services.admin.clone().call(request),
            OperatorServer::NAME => self.services.operator.clone().call(request),
            HealthServer::<HealthService>::NAME => self.health.clone().call(request),
            name if name.starts_with(REFLECTION) => Box::pin(self.reflection.clone().call(request)),
            _ => Box::pin(async { Ok(Status::unimplemented("").into_http()) }),
        }
    }
}

/// The packages of reflection, in both versions.
const REFLECTION: &str = "grpc.reflection.";

fn reflection() -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // What the details of an error are, so that grpcurl shows them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let built = "the descriptors were compiled into this program";
    let v1 = reflection().build_v1().expect(built);
    let v1alpha = reflection().build_v1alpha().expect(built);
    Routes::new(v1.max_decoding_message_size(MAX_REQUEST))
        .add_service(v1alpha.max_decoding_message_size(MAX_REQUEST))
        .prepare()
}

/// The service in a path, which is `/service/method`; empty if it is not written like that.
fn service(path: &str) -> &str {
    let name = path.strip_prefix('/').and_then(|name| name.split_once('/'));
    name.map(|(service, _)| service).unwrap_or_default()
}
