//! `tresor audit show`: the lines of a log.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use prost_types::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tresor::access::Reveal;
use tresor::audit::{Filter, Reader, Record};
use tresor::pb::v1::ReadAuditRequest;

use super::super::args;
use super::super::connection::{Connection, ConnectionArgs};
use super::super::failure::{Exit, Failure};
use super::super::output::{Output, table};

/// Show lines of the audit log, the newest last.
///
/// They come from the server, or from the files of a log where --dir names them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor audit show --order 2026-0815\n  \
    tresor audit show --outcome denied --since 2026-11-01 --output json\n  \
    tresor audit show --dir /var/lib/tresor/audit --caller spiffe://dynarex.local/order-service\n\n\
    JSON: {lines[]}, each as it stands in the log")]
pub(crate) struct Show {
    /// Only lines about this order.
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Only lines about this caller: its identity, exactly.
    #[arg(long, value_name = "IDENTITY")]
    caller: Option<String>,
    /// Only lines about this firm.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Only lines about this provider.
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<String>,
    /// Only lines about this method, such as `ResolveForOrder`.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Only lines with this outcome.
    #[arg(long, value_parser = PossibleValuesParser::new(["ok", "denied", "failed"]))]
    outcome: Option<String>,
    /// Only lines about the request with this id, which errors name.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only lines written at this time or later: 2027-03-31 (its start, UTC) or 2027-03-31T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = args::before)]
    since: Option<Timestamp>,
    /// Only lines written before this time.
    #[arg(long, value_name = "TIME", value_parser = args::before)]
    until: Option<Timestamp>,
    /// How many at most, the newest of them; 0: all.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
    /// The directory of a log; then no server is asked.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    lines: Vec<Box<RawValue>>,
}

/// The newest lines.
struct Newest {
    lines: VecDeque<String>,
    limit: usize,
    has_more: bool,
}

impl Newest {
    fn push(&mut self, line: String) {
        self.lines.push_back(line);
        if self.limit > 0 && self.lines.len() > self.limit {
            self.lines.pop_front();
            self.has_more = true;
        }
    }
}

impl Show {
    pub(super) async fn run(self, connection: &ConnectionArgs, output: &mut Output) -> Result<Exit, Failure> {
        let mut newest = Newest {
            lines: VecDeque::new(),
            limit: self.limit,
            has_more: false,
        };
        if let Some(directory) = self.dir.clone() {
            self.read(&directory, &mut newest)?;
        } else {
            let connection = connection.open()?;
            if let Err(failure) = self.fetch(&connection, &mut newest).await {
                return Err(connection.explain(failure).await);
            }
        }
        if newest.has_more {
            let limit = newest.limit;
            output.warn(&format!("only the newest {limit} lines are shown; --limit 0 shows all"));
        }
        let raw = |line| RawValue::from_string(line).map_err(|_| Failure::Incomplete("line that is JSON"));
        let answer = Answer {
            lines: newest.lines.into_iter().map(raw).collect::<Result<_, _>>()?,
        };
        output.show(&answer, |answer| {
            table(
                ["TIME", "LINE", "EVENT", "CALLER", "METHOD", "ABOUT", "ORDER", "OUTCOME"],
                answer.lines.iter().filter_map(|line| row(line.get())),
            )
        })?;
        Ok(Exit::Done)
    }

    fn read(self, directory: &Path, newest: &mut Newest) -> Result<(), Failure> {
        let time = |time: Option<Timestamp>| time.as_ref().and_then(|time| time.try_into().ok());
        let filter = Filter {
            since: time(self.since),
            until: time(self.until),
            caller: self.caller,
            tenant: self.tenant,
            provider: self.provider,
            order: self.order,
            method: self.method,
            outcome: self.outcome,
            request: self.request,
        };
        let read = Reader::new(directory).and_then(|reader| {
            reader.lines(&filter, u64::MAX, |line, _| {
                newest.push(line.to_owned());
                ControlFlow::Continue(())
            })
        });
        read.map_err(|error| Failure::File {
            option: "--dir",
            path: error.path,
            source: error.error,
        })
    }

    async fn fetch(&self, connection: &Connection, newest: &mut Newest) -> Result<(), Failure> {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        let request = ReadAuditRequest {
            since: self.since,
            until: self.until,
            caller: text(&self.caller),
            tenant: text(&self.tenant),
            provider: text(&self.provider),
            order_id: text(&self.order),
            method: text(&self.method),
            outcome: text(&self.outcome),
            request_id: text(&self.request),
        };
        let mut lines = connection.operator().read_audit(request).await?.into_inner();
        while let Some(answer) = lines.message().await? {
            newest.push(answer.record.ok_or(Failure::Incomplete("record"))?.json);
        }
        Ok(())
    }
}

fn row(line: &str) -> Option<[String; 8]> {
    let record = Record::of(line)?;
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
    let parts = [&record.what, &record.tenant, &record.provider, &record.scope];
    let mut about = parts
        .into_iter()
        .flatten()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join("/");
    if let Some(version) = record.version {
        about.extend([" v", &version.to_string()]);
    }
    if let Some(sha256) = &record.sha256 {
        about.extend([" ", sha256]);
    }
    // What is usual is not said.
    if let Some(reveal) = record
        .reveal
        .as_deref()
        .filter(|reveal| *reveal != Reveal::Full.as_str())
    {
        about.extend([", shown: ", reveal]);
    }
    let outcome = match &record.reason {
        Some(reason) => format!("{} {reason}", text(&record.outcome)),
        None => text(&record.outcome),
    };
    Some([
        record.time.to_string(),
        record.seq.to_string(),
        record.event.to_string(),
        text(&record.caller),
        text(&record.method),
        about,
        text(&record.order_id),
        outcome.trim_start().to_owned(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_who_got_what_for_which_order() {
        let line = r#"{"seq":7,"time":"2026-11-23T18:00:00.000Z","event":"call","method":"ResolveForOrder","caller":"orders.example",
            "tenant":"demo","provider":"dat","scope":"office/leipzig","version":3,"order_id":"2026-0815","outcome":"ok","code":"OK",
            "prev":"x"}"#;
        let row = row(line).unwrap();
        let expected = [
            "2026-11-23T18:00:00.000Z",
            "7",
            "call",
            "orders.example",
            "ResolveForOrder",
            "demo/dat/office/leipzig v3",
            "2026-0815",
            "ok",
        ];
        assert_eq!(row, expected);
    }

    #[test]
    fn of_many_lines_the_newest_are_kept() {
        let mut newest = Newest {
            lines: VecDeque::new(),
            limit: 2,
            has_more: false,
        };
        for line in ["1", "2", "3"] {
            newest.push(line.into());
        }
        assert_eq!(
            (newest.lines, newest.has_more),
            (["2", "3"].map(str::to_owned).into(), true)
        );
    }
}
