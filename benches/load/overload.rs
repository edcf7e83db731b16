//! What becomes of a vault that is asked for more than it can do: the excess is refused at once, the rest is served, health answers,
//! nothing grows, and when it is over all is as before.
//!
//! The vault has one core and one worker, the client has the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use super::arguments;
use super::case::{Case, Peer};
use super::client::{Client, Latencies, Pace};
use super::flood::{Flood, Flooded, STREAMS};
use super::machine::{self, Machine};
use super::measure::{Series, Site, at};
use super::probe::Heard;
use super::process::{self, Process, Vault};
use super::report::{judged, mebibytes, table, thousands};
use super::targets::{self, Judged};
use super::wire::Address;
use crate::support::Error;
use crate::support::deployment::Deployment;
use crate::support::population::Population;

/// How many slices the capacity is measured in, and how long each is.
const SLICES: usize = 5;
const SLICE: Duration = Duration::from_secs(1);
/// For how long it is called at half of its capacity, before and after.
const CALM: Duration = Duration::from_secs(10);
/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Which part of the time it may take until its memory has become what it stays.
const SETTLED: u32 = 5;

/// What was seen.
#[derive(Debug, Serialize)]
pub(crate) struct Overload {
    machine: Machine,
    credentials: usize,
    /// Resolves a second in a closed loop.
    capacity: f64,
    factor: f64,
    seconds: f64,
    rows: Vec<Row>,
    memory: Memory,
    used: Used,
    judged: Vec<Judged>,
}

/// Cores that were used meanwhile.
#[derive(Clone, Copy, Debug, Serialize)]
struct Used {
    server: f64,
    client: f64,
}

/// Calls that ended alike. Times are in milliseconds, from when a call was due.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    calls: u64,
    per_second: f64,
    p50: f64,
    p99: f64,
    longest: f64,
    /// From when the call was begun.
    p99_from_begun: Option<f64>,
}

/// Memory of the server, in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
struct Memory {
    before: u64,
    /// A fifth of the time after it began.
    settled: u64,
    most: u64,
    at_the_end: u64,
    after: u64,
}

struct Run {
    threads: usize,
    connections: usize,
    client: Client,
    site: Site,
    resolve: Arc<Case>,
    null: Arc<Case>,
}

/// What was seen beside the calls.
struct Beside {
    health: Heard,
    plaintext: Heard,
    memory: Memory,
    used: Used,
}

/// Asks for so many times of what it can do.
pub(crate) async fn overload(arguments: &arguments::Overload, deployment: Deployment) -> Result<Overload, Error> {
    let population = Population::new(arguments.credentials);
    // Before the cores are shared out.
    let machine = machine::describe();
    let run = Run::start(arguments, population, deployment).await?;
    let mut closed = Series::calls(
        "",
        &run.resolve,
        Pace::Closed {
            connections: arguments.connections,
            streams: 8,
        },
    );
    for _ in 0..=SLICES {
        closed.slice(&run.client, &run.site, None, SLICE).await?;
    }
    // Caches and buffers are cold in the first.
    closed.slices.remove(0);
    let capacity = closed.median(|slice| slice.per_second);
    let calm = CALM.min(arguments.lasts());
    let before = run.flood(capacity / 2.0, calm).await?;
    let offered = capacity * arguments.factor;
    let (flooded, mut beside) = run.flood_and_look(offered, arguments.lasts()).await?;
    let after = run.flood(capacity / 2.0, calm).await?;
    beside.memory.after = run.resident()?;
    let mut judged = judge_conduct(&flooded, &beside.memory);
    if !cfg!(debug_assertions) {
        judged.extend(judge_times(capacity, offered, [&before, &flooded, &after], &beside));
    }
    Ok(Overload {
        machine,
        credentials: arguments.credentials,
        capacity,
        factor: arguments.factor,
        seconds: arguments.seconds,
        rows: vec![
            Row::of_calls("half of the capacity, before", &before, calm),
            Row::of_accepted("answered", &flooded),
            Row::of_refused("refused", &flooded),
            Row::of_health("health, the same listener", &beside.health, flooded.sent_in),
            Row::of_health("health, in plaintext", &beside.plaintext, flooded.sent_in),
            Row::of_calls("half of the capacity, after", &after, calm),
        ],
        memory: beside.memory,
        used: beside.used,
        judged,
    })
}

