//! A thread that serves connections on a runtime of its own.

use std::convert::Infallible;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch as signal};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use super::Limits;
use super::accept::Accepted;
use super::connection::Connection;
use super::gate::Gate;

/// How many connections may wait for a worker.
const WAITING: usize = 256;
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct Worker {
    inlet: mpsc::Sender<Accepted>,
    thread: JoinHandle<()>,
    done: oneshot::Receiver<()>,
    cut_off: oneshot::Sender<()>,
}

impl Worker {
    pub(super) fn start(
        number: usize,
        routes: Routes,
        limits: &Limits,
        is_ending: signal::Receiver<bool>,
    ) -> io::Result<Self> {
        let (inlet, accepted) = mpsc::channel(WAITING);
        let (finished, done) = oneshot::channel();
        let (cut_off, is_cut_off) = oneshot::channel::<()>();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let gate = Gate::new(routes, limits.default_deadline, is_ending.clone());
        let serving = serve(gate, accepted, limits.max_streams_per_connection.get(), is_ending);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serving => {}
                        _ = is_cut_off => {}
                    }
                });
                let _ = finished.send(());
                // Blocking reads that nobody waits for any more must not hold up the end.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            inlet,
            thread,
            done,
            cut_off,
        })
    }

    /// Where accepted connections go in.
    pub(super) fn inlet(&self) -> mpsc::Sender<Accepted> {
        self.inlet.clone()
    }

    /// Waits for open calls until `deadline`, then ends what is left. False if something was left.
    pub(super) async fn join(self, deadline: Instant) -> bool {
        drop(self.inlet);
        let is_done = tokio::time::timeout_at(deadline, self.done).await.is_ok();
        let _ = self.cut_off.send(());
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
        is_done
    }
}

async fn serve(
    gate: Gate,
    accepted: mpsc::Receiver<Accepted>,
    max_streams: u32,
    mut is_ending: signal::Receiver<bool>,
) {
    let (ready, connections) = mpsc::channel::<Connection<TlsStream<TcpStream>>>(WAITING);
    // Handshakes go on beside each other: a slow client holds nobody up.
    tokio::spawn(async move {
        let mut accepted = ReceiverStream::new(accepted);
        while let Some(next) = accepted.next().await {
            let ready = ready.clone();
            tokio::spawn(async move {
                if let Some(connection) = next.welcome().await {
                    let _ = ready.send(connection).await;
                }
            });
        }
    });
    let served = tonic::transport::Server::builder()
        .max_concurrent_streams(max_streams)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .serve_with_incoming_shutdown(
            gate,
            ReceiverStream::new(connections).map(Ok::<_, Infallible>),
            async move {
                let _ = is_ending.wait_for(|is_ending| *is_ending).await;
            },
        )
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "a worker has ended");
    }
}
