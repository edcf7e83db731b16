//! One service with two limits: all requests are small, but for the one that lists a firm's offices and people.

use std::convert::Infallible;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::Admin;
use crate::pb::v1::credential_admin_server::{CredentialAdminServer, SERVICE_NAME};

type Server = CredentialAdminServer<Admin>;

/// `CredentialAdmin`, with the larger limit for `CheckCoverage`.
#[derive(Clone)]
pub struct BySize {
    small: Server,
    large: Server,
}

impl BySize {
    pub(super) fn new(small: Server, large: Server) -> Self {
        Self { small, large }
    }
}

impl NamedService for BySize {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for BySize {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <Server as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_large = request.uri().path().ends_with("/CheckCoverage");
        let server = if is_large { &mut self.large } else { &mut self.small };
        server.call(request)
    }
}
