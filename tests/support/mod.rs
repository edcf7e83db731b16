//! The vocabulary of these tests: the real program as a process of its own, and its callers over mutual TLS.

// Each test program uses its own part of it.
#![allow(dead_code)]

pub(crate) mod callers;
pub(crate) mod certificates;
pub(crate) mod documented;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod requests;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Far more than anything here takes, so that a busy machine fails no test.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until the condition yields something, and returns that.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = condition() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain for {what}");
}

/// Code and reason of a refusal.
pub(crate) fn told<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("it is refused");
    let info = status.get_details_error_info();
    (status.code(), info.map(|info| info.reason).unwrap_or_default())
}

/// Every file below a directory with its content.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.insert(path.display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// All lines of the audit log of a vault whose files are in this folder.
pub(crate) fn audit_lines(folder: &Path) -> String {
    let files = tresor::audit::files_in(&folder.join("audit")).unwrap();
    files
        .iter()
        .map(|(_, path)| std::fs::read_to_string(path).unwrap())
        .collect()
}
