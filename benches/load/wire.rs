//! A connection over mutual TLS.

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tresor::pki::{DevPki, Pair};

use crate::support::Error;

/// Whom to connect to, and as whom.
#[derive(Clone)]
pub(crate) struct Address {
    port: u16,
    tls: ClientTlsConfig,
}

impl Address {
    pub(crate) fn new(port: u16, pki: &DevPki, client: &Pair) -> Result<Self, Error> {
        let tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(std::fs::read(&pki.ca)?))
            .identity(Identity::from_pem(
                std::fs::read(&client.certificate)?,
                std::fs::read(&client.key)?,
            ));
        Ok(Self { port, tls })
    }

    pub(crate) async fn connect(self) -> Result<Channel, Error> {
        let endpoint = Endpoint::try_from(format!("https://127.0.0.1:{}", self.port))?.tls_config(self.tls)?;
        Ok(endpoint.connect().await?)
    }
}
