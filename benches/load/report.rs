//! What was measured, for people and for programs.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::client::Pace;
use super::machine::Machine;
use super::measure::{Series, What, at};
use super::targets::{Bound, Judged};

/// Everything about one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) credentials: usize,
    /// From the start of the process until health said `SERVING`, in seconds.
    pub(crate) started_in: f64,
    /// Memory of the server, in bytes.
    pub(crate) resident_at_start: u64,
    pub(crate) resident_at_end: u64,
    pub(crate) resident_peak: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) judged: Vec<Judged>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) curves: Vec<Curve>,
}

/// One thing that was measured. Times are in microseconds; throughput and CPU time are medians of the slices, latencies are
/// of all calls.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    pace: String,
    calls: u64,
    per_second: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    server_cpu: f64,
    client_cpu: f64,
}

/// Latency against load.
#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<Point>,
}

/// A point of a curve. Latencies are in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Point {
    /// Percent of what was reached in a closed loop.
    pub(crate) load: u8,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Row {
    pub(crate) fn new(series: &Series) -> Self {
        Self {
            name: series.name,
            pace: match &series.what {
                What::Calls(_, Pace::Closed { connections, streams }) => format!("{connections} × {streams}"),
                What::Calls(_, Pace::Open { per_second }) => format!("open, {per_second:.0}/s"),
                What::Syncs => "1".into(),
            },
            calls: series.latencies.len(),
            per_second: series.median(|slice| slice.per_second),
            p50: percentile(series, 50.0),
            p99: percentile(series, 99.0),
            p999: percentile(series, 99.9),
            server_cpu: series.median(|slice| slice.server_cpu.as_secs_f64()) * 1e6,
            client_cpu: series.median(|slice| slice.client_cpu.as_secs_f64()) * 1e6,
        }
    }
}

impl Point {
    pub(crate) fn new(load: u8, series: &Series) -> Self {
        Self {
            load,
            per_second: series.median(|slice| slice.per_second),
            p50: percentile(series, 50.0),
            p99: percentile(series, 99.0),
            p999: percentile(series, 99.9),
        }
    }
}

fn percentile(series: &Series, percentile: f64) -> f64 {
    at(&series.latencies, percentile).as_secs_f64() * 1e6
}

/// For people.
impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "{}", self.machine)?;
        writeln!(
            out,
            "{} credentials; started in {:.2} s; memory {} MiB at start, {} MiB at the end, {} MiB at most\n",
            self.credentials,
            self.started_in,
            mebibytes(self.resident_at_start),
            mebibytes(self.resident_at_end),
            mebibytes(self.resident_peak),
        )?;
        let rows = self.rows.iter().map(Row::cells);
        let head = [
            "",
            "conn. × streams",
            "calls/s",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "server CPU µs",
            "client CPU µs",
        ];
        writeln!(out, "{}\n", table(head, rows, 2))?;
        for curve in &self.curves {
            writeln!(out, "{}, open loop", curve.name)?;
            let points = curve.points.iter().map(Point::cells);
            writeln!(
                out,
                "{}\n",
                table(["load", "calls/s", "p50 µs", "p99 µs", "p99.9 µs"], points, 0)
            )?;
        }
        write!(out, "{}", judged(&self.judged))
    }
}

impl Row {
    fn cells(&self) -> [String; 8] {
        let cpu = |micros: f64| {
            if micros > 0.0 {
                format!("{micros:.1}")
            } else {
                "–".into()
            }
        };
        [
            self.name.into(),
            self.pace.clone(),
            thousands(self.per_second),
            format!("{:.0}", self.p50),
            format!("{:.0}", self.p99),
            format!("{:.0}", self.p999),
            cpu(self.server_cpu),
            cpu(self.client_cpu),
        ]
    }
}

impl Point {
    fn cells(&self) -> [String; 5] {
        [
            format!("{} %", self.load),
            thousands(self.per_second),
            format!("{:.0}", self.p50),
            format!("{:.0}", self.p99),
            format!("{:.0}", self.p999),
        ]
    }
}

/// Figures with their targets, as a table.
pub(crate) fn judged(judged: &[Judged]) -> Table {
    let rows = judged.iter().map(|one| {
        let sign = match one.target.bound {
            Bound::AtLeast => "≥",
            Bound::AtMost => "≤",
        };
        let verdict = match (one.is_met, one.is_aim_met) {
            (_, true) => "met, aim too",
            (true, false) => "met",
            (false, false) => "not met",
        };
        let unit = one.target.unit;
        [
            one.target.name.into(),
            format!("{:.2} {unit}", one.measured).trim().to_owned(),
            format!("{sign} {} {unit}", one.target.required).trim().to_owned(),
            format!("{} {unit}", one.target.aim).trim().to_owned(),
            verdict.into(),
        ]
    });
    table(["", "measured", "target", "aim", ""], rows, 1)
}

/// A table whose columns after the first `texts` hold numbers.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>, texts: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

/// A whole number with commas between its thousands.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        write!(text, "{digit}").expect("text takes text");
    }
    text
}
