//! `tresor health`: for container health checks, so it only knows 0 and 1.

use std::time::Duration;

use clap::Args;
use http::Uri;
use serde::Serialize;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::connect_error::ConnectError;
use super::connection::Place;
use super::failure::{Exit, Failure};
use super::output::Output;

/// Ask a server's plaintext health listener whether it serves.
///
/// For container health checks: exits with 0 if it does, else with 1.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor health --address http://127.0.0.1:8086 --timeout 2s\n\nJSON: {status}")]
pub(crate) struct Health {
    /// The health listener's address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8086")]
    address: String,
    /// Ask for this gRPC service alone, such as dynarex.credentials.v1.CredentialResolver. Left out: the whole server.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
}

#[derive(Serialize)]
struct Answer {
    status: &'static str,
}

impl Health {
    pub(crate) async fn run(self, timeout: Duration, output: &mut Output) -> Result<Exit, Failure> {
        // An orchestrator takes 1 for unhealthy and may take other codes for a broken check.
        let status = self.check(timeout).await.map_err(|failure| match failure {
            Failure::Usage(_) => failure,
            _ => Failure::Unhealthy(failure.to_string()),
        })?;
        let (status, exit) = match status {
            ServingStatus::Serving => ("serving", Exit::Done),
            ServingStatus::NotServing => ("not-serving", Exit::Failed),
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => ("unknown", Exit::Failed),
        };
        output.show(&Answer { status }, |answer| answer.status.to_owned())?;
        Ok(exit)
    }

    async fn check(self, timeout: Duration) -> Result<ServingStatus, Failure> {
        let usage = |_| {
            Failure::Usage(format!(
                "--address {}: it looks like http://127.0.0.1:8086",
                self.address
            ))
        };
        let server: Uri = self.address.parse().map_err(usage)?;
        let endpoint = Endpoint::from(server.clone()).connect_timeout(timeout).timeout(timeout);
        let request = HealthCheckRequest { service: self.service };
        match HealthClient::new(endpoint.connect_lazy()).check(request).await {
            Ok(answer) => Ok(answer.into_inner().status()),
            Err(status) => match ConnectError::of(&status, &Place { server, files: None }, timeout).await {
                Some(error) => Err(error.into()),
                None => Err(status.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::output::Format;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        health: Health,
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unhealthy() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let address = format!("http://{free}");
        let probe = Probe::try_parse_from(["probe", "--address", &address]).ok().unwrap();
        let mut output = Output::captured(Format::Table).0;
        let failure = probe.health.run(Duration::from_secs(1), &mut output).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(failure.to_string().contains("nothing listens there"), "{failure}");
    }
}
