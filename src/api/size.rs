//! One service with two limits: all requests are small, but for the one that lists a firm's offices and people.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::{Admin, Peer};
use crate::access::Action;
use crate::pb::v1::credential_admin_server::{CredentialAdminServer, SERVICE_NAME};

type Server = CredentialAdminServer<Admin>;
type Answer = Result<http::Response<Body>, Infallible>;

/// How many large requests are read and answered at once. In memory a list of ids is ten times as large as on the wire.
const LARGE_AT_ONCE: usize = 4;

/// `CredentialAdmin`, with the larger limit for `CheckCoverage` of callers who may read anything.
#[derive(Clone)]
pub struct BySize {
    small: Server,
    large: Server,
    room: Arc<Semaphore>,
}

impl BySize {
    pub(super) fn new(small: Server, large: Server) -> Self {
        Self {
            small,
            large,
            room: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        }
    }
}

impl NamedService for BySize {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for BySize {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if !is_large(&request) {
            return self.small.call(request);
        }
        let (mut server, room) = (self.large.clone(), Arc::clone(&self.room));
        Box::pin(async move {
            let _permit = room.acquire_owned().await;
            server.call(request).await
        })
    }
}

fn is_large(request: &http::Request<Body>) -> bool {
    let may_read = |peer: &Peer| {
        peer.identity()
            .is_ok_and(|caller| caller.now().allows_somewhere(Action::CredentialsRead))
    };
    request.uri().path().ends_with("/CheckCoverage") && request.extensions().get::<Peer>().is_some_and(may_read)
}
