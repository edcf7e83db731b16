//! Certificates and revocation lists, read from their files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor, UnixTime};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;
use zeroize::Zeroizing;

use super::TlsError;
use crate::hardening::modes::{self, Forbidden};
use crate::hardening::regular::LONGEST_TEXT;
use crate::time::Timestamp;

/// The longest file with revocation lists, in bytes.
const LONGEST_LISTS: u64 = 64 * 1024 * 1024;

/// What a file holds.
pub(super) struct Read<T> {
    pub(super) path: PathBuf,
    pub(super) content: T,
}

/// From when and until when something is valid; `until` is the first moment at which it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Validity {
    /// `last` counts to its end (RFC 5280, 4.1.2.5); it has no fractions.
    fn new(first: ASN1Time, last: ASN1Time) -> Self {
        let seconds = |time: ASN1Time| Timestamp::from_unix_ms(time.timestamp().saturating_mul(1000));
        Self {
            from: seconds(first),
            until: seconds(last).after(Duration::from_secs(1)),
        }
    }

    pub(super) fn check(self, now: UnixTime) -> Result<(), webpki::Error> {
        let (not_before, not_after) = (unix_time(self.from), unix_time(self.until));
        if now < not_before {
            Err(webpki::Error::CertNotValidYet { time: now, not_before })
        } else if now >= not_after {
            Err(webpki::Error::CertExpired { time: now, not_after })
        } else {
            Ok(())
        }
    }

    pub(super) fn is_over(self, now: Timestamp) -> bool {
        now >= self.until
    }
}

/// An authority's certificate.
pub(super) struct Authority {
    pub(super) der: Vec<u8>,
    pub(super) anchor: TrustAnchor<'static>,
    /// DER, as revocation lists name their issuer.
    pub(super) subject: Vec<u8>,
    /// The public key, as its algorithm writes it.
    key: Vec<u8>,
    /// For people.
    pub(super) name: String,
    pub(super) validity: Validity,
    /// How many authorities may stand between it and a client at most (RFC 5280, 4.2.1.9).
    pub(super) longest_path: Option<u32>,
}

impl Authority {
    fn parse(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "a certificate in it is malformed")?;
        let name = certificate.subject().to_string();
        if let Err(why) = check_authority(&certificate) {
            return Err(format!("the certificate of {name} is none of an authority: {why}"));
        }
        let constraints = certificate.basic_constraints().ok().flatten();
        let anchor = webpki::anchor_from_trusted_cert(der).map_err(|error| format!("the one of {name}: {error}"))?;
        Ok(Self {
            der: der.to_vec(),
            anchor: anchor.to_owned(),
            subject: certificate.subject().as_raw().to_vec(),
            key: certificate.public_key().subject_public_key.data.to_vec(),
            validity: Validity::new(certificate.validity().not_before, certificate.validity().not_after),
            longest_path: constraints.and_then(|constraints| constraints.value.path_len_constraint),
            name,
        })
    }
}

/// Whoever is named here vouches for others, so a client's own certificate must not be (RFC 5280, 4.2.1.3 and 4.2.1.9).
fn check_authority(certificate: &X509Certificate<'_>) -> Result<(), &'static str> {
    let malformed = "it has malformed extensions";
    let constraints = certificate.basic_constraints().map_err(|_| malformed)?;
    let usage = certificate.key_usage().map_err(|_| malformed)?;
    let purposes = certificate.extended_key_usage().map_err(|_| malformed)?;
    if certificate.version() != X509Version::V3 {
        Err("it is not of version 3")
    } else if !constraints.is_some_and(|constraints| constraints.value.ca) {
        Err("its basic constraints do not say CA")
    } else if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        Err("it may not sign certificates")
    } else if purposes.is_some_and(|purposes| !purposes.value.client_auth && !purposes.value.any) {
        Err("its extended key usages leave out clients (clientAuth)")
    } else {
        Ok(())
    }
}

/// A certificate revocation list.
pub(super) struct RevocationList {
    pub(super) der: Vec<u8>,
    pub(super) edition: Edition,
    pub(super) list: CertRevocationList<'static>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// Whose list it is, for which of its certificates, and how new.
pub(super) struct Edition {
    /// DER, as certificates name their subject.
    pub(super) issuer: Vec<u8>,
    /// For people.
    pub(super) name: String,
    pub(super) validity: Validity,
    /// DER; none if it is for all certificates of its issuer (RFC 5280, 5.2.5).
    point: Option<Vec<u8>>,
    /// RFC 5280, 5.2.3.
    number: Option<BigUint>,
}

impl RevocationList {
    fn parse(der: &CertificateRevocationListDer<'_>) -> Result<Self, String> {
        let (_, read) = CertificateRevocationList::from_der(der).map_err(|_| "a list in it is malformed")?;
        let name = read.issuer().to_string();
        let until = read
            .next_update()
            .ok_or_else(|| format!("the list of {name} does not say until when it is good"))?;
        let list = OwnedCertRevocationList::from_der(der).map_err(|error| format!("the list of {name}: {error}"))?;
        let list = CertRevocationList::from(list);
        Ok(Self {
            der: der.to_vec(),
            edition: Edition {
                issuer: read.issuer().as_raw().to_vec(),
                validity: Validity::new(read.last_update(), until),
                point: list.issuing_distribution_point().map(<[u8]>::to_vec),
                number: read.crl_number().cloned(),
                name,
            },
            list,
            signed: read.tbs_cert_list.as_ref().to_vec(),
            signature: read.signature_value.data.to_vec(),
        })
    }