impl Run {
    async fn start(
        arguments: &arguments::Overload,
        population: Population,
        deployment: Deployment,
    ) -> Result<Self, Error> {
        let streams = STREAMS.to_string();
        let calls = (STREAMS * arguments.connections + 1).to_string();
        let settings = [
            ("TRESOR_SERVER_WORKERS", "1"),
            // As it is by default.
            ("TRESOR_SERVER_LONGEST_WAIT", "25ms"),
            // A flood comes from many; here it comes from one, who must not be held back before that.
            ("TRESOR_SERVER_MAX_STREAMS_PER_CONNECTION", streams.as_str()),
            ("TRESOR_SERVER_MAX_CALLS_PER_CALLER", calls.as_str()),
            // A disk that other tests keep busy is not what is looked at where times do not count.
            (
                "TRESOR_AUDIT_TIMEOUT",
                if cfg!(debug_assertions) { "30s" } else { "3s" },
            ),
        ];
        let (servers, others) = share_cores()?;
        let vault = Vault::start_with(&deployment, &settings, servers.as_ref()).await?;
        if let Some(others) = others {
            // The client's threads, which come later, are bound by it too.
            sched_setaffinity(None, &others)?;
        }
        let threads = arguments.threads();
        let client = Client::new(threads, arguments.connections)?;
        Ok(Self {
            threads,
            connections: arguments.connections,
            site: Site::of(0, vault, deployment, &client).await?,
            client,
            resolve: Arc::new(Case::resolve(population)),
            null: Arc::new(Case::null(Peer::OrderService)),
        })
    }

    async fn flood(&self, per_second: f64, lasts: Duration) -> Result<Flooded, Error> {
        let flood = Flood {
            case: Arc::clone(&self.resolve),
            address: self.address()?,
            connections: self.connections,
            per_second,
            lasts,
        };
        flood.pour(self.threads).await
    }

    /// The same, and what can be seen beside it meanwhile.
    async fn flood_and_look(&self, per_second: f64, lasts: Duration) -> Result<(Flooded, Beside), Error> {
        let connection = self.address()?.connect().await?;
        let (mut health, mut plaintext) = (Heard::new(), Heard::new());
        let before = self.resident()?;
        let mut memory = Memory {
            before,
            settled: before,
            most: before,
            at_the_end: before,
            after: before,
        };
        let cpu = || Ok::<_, Error>((self.site.vault.process.cpu()?, process::cpu_of("self")?));
        let (began, used_before) = (Instant::now(), cpu()?);
        let flooded = tokio::select! {
            flooded = self.flood(per_second, lasts) => flooded?,
            () = health.on_a_connection(connection, &self.null) => unreachable!("it goes on"),
            () = plaintext.in_plaintext(self.site.vault.health_port) => unreachable!("it goes on"),
            failed = memory.watch(&self.site.vault.process, lasts / SETTLED) => return Err(failed),
        };
        memory.at_the_end = self.resident()?;
        let used_after = cpu()?;
        let cores = |used: Duration| used.as_secs_f64() / began.elapsed().as_secs_f64();
        let beside = Beside {
            health,
            plaintext,
            memory,
            used: Used {
                server: cores(used_after.0.saturating_sub(used_before.0)),
                client: cores(used_after.1.saturating_sub(used_before.1)),
            },
        };
        Ok((flooded, beside))
    }

    fn address(&self) -> Result<Address, Error> {
        let pki = &self.site.deployment.pki;
        Address::new(self.site.vault.port, pki, &pki.order_service)
    }

    fn resident(&self) -> Result<u64, Error> {
        Ok(self.site.vault.process.memory()?.resident)
    }
}

/// One core for the server, and the others for the client; if there is but one, both have it.
fn share_cores() -> Result<(Option<CpuSet>, Option<CpuSet>), Error> {
    let mut others = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|core| others.is_set(*core));
    let Some(last) = last.filter(|_| others.count() > 1) else {
        return Ok((None, None));
    };
    let mut servers = CpuSet::new();
    servers.set(last);
    others.unset(last);
    Ok((Some(servers), Some(others)))
}

