//! Which server is called: the options, and the clients that follow from them.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use http::Uri;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tresor::pb::v1::credential_admin_client::CredentialAdminClient;
use tresor::pb::v1::credential_resolver_client::CredentialResolverClient;
use tresor::pb::v1::vault_operator_client::VaultOperatorClient;

use super::connect_error::{self, ConnectError};
use super::failure::Failure;
use super::identity::{Files, IdentityArgs};

/// Coverage of a large firm, all of it gaps, is far above gRPC's usual 4 MiB.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// How often a silent server is asked whether it is still there, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The options, for every subcommand that calls a server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// The server's address.
    #[arg(
        long,
        global = true,
        env = "TRESOR_SERVER",
        hide_env_values = true,
        value_name = "URL",
        default_value = "https://localhost:8443"
    )]
    server: String,
    #[command(flatten)]
    identity: IdentityArgs,
    /// How long an answer may take.
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// What is said about a server when it cannot be reached.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its address.
    pub(crate) server: Uri,
    /// The files that the connection is made with; none without TLS.
    pub(crate) files: Option<Files>,
}

/// A way to the server. The connection itself is made with the first call.
pub(crate) struct Connection {
    channel: Channel,
    deadline: Deadline,
    place: Place,
}

/// Tells the server how long we wait, so that it does not work for nobody.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Duration);

type Service = InterceptedService<Channel, Deadline>;

impl ConnectionArgs {
    /// How long an answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Reads the files and prepares the connection. Must run within the runtime.
    pub(crate) fn open(&self) -> Result<Connection, Failure> {
        let uri = server_uri(&self.server)?;
        let is_plaintext = uri.scheme_str() == Some("http");
        let place = Place {
            server: uri.clone(),
            files: if is_plaintext {
                None
            } else {
                Some(self.identity.files()?)
            },
        };
        let mut endpoint = Endpoint::from(uri)
            .connect_timeout(self.timeout)
            .timeout(self.timeout)
            // A stream may be silent for long; a server that has gone without a word is noticed.
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE);
        if let Some(files) = &place.files {
            endpoint = endpoint
                .tls_config(files.tls()?.timeout(self.timeout))
                .map_err(|error| connect_error::unusable_identity(files, &error))?;
        }
        Ok(Connection {
            channel: endpoint.connect_lazy(),
            deadline: Deadline(self.timeout),
            place,
        })
    }
}

/// The address, with `https://` where no scheme is given.
fn server_uri(text: &str) -> Result<Uri, Failure> {
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let usage = |why: &str| {
        Failure::Usage(format!(
            "--server {text}: {why}; it looks like https://vault.example.org:8443"
        ))
    };
    let uri: Uri = text.parse().map_err(|_| usage("is not an address"))?;
    let host = uri.host().ok_or_else(|| usage("names no host"))?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        // Secrets must not cross a network in the clear; a local proxy that does the TLS is fine.
        Some("http") if is_loopback(host) => Ok(uri),
        Some("http") => Err(usage("http:// is only for a proxy on this machine")),
        _ => Err(usage("must begin with https://")),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Connection {
    /// The service for administrators.
    pub(crate) fn admin(&self) -> CredentialAdminClient<Service> {
        CredentialAdminClient::with_interceptor(self.channel.clone(), self.deadline)
            .max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The service for order services.
    pub(crate) fn resolver(&self) -> CredentialResolverClient<Service> {
        CredentialResolverClient::with_interceptor(self.channel.clone(), self.deadline)
    }

    /// The service for operators.
    pub(crate) fn operator(&self) -> VaultOperatorClient<Service> {
        VaultOperatorClient::with_interceptor(self.channel.clone(), self.deadline)
    }

    /// Says what is wrong with the connection where a call failed for that.
    pub(crate) async fn explain(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Call(status) => match ConnectError::of(&status, &self.place, self.deadline.0).await {
                Some(error) => error.into(),
                None => Failure::Call(status),
            },
            other => other,
        }
    }
}

impl Interceptor for Deadline {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.set_timeout(self.0);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_https() {
        assert_eq!(
            server_uri("vault:8443").ok().unwrap().to_string(),
            "https://vault:8443/"
        );
    }

    #[test]
    fn plaintext_stays_on_this_machine() {
        for local in ["http://localhost:8443", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(server_uri(local).is_ok(), "{local}");
        }
        for far in [
            "http://vault:8443",
            "http://10.0.0.1:1",
            "ftp://localhost",
            "https://",
            "a b",
        ] {
            assert!(server_uri(far).is_err(), "{far}");
        }
    }
}
