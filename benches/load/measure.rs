//! Measuring in slices. What is measured takes turns, and each round begins with another, so that whatever changes on the
//! machine meanwhile meets all of them alike.

use std::sync::Arc;
use std::time::Duration;

use super::case::{Case, Peer};
use super::client::{Client, Latencies, Outcome, Pace, latencies};
use super::disk;
use super::process::{self, Process, Vault};
use super::wire::Address;
use crate::support::Error;
use crate::support::deployment::Deployment;

/// A vault under measurement, with its client.
pub(crate) struct Site {
    /// By which the client knows it.
    number: usize,
    pub(crate) vault: Vault,
    pub(crate) deployment: Deployment,
}

impl Site {
    /// Serves a deployment and connects to it.
    pub(crate) async fn start(number: usize, deployment: Deployment, client: &Client) -> Result<Self, Error> {
        let vault = Vault::start(&deployment).await?;
        Self::of(number, vault, deployment, client).await
    }

    /// Connects to a vault that serves a deployment.
    pub(crate) async fn of(
        number: usize,
        vault: Vault,
        deployment: Deployment,
        client: &Client,
    ) -> Result<Self, Error> {
        let pki = &deployment.pki;
        for (peer, pair) in [
            (Peer::OrderService, &pki.order_service),
            (Peer::Operator, &pki.operator),
        ] {
            let address = Address::new(vault.port, pki, pair)?;
            client.connect(number, peer, &address).await?;
        }
        Ok(Self {
            number,
            vault,
            deployment,
        })
    }

    /// Starts the stock server beside it and connects to that.
    pub(crate) async fn start_stock(&self, client: &Client) -> Result<Process, Error> {
        let pki = &self.deployment.pki;
        let (process, port) = process::start_stock(&self.deployment.directory().join("tls"))?;
        let address = Address::new(port, pki, &pki.order_service)?;
        client.connect(self.number, Peer::Stock, &address).await?;
        Ok(process)
    }
}

/// What is measured.
#[derive(Clone)]
pub(crate) enum What {
    Calls(Arc<Case>, Pace),
    /// The disk alone.
    Syncs,
}

/// Something that is measured, and what was seen of it.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) what: What,
    pub(crate) slices: Vec<Slice>,
    /// Of all slices.
    pub(crate) latencies: Latencies,
    /// The next call.
    next: usize,
}

/// What was seen in one slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) per_second: f64,
    /// CPU time of the server per call.
    pub(crate) server_cpu: Duration,
    /// The same of the client.
    pub(crate) client_cpu: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Series {
    pub(crate) fn calls(name: &'static str, case: &Arc<Case>, pace: Pace) -> Self {
        Self::new(name, What::Calls(Arc::clone(case), pace))
    }

    pub(crate) fn new(name: &'static str, what: What) -> Self {
        Self {
            name,
            what,
            slices: Vec::new(),
            latencies: latencies(),
            next: 0,
        }
    }

    /// Measures for so long.
    pub(crate) async fn slice(
        &mut self,
        client: &Client,
        site: &Site,
        stock: Option<&Process>,
        lasts: Duration,
    ) -> Result<(), Error> {
        let server = match &self.what {
            What::Calls(case, _) if case.peer == Peer::Stock => stock,
            What::Calls(..) => Some(&site.vault.process),
            What::Syncs => None,
        };
        let server_cpu = || server.map_or(Ok(Duration::ZERO), Process::cpu);
        let before = (server_cpu()?, process::cpu_of("self")?);
        let outcome = match &self.what {
            What::Calls(case, pace) => client.run(site.number, case, *pace, lasts, self.next).await?,
            What::Syncs => disk::sync_again_and_again(site.deployment.directory().join("synced"), lasts).await?,
        };
        let used = (
            server_cpu()?.saturating_sub(before.0),
            process::cpu_of("self")?.saturating_sub(before.1),
        );
        self.note(&outcome, used)
    }

    fn note(&mut self, outcome: &Outcome, (server_cpu, client_cpu): (Duration, Duration)) -> Result<(), Error> {
        let calls = outcome.latencies.len();
        let count = u32::try_from(calls).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| format!("{}: no call was answered", self.name))?;
        self.next += usize::try_from(calls)?;
        self.slices.push(Slice {
            per_second: f64::from(count) / outcome.elapsed.as_secs_f64(),
            server_cpu: server_cpu / count,
            client_cpu: client_cpu / count,
            p50: at(&outcome.latencies, 50.0),
            p99: at(&outcome.latencies, 99.0),
        });
        self.latencies.add(&outcome.latencies)?;
        Ok(())
    }

    /// The median of what is seen in each slice.
    pub(crate) fn median(&self, of: impl Fn(&Slice) -> f64) -> f64 {
        median(self.slices.iter().map(of).collect())
    }

    /// The median of what the same slices of this and of another one compare to. They were measured one soon after the other.
    pub(crate) fn compared(&self, other: &Self, compare: impl Fn(&Slice, &Slice) -> f64) -> f64 {
        let pairs = self.slices.iter().zip(&other.slices);
        median(pairs.map(|(one, other)| compare(one, other)).collect())
    }
}

/// The latency that so many percent of the calls do not exceed.
pub(crate) fn at(latencies: &Latencies, percentile: f64) -> Duration {
    Duration::from_nanos(latencies.value_at_percentile(percentile))
}

/// Measures each in turn, `rounds` times. A first round does not count: caches and buffers are cold in it.
pub(crate) async fn in_turn(
    all: &mut [Series],
    client: &Client,
    site: &Site,
    stock: Option<&Process>,
    rounds: usize,
    lasts: Duration,
) -> Result<(), Error> {
    for series in all.iter_mut() {
        series
            .slice(client, site, stock, lasts.min(Duration::from_millis(500)))
            .await?;
        series.slices.clear();
        series.latencies.reset();
    }
    let count = all.len();
    for round in 0..rounds {
        for turn in 0..count {
            all[(round + turn) % count].slice(client, site, stock, lasts).await?;
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}
