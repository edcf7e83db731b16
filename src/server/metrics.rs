//! Metrics over HTTP/1.1, in plaintext: whoever gathers them has no certificate. `GET /metrics` and nothing else.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::accept::Occupancy;
use super::health::Health;
use crate::telemetry::metrics::{self, Form, Process, Readings};

/// How many connections may be open at once. Those above it are closed.
const MOST: usize = 16;
/// How long one may take, from its first byte to its last. Each is for one answer.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;
/// How long to wait when the system has no more sockets.
const BREATHER: Duration = Duration::from_millis(50);
/// How long what was looked up is good, so that whoever asks all the time costs no more than that.
const FRESH: Duration = Duration::from_secs(1);

/// Looks up what is not counted. It may take a while, and knows nothing of the server.
pub struct Look {
    /// The process, as it was opened before the sandbox.
    pub process: Process,
    /// Looks up all but the server's own.
    pub look: Box<dyn Fn() -> Readings + Send + Sync>,
}

/// What is shown to whoever asks.
pub(super) struct Board {
    look: Look,
    occupancy: Occupancy,
    health: Health,
    /// What was looked up last, and when.
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Board {
    pub(super) fn new(look: Look, occupancy: Occupancy, health: Health) -> Self {
        let last = Mutex::default();
        Self {
            look,
            occupancy,
            health,
            last,
        }
    }

    fn show(&self, form: Form) -> String {
        metrics::rendered(form, &self.observed())
    }

    fn observed(&self) -> Arc<str> {
        // Whoever comes meanwhile waits for the same.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, observed)) = &*last
            && at.elapsed() < FRESH
        {
            return Arc::clone(observed);
        }
        let readings = Readings {
            is_serving: self.health.is_serving(),
            connections: self.occupancy.connections(),
            ..(self.look.look)()
        };
        let observed: Arc<str> = metrics::observed(&readings, &self.look.process).into();
        *last = Some((Instant::now(), Arc::clone(&observed)));
        observed
    }
}

pub(super) async fn serve(listener: TcpListener, board: Board) {
    let board = Arc::new(board);
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                    continue;
                };
                let board = Arc::clone(&board);
                tokio::spawn(async move {
                    // Whoever breaks off, or takes too long, is nobody's concern.
                    let _ = tokio::time::timeout(LONGEST, answer(stream, board)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, board: Arc<Board>) -> Result<(), hyper::Error> {
    let service = service_fn(|request| {
        let board = Arc::clone(&board);
        async move { Ok::<_, Infallible>(respond(&request, board).await) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LONGEST_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(request: &Request<Incoming>, board: Arc<Board>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => {
            let accepted = request
                .headers()
                .get(ACCEPT)
                .and_then(|accepted| accepted.to_str().ok());
            let form = Form::accepted_by(accepted);
            // It walks over all keys: apart from what accepts connections.
            match tokio::task::spawn_blocking(move || board.show(form)).await {
                Ok(shown) => *response.body_mut() = shown.into(),
                Err(_) => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
            }
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
            headers.insert(VARY, HeaderValue::from_static("accept"));
        }
        ("/metrics", _) => {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
