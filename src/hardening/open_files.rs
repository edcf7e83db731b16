//! How many files, connections among them, the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside those of connections: 512 handshakes, 64 health probes, 32 strangers, three for each worker, the store.
const BESIDE_CONNECTIONS: u64 = 1024;

/// Raises the limit as far as this process may, and returns it; `None` is without limit.
pub(super) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // macOS has a lower limit of its own that it does not show here.
        Err(_) => limit.current,
    }
}

pub(super) fn warn_if_too_few(open_files: Option<u64>, max_connections: usize) {
    let needed = needed(max_connections);
    if let Some(limit) = open_files.filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            remedy = "raise the limit (systemd: LimitNOFILE; shell: ulimit -Hn) or lower server.max_connections",
            "the limit of open files is too low for server.max_connections"
        );
    }
}

fn needed(max_connections: usize) -> u64 {
    u64::try_from(max_connections)
        .unwrap_or(u64::MAX)
        .saturating_add(BESIDE_CONNECTIONS)
}
