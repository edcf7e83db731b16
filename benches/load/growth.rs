//! What grows with the store, and what must not.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::arguments;
use super::case::Case;
use super::client::{Client, Pace};
use super::machine::{self, Machine};
use super::measure::{Series, Site, at};
use super::process::Vault;
use super::report::{judged, mebibytes, table, thousands};
use super::targets::{self, Judged};
use crate::support::Error;
use crate::support::deployment::Deployment;
use crate::support::population::Population;

/// How often each store is started; the median counts.
const STARTS: usize = 3;

/// What was seen at each size.
#[derive(Debug, Serialize)]
pub(crate) struct Growth {
    machine: Machine,
    pub(crate) sizes: Vec<Size>,
    judged: Vec<Judged>,
}

/// What was seen with so many credentials. Times of calls are in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) credentials: usize,
    /// From the start of the process until health said `SERVING`, in seconds.
    pub(crate) started_in: f64,
    /// In bytes.
    pub(crate) resident_at_start: u64,
    pub(crate) resident_under_load: u64,
    pub(crate) per_second: f64,
    pub(crate) server_cpu: f64,
    /// At one connection with one call.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

struct Running {
    site: Site,
    started_in: f64,
    resident_at_start: u64,
    credentials: usize,
    full: Series,
    alone: Series,
}

/// Serves stores of all sizes beside each other and calls them in turn.
pub(crate) async fn growth(arguments: &arguments::Growth, deployments: Vec<Deployment>) -> Result<Growth, Error> {
    let load = &arguments.load;
    let client = Client::new(load.threads(), load.connections)?;
    let mut all = Vec::new();
    for (number, deployment) in deployments.into_iter().enumerate() {
        let population = Population::new(arguments.credentials[number]);
        all.push(start(number, population, deployment, &client, load).await?);
    }
    let warm_up = load.slice.min(Duration::from_millis(500));
    for running in &mut all {
        running.full.slice(&client, &running.site, None, warm_up).await?;
        running.full.slices.clear();
    }
    let count = all.len();
    for round in 0..load.slices {
        for turn in 0..count {
            let running = &mut all[(round + turn) % count];
            running.full.slice(&client, &running.site, None, load.slice).await?;
            running.alone.slice(&client, &running.site, None, load.slice).await?;
        }
    }
    let sizes = all.iter().map(Running::size).collect::<Result<Vec<_>, _>>()?;
    Ok(Growth {
        machine: machine::describe(),
        judged: judge(&sizes),
        sizes,
    })
}

async fn start(
    number: usize,
    population: Population,
    deployment: Deployment,
    client: &Client,
    load: &arguments::Load,
) -> Result<Running, Error> {
    let mut started_in = Vec::new();
    for _ in 1..STARTS {
        let vault = Vault::start(&deployment).await?;
        started_in.push(vault.started_in);
        vault.stop().await?;
    }
    let site = Site::start(number, deployment, client).await?;
    started_in.push(site.vault.started_in);
    started_in.sort_unstable();
    let case = Arc::new(Case::resolve(population));
    let pace = |connections, streams| Pace::Closed { connections, streams };
    Ok(Running {
        resident_at_start: site.vault.process.memory()?.resident,
        started_in: started_in[STARTS / 2].as_secs_f64(),
        site,
        credentials: population.credentials,
        full: Series::calls("ResolveForOrder", &case, pace(load.connections, load.streams)),
        alone: Series::calls("ResolveForOrder", &case, pace(1, 1)),
    })
}

impl Running {
    fn size(&self) -> Result<Size, Error> {
        let micros = |percentile| at(&self.alone.latencies, percentile).as_secs_f64() * 1e6;
        Ok(Size {
            credentials: self.credentials,
            started_in: self.started_in,
            resident_at_start: self.resident_at_start,
            resident_under_load: self.site.vault.process.memory()?.resident,
            per_second: self.full.median(|slice| slice.per_second),
            server_cpu: self.full.median(|slice| slice.server_cpu.as_secs_f64()) * 1e6,
            p50: micros(50.0),
            p99: micros(99.0),
        })
    }
}

/// The largest store against the smallest one. Memory is what the one has more than the other.
#[allow(clippy::cast_precision_loss)]
fn judge(sizes: &[Size]) -> Vec<Judged> {
    let [fewest, .., most] = sizes else { return Vec::new() };
    // Of smaller differences the targets say nothing.
    if fewest.credentials > 1000 || most.credentials < 1_000_000 {
        return Vec::new();
    }
    let more = (most.credentials - fewest.credentials) as f64;
    let memory = most.resident_under_load.saturating_sub(fewest.resident_under_load) as f64;
    vec![
        targets::GROWTH.judge(most.server_cpu / fewest.server_cpu),
        targets::MEMORY.judge(memory / f64::from(1 << 20) / more * 1e6),
        targets::START.judge(most.started_in),
    ]
}

impl std::fmt::Display for Growth {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "{}\n", self.machine)?;
        let head = [
            "credentials",
            "start s",
            "memory MiB",
            "under load MiB",
            "resolves/s",
            "server CPU µs",
            "p50 µs, 1 × 1",
            "p99 µs, 1 × 1",
        ];
        let rows = self.sizes.iter().map(|size| {
            #[allow(clippy::cast_precision_loss)]
            let credentials = size.credentials as f64;
            [
                thousands(credentials),
                format!("{:.2}", size.started_in),
                mebibytes(size.resident_at_start).to_string(),
                mebibytes(size.resident_under_load).to_string(),
                thousands(size.per_second),
                format!("{:.1}", size.server_cpu),
                format!("{:.0}", size.p50),
                format!("{:.0}", size.p99),
            ]
        });
        writeln!(out, "{}\n", table(head, rows, 0))?;
        if self.judged.is_empty() {
            return write!(out, "Targets are for 1,000 beside 1,000,000 credentials.");
        }
        write!(out, "{}", judged(&self.judged))
    }
}
