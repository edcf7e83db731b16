//! Making certificates, and reading those that were made.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::X509Certificate;
use zeroize::Zeroizing;

use crate::time::Timestamp;

use super::files::{Names, PemPair};
use super::{DAY, PkiError};

/// What a certificate is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// A server on this machine.
    Server,
    /// A client with this SPIFFE ID.
    Client(&'static str),
}

/// Why a certificate can't be made.
pub(super) enum IssueError {
    Certificate(rcgen::Error),
    Random(getrandom::Error),
}

impl IssueError {
    pub(super) fn at(self, names: &Names) -> PkiError {
        match self {
            Self::Certificate(error) => PkiError::Issue {
                path: names.certificate.clone(),
                error,
            },
            Self::Random(error) => PkiError::Random(error),
        }
    }
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error)
    }
}

/// Makes an authority that may issue certificates, but no further authorities.
pub(super) fn authority(now: Timestamp, expires: Timestamp) -> Result<PemPair, IssueError> {
    let mut params = params("Tresor development CA", now, expires)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(PemPair {
        certificate: certificate.pem(),
        key: Zeroizing::new(key.serialize_pem()),
    })
}

/// An authority that is ready to issue.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// By which the certificates it issued can be told.
    key_id: Vec<u8>,
    pub(super) expires: Timestamp,
}

impl Authority {
    pub(super) fn read(certificate: &str, key: &str) -> Result<Self, &'static str> {
        let pem = parse_pem(certificate)?;
        let parsed = parse(&pem)?;
        let key = matching_key(&parsed, key)?;
        let key_id = parsed
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        if !parsed.is_ca() {
            return Err("it may not issue certificates");
        }
        let issuer = Issuer::from_ca_cert_der(&pem.contents.as_slice().into(), key);
        Ok(Self {
            issuer: issuer.map_err(|_| "its certificate is damaged")?,
            key_id: key_id.ok_or("it has no key identifier")?,
            expires: expires(&parsed),
        })
    }

    pub(super) fn issue(
        &self,
        name: &str,
        purpose: Purpose,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<PemPair, IssueError> {
        let mut params = params(name, now, expires)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        match purpose {
            Purpose::Server => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                params.subject_alt_names = vec![
                    SanType::DnsName("localhost".try_into()?),
                    SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
                    SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
                ];
            }
            Purpose::Client(id) => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
            }
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(PemPair {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// When a certificate expires that this authority issued.
    pub(super) fn check(&self, certificate: &str, key: &str) -> Result<Timestamp, &'static str> {
        let pem = parse_pem(certificate)?;
        let parsed = parse(&pem)?;
        matching_key(&parsed, key)?;
        let issued_by = parsed
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
                _ => None,
            });
        if issued_by != Some(self.key_id.as_slice()) {
            return Err("this certificate was issued by another authority than ca.pem");
        }
        Ok(expires(&parsed))
    }
}

/// What all certificates have in common. ECDSA P-256, because every client can do it.
fn params(name: &str, now: Timestamp, expires: Timestamp) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // A client's clock may be slow.
    params.not_before = (system_time(now) - DAY).into();
    params.not_after = system_time(expires).into();
    params.serial_number = Some(random_serial()?);
    Ok(params)
}

/// 127 random bits; the first is 0, since serial numbers are positive (RFC 5280, 4.1.2.2).
fn random_serial() -> Result<SerialNumber, IssueError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(IssueError::Random)?;
    serial[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&serial))
}

fn parse_pem(certificate: &str) -> Result<Pem, &'static str> {
    match parse_x509_pem(certificate.as_bytes()) {
        Ok((_, pem)) => Ok(pem),
        Err(_) => Err("this is not a certificate (PEM)"),
    }
}

fn parse(pem: &Pem) -> Result<X509Certificate<'_>, &'static str> {
    pem.parse_x509().map_err(|_| "this is not a certificate (PEM)")
}

fn matching_key(certificate: &X509Certificate<'_>, key: &str) -> Result<KeyPair, &'static str> {
    let key = KeyPair::from_pem(key).map_err(|_| "its key is not a private key (PEM)")?;
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err("its key is that of another certificate");
    }
    Ok(key)
}

fn expires(certificate: &X509Certificate<'_>) -> Timestamp {
    Timestamp::from_unix_ms(certificate.validity().not_after.timestamp().saturating_mul(1000))
}

fn system_time(timestamp: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(timestamp.unix_seconds().try_into().unwrap_or(0))
}
