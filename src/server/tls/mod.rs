//! TLS 1.3 with client certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::hardening::modes::{Forbidden, exposure};

const PRIVATE_KEY: &str = "private key";

/// Where the certificates are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate and its chain (PEM).
    pub certificate: PathBuf,
    /// The certificate's key (PEM).
    pub private_key: PathBuf,
    /// The authorities whose clients are let in (PEM).
    pub client_ca: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{what} {}: {detail}", path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Certificate and key do not fit.
    #[error("certificate {} and key {}: {error}", files.certificate.display(), files.private_key.display())]
    Pair {
        /// The files.
        files: Box<TlsFiles>,
        /// What is wrong.
        error: rustls::Error,
    },
    /// The authorities do not verify anyone.
    #[error("client authorities {}: {detail}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

impl TlsFiles {
    /// Reads them: TLS 1.3 only; a certificate that a client shows must be of one of the authorities. A client without one
    /// gets through the handshake, and every call of it is refused with a status that says why.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut authorities = RootCertStore::empty();
        for certificate in certificates("client authorities", &self.client_ca)? {
            authorities.add(certificate).map_err(|error| self.authorities(&error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| self.authorities(&error))?;
        let chain = certificates("certificate", &self.certificate)?;
        let key = private_key(&self.private_key)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
            .map_err(|error| TlsError::Pair {
                files: Box::new(self.clone()),
                error,
            })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not have its certificate checked again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn authorities(&self, error: &dyn std::fmt::Display) -> TlsError {
        TlsError::Authorities {
            path: self.client_ca.clone(),
            detail: error.to_string(),
        }
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::File {
            what,
            path: path.into(),
            detail: "holds no certificate in PEM form".into(),
        }),
        Ok(found) => Ok(found),
        Err(error) => Err(file_error(what, path, &error)),
    }
}

/// The key, unless others may read it.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // A file that is not there is told by reading it.
    if let Ok(Some(open)) = exposure(path, Forbidden::Everything) {
        return Err(TlsError::File {
            what: PRIVATE_KEY,
            path: path.into(),
            detail: open.to_string(),
        });
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| file_error(PRIVATE_KEY, path, &error))
}

fn file_error(what: &'static str, path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    use rustls::pki_types::pem::Error;

    let detail = match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "holds none in PEM form".into(),
        other => other.to_string(),
    };
    TlsError::File {
        what,
        path: path.into(),
        detail,
    }
}
