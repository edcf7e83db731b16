//! What figures are from: they mean nothing without it.

use serde::Serialize;

/// The machine and the program.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    version: &'static str,
}

pub(crate) fn describe() -> Machine {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1.to_owned()));
    Machine {
        processor: processor.unwrap_or_else(|| "unknown".into()),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        kernel: read("/proc/sys/kernel/osrelease").trim().into(),
        version: env!("CARGO_PKG_VERSION"),
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            processor,
            cores,
            kernel,
            version,
        } = self;
        write!(out, "tresor {version}, {processor}, {cores} cores, Linux {kernel}")
    }
}
