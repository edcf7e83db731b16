//! The load generator: `cargo bench --bench load -- --help`.
//!
//! It starts a real vault on a generated store ([`support`]) and calls it over mutual TLS. [`client`] is the one client,
//! [`case`] says what it calls, [`measure`] lets what is measured take turns, [`targets`] judges.

#![allow(missing_docs, clippy::print_stdout)]

mod answer;
mod arguments;
mod case;
mod client;
mod codec;
mod compare;
mod disk;
mod flood;
mod growth;
mod machine;
mod measure;
mod overload;
mod pace;
mod plot;
mod probe;
mod process;
mod report;
mod stock;
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod train;
mod turns;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::arguments::{Arguments, Task};
use self::support::Error;
use self::support::deployment::{self, Deployment};
use self::support::population::Population;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.task {
        None => {
            let deployment = Deployment::with(Population::new(arguments.compare.credentials))?;
            let report = until_stopped(compare::compare(&arguments.compare, deployment))?;
            if let Some(file) = &arguments.compare.plot {
                plot::curves(file, &report.curves)?;
            }
            print(&report, arguments.compare.json)
        }
        Some(Task::Growth(arguments)) => {
            let populations = arguments.credentials.iter().copied().map(Population::new);
            let deployments = populations.map(Deployment::with).collect::<Result<_, _>>()?;
            let growth = until_stopped(growth::growth(&arguments, deployments))?;
            if let Some(file) = &arguments.plot {
                plot::growth(file, &growth.sizes)?;
            }
            print(&growth, arguments.json)
        }
        Some(Task::Overload(arguments)) => {
            let deployment = Deployment::with(Population::new(arguments.credentials))?;
            let overload = until_stopped(overload::overload(&arguments, deployment))?;
            print(&overload, arguments.json)?;
            if overload.is_good() {
                Ok(())
            } else {
                Err("not everything is as it should be".into())
            }
        }
        Some(Task::Store { credentials }) => {
            println!("{}", deployment::ensure(Population::new(credentials))?.display());
            Ok(())
        }
        Some(Task::Turns(arguments)) => {
            let population = Population::new(arguments.credentials);
            let deployment = Deployment::with(population)?;
            until_stopped(turns::take(&arguments, population, deployment))
        }
        Some(Task::Train(arguments)) => {
            let population = Population::new(arguments.credentials);
            let deployment = Deployment::with(population)?;
            until_stopped(train::train(&arguments, population, deployment))
        }
        Some(Task::StockServer { tls }) => stock::serve(&tls),
    }
}

/// Ends early when it is told to, so that the servers end too.
fn until_stopped<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = work => done,
            _ = interrupt.recv() => Err("stopped".into()),
            _ = terminate.recv() => Err("stopped".into()),
        }
    })
}

fn print(report: &(impl Serialize + std::fmt::Display), as_json: bool) -> Result<(), Error> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
