//! Logs, which go to standard error (standard output belongs to what a command was asked for), what is counted, and traces.

mod code;
pub mod metrics;
pub mod traces;

use std::io::IsTerminal as _;

use tracing::subscriber::set_global_default;
use tracing_log::LogTracer;
use tracing_log::log::LevelFilter;
use tracing_subscriber::EnvFilter;

pub(crate) use self::code::code_name;
pub(crate) use self::metrics::Sharded;

/// What the crates that log with `log` (sled, rustls) may say at most. sled's traces come from destructors of a thread's
/// locals too, where `tracing` panics and the process aborts.
const OTHERS: LevelFilter = LevelFilter::Info;

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log; may be called once. `RUST_LOG`, if set, takes the place of `level`, as it does in other Rust programs.
pub fn init(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let is_terminal = std::io::stderr().is_terminal();
    let is_first = match format {
        LogFormat::Json => set_global_default(subscriber.json().flatten_event(true).finish()),
        LogFormat::Auto if !is_terminal => set_global_default(subscriber.json().flatten_event(true).finish()),
        LogFormat::Auto | LogFormat::Text => set_global_default(subscriber.with_ansi(is_terminal).finish()),
    };
    is_first.expect("it is called once");
    LogTracer::builder()
        .with_max_level(OTHERS)
        .init()
        .expect("it is called once");
    std::panic::set_hook(Box::new(|panic| {
        // The place tells what is needed; the message might hold a value.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task has panicked; the process goes on");
    }));
}
