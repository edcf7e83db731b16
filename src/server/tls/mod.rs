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
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, ServerConfig};
use sha2::{Digest as _, Sha256};

pub use self::expiry::Expiry;
pub use self::live::LiveTls;
use self::read::{Read, authorities, certificates, private_key, revocation_lists, validity_of};
pub(crate) use self::trust::Trust;
use crate::telemetry::metrics::CertificateKind;
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
    shown: Arc<Shown>,
    trust: Arc<Trust>,
}

/// What the server shows of itself.
pub(crate) struct Shown {
    certificate: Arc<CertifiedKey>,
    expiry: Expiry,
    /// By which it is told apart from others. Its key is that of its certificate.
    digest: [u8; 32],
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
    /// Reads them all.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it. Whatever has expired is an error, but for a part of the
    /// authorities: these vouch for nobody.
    pub fn load(&self, now: Timestamp) -> Result<Tls, TlsError> {
        let shown = Arc::new(self.load_shown(now)?);
        Ok(Tls::new(shown, Arc::new(self.load_trust(None, now)?)))
    }

    /// Reads what the server shows.
    ///
    /// # Errors
    /// [`TlsError`], also if the certificate has expired.
    pub(crate) fn load_shown(&self, now: Timestamp) -> Result<Shown, TlsError> {
        let (what, path) = ("certificate", &self.certificate);
        let chain = certificates(what, path)?;
        let key = private_key(&self.private_key)?;
        let validity = validity_of(&chain[0]).map_err(|error| TlsError::file(what, path, error.to_string()))?;
        if validity.is_over(now) {
            let detail = format!("has expired on {}; get a new one", validity.until);
            return Err(TlsError::file(what, path, detail));
        }
        let digest = digest(chain.iter().map(AsRef::as_ref));
        let certificate = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        Ok(Shown {
            certificate: Arc::new(certificate.map_err(|error| self.pair(&error))?),
            expiry: Expiry::new(
                CertificateKind::Server,
                format!("certificate {}", path.display()),
                validity,
            ),
            digest,
        })
    }

    /// Reads whose clients are let in. `before` is what is trusted until now; none at the start.
    ///
    /// # Errors
    /// [`TlsError`]; see [`Trust::new`] for what has expired.
    pub(crate) fn load_trust(&self, before: Option<&Trust>, now: Timestamp) -> Result<Trust, TlsError> {
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
        let lists = self.client_crl.iter().map(read_list);
        let lists = lists.collect::<Result<Vec<_>, TlsError>>()?;
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        Trust::new(authorities, lists, algorithms, before, now)
    }

    /// The files of what the server shows.
    pub fn shown(&self) -> impl Iterator<Item = &Path> {
        [&*self.certificate, &*self.private_key].into_iter()
    }

    /// The files of whose clients are let in.
    pub fn trusted(&self) -> impl Iterator<Item = &Path> {
        let lists = self.client_crl.iter().map(PathBuf::as_path);
        std::iter::once(&*self.client_ca).chain(lists)
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
    /// TLS 1.3 only; a certificate that a client shows must be good by what is trusted. A client without one gets through the
    /// handshake, and every call of it is refused with a status that says why.
    fn new(shown: Arc<Shown>, trust: Arc<Trust>) -> Self {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has what TLS 1.3 needs")
            .with_client_cert_verifier(Arc::clone(&trust) as Arc<_>)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&shown.certificate))));
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not have its certificate checked again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Self {
            config: Arc::new(config),
            shown,
            trust,
        }
    }

    /// What of it expires when.
    pub fn expiries(&self) -> impl Iterator<Item = &Expiry> {
        std::iter::once(&self.shown.expiry).chain(self.trust.expiries())
    }
}

impl Shown {
    /// What it is, for people.
    pub(crate) fn summary(&self) -> String {
        format!("{}, valid until {}", self.expiry.what(), self.expiry.at())
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
