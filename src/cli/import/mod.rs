//! `tresor import`: many credentials from a file. One thread reads and parses, the server takes batches, and each batch that it
//! acknowledges is durable.

mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod line;
mod patience;
mod report;
mod resume;
mod sending;
mod table;
mod text;

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tresor::pb::v1::{CredentialLine, ImportCredentialsRequest, ListProvidersRequest, ProviderKind};

use self::file::{Input, Place};
use self::line::Problems;
use self::patience::Patience;
use self::report::Report;
use self::resume::Progress;
use self::sending::Sending;
use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::Output;

const AFTER_HELP: &str = "\
JSON Lines: one object a line. `path` is required; `validUntil` and `note` are for every credential; the other fields
are those of `tresor credential put --from-stdin`, for a login:
  customerNumber, username, password, customerSignature, interfacePartnerNumber, interfacePartnerSignature
and for a mail account:
  host, port, security, username, password, fromAddress, fromName, replyTo,
  and in place of the password: oauth2 {tokenUrl, clientId, clientSecret, refreshToken, scopes[]}
CSV: the first row names the columns, which are the same fields; those of oauth2 are oauth2TokenUrl, oauth2ClientId,
oauth2ClientSecret, oauth2RefreshToken and oauth2Scopes (separated by blanks). An empty cell is not given. Columns are
separated by commas, semicolons or tabs. A cell that holds one of these, or begins with a quote, stands in quotes, and each
quote within is written twice; none holds a line break. Names in snake_case are taken too, in both formats.

What is acknowledged is durable. An import that was interrupted is simply run again: what is stored already with the same
content gets no new version, if you may read it. With --resume what was acknowledged is not even sent again; how far it
came stands in FILE.import-state, which goes away with the end of the import. What was sent before an import was stopped
the server still saves.

Lines that cannot be saved do not hold up the others. If there are any, the exit code is 3. A server that has no room or no
time just now, or is being started anew, is waited for, for two minutes at most.

Each line counts as a call of your certificate. Whoever is over its quota calls_per_second (500, unless the server's policy
says otherwise) is slowed down, and told so: raise it in the policy for large imports.

Example:
  tresor import logins.csv --dry-run
  tresor import logins.csv --resume --errors refused.txt
  decrypt logins.jsonl.age | tresor import - --format jsonl

JSON: {saved, unchanged, failed, warnings, revision, last_line}";

/// The server takes requests of 64 KiB.
const LARGEST_REQUEST: usize = 60 * 1024;
/// And so many credentials in each.
const MOST_LINES: usize = 1000;
/// How many requests are read ahead.
const AHEAD: usize = 4;

/// Save many credentials from a file.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Import {
    /// The file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How the file is written. Left out: as its name ends, `.csv` or `.jsonl`.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Let the server check every line and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Keep track of how far it is, and go on from where an import of this file was interrupted.
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,
    /// Write every line that cannot be saved to this file, not only the first of them to standard error.
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Jsonl,
}

/// What the server is asked, and what it is about.
struct Chunk {
    request: ImportCredentialsRequest,
    /// Lines that are not even sent.
    problems: Vec<(u64, Problems)>,
    /// Where the file goes on after it.
    end: Place,
}

impl Chunk {
    fn empty(end: Place) -> Self {
        Self {
            request: ImportCredentialsRequest::default(),
            problems: Vec::new(),
            end,
        }
    }
}

impl Import {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let input = Input::open(&self.file, self.format)?;
        if let Some(warning) = input.open_to_others() {
            output.warn(&warning);
        }
        let progress = if self.resume {
            Some(Progress::of(&self.file)?)
        } else {
            None
        };
        let begin = progress.as_ref().map_or(Place::START, Progress::place);
        let length = input.length();
        // Before the server is asked: what is wrong with the file as a whole is told at once.
        let mut lines = apart(move || input.lines(begin)).await?;
        let mut report = Report::new(&self.file, self.errors.as_deref(), progress, length)?;
        let mut patience = Patience::new();
        let kinds = loop {
            match kinds(connection).await {
                Ok(kinds) => break kinds,
                Err(failure) => patience.bear(failure, &mut report, output).await?,
            }
        };
        let (outlet, chunks) = mpsc::channel(AHEAD);
        let validate_only = self.dry_run;
        let reading = tokio::spawn(apart(move || {
            while let Some(chunk) = next_chunk(&mut lines, &kinds, validate_only)? {
                // Nobody listens any more if the import has failed.
                if outlet.blocking_send(chunk).is_err() {
                    break;
                }
            }
            Ok(())
        }));
        let imported = Sending::new(chunks, patience)
            .run(connection, &mut report, output)
            .await;
        if let Err(failure) = imported {
            report.interrupted(output);
            return Err(failure);
        }
        let read = reading.await.map_err(|error| Failure::Runtime(error.into()))?;
        if read.is_err() {
            report.interrupted(output);
        }
        read?;
        report.finish(self.dry_run, output)
    }
}

/// Reads on a thread of its own, which is left behind if nobody waits for it any more: standard input may stay open.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let (outcome, done) = oneshot::channel();
    std::thread::Builder::new()
        .name("reader".into())
        .spawn(move || drop(outcome.send(work())))
        .map_err(Failure::Runtime)?;
    done.await
        .map_err(|_| Failure::Runtime(std::io::Error::other("the file was not read to its end")))?
}

/// The kind of each provider: which fields a line may have follows from it.
async fn kinds(connection: &Connection) -> Result<HashMap<String, ProviderKind>, Failure> {
    let answer = connection.admin().list_providers(ListProvidersRequest {}).await?;
    let providers = answer.into_inner().providers.into_iter();
    Ok(providers
        .map(|provider| (provider.id.clone(), provider.kind()))
        .collect())
}

/// As many lines as fit into a request; none at the end of the file.
fn next_chunk(
    lines: &mut file::Lines,
    kinds: &HashMap<String, ProviderKind>,
    validate_only: bool,
) -> Result<Option<Chunk>, Failure> {
    let mut chunk = Chunk::empty(lines.place());
    let mut size = 0;
    while size < LARGEST_REQUEST && chunk.request.lines.len() + chunk.problems.len() < MOST_LINES {
        let Some((number, parsed)) = lines.next(kinds)? else {
            break;
        };
        match parsed {
            Ok(mut put) => {
                put.validate_only = validate_only;
                let line = CredentialLine { number, put: Some(put) };
                let length = line.encoded_len() + LINE_OVERHEAD;
                if length > LARGEST_REQUEST {
                    chunk.problems.push((number, line::too_long()));
                    chunk.end = lines.place();
                    continue;
                }
                if size + length > LARGEST_REQUEST {
                    lines.put_back(line);
                    break;
                }
                size += length;
                chunk.request.lines.push(line);
            }
            Err(problems) => chunk.problems.push((number, problems)),
        }
        chunk.end = lines.place();
    }
    let is_empty = chunk.request.lines.is_empty() && chunk.problems.is_empty();
    Ok((!is_empty).then_some(chunk))
}

/// The tag and the length that stand before each line of a request, in bytes, at most.
const LINE_OVERHEAD: usize = 6;
