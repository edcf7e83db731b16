//! What is wrong with a store, and the file that takes what is broken: for `check` and `rescue`.

use std::path::Path;

use serde::Serialize;
use tresor::pb::v1;
use tresor::vault::check::Finding;

use super::failure::Failure;
use super::output::plain;

#[derive(Serialize)]
pub(super) struct FindingView {
    record: String,
    revision: u64,
    defect: String,
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        Self {
            record: finding.key.to_string(),
            revision: finding.revision.0,
            defect: finding.defect.to_string(),
        }
    }
}

impl From<v1::StoreFinding> for FindingView {
    fn from(wire: v1::StoreFinding) -> Self {
        Self {
            record: wire.record,
            revision: wire.revision,
            defect: wire.defect,
        }
    }
}

/// A line for each.
pub(super) fn lines(findings: &[FindingView]) -> String {
    let line = |finding: &FindingView| {
        let FindingView {
            record,
            revision,
            defect,
        } = finding;
        plain(&format!("{record} (revision {revision}): {defect}")) + "\n"
    };
    findings.iter().map(line).collect()
}

/// Refuses a file that is there already: what it holds may be all that is left of a record.
pub(super) fn must_be_new(option: &str, file: Option<&Path>) -> Result<(), Failure> {
    match file.filter(|file| file.exists()) {
        Some(file) => Err(Failure::Usage(format!(
            "{option} {}: is there already; name a file that is not",
            file.display()
        ))),
        None => Ok(()),
    }
}
