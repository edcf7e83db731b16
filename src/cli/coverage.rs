//! `tresor coverage`: who has no usable credential.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tresor::pb::v1::{self, AssignmentMode, CheckCoverageRequest};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{Output, table};
use super::view::{all, or_empty, scope};
use super::words::word_of;

/// Check which offices, appraisers and users have no usable credential under today's assignments.
#[derive(Debug, Args)]
#[command(
    after_help = "Only the offices, appraisers and users that you name are checked: the server has no list of them. A file \
    holds one id per line; empty lines and lines that begin with # are left out. Exits with 8 if there are gaps.\n\n\
    Example:\n  tresor coverage demo --office leipzig --office halle --appraisers-file appraisers.txt\n\n\
    JSON: {gaps[]}, each {provider, mode, scope, reason}"
)]
pub(crate) struct Coverage {
    /// The firm.
    tenant: String,
    /// One of its offices; may be repeated.
    #[arg(long = "office", value_name = "ID")]
    offices: Vec<String>,
    /// A file with its offices.
    #[arg(long, value_name = "FILE")]
    offices_file: Option<PathBuf>,
    /// One of its appraisers; may be repeated.
    #[arg(long = "appraiser", value_name = "ID")]
    appraisers: Vec<String>,
    /// A file with its appraisers.
    #[arg(long, value_name = "FILE")]
    appraisers_file: Option<PathBuf>,
    /// One of its users; may be repeated.
    #[arg(long = "user", value_name = "ID")]
    users: Vec<String>,
    /// A file with its users.
    #[arg(long, value_name = "FILE")]
    users_file: Option<PathBuf>,
    /// Only this provider; may be repeated.
    #[arg(long = "provider", value_name = "PROVIDER")]
    providers: Vec<String>,
}

#[derive(Serialize)]
struct Answer {
    gaps: Vec<GapView>,
}

#[derive(Serialize)]
struct GapView {
    provider: String,
    mode: String,
    scope: Option<String>,
    reason: String,
}

impl Coverage {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let request = self.request()?;
        if request.office_ids.is_empty() && request.appraiser_ids.is_empty() && request.user_ids.is_empty() {
            output.warn("no office, appraiser or user is named: only general credentials are checked");
        }
        let answer = connection.admin().check_coverage(request).await?.into_inner();
        let answer = Answer { gaps: all(answer.gaps) };
        output.show(&answer, |answer| {
            let rows = answer.gaps.iter().map(|gap| {
                [
                    gap.provider.clone(),
                    gap.mode.clone(),
                    or_empty(gap.scope.as_ref()),
                    gap.reason.clone(),
                ]
            });
            if answer.gaps.is_empty() {
                return "no gaps\n".to_owned();
            }
            table(["PROVIDER", "MODE", "WITHOUT", "REASON"], rows)
        })?;
        Ok(if answer.gaps.is_empty() { Exit::Done } else { Exit::Gaps })
    }

    fn request(self) -> Result<CheckCoverageRequest, Failure> {
        Ok(CheckCoverageRequest {
            tenant: self.tenant,
            office_ids: with_file(self.offices, "--offices-file", self.offices_file.as_deref())?,
            appraiser_ids: with_file(self.appraisers, "--appraisers-file", self.appraisers_file.as_deref())?,
            user_ids: with_file(self.users, "--users-file", self.users_file.as_deref())?,
            providers: self.providers,
        })
    }
}

/// The ids, and those in the file.
fn with_file(mut ids: Vec<String>, option: &'static str, file: Option<&Path>) -> Result<Vec<String>, Failure> {
    let Some(path) = file else {
        return Ok(ids);
    };
    let text = fs::read_to_string(path).map_err(|source| Failure::File {
        option,
        path: path.to_owned(),
        source,
    })?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    ids.extend(lines.map(str::to_owned));
    Ok(ids)
}

impl From<v1::CoverageGap> for GapView {
    fn from(wire: v1::CoverageGap) -> Self {
        Self {
            provider: wire.provider,
            mode: word_of::<AssignmentMode>(wire.mode),
            scope: scope(wire.scope.as_ref()),
            reason: wire.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use tresor::pb::v1::CheckCoverageResponse;

    use super::*;
    use crate::cli::fake::Fake;

    #[tokio::test]
    async fn gaps_have_their_own_exit_code() {
        let gap = v1::CoverageGap {
            provider: "dat".into(),
            mode: AssignmentMode::PerOffice.into(),
            scope: Some(v1::Scope {
                kind: Some(v1::scope::Kind::OfficeId("halle".into())),
            }),
            reason: "CREDENTIAL_NOT_CONFIGURED".into(),
        };
        let server = Fake::default().will(CheckCoverageResponse { gaps: vec![gap] });
        let ran = server.run("coverage demo --office halle --output json").await;
        assert_eq!(ran.result.unwrap(), Exit::Gaps);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap(),
            serde_json::json!({"gaps": [{"provider": "dat", "mode": "per-office", "scope": "office/halle",
                "reason": "CREDENTIAL_NOT_CONFIGURED"}]})
        );
    }

    #[tokio::test]
    async fn whoever_names_nobody_is_told_what_is_not_checked() {
        let ran = Fake::default()
            .will(CheckCoverageResponse::default())
            .run("coverage demo")
            .await;
        assert_eq!((ran.result.unwrap(), &*ran.stdout), (Exit::Done, "no gaps\n"));
        assert!(
            ran.stderr.contains("only general credentials are checked"),
            "{}",
            ran.stderr
        );
    }

    #[test]
    fn a_file_holds_one_id_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# Saxony\nleipzig\n\n  halle  \r\n").unwrap();
        let ids = with_file(vec!["berlin".into()], "--offices-file", Some(file.path())).unwrap();
        assert_eq!(ids, ["berlin", "leipzig", "halle"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = with_file(vec![], "--offices-file", Some(Path::new("/nowhere"))).unwrap_err();
        assert!(
            failure.to_string().starts_with("--offices-file /nowhere: "),
            "{failure}"
        );
    }
}
