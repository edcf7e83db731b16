//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::support::population::FEWEST;

/// Measure the vault: a real server process over mutual TLS, with policy, quotas and audit log, on a generated store.
///
/// Without a task: beside a stock tonic server and the disk alone, in short slices that take turns.
#[derive(Debug, Parser)]
#[command(name = "load", args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) compare: Compare,
    /// Given by cargo.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Start time, memory, CPU time and latency on stores of several sizes.
    Growth(Growth),
    /// Twice as much as the vault can do, for a minute: what becomes of the excess, of the rest, and of the vault. Fails if that is
    /// not what it should be.
    Overload(Overload),
    /// Make a deployment with a generated store, unless it is there, and print its folder. Serve a copy of it, not itself.
    Store {
        /// How many credentials it has.
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = credentials)]
        credentials: usize,
    },
    /// Serve a deployment, and call it when standard input says so: for comparisons with what this program cannot call.
    Turns(Turns),
    /// Call a vault for everything in proportion and let it end, so that what it has counted meanwhile can be used to optimise it:
    /// deploy/optimise.
    Train(Train),
    #[command(name = super::stock::SUBCOMMAND, hide = true)]
    StockServer {
        /// The folder with the certificates.
        tls: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// How many credentials the store has.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = credentials)]
    pub(crate) credentials: usize,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Measure latency against load as well, and draw it here (SVG).
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print JSON, not tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Growth {
    /// How many credentials the stores have, the fewest first.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "1000,100000,1000000", value_parser = credentials)]
    pub(crate) credentials: Vec<usize>,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Draw it here (SVG).
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print JSON, not tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Overload {
    /// How many credentials the store has.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = credentials)]
    pub(crate) credentials: usize,
    /// How many connections.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = between_1_and(64))]
    pub(crate) connections: usize,
    /// How long it lasts, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = more_than(0.0))]
    pub(crate) seconds: f64,
    /// How many times as much as it can do.
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = more_than(1.0))]
    pub(crate) factor: f64,
    /// How many threads call; without it, one for each core but the server's.
    #[arg(long, value_name = "N", value_parser = between_1_and(64))]
    threads: Option<usize>,
    /// Print JSON, not tables.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Overload {
    pub(crate) fn lasts(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// To be asked once the client has its cores.
    pub(crate) fn threads(&self) -> usize {
        self.threads.unwrap_or_else(cores)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Turns {
    /// How many credentials the store has.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = credentials)]
    pub(crate) credentials: usize,
    /// How many connections.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = between_1_and(64))]
    pub(crate) connections: usize,
    /// How many calls are open on each of them.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = between_1_and(200))]
    pub(crate) streams: usize,
    /// How long a turn is.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) turn: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// How many credentials the store has.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = credentials)]
    pub(crate) credentials: usize,
    /// How long it is called for each.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) turn: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// How many connections.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = between_1_and(64))]
    pub(crate) connections: usize,
    /// How many calls are open on each of them.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = between_1_and(200))]
    pub(crate) streams: usize,
    /// How many slices each measurement has.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = between_1_and(1000))]
    pub(crate) slices: usize,
    /// How long a slice is.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) slice: Duration,
    /// How many threads call; without it, one for each core.
    #[arg(long, value_name = "N", value_parser = between_1_and(64))]
    threads: Option<usize>,
}

impl Load {
    pub(crate) fn threads(&self) -> usize {
        self.threads.unwrap_or_else(cores)
    }
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn credentials(text: &str) -> Result<usize, String> {
    match text.replace('_', "").parse() {
        Ok(number) if number >= FEWEST => Ok(number),
        _ => Err(format!("a whole number from {FEWEST} on is expected")),
    }
}

fn between_1_and(most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("a whole number from 1 to {most} is expected")),
    }
}

fn more_than(least: f64) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if number > least && number <= 3600.0 => Ok(number),
        _ => Err(format!("a number above {least} and up to 3600 is expected")),
    }
}
