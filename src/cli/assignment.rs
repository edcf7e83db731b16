//! `tresor assignment …`: what a provider's credential is chosen by.

use clap::{Args, Subcommand};
use serde::Serialize;
use tresor::pb::v1::{
    AssignmentMode, GetAssignmentRequest, ListAssignmentsRequest, SetAssignmentRequest, SignatureVariant,
};

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::{Output, details, table};
use super::view::{AssignmentView, WarningView, all, or_empty};
use super::words;

const ASSIGNMENT: &str = "where assignment is {tenant, provider, mode, fallback_to_general, signature, is_default, \
                          revision, set_at, set_by}";

/// Choose and show whether a provider's credential is one for all orders, or goes by office, appraiser or user.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Set(Set),
    /// Show the assignment of one provider.
    #[command(after_help = format!("Example:\n  tresor assignment get demo dat\n\nJSON: {{assignment}}, {ASSIGNMENT}"))]
    Get(Get),
    /// List the assignments of all providers, defaults included.
    #[command(after_help = format!("Example:\n  tresor assignment list demo\n\nJSON: {{assignments[]}}, {ASSIGNMENT}"))]
    List(List),
}

/// Choose what a provider's credential goes by.
#[derive(Debug, Args)]
#[command(after_help = format!("Example:\n  tresor assignment set demo dat --mode per-office\n  \
    tresor assignment set demo email --mode per-user --fallback-to-general --expected-revision 0\n\n\
    JSON: {{assignment, warnings[], revision}}, {ASSIGNMENT}"))]
pub(crate) struct Set {
    /// The firm.
    tenant: String,
    /// The provider.
    provider: String,
    /// One credential for all orders, or the one of the order's office, its appraiser, or the active user (mail only).
    #[arg(long, value_parser = words::parser::<AssignmentMode>())]
    mode: AssignmentMode,
    /// Use the general credential where there is none for the office, appraiser or user. Left out: such orders get an error.
    #[arg(long)]
    fallback_to_general: bool,
    /// Which form of DAT's customerSignature is handed out. Left out: the one in the catalogue.
    #[arg(long, value_parser = words::parser::<SignatureVariant>())]
    signature: Option<SignatureVariant>,
    /// The assignment's revision that must be the current one; 0: nobody has chosen yet.
    #[arg(long, value_name = "REVISION")]
    expected_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The firm.
    tenant: String,
    /// The provider.
    provider: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The firm.
    tenant: String,
}

impl Command {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Set(set) => set.run(connection, output).await,
            Self::Get(get) => get.run(connection, output).await,
            Self::List(list) => list.run(connection, output).await,
        }
    }
}

impl Set {
    async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        #[derive(Serialize)]
        struct Answer {
            assignment: AssignmentView,
            warnings: Vec<WarningView>,
            revision: u64,
        }

        let request = SetAssignmentRequest {
            tenant: self.tenant,
            provider: self.provider,
            mode: self.mode.into(),
            fallback_to_general: self.fallback_to_general,
            expected_revision: self.expected_revision,
            signature_variant: self.signature.unwrap_or_default().into(),
        };
        let answer = connection.admin().set_assignment(request).await?.into_inner();
        let answer = Answer {
            assignment: answer.assignment.ok_or(Failure::Incomplete("assignment"))?.into(),
            warnings: all(answer.warnings),
            revision: answer.revision,
        };
        output.warnings(&answer.warnings);
        output.show(&answer, |answer| {
            let assignment = &answer.assignment;
            let (tenant, provider, mode) = (&assignment.tenant, &assignment.provider, &assignment.mode);
            let fallback = if assignment.fallback_to_general {
                ", falls back to general"
            } else {
                ""
            };
            format!(
                "{tenant} uses {provider} {mode}{fallback}: revision {}\n",
                answer.revision
            )
        })?;
        Ok(Exit::Done)
    }
}

impl Get {
    async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        #[derive(Serialize)]
        struct Answer {
            assignment: AssignmentView,
        }

        let request = GetAssignmentRequest {
            tenant: self.tenant,
            provider: self.provider,
        };
        let answer = connection.admin().get_assignment(request).await?.into_inner();
        let answer = Answer {
            assignment: answer.assignment.ok_or(Failure::Incomplete("assignment"))?.into(),
        };
        output.show(&answer, |Answer { assignment }| {
            details(&[
                ("tenant", assignment.tenant.clone()),
                ("provider", assignment.provider.clone()),
                ("mode", mode(assignment)),
                ("fallback to general", yes_or_no(assignment.fallback_to_general)),
                ("signature", or_empty(assignment.signature.as_ref())),
                ("revision", assignment.revision.to_string()),
                ("set at", or_empty(assignment.set_at.as_ref())),
                ("set by", or_empty(assignment.set_by.as_ref())),
            ])
        })?;
        Ok(Exit::Done)
    }
}

impl List {
    async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        #[derive(Serialize)]
        struct Answer {
            assignments: Vec<AssignmentView>,
        }

        let request = ListAssignmentsRequest { tenant: self.tenant };
        let answer = connection.admin().list_assignments(request).await?.into_inner();
        let answer = Answer {
            assignments: all(answer.assignments),
        };
        output.show(&answer, |answer| {
            let rows = answer.assignments.iter().map(|assignment| {
                [
                    assignment.provider.clone(),
                    mode(assignment),
                    yes_or_no(assignment.fallback_to_general),
                    or_empty(assignment.signature.as_ref()),
                    assignment.revision.to_string(),
                    or_empty(assignment.set_at.as_ref()),
                    or_empty(assignment.set_by.as_ref()),
                ]
            });
            table(
                [
                    "PROVIDER",
                    "MODE",
                    "FALLBACK",
                    "SIGNATURE",
                    "REVISION",
                    "SET AT",
                    "SET BY",
                ],
                rows,
            )
        })?;
        Ok(Exit::Done)
    }
}

fn mode(assignment: &AssignmentView) -> String {
    let default = if assignment.is_default { " (default)" } else { "" };
    format!("{}{default}", assignment.mode)
}

fn yes_or_no(answer: bool) -> String {
    if answer { "yes" } else { "no" }.to_owned()
}
