//! `tresor check`: whether everything in a store is sound.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tresor::config::Config;
use tresor::offline;
use tresor::pb::v1::CheckStoreRequest;
use tresor::pb::v1::check_store_response::Seen;

use super::connection::{Connection, ConnectionArgs};
use super::failure::{Exit, Failure};
use super::finding::{FindingView, lines, must_be_new};
use super::output::{Output, plain};
use super::owner;

/// Look at everything in the store: open every record and every version, and look for what they refer to.
///
/// The server does it while it serves; with --config it is done on the store of a server that does not run. Ends with code 9 if
/// something is wrong: restore a backup, or purge the credential and save it anew.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor check\n  \
    tresor check --config /etc/tresor/tresor.toml\n  \
    tresor check --config /etc/tresor/tresor.toml --repair set-aside.jsonl\n\n\
    JSON: {is_sound, records, findings[]: {record, revision, defect}, set_aside[]}")]
pub(crate) struct Check {
    /// The configuration of a server that does not run.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set aside what is broken: records that do not open, that no record should be called, or that are versions without a
    /// credential. They are written to this file, which must not be there, then removed. Nothing else is changed, and nothing is
    /// guessed.
    #[arg(long, value_name = "FILE", requires = "config")]
    repair: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    is_sound: bool,
    records: u64,
    findings: Vec<FindingView>,
    set_aside: Vec<String>,
}

impl Check {
    pub(crate) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Result<Exit, Failure> {
        let answer = if let Some(config) = &self.config {
            check(config, self.repair.as_deref(), output).await?
        } else {
            let connection = connection.open()?;
            match ask(&connection).await {
                Ok(answer) => answer,
                Err(failure) => return Err(connection.explain(failure).await),
            }
        };
        output.show(&answer, text)?;
        Ok(if answer.is_sound { Exit::Done } else { Exit::Broken })
    }
}

async fn check(config: &Path, repair: Option<&Path>, output: &mut Output) -> Result<Answer, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Start(error.to_string());
    must_be_new("--repair", repair)?;
    let config = Config::load(config).map_err(|error| failed(&error))?;
    let checked = offline::check(&config, repair).await;
    owner::remind(&config.store.path, output);
    let checked = checked.map_err(|error| failed(&error))?;
    Ok(Answer {
        is_sound: checked.findings.is_empty(),
        records: checked.records,
        findings: checked.findings.into_iter().map(Into::into).collect(),
        set_aside: checked.set_aside.iter().map(ToString::to_string).collect(),
    })
}

async fn ask(connection: &Connection) -> Result<Answer, Failure> {
    let mut seen = connection
        .operator()
        .check_store(CheckStoreRequest {})
        .await?
        .into_inner();
    let template = "{spinner} {human_pos} records in {elapsed}";
    let progress =
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template(template).expect("it is a template"));
    progress.enable_steady_tick(Duration::from_millis(200));
    let (mut findings, mut records) = (Vec::new(), None);
    while let Some(message) = seen.message().await? {
        match message.seen {
            Some(Seen::Finding(finding)) => findings.push(finding.into()),
            Some(Seen::RecordsSoFar(so_far)) => progress.set_position(so_far),
            Some(Seen::Records(all)) => records = Some(all),
            None => {}
        }
    }
    progress.finish_and_clear();
    Ok(Answer {
        is_sound: findings.is_empty(),
        records: records.ok_or(Failure::Incomplete("end"))?,
        findings,
        set_aside: Vec::new(),
    })
}

fn text(answer: &Answer) -> String {
    let mut text = match answer.findings.len() {
        0 => format!("sound: {} records\n", answer.records),
        wrong => format!("NOT SOUND: {wrong} findings in {} records\n", answer.records),
    };
    text += &lines(&answer.findings);
    for record in &answer.set_aside {
        text += &plain(&format!("set aside: {record}"));
        text.push('\n');
    }
    text
}
