//! A small certificate authority for trying the vault out on one machine.
//!
//! In a folder it keeps an authority, the certificate of a server on this machine and those of two clients, an operator and
//! an order service; [`ensure`] makes what is missing. Its keys lie in plain files: no authority for production.

mod files;
mod issue;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::time::Timestamp;

use files::{Existing, Names};
use issue::{Authority, Purpose};

const DAY: Duration = Duration::from_hours(24);
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(3650 * 24);
/// The longest that some clients accept.
const LEAF_LIFETIME: Duration = Duration::from_hours(825 * 24);
/// What expires within this time counts as expired.
const RENEWAL: Duration = Duration::from_hours(30 * 24);

/// The trust domain of the clients.
pub const TRUST_DOMAIN: &str = "dynarex.local";
/// The identity of the operator's certificate.
pub const OPERATOR: &str = "spiffe://dynarex.local/operator";
/// The identity of the order service's certificate.
pub const ORDER_SERVICE: &str = "spiffe://dynarex.local/order-service";

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevPki {
    /// The authority's certificate (PEM).
    pub ca: PathBuf,
    /// For `localhost`, `127.0.0.1` and `::1`.
    pub server: Pair,
    /// The client [`OPERATOR`].
    pub operator: Pair,
    /// The client [`ORDER_SERVICE`].
    pub order_service: Pair,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM (PKCS #8), for its owner only.
    pub key: PathBuf,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or the folder cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// Others may read a key.
    #[error("{path}: others may read this key (mode {mode:o}); run: chmod 600 {path}")]
    KeyIsOpen {
        /// The key.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The authority expires soon or has expired.
    #[error("{path}: this certificate authority expires within 30 days; delete the folder {folder} to get a new one")]
    AuthorityExpires {
        /// Its certificate.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The authority's certificate or its key is missing, damaged, or not the other's.
    #[error("{path}: this certificate authority cannot be used: {reason}; delete the folder {folder} to get a new one")]
    BadAuthority {
        /// Its certificate.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A certificate is not what it should be. It may be somebody's own, so it is not overwritten.
    #[error("{path}: {reason}; delete it to get a new one")]
    BadCertificate {
        /// The certificate.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A certificate cannot be made.
    #[error("{path}: the certificate cannot be made: {error}")]
    Issue {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: rcgen::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Makes whatever is missing in `folder` and says where everything is.
///
/// The authority (10 years) and the certificates (825 days) that are there are kept; a certificate that is missing, or
/// whose key is, or that expires within 30 days, is made anew with its key. Keys get the mode 0600, a new folder 0700.
///
/// # Errors
/// [`PkiError`] says what is in the way. A certificate and key that did not come from here are not overwritten.
pub fn ensure(folder: &Path, now: Timestamp) -> Result<DevPki, PkiError> {
    files::create_folder(folder)?;
    let authority = ensure_authority(folder, now)?;
    let ensure = |name, purpose| ensure_leaf(folder, name, purpose, &authority, now);
    Ok(DevPki {
        ca: Names::new(folder, "ca").certificate,
        server: ensure("server", Purpose::Server)?,
        operator: ensure("operator", Purpose::Client(OPERATOR))?,
        order_service: ensure("order-service", Purpose::Client(ORDER_SERVICE))?,
    })
}

fn ensure_authority(folder: &Path, now: Timestamp) -> Result<Authority, PkiError> {
    let names = Names::new(folder, "ca");
    let bad = |reason| PkiError::BadAuthority {
        path: names.certificate.clone(),
        folder: folder.to_owned(),
        reason,
    };
    match names.read()? {
        Existing::Neither => {
            let made = issue::authority(now, now.after(AUTHORITY_LIFETIME)).map_err(|error| error.at(&names))?;
            names.write(&made)?;
            Authority::read(&made.certificate, &made.key).map_err(bad)
        }
        Existing::One => Err(bad("its certificate or its key is missing")),
        Existing::Both(pair) => {
            let authority = Authority::read(&pair.certificate, &pair.key).map_err(bad)?;
            if expires_soon(authority.expires, now) {
                return Err(PkiError::AuthorityExpires {
                    path: names.certificate,
                    folder: folder.to_owned(),
                });
            }
            Ok(authority)
        }
    }
}

fn ensure_leaf(
    folder: &Path,
    name: &str,
    purpose: Purpose,
    authority: &Authority,
    now: Timestamp,
) -> Result<Pair, PkiError> {
    let names = Names::new(folder, name);
    if !is_current(&names, authority, now)? {
        // A certificate that outlives its authority is worth nothing.
        let expires = now.after(LEAF_LIFETIME).min(authority.expires);
        let made = authority
            .issue(name, purpose, now, expires)
            .map_err(|error| error.at(&names))?;
        names.write(&made)?;
    }
    Ok(Pair {
        certificate: names.certificate,
        key: names.key,
    })
}

/// Whether the certificate is there, is the authority's, and does not expire soon.
fn is_current(names: &Names, authority: &Authority, now: Timestamp) -> Result<bool, PkiError> {
    let Existing::Both(pair) = names.read()? else {
        return Ok(false);
    };
    let expires = authority
        .check(&pair.certificate, &pair.key)
        .map_err(|reason| PkiError::BadCertificate {
            path: names.certificate.clone(),
            reason,
        })?;
    Ok(!expires_soon(expires, now))
}

fn expires_soon(expires: Timestamp, now: Timestamp) -> bool {
    expires < now.after(RENEWAL)
}

#[cfg(test)]
#[path = "pki/tests.rs"]
mod tests;
