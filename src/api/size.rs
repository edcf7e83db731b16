//! One service with two limits: all requests are small, but for the one that lists a firm's offices and people.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::begun::Begun;
use super::{Admin, MAX_COVERAGE_REQUEST, MAX_REQUEST, Peer};
use crate::access::{Action, LivePermissions, Rooms};
use crate::pb::v1::credential_admin_server::{CredentialAdminServer, SERVICE_NAME};

type Server = CredentialAdminServer<Admin>;
type Answer = Result<http::Response<Body>, Infallible>;

/// How many large requests are read and answered at once. In memory a list of ids is ten times as large as on the wire.
const LARGE_AT_ONCE: usize = 4;
/// How many of them may be of one caller, who may take half a minute to send each.
const LARGE_OF_ONE_CALLER: NonZeroUsize = NonZeroUsize::new(2).expect("it is not 0");

/// `CredentialAdmin`, with the larger limit for `CheckCoverage` of callers who may read anything.
#[derive(Clone)]
pub struct BySize {
    small: Server,
    large: Server,
    room: Arc<Semaphore>,
    own: Arc<Rooms>,
}

impl BySize {
    pub(super) fn new(small: Server, large: Server) -> Self {
        Self {
            small,
            large,
            room: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            own: Arc::new(Rooms::new(LARGE_OF_ONE_CALLER)),
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
        let Some(own) = sender_of_large(&request).map(|caller| self.own.of(caller)) else {
            return self.small.call(request);
        };
        let (mut server, room) = (self.large.clone(), Arc::clone(&self.room));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = Begun::read(body, MAX_REQUEST, MAX_COVERAGE_REQUEST).await;
            // Whoever sends little, or nothing and never ends, holds nobody up.
            let _places = if body.is_large() {
                Some((own.acquire_owned().await, room.acquire_owned().await))
            } else {
                None
            };
            server.call(http::Request::from_parts(parts, Body::new(body))).await
        })
    }
}

/// The caller, if it may send so much.
fn sender_of_large(request: &http::Request<Body>) -> Option<&LivePermissions> {
    let caller = request.extensions().get::<Peer>()?.identity().ok()?;
    let is_large =
        request.uri().path().ends_with("/CheckCoverage") && caller.now().allows_somewhere(Action::CredentialsRead);
    is_large.then_some(caller)
}