impl Memory {
    /// Looks again and again. Returns only if it cannot look.
    async fn watch(&mut self, process: &Process, settles_in: Duration) -> Error {
        let settled_at = tokio::time::Instant::now() + settles_in;
        loop {
            match process.memory() {
                Ok(memory) => self.most = self.most.max(memory.resident),
                Err(error) => return error,
            }
            if tokio::time::Instant::now() < settled_at {
                self.settled = self.most;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What must be so in every build, however busy the machine is.
#[allow(clippy::cast_precision_loss)]
fn judge_conduct(flooded: &Flooded, memory: &Memory) -> Vec<Judged> {
    vec![
        targets::REFUSED.judge(flooded.refused.count() as f64),
        targets::GROWN.judge(grown(memory.before, memory.most)),
    ]
}

/// Times and rates, and what depends on them: of a build that is not optimised they say nothing.
#[allow(clippy::cast_precision_loss)]
fn judge_times(capacity: f64, offered: f64, [before, flooded, after]: [&Flooded; 3], beside: &Beside) -> Vec<Judged> {
    let Beside {
        health,
        plaintext,
        memory,
        used: _,
    } = beside;
    let accepted = flooded.accepted.count() as f64 / flooded.sent_in.as_secs_f64();
    let p99 = |flooded: &Flooded| milliseconds(&flooded.accepted.from_due, 99.0);
    let slowest = |heard: &Heard| milliseconds(&heard.latencies, 100.0);
    vec![
        targets::KEPT_UP.judge(flooded.kept_up(offered)),
        targets::REFUSED_WITHIN.judge(milliseconds(&flooded.refused.from_due, 99.0)),
        targets::ANSWERED_WITHIN.judge(p99(flooded)),
        targets::ANSWERED.judge(accepted / capacity),
        targets::NOT_SERVING.judge((health.failures + plaintext.failures) as f64),
        targets::HEALTH_WITHIN.judge(slowest(health).max(slowest(plaintext))),
        targets::GROWING.judge(grown(memory.settled, memory.at_the_end)),
        targets::REFUSED_AFTER.judge(after.refused.count() as f64),
        targets::RECOVERED.judge(p99(after) / p99(before)),
    ]
}

/// In MiB.
#[allow(clippy::cast_precision_loss)]
fn grown(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / f64::from(1 << 20)
}

fn milliseconds(latencies: &Latencies, percentile: f64) -> f64 {
    at(latencies, percentile).as_secs_f64() * 1e3
}

impl Overload {
    pub(crate) fn is_good(&self) -> bool {
        self.judged.iter().all(|one| one.is_met)
    }
}

impl Row {
    #[allow(clippy::cast_precision_loss)]
    fn new(name: &'static str, latencies: &Latencies, from_begun: Option<&Latencies>, lasted: Duration) -> Self {
        Self {
            name,
            calls: latencies.len(),
            per_second: latencies.len() as f64 / lasted.as_secs_f64(),
            p50: milliseconds(latencies, 50.0),
            p99: milliseconds(latencies, 99.0),
            longest: milliseconds(latencies, 100.0),
            p99_from_begun: from_begun.map(|latencies| milliseconds(latencies, 99.0)),
        }
    }

    fn of_calls(name: &'static str, calls: &Flooded, lasted: Duration) -> Self {
        let accepted = &calls.accepted;
        Self::new(name, &accepted.from_due, Some(&accepted.from_begun), lasted)
    }

    fn of_accepted(name: &'static str, flooded: &Flooded) -> Self {
        Self::of_calls(name, flooded, flooded.sent_in)
    }

    fn of_refused(name: &'static str, flooded: &Flooded) -> Self {
        let refused = &flooded.refused;
        Self::new(name, &refused.from_due, Some(&refused.from_begun), flooded.sent_in)
    }

    fn of_health(name: &'static str, heard: &Heard, lasted: Duration) -> Self {
        Self::new(name, &heard.latencies, None, lasted)
    }

    fn cells(&self) -> [String; 7] {
        let time = |milliseconds: f64| format!("{milliseconds:.1}");
        #[allow(clippy::cast_precision_loss)]
        let calls = self.calls as f64;
        [
            self.name.into(),
            thousands(calls),
            thousands(self.per_second),
            time(self.p50),
            time(self.p99),
            time(self.longest),
            self.p99_from_begun.map_or_else(|| "–".into(), time),
        ]
    }
}

impl std::fmt::Display for Overload {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "{}", self.machine)?;
        writeln!(
            out,
            "{} credentials; the server has one core and can do {} resolves a second; {} s of {} times as many",
            self.credentials,
            thousands(self.capacity),
            self.seconds,
            self.factor,
        )?;
        let Memory {
            before,
            settled,
            most,
            at_the_end,
            after,
        } = self.memory;
        let [before, settled, most, at_the_end, after] = [before, settled, most, at_the_end, after].map(mebibytes);
        writeln!(
            out,
            "memory {before} MiB before, {settled} MiB after a fifth of the time, {at_the_end} MiB at its end, {most} MiB at most, \
             {after} MiB after; the server used {:.2} cores, the client {:.2}\n",
            self.used.server, self.used.client,
        )?;
        let head = [
            "",
            "calls",
            "calls/s",
            "p50 ms",
            "p99 ms",
            "longest ms",
            "p99 ms from begun",
        ];
        writeln!(out, "{}\n", table(head, self.rows.iter().map(Row::cells), 1))?;
        write!(out, "{}", judged(&self.judged))?;
        if cfg!(debug_assertions) {
            write!(out, "\nThis build is not optimised: its times and rates say nothing.")?;
        }
        Ok(())
    }
}
