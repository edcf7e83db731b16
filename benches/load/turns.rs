//! Measuring on demand, for a comparison with what this program cannot call.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc;

use super::arguments::{Turns, cores};
use super::case::{Case, Peer};
use super::client::{Client, Pace};
use super::measure::{Series, Site};
use crate::support::Error;
use crate::support::deployment::Deployment;
use crate::support::population::Population;

/// What was seen in a turn.
#[derive(Serialize)]
struct Turn {
    per_second: f64,
    /// Of the server, in microseconds a call.
    server_cpu: f64,
}

/// Serves a deployment. For each line of standard input, `null`, `resolve` or `save`, it is called so for the time of a turn, and
/// what was seen is printed as a line of JSON. Ends with its input.
pub(crate) async fn take(arguments: &Turns, population: Population, deployment: Deployment) -> Result<(), Error> {
    let client = Client::new(cores(), arguments.connections)?;
    let site = Site::start(0, deployment, &client).await?;
    let pace = Pace::Closed {
        connections: arguments.connections,
        streams: arguments.streams,
    };
    let mut null = Series::calls("null", &Arc::new(Case::null(Peer::OrderService)), pace);
    let mut resolve = Series::calls("resolve", &Arc::new(Case::resolve(population)), pace);
    let mut save = Series::calls("save", &Arc::new(Case::save(population)), pace);
    let mut lines = lines_of_input();
    while let Some(line) = lines.recv().await {
        let series = match line?.as_str() {
            "null" => &mut null,
            "resolve" => &mut resolve,
            "save" => &mut save,
            other => return Err(format!("{other:?} is none of null, resolve and save").into()),
        };
        series.slice(&client, &site, None, arguments.turn).await?;
        for slice in series.slices.drain(..) {
            let turn = Turn {
                per_second: slice.per_second,
                server_cpu: slice.server_cpu.as_secs_f64() * 1e6,
            };
            println!("{}", serde_json::to_string(&turn)?);
        }
    }
    Ok(())
}

/// Standard input, read on a thread of its own: what waits for it can be stopped.
fn lines_of_input() -> mpsc::UnboundedReceiver<io::Result<String>> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
