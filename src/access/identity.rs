//! Who calls: the identity in a client's certificate.
//!
//! The certificate has been verified by the TLS layer; here it is only read. A SPIFFE ID is the identity (X.509-SVID); a
//! certificate without one is identified by its DNS name. A certificate that could mean two identities means none.

use std::fmt;
use std::sync::Arc;

use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE, Oid};
use x509_parser::prelude::{FromDer, X509Certificate, X509Extension};

use super::names::{SCHEME, check_dns_name, check_spiffe_id};

/// A caller's identity: its SPIFFE ID, or the DNS name in its certificate. Compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(Arc<str>);

/// Why a certificate identifies nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no X.509 certificate, or holds something twice or malformed that decides who it is for.
    #[error("the client certificate cannot be read: {0}")]
    Malformed(&'static str),
    /// It may sign certificates.
    #[error("the client certificate is that of a certificate authority; use one that was issued to a client")]
    Authority,
    /// It was issued by an authority that may not issue certificates.
    #[error("an authority above the client certificate may not sign certificates: its key usage lacks keyCertSign")]
    Issuer,
    /// It names nobody.
    #[error("the client certificate has no identity; it needs a URI name (a SPIFFE ID) or a DNS name")]
    Missing,
    /// It names more than one.
    #[error("the client certificate has {count} {kind} names; exactly one is needed")]
    Ambiguous {
        /// `URI` or `DNS`.
        kind: &'static str,
        /// How many.
        count: usize,
    },
    /// The URI is no SPIFFE ID of a workload.
    #[error("{id:?} is not the SPIFFE ID of a workload: it {reason}")]
    SpiffeId {
        /// As it was found.
        id: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The DNS name is not one that identifies a caller.
    #[error("{name:?} is not a DNS name that identifies a caller: it {reason}")]
    DnsName {
        /// As it was found.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
}

impl Caller {
    /// Reads the identity from a certificate (DER) that has been verified.
    ///
    /// # Errors
    /// [`IdentityError`] if it names nobody, more than one, or is malformed.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = match X509Certificate::from_der(der) {
            Ok(([], certificate)) => certificate,
            Ok(_) => return Err(IdentityError::Malformed("bytes follow it")),
            Err(_) => return Err(IdentityError::Malformed("it is not an X.509 certificate")),
        };
        refuse_authority(&certificate)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| IdentityError::Malformed("its alternative names are malformed or there twice"))?
            .map_or([].as_slice(), |extension| &extension.value.general_names);
        from_names(names)
    }

    /// Reads the identity from the chain that a client has shown, which has been verified: its own certificate (DER), then
    /// those of the authorities above it.
    ///
    /// # Errors
    /// [`IdentityError`], also if an authority in it may not sign certificates.
    pub fn from_chain<'c>(own: &[u8], authorities: impl Iterator<Item = &'c [u8]>) -> Result<Self, IdentityError> {
        for authority in authorities {
            refuse_powerless(authority)?;
        }
        Self::from_certificate(own)
    }

    /// Parses a SPIFFE ID or a DNS name.
    ///
    /// # Errors
    /// [`IdentityError`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        // No DNS name holds a colon, so the two can't be taken for each other.
        if text.starts_with(SCHEME) {
            Self::from_spiffe_id(text)
        } else {
            Self::from_dns_name(text)
        }
    }

    /// The SPIFFE ID or the DNS name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain, if it is a SPIFFE ID.
    #[must_use]
    pub fn trust_domain(&self) -> Option<&str> {
        let rest = self.0.strip_prefix(SCHEME)?;
        rest.split_once('/').map(|(trust_domain, _)| trust_domain)
    }

    fn from_spiffe_id(id: &str) -> Result<Self, IdentityError> {
        let refuse = |reason| IdentityError::SpiffeId {
            id: id.to_owned(),
            reason,
        };
        check_spiffe_id(id).map_err(refuse)?;
        Ok(Self(id.into()))
    }

    fn from_dns_name(name: &str) -> Result<Self, IdentityError> {
        let refuse = |reason| IdentityError::DnsName {
            name: name.to_owned(),
            reason,
        };
        check_dns_name(name).map_err(refuse)?;
        Ok(Self(name.into()))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// An X.509-SVID of a workload is no CA and can't sign certificates or CRLs (X509-SVID, 4.1 and 4.3).
fn refuse_authority(certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    match extension(certificate, &OID_X509_EXT_BASIC_CONSTRAINTS)? {
        None => {}
        Some(ParsedExtension::BasicConstraints(constraints)) if !constraints.ca => {}
        Some(ParsedExtension::BasicConstraints(_)) => return Err(IdentityError::Authority),
        Some(_) => return Err(IdentityError::Malformed("its basic constraints are malformed")),
    }
    match extension(certificate, &OID_X509_EXT_KEY_USAGE)? {
        None => Ok(()),
        Some(ParsedExtension::KeyUsage(usage)) if !usage.key_cert_sign() && !usage.crl_sign() => Ok(()),
        Some(ParsedExtension::KeyUsage(_)) => Err(IdentityError::Authority),
        Some(_) => Err(IdentityError::Malformed("its key usage is malformed")),
    }
}

/// An authority whose key usage lacks `keyCertSign` may not sign certificates (RFC 5280, 6.1.4 (n)), and the verifier does not
/// look. What is no authority can't have been used on the way to the root; clients that send their own certificate twice do
/// no harm.
fn refuse_powerless(authority: &[u8]) -> Result<(), IdentityError> {
    let (_, certificate) = X509Certificate::from_der(authority)
        .map_err(|_| IdentityError::Malformed("what follows it is not an X.509 certificate"))?;
    match extension(&certificate, &OID_X509_EXT_BASIC_CONSTRAINTS)? {
        Some(ParsedExtension::BasicConstraints(constraints)) if constraints.ca => {}
        _ => return Ok(()),
    }
    match extension(&certificate, &OID_X509_EXT_KEY_USAGE)? {
        None => Ok(()),
        Some(ParsedExtension::KeyUsage(usage)) if usage.key_cert_sign() => Ok(()),
        Some(_) => Err(IdentityError::Issuer),
    }
}

/// The extension, read. The parser's own accessors take a malformed extension for a missing one.
fn extension<'c>(
    certificate: &'c X509Certificate<'_>,
    oid: &Oid<'_>,
) -> Result<Option<&'c ParsedExtension<'c>>, IdentityError> {
    let unique = certificate.get_extension_unique(oid);
    let extension = unique.map_err(|_| IdentityError::Malformed("an extension is there twice"))?;
    Ok(extension.map(X509Extension::parsed_extension))
}

fn from_names(names: &[GeneralName<'_>]) -> Result<Caller, IdentityError> {
    let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => dns_names.push(*name),
            // It could have been a second identity.
            GeneralName::Invalid(..) => return Err(IdentityError::Malformed("an alternative name is malformed")),
            // Four or sixteen bytes (RFC 5280, 4.2.1.6), which the parser does not look at.
            GeneralName::IPAddress(octets) if !matches!(octets.len(), 4 | 16) => {
                return Err(IdentityError::Malformed("an alternative name is malformed"));
            }
            _ => {}
        }
    }
    match (uris.as_slice(), dns_names.as_slice()) {
        ([id], _) => Caller::from_spiffe_id(id),
        ([], [name]) => Caller::from_dns_name(name),
        ([], []) => Err(IdentityError::Missing),
        ([], several) => Err(IdentityError::Ambiguous {
            kind: "DNS",
            count: several.len(),
        }),
        (several, _) => Err(IdentityError::Ambiguous {
            kind: "URI",
            count: several.len(),
        }),
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
