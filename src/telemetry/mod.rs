//! Logs, which go to standard error (standard output belongs to what a command was asked for), and what is counted.

pub mod metrics;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins to log; may be called once. `RUST_LOG`, if set, takes the place of `level`, as it does in other Rust programs.
pub fn init(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let is_terminal = std::io::stderr().is_terminal();
    match format {
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
        LogFormat::Auto if !is_terminal => subscriber.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Text => subscriber.with_ansi(is_terminal).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        // The place tells what is needed; the message might hold a value.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task has panicked; the process goes on");
    }));
}
