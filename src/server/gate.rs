//! What every call passes before and after its service: nobody without an identity gets in, no call goes on for ever, and
//! no error leaves without a reason.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::watch as signal;
use tokio_stream::wrappers::WatchStream;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;

use super::ending::EndingBody;
use super::health::Health;
use super::held::hold;
use super::protocol::refuse_other_protocols;
use crate::api::{ApiError, Fault, MAX_REQUEST, Peer, Services};
use crate::pb;

/// No call may hold what it needs for longer, whatever its client asks for.
const LONGEST_DEADLINE: Duration = Duration::from_secs(30);
/// How much of a path is repeated to its sender and in the log, in bytes. No method has so long a one.
const LONGEST_PATH: usize = 256;

/// Every service of the main listener.
pub(super) fn routes(services: &Services, health: &Health) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let built = "the descriptors were compiled into this program";
    Routes::new(services.resolver.clone())
        .add_service(services.admin.clone())
        .add_service(services.operator.clone())
        .add_service(health.server())
        .add_service(
            reflection()
                .build_v1()
                .expect(built)
                .max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect(built)
                .max_decoding_message_size(MAX_REQUEST),
        )
        .prepare()
}

/// The gate of one worker.
#[derive(Clone)]
pub(super) struct Gate {
    routes: Routes,
    default_deadline: Duration,
    is_ending: signal::Receiver<bool>,
}

impl Gate {
    pub(super) fn new(routes: Routes, default_deadline: Duration, is_ending: signal::Receiver<bool>) -> Self {
        Self {
            routes,
            default_deadline,
            is_ending,
        }
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let path = path[..path.floor_char_boundary(LONGEST_PATH)].to_owned();
        if let Err(error) = identify(&request) {
            log(&request, &path, Code::Unauthenticated, "NO_IDENTITY");
            return Box::pin(std::future::ready(Ok(status_of(&error).into_http())));
        }
        if let Some(answer) = refuse_other_protocols(&request) {
            log(&request, &path, Code::Unimplemented, "NOT_GRPC");
            return Box::pin(std::future::ready(Ok(answer)));
        }
        let peer = request.extensions().get::<Peer>().cloned();
        let place = match peer.as_ref().map(Peer::place).transpose() {
            Ok(place) => place.flatten(),
            Err(error) => {
                log(&request, &path, Code::ResourceExhausted, "TOO_MANY_CALLS");
                return Box::pin(std::future::ready(Ok(status_of(&error).into_http())));
            }
        };
        let deadline = asked_deadline(&request)
            .unwrap_or(self.default_deadline)
            .min(LONGEST_DEADLINE);
        let is_stream = path.starts_with("/grpc.") || path.ends_with("/WatchChanges");
        let ending = is_stream.then(|| WatchStream::new(self.is_ending.clone()));
        let answer = self.routes.call(request);
        Box::pin(async move {
            let Ok(answer) = tokio::time::timeout(deadline, answer).await else {
                // The dropped call has logged itself.
                let message = format!("the call took longer than its deadline of {deadline:?}");
                return Ok(Status::from(Fault::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)).into_http());
            };
            let Ok(answer) = answer;
            let answer = with_reason(answer, &path, peer.as_ref());
            let answer = match place {
                Some(place) => hold(answer, place),
                None => answer,
            };
            Ok(match ending {
                Some(ending) => answer.map(|body| Body::new(EndingBody::new(body, ending))),
                None => answer,
            })
        })
    }
}

/// The deadline that the caller has set: up to eight digits and a unit (gRPC over HTTP/2, `grpc-timeout`). tonic watches over it
/// too, and would say less when it passes.
fn asked_deadline(request: &Request<Body>) -> Option<Duration> {
    let text = request.headers().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount = digits.parse::<u32>().ok().filter(|_| digits.len() <= 8)?;
    let unit = match unit {
        "H" => Duration::from_hours(1),
        "M" => Duration::from_mins(1),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    unit.checked_mul(amount)
}

fn identify(request: &Request<Body>) -> Result<(), ApiError> {
    match request.extensions().get::<Peer>().map(Peer::identity) {
        Some(Ok(_)) => Ok(()),
        Some(Err(why)) => Err(ApiError::NoIdentity(why.to_owned())),
        None => Err(ApiError::NoIdentity("the connection is not known".into())),
    }
}

fn status_of(error: &ApiError) -> Status {
    Fault::from(error).into()
}

/// Errors that come from below the services (an unknown method, bytes that are no message) get a reason like all others, and
/// a line in the log.
fn with_reason(answer: Response<Body>, path: &str, peer: Option<&Peer>) -> Response<Body> {
    let headers = answer.headers();
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return answer;
    }
    let Some(status) = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok) else {
        return answer;
    };
    let (code, reason) = match status.code() {
        Code::Unimplemented if status.message().is_empty() => (Code::Unimplemented, "UNKNOWN_METHOD"),
        // A compression that is not spoken here.
        Code::Unimplemented => (Code::Unimplemented, "UNSUPPORTED_ENCODING"),
        // tonic's words for a message above the limit and for bytes that are no message.
        Code::OutOfRange => (Code::InvalidArgument, "REQUEST_TOO_LARGE"),
        Code::Internal => (Code::InvalidArgument, "MALFORMED_REQUEST"),
        Code::NotFound => (Code::NotFound, "UNKNOWN_SERVICE"),
        other => (other, "TRANSPORT"),
    };
    tracing::info!(target: "tresor::call", path, peer = peer.map(|peer| tracing::field::display(peer.address())), ?code, reason, "call");
    let message = if status.message().is_empty() {
        format!("there is no method {path}")
    } else {
        status.message().into()
    };
    Status::from(Fault::new(code, reason, message)).into_http()
}

fn log(request: &Request<Body>, path: &str, code: Code, reason: &str) {
    let peer = request
        .extensions()
        .get::<Peer>()
        .map(|peer| tracing::field::display(peer.address()));
    tracing::info!(target: "tresor::call", path, peer, ?code, reason, "call");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(header: &str) -> Option<Duration> {
        asked_deadline(
            &Request::builder()
                .header("grpc-timeout", header)
                .body(Body::empty())
                .unwrap(),
        )
    }

    #[test]
    fn a_deadline_has_up_to_eight_digits_and_a_unit() {
        assert_eq!(deadline("5S"), Some(Duration::from_secs(5)));
        assert_eq!(deadline("250m"), Some(Duration::from_millis(250)));
        assert_eq!(deadline("99999999H"), Some(Duration::from_hours(99_999_999)));
        for malformed in ["", "5", "S", "5x", "-5S", "123456789S", "5 S", "ü"] {
            assert_eq!(deadline(malformed), None, "{malformed}");
        }
    }
}
