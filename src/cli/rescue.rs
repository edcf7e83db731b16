//! `tresor rescue`: a store out of what is left of one that does not open. Works on files, not on a server.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tresor::config::Config;
use tresor::offline::{self, OfflineError};

use super::failure::{Exit, Failure};
use super::finding::{FindingView, lines, must_be_new};
use super::output::{Output, details, plain};
use super::owner;

/// Save what is left of a store that does not open, record by record, into a new one.
///
/// A backup is better: it is whole. Where there is none, or an old one only, this reads the damaged store without changing it and
/// makes a new one of every record that can be read and that opens under its own name. The configuration names the folder of the
/// new store, which must be empty or not there, and the key-encryption key.
///
/// What was written where the file cannot be read is missing, so a record can be an older one, or be there though it was removed.
/// How many such places there are is told; then ends with code 9, as it does if something in the new store is wrong.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tresor rescue /var/lib/tresor/damaged --config /etc/tresor/tresor.toml --dry-run\n  \
    tresor rescue /var/lib/tresor/damaged --config /etc/tresor/tresor.toml --aside set-aside.jsonl\n\n\
    JSON: {store, is_dry_run, is_whole, records, revision, gaps, unreadable, set_aside[]: {record, defect}, findings[]: {record, \
    revision, defect}}"
)]
pub(crate) struct Rescue {
    /// The folder of the damaged store.
    #[arg(value_name = "FOLDER")]
    from: PathBuf,
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Write the records that do not open to this file, which must not be there.
    #[arg(long, value_name = "FILE")]
    aside: Option<PathBuf>,
    /// Look at everything, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Answer {
    store: PathBuf,
    is_dry_run: bool,
    is_whole: bool,
    records: u64,
    revision: u64,
    gaps: u64,
    unreadable: u64,
    set_aside: Vec<AsideView>,
    findings: Vec<FindingView>,
}

#[derive(Serialize)]
struct AsideView {
    record: String,
    defect: String,
}

impl Rescue {
    pub(crate) async fn run(self, output: &mut Output) -> Result<Exit, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Start(error.to_string());
        must_be_new("--aside", self.aside.as_deref())?;
        let config = Config::load(&self.config).map_err(|error| failed(&error))?;
        let rescued = offline::rescue(&config, &self.from, self.aside.as_deref(), self.dry_run).await;
        let rescued = rescued.map_err(|error| match error {
            OfflineError::NotChecked { .. } => failed(&error),
            error => failed(&format!("{error}; nothing was changed")),
        })?;
        let set_aside = rescued.set_aside.iter().map(|(key, defect)| AsideView {
            record: key.to_string(),
            defect: defect.to_string(),
        });
        let answer = Answer {
            store: config.store.path.clone(),
            is_dry_run: self.dry_run,
            is_whole: rescued.gaps == 0
                && rescued.unreadable == 0
                && rescued.set_aside.is_empty()
                && rescued.findings.is_empty(),
            records: rescued.records,
            revision: rescued.revision.0,
            gaps: rescued.gaps,
            unreadable: rescued.unreadable,
            set_aside: set_aside.collect(),
            findings: rescued.findings.into_iter().map(Into::into).collect(),
        };
        if !self.dry_run {
            owner::remind(&config.store.path, output);
        }
        output.show(&answer, text)?;
        Ok(if answer.is_whole { Exit::Done } else { Exit::Broken })
    }
}

fn text(answer: &Answer) -> String {
    let verdict = if answer.is_dry_run { "would be saved" } else { "saved" };
    let mut text = details(&[
        (verdict, answer.store.display().to_string()),
        ("records", answer.records.to_string()),
        ("goes on from revision", answer.revision.to_string()),
        ("places that cannot be read", answer.gaps.to_string()),
        ("records that cannot be read", answer.unreadable.to_string()),
    ]);
    for AsideView { record, defect } in &answer.set_aside {
        text += &plain(&format!("not saved: {record}: {defect}"));
        text.push('\n');
    }
    text + &lines(&answer.findings)
}
