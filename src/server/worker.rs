//! A thread that serves connections on a runtime of its own.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch as signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Limits;
use super::accept::{Accepted, Visitor};
use super::aside::Aside;
use super::gate::{Gate, LONGEST_DEADLINE};
use crate::api::MOST_STRANGE_CALLS;

/// How many connections may wait for a worker.
const WAITING: usize = 256;
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct Worker {
    inlet: mpsc::Sender<Accepted>,
    runtime: runtime::Handle,
    thread: JoinHandle<()>,
    done: oneshot::Receiver<()>,
    cut_off: oneshot::Sender<()>,
}

impl Worker {
    pub(super) fn start(
        number: usize,
        gate: Gate,
        limits: &Limits,
        is_ending: signal::Receiver<bool>,
    ) -> io::Result<Self> {
        let (inlet, accepted) = mpsc::channel(WAITING);
        let (finished, done) = oneshot::channel();
        let (cut_off, is_cut_off) = oneshot::channel::<()>();
        let (rests, wakes) = (gate.admission(), gate.admission());
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || rests.rests(std::time::Instant::now()))
            .on_thread_unpark(move || wakes.wakes(std::time::Instant::now()))
            .build()?;
        let handle = runtime.handle().clone();
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
            runtime: handle,
            thread,
            done,
            cut_off,
        })
    }

    /// Where accepted connections go in.
    pub(super) fn inlet(&self) -> mpsc::Sender<Accepted> {
        self.inlet.clone()
    }

    /// What it serves on.
    pub(super) fn runtime(&self) -> runtime::Handle {
        self.runtime.clone()
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

/// Serves until nothing more is accepted and every connection has ended.
async fn serve(
    gate: Gate,
    mut accepted: mpsc::Receiver<Accepted>,
    max_streams: u32,
    is_ending: signal::Receiver<bool>,
) {
    // Handshakes go on beside each other: a slow client holds nobody up.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some(next) => {
                    connections.spawn(serve_connection(next, gate.clone(), max_streams, is_ending.clone()));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Serves one connection to its end. When the server ends, or the identity of the client does, it is told to send nothing
/// more (GOAWAY) and what is under way comes to its end; a client without an identity has no time for that.
async fn serve_connection(accepted: Accepted, gate: Gate, max_streams: u32, mut is_ending: signal::Receiver<bool>) {
    let welcomed = tokio::select! {
        welcomed = accepted.welcome() => welcomed,
        _ = is_ending.wait_for(|is_ending| *is_ending) => None,
    };
    let Some(Visitor {
        stream,
        peer,
        mut watch,
    }) = welcomed
    else {
        return;
    };
    let aside = Aside::default();
    let gate = gate.for_connection(peer.clone(), aside.clone());
    let max_streams = match peer.identity() {
        Ok(_) => max_streams,
        Err(_) => max_streams.min(MOST_STRANGE_CALLS),
    };
    let mut http = http2::Builder::new(aside.clone());
    // Nobody asks an answer of gRPC for its date.
    http.timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(max_streams)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), gate));
    let identity_end = async {
        match &mut watch {
            Some(watch) => watch.end().await,
            None => std::future::pending().await,
        }
    };
    let mut identity_end = pin!(identity_end);
    let server_end = async { is_ending.wait_for(|is_ending| *is_ending).await.is_ok() };
    let mut server_end = pin!(server_end);
    let mut has_server_ended = false;
    let reason = loop {
        tokio::select! {
            ended = poll_fn(|context| aside.poll(connection.as_mut(), context)) => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %peer.address(), %error, "a connection was lost");
                }
                return;
            }
            reason = &mut identity_end => break reason,
            _ = &mut server_end, if !has_server_ended => {
                has_server_ended = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    let caller = peer.identity().map(|identity| identity.caller().as_str()).ok();
    tracing::info!(peer = %peer.address(), caller, %reason, "the identity of an open connection has ended: it is closed");
    connection.as_mut().graceful_shutdown();
    // No call may take longer. Whoever does not read its answers does not keep the connection.
    let ended = poll_fn(|context| aside.poll(connection.as_mut(), context));
    if tokio::time::timeout(LONGEST_DEADLINE, ended).await.is_err() {
        tracing::debug!(peer = %peer.address(), "a connection was cut off");
    }
}
