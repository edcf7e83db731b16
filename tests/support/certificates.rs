//! Certificates and revocation lists that are not as `tresor dev` makes them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber,
};
use tonic::transport::Identity;

const DAY: Duration = Duration::from_hours(24);

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// The authority in a folder.
fn authority(folder: &Path) -> Issuer<'static, KeyPair> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let key = KeyPair::from_pem(&read("ca.key")).unwrap();
    Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap()
}

/// A client's certificate with these names, issued by the authority in a folder, that may be changed before it is signed.
pub(crate) fn issued(folder: &Path, names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "client");
    params.subject_alt_names = names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now() - 2 * DAY).into();
    params.not_after = (SystemTime::now() + DAY).into();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority(folder)).unwrap();
    Identity::from_pem(certificate.pem(), key.serialize_pem())
}

/// A client of the authority in a folder with this SPIFFE ID and serial number.
pub(crate) fn numbered(folder: &Path, id: &str, serial: u64) -> Identity {
    issued(folder, vec![uri(id)], |params| {
        params.serial_number = Some(SerialNumber::from(serial));
    })
}

/// Certificate and key (PEM) for a server, issued by the authority in a folder.
pub(crate) fn for_server(folder: &Path) -> [String; 2] {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_after = (SystemTime::now() + DAY).into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority(folder)).unwrap();
    [certificate.pem(), key.serialize_pem()]
}

/// The revocation list (PEM) of the authority in a folder.
pub(crate) fn revocation_list(folder: &Path, revoked: &[u64]) -> String {
    let now = SystemTime::now();
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: now.into(),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + DAY).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority(folder)).unwrap().pem().unwrap()
}

/// Puts a file, which others may not read, in the place of another in one step.
pub(crate) fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::set_permissions(&beside, Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&beside, path).unwrap();
}
