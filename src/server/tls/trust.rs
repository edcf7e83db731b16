//! Whose client certificates are good, and until when.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use webpki::{
    Cert, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::expiry::{self, Expiry};
use super::read::{Authority, Edition, Read, RevocationList, Validity, is_for_clients, unix_time, validity_of};
use super::{TlsError, digest};
use crate::time::Timestamp;

/// The authorities whose clients are let in, and what they have revoked.
///
/// It verifies as rustls's own verifier does, with webpki, and is stricter in these points: an authority that has expired
/// vouches for nobody, its own limit to the length of paths counts, a client's certificate that names purposes must name
/// clients among them, and what any list of its issuer has revoked is revoked. It also tells until when what it has found
/// holds. Where there are revocation lists, no certificate of a chain may be without a current one.
pub(crate) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// Of the anchors, in their order.
    limits: Vec<Limits>,
    revoked: Vec<CertRevocationList<'static>>,
    editions: Vec<Edition>,
    /// Which authorities a client may choose its certificate by.
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
    expiries: Vec<Expiry>,
    digest: [u8; 32],
    summary: String,
}

/// What an authority's own certificate sets.
struct Limits {
    validity: Validity,
    longest_path: Option<u32>,
}

impl Limits {
    fn check(&self, path: &VerifiedPath<'_>, now: UnixTime) -> Result<Validity, webpki::Error> {
        // Certificates that an authority has issued to itself do not count (RFC 5280, 4.2.1.9).
        let between = path.intermediate_certificates();
        let between = between.filter(|certificate| certificate.subject() != certificate.issuer());
        let length = u32::try_from(between.count()).unwrap_or(u32::MAX);
        if self.longest_path.is_some_and(|longest| length > longest) {
            return Err(webpki::Error::PathLenConstraintViolated);
        }
        self.validity.check(now).map(|()| self.validity)
    }
}

impl Trust {
    /// Trusts these authorities as far as these lists allow. `before` is what is trusted until now; none at the start.
    ///
    /// A list that has expired is an error at the start alone. Later it must not stand in the way of another authority's new
    /// list, and it keeps its own clients out until it is renewed.
    ///
    /// # Errors
    /// [`TlsError`] if all authorities have expired, an authority has no list while others have one, or a list is older than
    /// the one before.
    pub(super) fn new(
        authorities: Read<Vec<Authority>>,
        lists: Vec<Read<Vec<RevocationList>>>,
        algorithms: WebPkiSupportedAlgorithms,
        before: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        check(&authorities, &lists, &algorithms, now)?;
        for Read { path, content } in &lists {
            let mut editions = content.iter().map(|list| &list.edition);
            let wrong = editions.find_map(|edition| match before {
                Some(before) => before.newer_than(edition),
                None => edition.validity.is_over(now).then(|| {
                    let Edition { name, validity, .. } = edition;
                    format!("the list of {name} has expired on {}; get a new one", validity.until)
                }),
            });
            if let Some(detail) = wrong {
                return Err(TlsError::file("revocation list", path, detail));
            }
        }
        let expiries = expiry::of(&authorities, &lists).collect();
        let Read { content, .. } = authorities;
        let mut lists: Vec<_> = lists.into_iter().flat_map(|read| read.content).collect();
        let all = lists.len();
        let is_superseded: Vec<_> = lists
            .iter()
            .map(|list| lists.iter().any(|other| list.edition.is_older_than(&other.edition)))
            .collect();
        let mut is_superseded = is_superseded.into_iter();
        lists.retain(|_| !is_superseded.next().unwrap_or_default());
        let names: Vec<_> = content.iter().map(|authority| &*authority.name).collect();
        let summary = format!(
            "{} client authorities ({}), {} revocation lists, {} older ones left out",
            names.len(),
            names.join("; "),
            lists.len(),
            all - lists.len()
        );
        let lists_der = lists.iter().map(|list| list.der.as_slice());
        let digest = digest(
            content
                .iter()
                .map(|authority| authority.der.as_slice())
                .chain(lists_der),
        );
        let hint = |authority: &Authority| DistinguishedName::in_sequence(&authority.anchor.subject);
        let limits = |authority: &Authority| Limits {
            validity: authority.validity,
            longest_path: authority.longest_path,
        };
        let (revoked, editions) = lists.into_iter().map(|list| (list.list, list.edition)).unzip();
        Ok(Self {
            hints: content.iter().map(hint).collect(),
            limits: content.iter().map(limits).collect(),
            anchors: content.into_iter().map(|authority| authority.anchor).collect(),
            revoked,
            editions,
            algorithms,
            expiries,
            digest,
            summary,
        })
    }

