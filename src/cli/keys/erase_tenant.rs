//! `tresor erase-tenant`: nothing brings it back, so the tenant is named twice.

use clap::Args;
use serde::Serialize;
use tresor::pb::v1::{EraseTenantRequest, GetStatusResponse};

use super::wait::{Progress, wait};
use crate::cli::confirm::Question;
use crate::cli::connection::Connection;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;

/// Erase a tenant for good: destroy its data keys, then remove its records.
///
/// When it answers, nothing of the tenant can be opened any more. The audit log keeps its lines. Backups that were made before
/// still hold the tenant's wrapped keys: docs/KEYS.md says what they can open and how to end that.
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal you are asked to type the tenant again; elsewhere, give it with --confirm.\n\n\
    Example:\n  tresor erase-tenant demo --confirm demo --wait\n\n\
    JSON: {tenant, revision, done}"
)]
pub(crate) struct EraseTenant {
    /// Which tenant.
    tenant: String,
    /// The same tenant again.
    #[arg(long, value_name = "TENANT")]
    confirm: Option<String>,
    /// Wait until its records are removed too.
    #[arg(long)]
    wait: bool,
}

#[derive(Serialize)]
struct Answer {
    tenant: String,
    revision: u64,
    done: bool,
}

impl EraseTenant {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let tenant = self.tenant;
        let question = Question {
            name: &tenant,
            warning: format!("This destroys the keys of {tenant} and everything that is kept for it, for good."),
            otherwise: "nothing was erased",
        };
        question.confirm(self.confirm)?;
        let request = EraseTenantRequest {
            tenant: tenant.clone(),
            confirm: tenant.clone(),
        };
        let revision = connection.operator().erase_tenant(request).await?.into_inner().revision;
        if self.wait {
            let progress = |status: &GetStatusResponse| {
                if !status.erasing_tenants.contains(&tenant) {
                    return Progress::Done;
                }
                Progress::Going {
                    done: 0,
                    of: None,
                    trouble: String::new(),
                }
            };
            wait(connection, output, "removing", progress).await?;
        }
        let answer = Answer {
            tenant,
            revision,
            done: self.wait,
        };
        output.show(&answer, |answer| {
            format!("erased {}: revision {}\n", answer.tenant, answer.revision)
        })?;
        Ok(Exit::Done)
    }
}
