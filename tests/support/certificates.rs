//! Client certificates that are not as they should be.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use tonic::transport::Identity;

const DAY: Duration = Duration::from_hours(24);

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A client's certificate with these names, issued by the authority in a folder, that may be changed before it is signed.
pub(crate) fn issued(folder: &Path, names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let authority_key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let authority = Issuer::from_ca_cert_pem(&read("ca.pem"), authority_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "client");
    params.subject_alt_names = names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now() - 2 * DAY).into();
    params.not_after = (SystemTime::now() + DAY).into();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    Identity::from_pem(certificate.pem(), key.serialize_pem())
}
