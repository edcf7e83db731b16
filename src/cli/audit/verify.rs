//! `tresor audit verify`: whether a log is whole.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tonic::Code;
use tresor::audit::{Checkpoint, Finding, Hash, Keys, Link, Report};
use tresor::pb::v1::{GetSigningKeysRequest, GetStatusRequest};

use super::super::connection::{Connection, ConnectionArgs};
use super::super::failure::{Exit, Failure};
use super::super::output::Output;

/// Verify that no line of an audit log was changed, removed, added or moved.
///
/// Reads the files of the log. The keys that have signed it, and the newest line that must be there, come from the server,
/// unless --jwks names a file with the keys; --checkpoint names a file with a line that must be there. Ends with code 9 if something is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor audit verify /var/lib/tresor/audit\n  \
    tresor audit verify audit-of-may --jwks keys.json --checkpoint audit-checkpoint\n\n\
    JSON: {is_whole, files, lines, first_line, last_line, signed_line, compared_with_server, \
    compared_with_checkpoint, findings[] and notes[]: {file, line, what}}")]
pub(crate) struct Verify {
    /// The directory of the log.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The vault's public keys as `tresor jwks` prints them; then no server is asked.
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// A signed line that must be in the log: the file `audit-checkpoint` in the store's folder, or a copy of it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    is_whole: bool,
    files: u64,
    lines: u64,
    first_line: u64,
    last_line: u64,
    signed_line: Option<u64>,
    compared_with_server: bool,
    compared_with_checkpoint: bool,
    findings: Vec<FindingView>,
    notes: Vec<FindingView>,
}

#[derive(Serialize)]
struct FindingView {
    file: String,
    line: u64,
    what: String,
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        let Finding { file, line, what } = finding;
        Self { file, line, what }
    }
}

impl Verify {
    pub(super) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Result<Exit, Failure> {
        let (jwks, newest) = if let Some(path) = &self.jwks {
            (read("--jwks", path)?, None)
        } else {
            let connection = connection.open()?;
            match ask(&connection, output).await {
                Ok(answers) => answers,
                Err(failure) => return Err(connection.explain(failure).await),
            }
        };
        let keys = Keys::parse(&jwks).map_err(|error| Failure::Usage(format!("the vault's keys: {error}")))?;
        let kept = self.checkpoint.as_deref().map(|path| kept(path, &keys)).transpose()?;
        if newest.is_none() && kept.is_none() {
            output.warn(
                "the log was compared with no line that is known to be in it: if its end was cut off, it does not show; \
                 name one with --checkpoint, or ask the server",
            );
        }
        let must_be_there = newest.into_iter().chain(kept);
        let report =
            tresor::audit::verify(&self.directory, Some(keys), must_be_there).map_err(|source| Failure::File {
                option: "DIR",
                path: self.directory,
                source,
            })?;
        let answer = Answer::new(report, newest.is_some(), kept.is_some());
        output.show(&answer, text)?;
        Ok(if answer.is_whole { Exit::Done } else { Exit::Broken })
    }
}

fn read(option: &'static str, path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File {
        option,
        path: path.into(),
        source,
    })
}

/// The line that a file says must be in the log.
fn kept(path: &Path, keys: &Keys) -> Result<Link, Failure> {
    let line = read("--checkpoint", path)?;
    let checkpoint = Checkpoint::parse(line.trim_end_matches('\n'), keys);
    checkpoint
        .map(|checkpoint| checkpoint.link)
        .ok_or_else(|| Failure::Usage(format!("--checkpoint {}: is not signed by the vault", path.display())))
}

/// The keys, and the newest line that the server has signed, if it tells.
async fn ask(connection: &Connection, output: &mut Output) -> Result<(String, Option<Link>), Failure> {
    let keys = connection.resolver().get_signing_keys(GetSigningKeysRequest {}).await?;
    let newest = match connection.operator().get_status(GetStatusRequest {}).await {
        Ok(status) => status.into_inner().audit.and_then(|audit| {
            let hash = Hash::parse(&audit.signed_hash)?;
            Some(Link {
                seq: audit.signed_line,
                hash,
            })
        }),
        Err(status) if status.code() == Code::PermissionDenied => {
            output.warn("your grants do not let you ask the server how far its log goes");
            None
        }
        Err(status) => return Err(status.into()),
    };
    Ok((keys.into_inner().jwks, newest))
}

impl Answer {
    fn new(report: Report, compared_with_server: bool, compared_with_checkpoint: bool) -> Self {
        let all = |findings: Vec<Finding>| findings.into_iter().map(FindingView::from).collect();
        Self {
            is_whole: report.findings.is_empty(),
            files: report.files,
            lines: report.lines,
            first_line: report.first,
            last_line: report.last,
            signed_line: report.signed_up_to,
            compared_with_server,
            compared_with_checkpoint,
            findings: all(report.findings),
            notes: all(report.notes),
        }
    }
}

fn text(answer: &Answer) -> String {
    let mut lines = Vec::new();
    let verdict = if answer.is_whole { "whole" } else { "NOT WHOLE" };
    lines.push(format!(
        "{verdict}: lines {} to {} in {} files",
        answer.first_line, answer.last_line, answer.files
    ));
    lines.push(match answer.signed_line {
        Some(line) => format!("signed: up to line {line}; the lines after it are only chained"),
        None => "signed: no line; all of them are only chained".to_owned(),
    });
    for (kind, findings) in [("wrong", &answer.findings), ("note", &answer.notes)] {
        let told = findings
            .iter()
            .map(|one| format!("{kind}: {}:{}: {}", one.file, one.line, one.what));
        lines.extend(told);
    }
    lines
        .iter()
        .map(|line| super::super::output::plain(line) + "\n")
        .collect()
}
