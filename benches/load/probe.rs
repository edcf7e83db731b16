//! Whoever looks after a vault, whatever else goes on: asks for its health again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::Request;

use super::case::Case;
use super::client::{Latencies, latencies, record};
use super::codec::Raw;
use super::process::is_serving;
use super::wire::Connection;

/// How often it asks.
const EVERY: Duration = Duration::from_millis(100);
/// After which time it takes the vault for dead: the default of a kubelet's probes.
const PATIENCE: Duration = Duration::from_secs(1);

/// What it has heard.
pub(crate) struct Heard {
    pub(crate) latencies: Latencies,
    /// How often the answer was another one than that it serves, or none in time.
    pub(crate) failures: u64,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self {
            latencies: latencies(),
            failures: 0,
        }
    }

    /// Asks over one connection, on the listener that all calls come to, until it is dropped.
    pub(crate) async fn on_a_connection(&mut self, connection: Connection, case: &Arc<Case>) {
        let client = connection.client();
        let is_serving = || async {
            let (mut client, call) = (client.clone(), &case.calls[0]);
            let ready = client.ready().await;
            let answer = client
                .unary(Request::new(call.request.clone()), case.path.clone(), Raw)
                .await;
            ready.is_ok()
                && answer.is_ok_and(|answer: tonic::Response<Bytes>| call.due.check(answer.into_inner()).is_ok())
        };
        self.ask(is_serving).await;
    }

    /// Asks in plaintext over a connection of its own each time, until it is dropped.
    pub(crate) async fn in_plaintext(&mut self, health_port: u16) {
        self.ask(|| is_serving(health_port)).await;
    }

    async fn ask<F: Future<Output = bool>>(&mut self, is_serving: impl Fn() -> F) {
        let mut beat = tokio::time::interval(EVERY);
        loop {
            beat.tick().await;
            let asked = Instant::now();
            let is_serving = tokio::time::timeout(PATIENCE, is_serving()).await;
            record(&mut self.latencies, asked.elapsed());
            self.failures += u64::from(!is_serving.unwrap_or(false));
        }
    }
}