    /// What is wrong with a list if there is a later one already: whoever can bring an old list back would let in whom the later
    /// one has revoked.
    fn newer_than(&self, edition: &Edition) -> Option<String> {
        let newer = self.editions.iter().find(|own| edition.is_older_than(own))?;
        let (name, which) = (&edition.name, edition.which());
        let newest = newer.which();
        Some(format!(
            "the list of {name} is {which}, older than {newest}, which is in use; get a new one, or restart to take it"
        ))
    }

    /// What of it expires when.
    pub(super) fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    /// By which it is told apart from others.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What it is, for people.
    pub(crate) fn summary(&self) -> &str {
        &self.summary
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
        let is_good = |path: &VerifiedPath<'_>| {
            self.check_lists(path)?;
            self.authority_of(path, now).map(|_| ())
        };
        let path = certificate.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            others,
            now,
            KeyUsage::client_auth(),
            revocation,
            Some(&is_good),
        )?;
        let mut until = self.authority_of(&path, now)?.until.min(validity_of(client)?.until);
        for certificate in path.intermediate_certificates() {
            until = until.min(validity_of(&certificate.der())?.until);
        }
        Ok(until)
    }

    /// webpki asks the first list that is for a certificate; here all of its issuer are asked.
    fn check_lists(&self, path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
        let client: &Cert<'_> = path.end_entity();
        for certificate in path.intermediate_certificates().chain([client]) {
            let lists = self.revoked.iter();
            for list in lists.filter(|list| list.issuer() == certificate.issuer()) {
                if list.find_serial(certificate.serial())?.is_some() {
                    return Err(webpki::Error::CertRevoked);
                }
            }
        }
        Ok(())
    }

    /// The validity of the authority that the path leads to. Of several certificates with its name and key that allow the path
    /// now, the one that is valid longest counts.
    fn authority_of(&self, path: &VerifiedPath<'_>, now: UnixTime) -> Result<Validity, webpki::Error> {
        let all = self.anchors.iter().zip(&self.limits);
        let of_path = all.filter(|(anchor, _)| *anchor == path.anchor());
        let checked = of_path.map(|(_, limits)| limits.check(path, now));
        let best = checked.reduce(|best, other| match (&best, &other) {
            (Ok(one), Ok(another)) if one.until < another.until => other,
            (Err(_), Ok(_)) => other,
            _ => best,
        });
        best.unwrap_or(Err(webpki::Error::UnknownIssuer))
    }
}

/// What keeps authorities and lists from being of any use.
fn check(
    authorities: &Read<Vec<Authority>>,
    lists: &[Read<Vec<RevocationList>>],
    algorithms: &WebPkiSupportedAlgorithms,
    now: Timestamp,
) -> Result<(), TlsError> {
    let Read { path, content } = authorities;
    let wrong = |detail: String| Err(TlsError::file("client authorities", path, detail));
    if content.iter().all(|authority| authority.validity.is_over(now)) {
        return wrong("all of them have expired".into());
    }
    if lists.is_empty() {
        return Ok(());
    }
    let mut details = content
        .iter()
        .filter_map(|authority| wrong_with_lists(authority, lists, algorithms));
    details.next().map_or(Ok(()), wrong)
}

/// What is wrong with the lists of an authority. webpki takes the first list with the authority's name, so a list that somebody
/// else has signed would keep everybody out: better to find that before it is in use.
fn wrong_with_lists(
    authority: &Authority,
    lists: &[Read<Vec<RevocationList>>],
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<String> {
    let all = lists.iter().flat_map(|read| &read.content);
    let mut own = all.filter(|list| list.edition.issuer == authority.subject).peekable();
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
