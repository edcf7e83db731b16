//! What a vault is asked for, in proportion, for a compiler to learn from: `deploy/optimise` builds with what was counted meanwhile.

use std::sync::Arc;

use super::arguments::{Train, cores};
use super::case::{Case, Peer};
use super::client::{Client, Pace};
use super::measure::{Series, Site};
use super::process::Vault;
use crate::support::Error;
use crate::support::deployment::Deployment;
use crate::support::population::Population;

const CONNECTIONS: usize = 8;
const ALONE: Pace = Pace::Closed {
    connections: 1,
    streams: 1,
};
const TOGETHER: Pace = Pace::Closed {
    connections: CONNECTIONS,
    streams: 8,
};
/// In its sandbox a vault may not write what it has counted where the compiler looks for it.
const SETTINGS: [(&str, &str); 1] = [("TRESOR_HARDENING_SANDBOX", "off")];

/// Serves a deployment, calls it, and asks it to end: it writes what it has counted at its end.
pub(crate) async fn train(arguments: &Train, population: Population, deployment: Deployment) -> Result<(), Error> {
    let client = Client::new(cores(), CONNECTIONS)?;
    let vault = Vault::start_with(&deployment, &SETTINGS, None).await?;
    let site = Site::of(0, vault, deployment, &client).await?;
    let resolve = Arc::new(Case::resolve(population));
    let save = Arc::new(Case::save(population));
    for (name, case, pace) in [
        ("null", &Arc::new(Case::null(Peer::OrderService)), TOGETHER),
        ("resolve", &resolve, TOGETHER),
        ("resolve, one at a time", &resolve, ALONE),
        ("resolve six", &Arc::new(Case::resolve_six(population)), TOGETHER),
        ("save", &save, TOGETHER),
        ("save, one at a time", &save, ALONE),
    ] {
        let mut series = Series::calls(name, case, pace);
        series.slice(&client, &site, None, arguments.turn).await?;
        println!("{name}: {} calls", series.latencies.len());
    }
    site.vault.stop().await
}
