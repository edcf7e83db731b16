//! The vault beside calls that do nothing and beside the disk, in one run.

use std::sync::Arc;
use std::time::Duration;

use super::arguments::Compare;
use super::case::{Case, Peer};
use super::client::{Client, Pace};
use super::measure::{Series, Site, What, in_turn};
use super::process::Process;
use super::report::{Curve, Point, Report, Row};
use super::targets::{self, Judged};
use crate::support::Error;
use crate::support::deployment::Deployment;
use crate::support::population::Population;

/// Where on the way to its capacity a curve's points are, in percent.
const LOADS: [u8; 10] = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95];
const ONE: Pace = Pace::Closed {
    connections: 1,
    streams: 1,
};

struct Run<'a> {
    arguments: &'a Compare,
    client: Client,
    site: Site,
    stock: Process,
    stock_null: Arc<Case>,
    null: Arc<Case>,
    resolve: Arc<Case>,
    resolve_six: Arc<Case>,
    save: Arc<Case>,
}

/// Measures everything that is asked for.
pub(crate) async fn compare(arguments: &Compare, deployment: Deployment) -> Result<Report, Error> {
    let population = Population::new(arguments.credentials);
    let client = Client::new(arguments.load.threads(), arguments.load.connections)?;
    let site = Site::start(0, deployment, &client).await?;
    let at_start = site.vault.process.memory()?;
    let run = Run {
        arguments,
        stock: site.start_stock(&client).await?,
        client,
        site,
        stock_null: Arc::new(Case::null(Peer::Stock)),
        null: Arc::new(Case::null(Peer::OrderService)),
        resolve: Arc::new(Case::resolve(population)),
        resolve_six: Arc::new(Case::resolve_six(population)),
        save: Arc::new(Case::save(population)),
    };
    let closed = run.closed_loops().await?;
    let [
        stock_null,
        null,
        resolve,
        _,
        null_alone,
        resolve_alone,
        save_1,
        _,
        save_64,
        syncs,
    ] = &closed;
    let capacity = resolve.median(|slice| slice.per_second);
    let open = run.open_loops(capacity / 2.0).await?;
    let [open_null, open_resolve] = &open;
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let judged = vec![
        targets::OF_STOCK.judge(resolve.compared(stock_null, |a, b| a.per_second / b.per_second)),
        targets::OF_NULL.judge(resolve.compared(null, |a, b| a.per_second / b.per_second)),
        targets::CPU.judge(resolve.compared(null, |a, b| micros(a.server_cpu) - micros(b.server_cpu))),
        targets::P50.judge(resolve_alone.compared(null_alone, |a, b| a.p50.as_secs_f64() / b.p50.as_secs_f64())),
        targets::P99.judge(open_resolve.compared(open_null, |a, b| a.p99.as_secs_f64() / b.p99.as_secs_f64())),
        targets::SAVES_OF_ONE.judge(save_1.compared(syncs, |a, b| a.per_second / b.per_second)),
        targets::SAVES_OF_MANY.judge(save_64.compared(syncs, |a, b| a.per_second / b.per_second)),
    ];
    let curves = match &arguments.plot {
        Some(_) => run.curves(null.median(|slice| slice.per_second), capacity).await?,
        None => Vec::new(),
    };
    let rows = closed.iter().chain(&open).map(Row::new).collect();
    run.report(rows, judged, curves, at_start.resident)
}

impl Run<'_> {
    async fn closed_loops(&self) -> Result<[Series; 10], Error> {
        let load = &self.arguments.load;
        let closed = |connections, streams| Pace::Closed { connections, streams };
        let full = closed(load.connections, load.streams);
        let mut all = [
            Series::calls("Health/Check, stock tonic", &self.stock_null, full),
            Series::calls("Health/Check, ours", &self.null, full),
            Series::calls("ResolveForOrder", &self.resolve, full),
            Series::calls("ResolveManyForOrder, 6", &self.resolve_six, full),
            Series::calls("Health/Check, ours", &self.null, ONE),
            Series::calls("ResolveForOrder", &self.resolve, ONE),
            Series::calls("PutCredential", &self.save, ONE),
            Series::calls(
                "PutCredential",
                &self.save,
                closed(8.min(load.connections), 8 / 8.min(load.connections)),
            ),
            Series::calls(
                "PutCredential",
                &self.save,
                closed(8.min(load.connections), 64 / 8.min(load.connections)),
            ),
            Series::new("append and fdatasync", What::Syncs),
        ];
        self.measure(&mut all).await?;
        Ok(all)
    }

    async fn open_loops(&self, per_second: f64) -> Result<[Series; 2], Error> {
        let open = Pace::Open { per_second };
        let mut all = [
            Series::calls("Health/Check, ours", &self.null, open),
            Series::calls("ResolveForOrder", &self.resolve, open),
        ];
        self.measure(&mut all).await?;
        Ok(all)
    }

    /// Latency against load, of our null RPC and of a resolve, each up to its own capacity.
    async fn curves(&self, null: f64, resolve: f64) -> Result<Vec<Curve>, Error> {
        let series = |name, case, capacity: f64| {
            LOADS.map(|load| {
                let per_second = capacity * f64::from(load) / 100.0;
                Series::calls(name, case, Pace::Open { per_second })
            })
        };
        let mut all: Vec<_> = series("Health/Check, ours", &self.null, null)
            .into_iter()
            .chain(series("ResolveForOrder", &self.resolve, resolve))
            .collect();
        self.measure(&mut all).await?;
        let curve = |series: &[Series]| Curve {
            name: series[0].name,
            points: series
                .iter()
                .zip(LOADS)
                .map(|(one, load)| Point::new(load, one))
                .collect(),
        };
        Ok(all.chunks(LOADS.len()).map(curve).collect())
    }

    async fn measure(&self, all: &mut [Series]) -> Result<(), Error> {
        let load = &self.arguments.load;
        in_turn(
            all,
            &self.client,
            &self.site,
            Some(&self.stock),
            load.slices,
            load.slice,
        )
        .await
    }

    fn report(&self, rows: Vec<Row>, judged: Vec<Judged>, curves: Vec<Curve>, at_start: u64) -> Result<Report, Error> {
        let memory = self.site.vault.process.memory()?;
        Ok(Report {
            machine: super::machine::describe(),
            credentials: self.arguments.credentials,
            started_in: self.site.vault.started_in.as_secs_f64(),
            resident_at_start: at_start,
            resident_at_end: memory.resident,
            resident_peak: memory.peak,
            rows,
            judged,
            curves,
        })
    }
}
