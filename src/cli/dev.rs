//! `tresor dev`: a vault to try things on.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use tresor::dev::{self, Dev as Running};
use tresor::hardening::{Debugging, Hardening};
use tresor::telemetry;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::serve::{StopSignals, on_server_runtime, start};

/// Serve a vault on loopback, with certificates and made-up credentials to try it on.
///
/// Everything is kept in one directory: a key, certificates, the store. The first start makes it; later ones keep it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tresor dev --data-dir tresor-dev")]
pub(crate) struct Dev {
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = "tresor-dev")]
    data_dir: PathBuf,
    /// Where gRPC is served, with mutual TLS; loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where health alone is served, in plaintext; loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8086")]
    health_listen: SocketAddr,
    /// Where metrics are served, in plaintext; loopback only. Left out: nowhere.
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
}

impl Dev {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Exit, Failure> {
        // Its credentials are made up, and whoever tries things out may want to look inside.
        Hardening::begin(Debugging::Allowed).map_err(start)?;
        telemetry::init(telemetry::LogFormat::Text, "info");
        on_server_runtime(async {
            let signals = StopSignals::new()?;
            let started = dev::start(&self.data_dir, self.listen, self.health_listen, self.metrics_listen).await;
            let running = started.map_err(|error| Failure::Start(error.to_string()))?;
            output.write(self.help(&running).as_bytes())?;
            running.serving.server.set_ready().await;
            output.write(b"ready\n")?;
            signals.then_stop(running.serving).await
        })
    }

    fn help(&self, running: &Running) -> String {
        let Running {
            pki,
            listen,
            health_listen,
            ..
        } = running;
        let (ca, operator) = (pki.ca.display(), &pki.operator);
        let (certificate, key) = (operator.certificate.display(), operator.key.display());
        let port = listen.port();
        let dir = self.data_dir.display();
        format!(
            r#"tresor dev: a vault with made-up credentials, in {dir}

  gRPC with mutual TLS   {listen}
  health in plaintext    {health_listen}

The DAT login of an order of the Leipzig office:

  grpcurl -cacert {ca} -cert {certificate} -key {key} \
    -d '{{"tenant":"demo","provider":"dat","order":{{"order_id":"2026-0815","office_id":"leipzig"}}}}' \
    localhost:{port} dynarex.credentials.v1.CredentialResolver/ResolveForOrder

The same with this program, and what else is there:

  tresor resolve demo dat --order 2026-0815 --office leipzig --server https://localhost:{port} --dev-dir {dir}
  tresor credential list demo --server https://localhost:{port} --dev-dir {dir}

Ctrl-C ends it; the next start keeps everything.

"#
        )
    }
}
