//! Metrics over HTTP/1.1, in plaintext: whoever gathers them has no certificate. `GET /metrics` and nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::telemetry::metrics;

/// How many connections may be open at once. Those above it are closed.
const MOST: usize = 16;
/// How long one may take, from its first byte to its last. Each is for one answer.
const LONGEST: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;
/// How long to wait when the system has no more sockets.
const BREATHER: Duration = Duration::from_millis(50);

pub(super) async fn serve(listener: TcpListener) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                    continue;
                };
                tokio::spawn(async move {
                    // Whoever breaks off, or takes too long, is nobody's concern.
                    let _ = tokio::time::timeout(LONGEST, answer(stream)).await;
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

async fn answer(stream: TcpStream) -> Result<(), hyper::Error> {
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(respond(&request))));
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LONGEST_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => {
            *response.body_mut() = metrics::rendered().into();
            let media_type = HeaderValue::from_static(metrics::MEDIA_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, media_type);
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