    /// Whether the list has this authority's signature. That the algorithm is the one which the list names is left to webpki,
    /// which looks at it again for every client.
    pub(super) fn is_signed_by(&self, authority: &Authority, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let mut all = algorithms.all.iter();
        all.any(|algorithm| {
            algorithm
                .verify_signature(&authority.key, &self.signed, &self.signature)
                .is_ok()
        })
    }
}

impl Edition {
    /// Whether the other is a later list of the same. The number says so, or the date where one of them has no number.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        let is_of_the_same = self.issuer == other.issuer && self.point == other.point;
        let by_number = self.number.as_ref().zip(other.number.as_ref());
        let is_older = match by_number {
            Some((mine, others)) if mine != others => mine < others,
            _ => self.validity.from < other.validity.from,
        };
        is_of_the_same && is_older
    }

    /// By what people can tell it from others of its issuer.
    pub(super) fn which(&self) -> String {
        match &self.number {
            Some(number) => format!("number {number}"),
            None => format!("of {}", self.validity.from),
        }
    }
}

/// The certificates in a PEM file; at least one.
pub(super) fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = content(what, path, Forbidden::Writing, LONGEST_TEXT)?;
    check_begins(what, path, &content)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::file(what, path, "holds no certificate in PEM form")),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::pem(what, path, &error)),
    }
}

/// The key in a PEM file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    let content = content(what, path, Forbidden::Everything, LONGEST_TEXT)?;
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| TlsError::pem(what, path, &error))
}

/// What a file holds, unless somebody else could have put it there, or could read what is a secret.
fn content(
    what: &'static str,
    path: &Path,
    forbidden: Forbidden,
    longest: u64,
) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    modes::read(path, forbidden, longest).map_err(|unfit| TlsError::file(what, path, unfit.to_string()))
}

/// Refuses a text of which a part would be passed over because the line before it is damaged.
fn check_begins(what: &'static str, path: &Path, text: &[u8]) -> Result<(), TlsError> {
    let lines = text.split(|octet| *octet == b'\n').map(<[u8]>::trim_ascii_end);
    let begins = lines.map(String::from_utf8_lossy).zip(1..);
    let mut begins = begins.filter(|(line, _)| line.contains("BEGIN") && line.contains("--"));
    let is_known = |line: &str| {
        let label = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"));
        let others = ["CERTIFICATE", "X509 CRL", "EC PARAMETERS", "DH PARAMETERS"];
        label.is_some_and(|label| label.ends_with("PRIVATE KEY") || others.contains(&label))
    };
    match begins.find(|(line, _)| !is_known(line)) {
        Some((_, number)) => {
            let detail = format!("line {number} is damaged: it has a BEGIN, but begins nothing that is known");
            Err(TlsError::file(what, path, detail))
        }
        None => Ok(()),
    }
}

/// The authorities in a PEM file; at least one.
pub(super) fn authorities(path: &Path) -> Result<Vec<Authority>, TlsError> {
    let what = "client authorities";
    let certificates = certificates(what, path)?;
    let authorities = certificates.iter().map(Authority::parse);
    authorities
        .collect::<Result<_, _>>()
        .map_err(|detail| TlsError::file(what, path, detail))
}

/// The revocation lists in a file: any number in PEM, or one in DER.
pub(super) fn revocation_lists(path: &Path) -> Result<Vec<RevocationList>, TlsError> {
    let what = "revocation list";
    let content = content(what, path, Forbidden::Writing, LONGEST_LISTS)?;
    let lists: Result<Vec<_>, PemError> = CertificateRevocationListDer::pem_slice_iter(&content).collect();
    let lists = match lists {
        Ok(none) if none.is_empty() => vec![CertificateRevocationListDer::from(content.to_vec())],
        lists => {
            check_begins(what, path, &content)?;
            lists.map_err(|error| TlsError::pem(what, path, &error))?
        }
    };
    let lists = lists.iter().map(RevocationList::parse);
    lists
        .collect::<Result<_, _>>()
        .map_err(|detail| TlsError::file(what, path, detail))
}

/// From when until when a certificate is valid.
pub(super) fn validity_of(certificate: &CertificateDer<'_>) -> Result<Validity, webpki::Error> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| webpki::Error::BadDer)?;
    let validity = certificate.validity();
    Ok(Validity::new(validity.not_before, validity.not_after))
}

/// Whether a certificate may be a client's in TLS, and its key may sign (RFC 5280, 4.2.1.3 and 4.2.1.12; RFC 8446, 4.4.2.2).
/// One that names no extended key usage at all is for every purpose; so are those of common issuers (X509-SVID, 4.4).
pub(super) fn is_for_clients(certificate: &CertificateDer<'_>) -> Result<bool, webpki::Error> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| webpki::Error::BadDer)?;
    let purposes = certificate.extended_key_usage().map_err(|_| webpki::Error::BadDer)?;
    let usage = certificate.key_usage().map_err(|_| webpki::Error::BadDer)?;
    Ok(purposes.is_none_or(|purposes| purposes.value.client_auth)
        && usage.is_none_or(|usage| usage.value.digital_signature()))
}

/// The time as webpki takes it.
pub(crate) fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.unix_seconds().try_into().unwrap_or(0)))
}
