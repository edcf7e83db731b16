//! Certificates and lists that are made for a test.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::super::*;
use crate::time::{Clock as _, SystemClock};

pub(super) const HOUR: Duration = Duration::from_hours(1);

pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

/// A certificate and its key.
pub(super) struct Made {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) der: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) key: String,
}

/// A certificate with this name, valid for ten hours unless that is changed, from `issuer` or from itself.
pub(super) fn made(name: &str, issuer: Option<&Made>, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - HOUR).into();
    params.not_after = (SystemTime::now() + 10 * HOUR).into();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, &issuer.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Made {
        der: certificate.der().clone(),
        pem: certificate.pem(),
        key: key.serialize_pem(),
        issuer: Issuer::new(params, key),
    }
}

pub(super) fn is_authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

pub(super) fn authority(name: &str) -> Made {
    made(name, None, is_authority)
}

pub(super) fn is_client(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![rcgen::SanType::DnsName("client.example".try_into().unwrap())];
}

pub(super) fn client(issuer: &Made, serial: u64) -> Made {
    made("client", Some(issuer), |params| {
        is_client(params);
        params.serial_number = Some(SerialNumber::from(serial));
    })
}

/// PEM; the serial numbers are revoked.
pub(super) fn list(issuer: &Made, revoked: &[u64], good_for: Duration) -> String {
    list_with(issuer, revoked, good_for, |_| {})
}

/// PEM; it has this number.
pub(super) fn edition(issuer: &Made, number: u64, revoked: &[u64]) -> String {
    list_with(issuer, revoked, 5 * HOUR, |params| {
        params.crl_number = SerialNumber::from(number);
    })
}

pub(super) fn list_with(
    issuer: &Made,
    revoked: &[u64],
    good_for: Duration,
    change: impl FnOnce(&mut CertificateRevocationListParams),
) -> String {
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: (SystemTime::now() - HOUR).into(),
        reason_code: None,
        invalidity_date: None,
    });
    let mut params = CertificateRevocationListParams {
        this_update: (SystemTime::now() - HOUR).into(),
        next_update: (SystemTime::now() - HOUR + good_for).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    change(&mut params);
    params.signed_by(&issuer.issuer).unwrap().pem().unwrap()
}

pub(super) fn write_key(path: &Path, key: &str) {
    std::fs::write(path, key).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// The files of a server.
pub(super) struct Files {
    pub(super) _folder: TempDir,
    pub(super) files: TlsFiles,
}

impl Files {
    pub(super) fn new(authorities: &[&Made], lists: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles {
            certificate: path("server.pem"),
            private_key: path("server.key"),
            client_ca: path("client-ca.pem"),
            client_crl: (0..lists.len()).map(|number| path(&format!("{number}.crl"))).collect(),
        };
        let server = made("server", None, |_| {});
        std::fs::write(&files.certificate, &server.pem).unwrap();
        write_key(&files.private_key, &server.key);
        let pem: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
        std::fs::write(&files.client_ca, pem).unwrap();
        for (path, list) in files.client_crl.iter().zip(lists) {
            std::fs::write(path, list).unwrap();
        }
        Self { _folder: folder, files }
    }

    pub(super) fn load(&self) -> Tls {
        self.files.load(now()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What it makes of the authorities and lists when they have changed.
    pub(super) fn reload(&self, live: &LiveTls) -> Result<bool, String> {
        let trust = self.files.load_trust(Some(&live.trust()), now());
        live.replace_trust(trust.map_err(|error| error.to_string())?, |_| Ok(()))
    }

    pub(super) fn trouble(&self) -> String {
        self.files.load(now()).err().expect("they are of no use").to_string()
    }
}

pub(super) fn verify_at(tls: &Tls, chain: &[&Made], now: Timestamp) -> Result<Timestamp, CertificateError> {
    let chain: Vec<_> = chain.iter().map(|made| made.der.clone()).collect();
    tls.trust.verify(&chain, now)
}

pub(super) fn verify(tls: &Tls, chain: &[&Made]) -> Result<Timestamp, CertificateError> {
    verify_at(tls, chain, now())
}

/// In whole hours from now.
pub(super) fn hours(until: Timestamp) -> u64 {
    (until.since(now()) + HOUR / 2).as_secs() / HOUR.as_secs()
}

pub(super) fn expires_in(hours: u32) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.not_after = (SystemTime::now() + hours * HOUR).into()
}
