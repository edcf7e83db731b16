//! Whose client certificates are good, and until when.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy, VerifiedPath,
};

use super::TlsError;
use super::read::{Authority, Read, RevocationList, Validity, is_for_clients, unix_time, validity_of};
use crate::time::Timestamp;

/// The authorities whose clients are let in, and what they have revoked.
///
/// It verifies as rustls's own verifier does, with webpki, and is stricter in two points: an authority that has expired
/// vouches for nobody, and a client's certificate must say that it is for clients. It also tells until when what it has
/// found holds. Where there are revocation lists, no certificate of a chain may be without a current one.
pub(crate) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// Of the anchors, in their order.
    validities: Vec<Validity>,
    revoked: Vec<CertRevocationList<'static>>,
    /// Which authorities a client may choose its certificate by.
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Trusts these authorities as far as these lists allow.
    ///
    /// # Errors
    /// [`TlsError`] if all authorities have expired, a list has, or an authority has no list while others have one.
    pub(super) fn new(
        authorities: Read<Vec<Authority>>,
        lists: Vec<Read<Vec<RevocationList>>>,
        algorithms: WebPkiSupportedAlgorithms,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let Read { path, content } = authorities;
        if content.iter().all(|authority| authority.validity.is_over(now)) {
            return Err(TlsError::file("client authorities", &path, "all of them have expired"));
        }
        if !lists.is_empty()
            && let Some(detail) = content
                .iter()
                .find_map(|authority| wrong_with_lists(authority, &lists, &algorithms))
        {
            return Err(TlsError::file("client authorities", &path, detail));
        }
        for Read { path, content } in &lists {
            if let Some(list) = content.iter().find(|list| list.validity.is_over(now)) {
                let detail = format!(
                    "the list of {} has expired on {}; get a new one",
                    list.name, list.validity.until
                );
                return Err(TlsError::file("revocation list", path, detail));
            }
        }
        let hint = |authority: &Authority| DistinguishedName::in_sequence(&authority.anchor.subject);
        Ok(Self {
            hints: content.iter().map(hint).collect(),
            validities: content.iter().map(|authority| authority.validity).collect(),
            anchors: content.into_iter().map(|authority| authority.anchor).collect(),
            revoked: lists
                .into_iter()
                .flat_map(|read| read.content)
                .map(|list| list.list)
                .collect(),
            algorithms,
        })
    }

    /// Until when this chain, whose first certificate is the client's, identifies anybody: the first moment at which one of
    /// the certificates that lead to the authority, or the authority's own, is no longer valid.
    ///
    /// # Errors
    /// Why it does not identify anybody now.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Timestamp, CertificateError> {
        let (client, others) = chain.split_first().ok_or(CertificateError::BadEncoding)?;
        let until = self.until(client, others, unix_time(now)).map_err(as_alert)?;
        if is_for_clients(client).map_err(as_alert)? {
            Ok(until)
        } else {
            Err(CertificateError::InvalidPurpose)
        }
    }

    fn until(
        &self,
        client: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Timestamp, webpki::Error> {
        let certificate = EndEntityCert::try_from(client)?;
        let revoked: Vec<_> = self.revoked.iter().collect();
        // An error here means that there is no list, and so nothing to check.
        let revocation = RevocationOptionsBuilder::new(&revoked).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let is_current = |path: &VerifiedPath<'_>| self.authority_of(path).check(now);
        let path = certificate.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            others,
            now,
            KeyUsage::client_auth(),
            revocation,
            Some(&is_current),
        )?;
        let mut until = self.authority_of(&path).until.min(validity_of(client)?.until);
        for certificate in path.intermediate_certificates() {
            until = until.min(validity_of(&certificate.der())?.until);
        }
        Ok(until)
    }

    /// The validity of the authority that the path leads to. Of several certificates with its name and key, the one that is
    /// valid longest counts.
    fn authority_of(&self, path: &VerifiedPath<'_>) -> Validity {
        let all = self.anchors.iter().zip(&self.validities);
        let of_path = all.filter(|(anchor, _)| *anchor == path.anchor());
        let longest = of_path
            .map(|(_, validity)| *validity)
            .max_by_key(|validity| validity.until);
        longest.expect("a path leads to one of the anchors")
    }
}

/// What is wrong with the lists of an authority. webpki takes the first list with the authority's name, so a list that somebody
/// else has signed would keep everybody out: better to find that before it is in use.
fn wrong_with_lists(
    authority: &Authority,
    lists: &[Read<Vec<RevocationList>>],
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<String> {
    let all = lists.iter().flat_map(|read| &read.content);
    let mut own = all.filter(|list| list.issuer == authority.subject).peekable();
    let name = &authority.name;
    if own.peek().is_none() {
        let detail = format!("{name} has no list in server.client_crl; with one list, every authority needs one");
        return Some(detail);
    }
    let is_foreign = own.any(|list| !list.is_signed_by(authority, algorithms));
    is_foreign.then(|| format!("a list of {name} in server.client_crl is not signed by it"))
}

impl ClientCertVerifier for Trust {
    /// Who shows none is let in to be told so by the gate.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        client: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(client).chain(others).cloned().collect();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match self.verify(&chain, Timestamp::from_unix_ms(seconds.saturating_mul(1000))) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(error) => Err(Error::InvalidCertificate(error)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "Trust({} authorities, {} lists)",
            self.anchors.len(),
            self.revoked.len()
        )
    }
}

/// What the client is told in the alert (RFC 8446, 6.2), where one fits better than `certificate_unknown`.
fn as_alert(error: webpki::Error) -> CertificateError {
    use webpki::Error as E;

    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::CrlExpired { time, next_update } => CertificateError::ExpiredRevocationListContext { time, next_update },
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}
