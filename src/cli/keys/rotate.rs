//! `tresor rotate`: new data keys, a new signing key.

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use tresor::pb::v1::rotate_data_key_request::Target;
use tresor::pb::v1::{GetStatusResponse, RotateDataKeyRequest, RotateSigningKeyRequest};

use super::wait::{Progress, wait};
use crate::cli::connection::Connection;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::view::time;

/// Replace the keys that seal records, or the one that signs.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  tresor rotate data-key demo --wait")]
pub(crate) enum Rotate {
    DataKey(DataKey),
    SigningKey(SigningKey),
}

/// Give a tenant, or every tenant, a new data key.
///
/// Every record is sealed by it in the background, while the server serves; then the older keys are removed. It goes on after a
/// restart. `tresor status` shows how far it is.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("whose").required(true).args(["tenant", "all"]),
    after_help = "Example:\n  tresor rotate data-key demo --wait\n  tresor rotate data-key --all\n\n\
    JSON: {tenants, done}"
)]
pub(crate) struct DataKey {
    /// Whose.
    tenant: Option<String>,
    /// Every tenant's.
    #[arg(long)]
    all: bool,
    /// Wait until every record is sealed by the new key.
    #[arg(long)]
    wait: bool,
}

/// Make the next signing key.
///
/// It is published at once, so that whoever verifies can fetch it, and signs after a while (`signing.publish_before`). The public
/// halves of older ones stay published, so what they signed goes on being verified; their private halves are destroyed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor rotate signing-key\n\nJSON: {kid, use_from}")]
pub(crate) struct SigningKey {
    /// Sign with it at once: when the old one is not to be trusted any more.
    #[arg(long)]
    at_once: bool,
}

#[derive(Serialize)]
struct DataKeyAnswer {
    tenants: u64,
    done: bool,
}

#[derive(Serialize)]
struct SigningKeyAnswer {
    kid: String,
    use_from: Option<String>,
}

impl Rotate {
    pub(crate) async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::DataKey(rotate) => rotate.run(connection, output).await,
            Self::SigningKey(rotate) => rotate.run(connection, output).await,
        }
    }
}

impl DataKey {
    async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let target = match &self.tenant {
            Some(tenant) => Target::Tenant(tenant.clone()),
            None => Target::All(true),
        };
        let request = RotateDataKeyRequest { target: Some(target) };
        let answer = connection.operator().rotate_data_key(request).await?.into_inner();
        if self.wait {
            let progress = |status: &GetStatusResponse| match &self.tenant {
                Some(tenant) => of_tenant(status, tenant),
                None => of_all(status, answer.tenants),
            };
            wait(connection, output, "sealing anew", progress).await?;
        }
        let answer = DataKeyAnswer {
            tenants: answer.tenants,
            done: self.wait,
        };
        output.show(&answer, |answer| {
            let tenants = match answer.tenants {
                1 => "1 tenant".to_owned(),
                many => format!("{many} tenants"),
            };
            if answer.done {
                format!("rotated the data key of {tenants}\n")
            } else {
                format!("rotating the data key of {tenants}: tresor status shows how far it is\n")
            }
        })?;
        Ok(Exit::Done)
    }
}

/// How far one tenant is. Not all rotations are listed if there are very many.
fn of_tenant(status: &GetStatusResponse, tenant: &str) -> Progress {
    match status.rotations.iter().find(|rotation| rotation.tenant == tenant) {
        Some(rotation) => Progress::Going {
            done: rotation.records_done,
            of: rotation.records,
            trouble: rotation.trouble.clone(),
        },
        None if status.rotation_count > status.rotations.len() as u64 => Progress::Going {
            done: 0,
            of: None,
            trouble: String::new(),
        },
        None => Progress::Done,
    }
}

fn of_all(status: &GetStatusResponse, tenants: u64) -> Progress {
    if status.rotation_count == 0 {
        return Progress::Done;
    }
    let in_trouble = status.rotations.iter().find(|rotation| !rotation.trouble.is_empty());
    Progress::Going {
        done: tenants.saturating_sub(status.rotation_count),
        of: Some(tenants),
        trouble: in_trouble
            .map(|rotation| format!("{}: {}", rotation.tenant, rotation.trouble))
            .unwrap_or_default(),
    }
}

impl SigningKey {
    async fn run(self, connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
        let request = RotateSigningKeyRequest { at_once: self.at_once };
        let made = connection.operator().rotate_signing_key(request).await?.into_inner();
        let answer = SigningKeyAnswer {
            kid: made.kid,
            use_from: time(made.use_from.as_ref()),
        };
        output.show(&answer, |answer| {
            let from = answer.use_from.as_deref().unwrap_or("now");
            format!("{} is published and signs from {from}\n", answer.kid)
        })?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use tresor::pb::v1::RotationStatus;

    use super::*;

    fn status(count: u64, listed: &[(&str, &str)]) -> GetStatusResponse {
        let rotation = |(tenant, trouble): &(&str, &str)| RotationStatus {
            tenant: (*tenant).to_owned(),
            records: Some(10),
            records_done: 4,
            trouble: (*trouble).to_owned(),
            ..RotationStatus::default()
        };
        GetStatusResponse {
            rotation_count: count,
            rotations: listed.iter().map(rotation).collect(),
            ..GetStatusResponse::default()
        }
    }

    #[test]
    fn a_tenant_is_done_when_its_rotation_is_listed_no_more() {
        let going = of_tenant(&status(1, &[("demo", "")]), "demo");
        assert!(matches!(
            going,
            Progress::Going {
                done: 4,
                of: Some(10),
                ..
            }
        ));
        assert!(matches!(
            of_tenant(&status(1, &[("other", "")]), "demo"),
            Progress::Done
        ));
        let unlisted = of_tenant(&status(200, &[("a", "")]), "demo");
        assert!(matches!(unlisted, Progress::Going { of: None, .. }));
    }

    #[test]
    fn all_are_done_when_none_is_under_way_and_trouble_is_told_with_its_tenant() {
        assert!(matches!(of_all(&status(0, &[]), 3), Progress::Done));
        let Progress::Going { done, of, trouble } = of_all(&status(2, &[("a", ""), ("b", "the disk is full")]), 3)
        else {
            panic!("it is done");
        };
        assert_eq!((done, of, trouble.as_str()), (1, Some(3), "b: the disk is full"));
    }
}
