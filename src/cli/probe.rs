//! What a server's TLS has against our certificate. In TLS 1.3 the server tells only after our side of the handshake is done,
//! and the HTTP/2 client in between keeps that to itself: so when a connection was closed without a word, one more is made
//! just to listen.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::identity::Files;

/// The error that the server ends the connection with; none if it goes on, or says nothing in time.
pub(crate) async fn refusal(host: &str, port: u16, files: &Files, limit: Duration) -> Option<io::Error> {
    let heard = tokio::time::timeout(limit, first_byte(host, port, files)).await;
    heard.ok()?.err()
}

/// A server that takes us begins with its HTTP/2 settings.
async fn first_byte(host: &str, port: u16, files: &Files) -> io::Result<()> {
    let config = client_config(files).map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let tcp = TcpStream::connect((host, port)).await?;
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    tls.read_u8().await.map(drop)
}

fn client_config(files: &Files) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&files.ca)? {
        trusted.add(certificate?)?;
    }
    let chain = CertificateDer::pem_file_iter(&files.cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
