//! TLS 1.3 with client certificates.
//!
//! In go the files that the configuration names, out comes a [`Tls`]: what the server shows, and whom it believes
//! (`trust`). [`LiveTls`] holds the one that counts now.

mod expiry;
mod live;
mod read;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::Error as PemError;
use rustls::server::NoServerSessionStorage;
use rustls::{Error, InconsistentKeys, ServerConfig};
use sha2::{Digest as _, Sha256};

pub use self::expiry::Expiry;
pub use self::live::LiveTls;
use self::read::{Read, authorities, certificates, private_key, revocation_lists, validity_of};
pub(crate) use self::trust::Trust;
use crate::time::Timestamp;

/// Where the certificates are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate and its chain (PEM).
    pub certificate: PathBuf,
    /// The certificate's key (PEM).
    pub private_key: PathBuf,
    /// The authorities whose clients are let in (PEM).
    pub client_ca: PathBuf,
    /// What these authorities have revoked (PEM or DER); without any, nothing is looked up.
    pub client_crl: Vec<PathBuf>,
}

/// What the files hold, ready for use.
pub struct Tls {
    config: Arc<ServerConfig>,
    trust: Arc<Trust>,
    expiries: Vec<Expiry>,
    digests: Digests,
}

/// By which two of them are told apart.
#[derive(PartialEq, Eq)]
struct Digests {
    /// Of what the server shows. Its key is that of its certificate.
    server: [u8; 32],
    /// Of what clients are judged by.
    clients: [u8; 32],
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or used.
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
    #[error("certificate {} and key {}: {detail}", files.certificate.display(), files.private_key.display())]
    Pair {
        /// The files.
        files: Box<TlsFiles>,
        /// What is wrong.
        detail: String,
    },
}

impl TlsError {
    fn file(what: &'static str, path: &Path, detail: impl Into<String>) -> Self {
        Self::File {
            what,
            path: path.into(),
            detail: detail.into(),
        }
    }

    fn pem(what: &'static str, path: &Path, error: &PemError) -> Self {
        let detail = match error {
            PemError::NoItemsFound => "holds none in PEM form".into(),
            other => other.to_string(),
        };
        Self::file(what, path, detail)
    }
}

impl TlsFiles {
    /// Reads them: TLS 1.3 only; a certificate that a client shows must be good by the authorities and their lists. A client
    /// without one gets through the handshake, and every call of it is refused with a status that says why.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it. Whatever has expired is an error, but for a part of the
    /// authorities: these vouch for nobody.
    pub fn load(&self, now: Timestamp) -> Result<Tls, TlsError> {
        let chain = certificates("certificate", &self.certificate)?;
        let key = private_key(&self.private_key)?;
        let authorities = Read {
            content: authorities(&self.client_ca)?,
            path: self.client_ca.clone(),
        };
        let read_list = |path: &PathBuf| {
            let content = revocation_lists(path)?;
            Ok(Read {
                path: path.clone(),
                content,
            })
        };
        let lists = self
            .client_crl
            .iter()
            .map(read_list)
            .collect::<Result<Vec<_>, TlsError>>()?;

        let own = validity_of(&chain[0])
            .map_err(|error| TlsError::file("certificate", &self.certificate, error.to_string()))?;
        if own.is_over(now) {
            let detail = format!("has expired on {}; get a new one", own.until);
            return Err(TlsError::file("certificate", &self.certificate, detail));
        }
        let mut expiries = vec![Expiry::new(format!("certificate {}", self.certificate.display()), own)];
        expiries.extend(expiry::of(&authorities, &lists));
        let lists_der = lists
            .iter()
            .flat_map(|read| &read.content)
            .map(|list| list.der.as_slice());
        let authorities_der = authorities.content.iter().map(|authority| authority.der.as_slice());
        let digests = Digests {
            server: digest(chain.iter().map(AsRef::as_ref)),
            clients: digest(authorities_der.chain(lists_der)),
        };

        let provider = Arc::new(aws_lc_rs::default_provider());
        let trust = Arc::new(Trust::new(
            authorities,
            lists,
            provider.signature_verification_algorithms,
            now,
        )?);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(Arc::clone(&trust) as Arc<_>)
                    .with_single_cert(chain, key)
            })
            .map_err(|error| self.pair(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not have its certificate checked again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Tls {
            config: Arc::new(config),
            trust,
            expiries,
            digests,
        })
    }

    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let three = [&self.certificate, &self.private_key, &self.client_ca];
        three.into_iter().chain(&self.client_crl).map(PathBuf::as_path)
    }

    fn pair(&self, error: &Error) -> TlsError {
        let detail = match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => "the key is that of another certificate".into(),
            error => error.to_string(),
        };
        TlsError::Pair {
            files: Box::new(self.clone()),
            detail,
        }
    }
}

impl Tls {
    /// What of it expires when.
    #[must_use]
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }
}

fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        // Each is DER, which says itself where it ends.
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
