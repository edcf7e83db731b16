//! tonic's own server with nothing but `grpc.health.v1`, over mutual TLS: what everybody pays for a call that does nothing.

use std::io::Read as _;
use std::path::Path;

use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tresor::pki;
use tresor::time::{Clock as _, SystemClock};

use crate::support::Error;

/// This program's hidden subcommand that serves it.
pub(crate) const SUBCOMMAND: &str = "stock-server";

/// Serves until standard input ends. Prints the port first.
pub(crate) fn serve(tls: &Path) -> Result<(), Error> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // As `#[tokio::main]` makes it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let pki = pki::ensure(tls, SystemClock.now())?;
        let identity = Identity::from_pem(std::fs::read(&pki.server.certificate)?, std::fs::read(&pki.server.key)?);
        let tls = ServerTlsConfig::new()
            .identity(identity)
            .client_ca_root(Certificate::from_pem(std::fs::read(&pki.ca)?));
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", ServingStatus::Serving).await;
        // What `Server::serve` makes of an address, but it tells which port it got.
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
        println!("{}", incoming.local_addr()?.port());
        Server::builder()
            .tls_config(tls)?
            .add_service(health)
            .serve_with_incoming(incoming)
            .await?;
        Ok(())
    })
}
