//! `ResolveForOrder` without tonic's machinery for streams, which would take as long as the decision. It is for what nearly every
//! call is: one message that came in one piece, uncompressed. Whatever else comes is tonic's to judge.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::server::NamedService;
use tower::Service;

use super::begun::{Begun, Next, PREFIX};
use super::{MAX_REQUEST, Resolver};
use crate::pb::v1;
use crate::pb::v1::credential_resolver_server::{CredentialResolver, CredentialResolverServer, SERVICE_NAME};

type Server = CredentialResolverServer<Resolver>;
type Answer = Result<Response<Body>, Infallible>;

/// Exactly: whoever looks at paths before us must not see another one than we do.
const PATH: &str = "/dynarex.credentials.v1.CredentialResolver/ResolveForOrder";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// `CredentialResolver`.
#[derive(Clone)]
pub struct Resolving {
    resolver: Arc<Resolver>,
    server: Server,
}

impl Resolving {
    pub(super) fn new(resolver: Resolver) -> Self {
        let resolver = Arc::new(resolver);
        let server = Server::from_arc(Arc::clone(&resolver)).max_decoding_message_size(MAX_REQUEST);
        Self { resolver, server }
    }

    /// The service as tonic serves it.
    #[cfg(test)]
    pub(super) fn by_tonic(&self) -> Server {
        self.server.clone()
    }
}

impl NamedService for Resolving {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<Request<Body>> for Resolving {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != PATH || request.headers().contains_key("grpc-encoding") {
            return self.server.call(request);
        }
        let (resolver, mut server) = (Arc::clone(&self.resolver), self.server.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let message = match whole_message(body).await {
                Ok(message) => message,
                Err(begun) => return server.call(Request::from_parts(parts, Body::new(begun))).await,
            };
            let metadata = MetadataMap::from_headers(parts.headers);
            let request = tonic::Request::from_parts(metadata, parts.extensions, message);
            let answer = resolver.resolve_for_order(request).await;
            Ok(answer.map_or_else(Status::into_http, |message| whole_answer(message.get_ref())))
        })
    }
}

/// The one message of a body; if it is none, or came in pieces, the body as it was.
async fn whole_message(mut body: Body) -> Result<v1::ResolveForOrderRequest, Begun> {
    let Some(first) = next_frame(&mut body).await else {
        return Err(Begun::after([], None));
    };
    let Some(message) = message(&first) else {
        return Err(Begun::after([first], Some(body)));
    };
    while !body.is_end_stream() {
        match next_frame(&mut body).await {
            None => break,
            // Many clients end a body with an empty frame.
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            Some(more) => return Err(Begun::after([first, more], Some(body))),
        }
    }
    Ok(message)
}

async fn next_frame(body: &mut Body) -> Option<Next> {
    poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

/// The message, if this is all of one that can be read.
fn message(first: &Next) -> Option<v1::ResolveForOrderRequest> {
    let data = first.as_ref().ok()?.data_ref()?;
    let (prefix, message) = data.split_first_chunk::<PREFIX>()?;
    let [0, length @ ..] = *prefix else { return None };
    let is_whole = u32::from_be_bytes(length) as usize == message.len() && message.len() <= MAX_REQUEST;
    is_whole.then(|| v1::ResolveForOrderRequest::decode(message).ok())?
}

/// An answer that is there (gRPC over HTTP/2, "Responses").
fn whole_answer(message: &impl Message) -> Response<Body> {
    let length = message.encoded_len();
    let mut data = Vec::with_capacity(PREFIX + length);
    data.push(0);
    data.extend(
        u32::try_from(length)
            .expect("an answer is far below 4 GiB")
            .to_be_bytes(),
    );
    message.encode_raw(&mut data);
    let mut answer = Response::new(Body::new(WholeAnswer::Message(data.into())));
    answer.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    answer
}

/// What of an answer is still to be sent.
enum WholeAnswer {
    Message(Bytes),
    Ok,
    Nothing,
}

impl http_body::Body for WholeAnswer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match std::mem::replace(&mut *self, Self::Nothing) {
            Self::Message(message) => {
                *self = Self::Ok;
                Some(Frame::data(message))
            }
            Self::Ok => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
                Some(Frame::trailers(trailers))
            }
            Self::Nothing => None,
        };
        Poll::Ready(next.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}
