//! Whom the files let in, and which files are taken.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::*;
use crate::time::{Clock as _, SystemClock};

const HOUR: Duration = Duration::from_hours(1);

fn now() -> Timestamp {
    SystemClock.now()
}

/// A certificate and its key.
struct Made {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    key: String,
}

/// A certificate with this name, valid for ten hours unless that is changed, from `issuer` or from itself.
fn made(name: &str, issuer: Option<&Made>, change: impl FnOnce(&mut CertificateParams)) -> Made {
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

fn is_authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

fn authority(name: &str) -> Made {
    made(name, None, is_authority)
}

fn is_client(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![rcgen::SanType::DnsName("client.example".try_into().unwrap())];
}

fn client(issuer: &Made, serial: u64) -> Made {
    made("client", Some(issuer), |params| {
        is_client(params);
        params.serial_number = Some(SerialNumber::from(serial));
    })
}

/// PEM; the serial numbers are revoked.
fn list(issuer: &Made, revoked: &[u64], good_for: Duration) -> String {
    list_with(issuer, revoked, good_for, |_| {})
}

/// PEM; it has this number.
fn edition(issuer: &Made, number: u64, revoked: &[u64]) -> String {
    list_with(issuer, revoked, 5 * HOUR, |params| {
        params.crl_number = SerialNumber::from(number);
    })
}

fn list_with(
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

fn write_key(path: &Path, key: &str) {
    std::fs::write(path, key).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// The files of a server.
struct Files {
    _folder: TempDir,
    files: TlsFiles,
}

impl Files {
    fn new(authorities: &[&Made], lists: &[String]) -> Self {
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

    fn load(&self) -> Tls {
        self.files.load(now()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What it makes of the authorities and lists when they have changed.
    fn reload(&self, live: &LiveTls) -> Result<bool, String> {
        let trust = self.files.load_trust(Some(&live.trust()), now());
        Ok(live.replace_trust(trust.map_err(|error| error.to_string())?))
    }

    fn trouble(&self) -> String {
        self.files.load(now()).err().expect("they are of no use").to_string()
    }
}

fn verify_at(tls: &Tls, chain: &[&Made], now: Timestamp) -> Result<Timestamp, CertificateError> {
    let chain: Vec<_> = chain.iter().map(|made| made.der.clone()).collect();
    tls.trust.verify(&chain, now)
}

fn verify(tls: &Tls, chain: &[&Made]) -> Result<Timestamp, CertificateError> {
    verify_at(tls, chain, now())
}

/// In whole hours from now.
fn hours(until: Timestamp) -> u64 {
    (until.since(now()) + HOUR / 2).as_secs() / HOUR.as_secs()
}

fn expires_in(hours: u32) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.not_after = (SystemTime::now() + hours * HOUR).into()
}

#[test]
fn an_identity_holds_until_the_first_certificate_of_its_chain_expires() {
    for (of_authority, of_intermediate, of_client, expected) in [(9, 9, 2, 2), (9, 3, 9, 3), (4, 9, 9, 4)] {
        let root = made("root", None, |params| {
            is_authority(params);
            expires_in(of_authority)(params);
        });
        let middle = made("middle", Some(&root), |params| {
            is_authority(params);
            expires_in(of_intermediate)(params);
        });
        let client = made("client", Some(&middle), |params| {
            is_client(params);
            expires_in(of_client)(params);
        });
        let tls = Files::new(&[&root], &[]).load();
        let until = verify(&tls, &[&client, &middle]).unwrap();
        assert_eq!(hours(until), expected);
        let last = Timestamp::from_unix_ms(until.unix_ms() - 1);
        assert_eq!(verify_at(&tls, &[&client, &middle], last), Ok(until));
        let refused = verify_at(&tls, &[&client, &middle], until).unwrap_err();
        assert!(matches!(refused, CertificateError::ExpiredContext { .. }), "{refused}");
    }
}

#[test]
fn what_a_client_sends_beside_its_chain_does_not_shorten_it() {
    let root = authority("root");
    let client = client(&root, 1);
    let useless = made("useless", None, expires_in(1));
    let until = verify(&Files::new(&[&root], &[]).load(), &[&client, &useless]).unwrap();
    assert_eq!(hours(until), 10);
}

#[test]
fn another_path_to_an_authority_counts_when_one_has_ended() {
    let root = authority("root");
    let key = KeyPair::generate().unwrap();
    let middle = |hours: u32| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "middle");
        is_authority(&mut params);
        expires_in(hours)(&mut params);
        (params.signed_by(&key, &root.issuer).unwrap(), params)
    };
    let ((short, _), (long, params)) = (middle(2), middle(6));
    let mut leaf = CertificateParams::default();
    is_client(&mut leaf);
    let leaf = leaf
        .signed_by(&KeyPair::generate().unwrap(), &Issuer::new(params, &key))
        .unwrap();
    let chain = [leaf.der().clone(), short.der().clone(), long.der().clone()];
    let trust = Files::new(&[&root], &[]).load().trust;
    assert_eq!(hours(trust.verify(&chain, now()).unwrap()), 2);
    assert_eq!(hours(trust.verify(&chain, now().after(3 * HOUR)).unwrap()), 6);
}

#[test]
fn a_certificate_for_something_else_than_clients_is_refused() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};

    let root = authority("root");
    let tls = Files::new(&[&root], &[]).load();
    let with = |purposes: Vec<ExtendedKeyUsagePurpose>, usages: Vec<KeyUsagePurpose>| {
        let client = made("client", Some(&root), |params| {
            is_client(params);
            params.extended_key_usages = purposes;
            params.key_usages = usages;
        });
        verify(&tls, &[&client])
    };
    let signs = || vec![KeyUsagePurpose::DigitalSignature];
    assert!(with(vec![ClientAuth], signs()).is_ok());
    assert!(with(vec![ServerAuth, ClientAuth], signs()).is_ok());
    assert!(with(vec![ClientAuth], vec![]).is_ok());
    // Nothing said is for every purpose (RFC 5280, 4.2.1.12).
    assert!(with(vec![], signs()).is_ok());
    for (purposes, usages) in [
        (vec![ServerAuth], signs()),
        (vec![Any], signs()),
        (vec![ClientAuth], vec![KeyUsagePurpose::KeyEncipherment]),
    ] {
        let shown = format!("{purposes:?} {usages:?}");
        assert_eq!(with(purposes, usages), Err(CertificateError::InvalidPurpose), "{shown}");
    }
}

#[test]
fn cve_2024_2048_a_pinned_leaf_is_no_authority() {
    let root = authority("root");
    let leaf = client(&root, 1);
    let self_signed = made("self-signed", None, is_client);
    let without_signing = made("no signer", None, |params| {
        is_authority(params);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
    });
    for pinned in [&leaf, &self_signed, &without_signing] {
        for authorities in [vec![pinned], vec![&root, pinned]] {
            let trouble = Files::new(&authorities, &[]).trouble();
            assert!(trouble.contains("is none of an authority"), "{trouble}");
        }
    }
}

#[test]
fn cve_2025_6037_a_certificate_counts_by_its_signature_and_not_by_its_names() {
    let root = authority("root");
    let tls = Files::new(&[&root], &[]).load();
    let of_same_name = authority("root");
    let issuing_client = client(&root, 1);
    let foreign = client(&of_same_name, 2);
    let by_a_client = client(&issuing_client, 3);
    let self_signed = made("client", None, is_client);
    let an_authority = made("client", Some(&root), |params| {
        is_client(params);
        is_authority(params);
    });
    for chain in [
        vec![&foreign],
        vec![&foreign, &of_same_name],
        vec![&by_a_client],
        vec![&by_a_client, &issuing_client],
        vec![&self_signed],
        vec![&self_signed, &root],
        vec![&an_authority],
        vec![&root],
        vec![],
    ] {
        let names: Vec<_> = chain.iter().map(|made| made.der.len()).collect();
        assert!(verify(&tls, &chain).is_err(), "{names:?}");
    }
    assert!(verify(&tls, &[&issuing_client]).is_ok());
}

#[test]
fn an_authority_that_has_expired_vouches_for_nobody() {
    let current = authority("current");
    let expired = made("expired", None, |params| {
        is_authority(params);
        params.not_before = (SystemTime::now() - 3 * HOUR).into();
        params.not_after = (SystemTime::now() - HOUR).into();
    });
    let tls = Files::new(&[&expired, &current], &[]).load();
    assert!(verify(&tls, &[&client(&current, 1)]).is_ok());
    let refused = verify(&tls, &[&client(&expired, 1)]).unwrap_err();
    assert!(matches!(refused, CertificateError::ExpiredContext { .. }), "{refused}");
    let trouble = Files::new(&[&expired], &[]).trouble();
    assert!(trouble.ends_with("all of them have expired"), "{trouble}");
}

#[test]
fn what_is_revoked_is_not_let_in() {
    let root = authority("root");
    let (good, revoked) = (client(&root, 1), client(&root, 2));
    let tls = Files::new(&[&root], &[list(&root, &[2, 3], 5 * HOUR)]).load();
    assert!(verify(&tls, &[&good]).is_ok());
    assert_eq!(verify(&tls, &[&revoked]), Err(CertificateError::Revoked));
    assert!(
        verify(&Files::new(&[&root], &[]).load(), &[&revoked]).is_ok(),
        "nothing is looked up"
    );
}

#[test]
fn lists_come_in_der_and_several_in_one_file() {
    let (one, other) = (authority("one"), authority("other"));
    let both = list(&one, &[1], 5 * HOUR) + &list(&other, &[2], 5 * HOUR);
    let tls = Files::new(&[&one, &other], &[both]).load();
    let der = Files::new(&[&one], &[String::new()]);
    let content = x509_parser::pem::parse_x509_pem(list(&one, &[1], 5 * HOUR).as_bytes())
        .unwrap()
        .1
        .contents;
    std::fs::write(&der.files.client_crl[0], content).unwrap();
    for tls in [&tls, &der.load()] {
        assert_eq!(verify(tls, &[&client(&one, 1)]), Err(CertificateError::Revoked));
        assert!(verify(tls, &[&client(&one, 2)]).is_ok());
    }
    assert_eq!(verify(&tls, &[&client(&other, 2)]), Err(CertificateError::Revoked));
    assert!(verify(&tls, &[&client(&other, 1)]).is_ok());
}

#[test]
fn every_certificate_of_a_chain_needs_a_current_list() {
    let root = authority("root");
    let middle = made("middle", Some(&root), |params| {
        is_authority(params);
        params.serial_number = Some(SerialNumber::from(7));
    });
    let client = client(&middle, 1);
    let of_root = list(&root, &[], 5 * HOUR);
    let of_middle = list(&middle, &[], 5 * HOUR);
    let chain = [&client, &middle];
    let alone = Files::new(&[&root], std::slice::from_ref(&of_root)).load();
    assert_eq!(verify(&alone, &chain), Err(CertificateError::UnknownRevocationStatus));
    let both = Files::new(&[&root], &[of_root, of_middle.clone()]).load();
    assert!(verify(&both, &chain).is_ok());
    let refused = verify_at(&both, &chain, now().after(5 * HOUR)).unwrap_err();
    assert!(
        matches!(refused, CertificateError::ExpiredRevocationListContext { .. }),
        "{refused}"
    );
    let middle_revoked = Files::new(&[&root], &[list(&root, &[7], 5 * HOUR), of_middle]).load();
    assert_eq!(verify(&middle_revoked, &chain), Err(CertificateError::Revoked));
}

#[test]
fn lists_that_cannot_be_used_are_refused_with_what_is_wrong() {
    let (root, other, forger) = (authority("root"), authority("other"), authority("root"));
    let current = || list(&root, &[], 5 * HOUR);
    for (authorities, lists, expected) in [
        (
            vec![&root, &other],
            vec![current()],
            "CN=other has no list in server.client_crl",
        ),
        (
            vec![&root],
            vec![list(&root, &[], HOUR / 2)],
            "the list of CN=root has expired on",
        ),
        (
            vec![&root],
            vec![list(&forger, &[], 5 * HOUR)],
            "a list of CN=root in server.client_crl is not signed by it",
        ),
        (
            vec![&root, &forger],
            vec![current(), list(&forger, &[], 5 * HOUR)],
            "is not signed by it",
        ),
        (vec![&root], vec!["nonsense".into()], "a list in it is malformed"),
        (
            vec![&root],
            vec![current(), root.pem.clone()],
            "a list in it is malformed",
        ),
        (vec![&root], vec![current().replace("END X509", "end")], "0.crl"),
    ] {
        let trouble = Files::new(&authorities, &lists).trouble();
        assert!(trouble.contains(expected), "{trouble}");
    }
}

#[test]
fn of_two_lists_of_one_authority_the_later_one_counts_wherever_it_stands() {
    let root = authority("root");
    let (older, newer) = (edition(&root, 9, &[]), edition(&root, 300, &[2]));
    for lists in [
        vec![older.clone(), newer.clone()],
        vec![newer.clone(), older.clone()],
        vec![older.clone() + &newer],
    ] {
        let tls = Files::new(&[&root], &lists).load();
        assert_eq!(verify(&tls, &[&client(&root, 2)]), Err(CertificateError::Revoked));
        assert!(verify(&tls, &[&client(&root, 1)]).is_ok());
    }
    // What a later list takes back, as from "on hold", is good again.
    let tls = Files::new(&[&root], &[edition(&root, 1, &[2]), edition(&root, 2, &[])]).load();
    assert!(verify(&tls, &[&client(&root, 2)]).is_ok());
}

#[test]
fn what_any_list_of_its_issuer_has_revoked_is_revoked() {
    let root = authority("root");
    let partial = list_with(&root, &[2], 5 * HOUR, |params| {
        params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec!["http://crl.example/1".into()],
            },
            scope: None,
        });
    });
    for lists in [
        [list(&root, &[], 5 * HOUR), partial.clone()],
        [partial, list(&root, &[], 5 * HOUR)],
        // Two of the same number and date: neither is the later one.
        [edition(&root, 1, &[]), edition(&root, 1, &[2])],
    ] {
        let tls = Files::new(&[&root], &lists).load();
        assert_eq!(verify(&tls, &[&client(&root, 2)]), Err(CertificateError::Revoked));
        assert!(verify(&tls, &[&client(&root, 1)]).is_ok());
    }
}

#[test]
fn an_old_list_does_not_come_back() {
    let root = authority("root");
    let files = Files::new(&[&root], &[edition(&root, 8, &[2])]);
    let live = LiveTls::new(files.load());
    let put = |list: String| {
        std::fs::write(&files.files.client_crl[0], list).unwrap();
        files.reload(&live)
    };
    let trouble = put(edition(&root, 7, &[])).unwrap_err();
    assert!(
        trouble.contains("the list of CN=root is number 7, older than number 8"),
        "{trouble}"
    );
    let revoked = client(&root, 2).der;
    assert_eq!(
        live.trust().verify(std::slice::from_ref(&revoked), now()),
        Err(CertificateError::Revoked)
    );
    assert_eq!(put(edition(&root, 9, &[])), Ok(true));
    assert!(live.trust().verify(&[revoked], now()).is_ok());
}

#[test]
fn neither_an_expired_list_of_another_authority_nor_a_damaged_certificate_blocks_a_new_list() {
    let (one, other) = (authority("one"), authority("other"));
    let files = Files::new(&[&one, &other], &[edition(&one, 1, &[]), edition(&other, 1, &[])]);
    let live = LiveTls::new(files.load());
    let expired = |params: &mut CertificateRevocationListParams| {
        params.crl_number = SerialNumber::from(2);
        params.next_update = (SystemTime::now() - HOUR / 2).into();
    };
    std::fs::write(&files.files.certificate, "nonsense").unwrap();
    std::fs::write(&files.files.client_crl[0], edition(&one, 2, &[7])).unwrap();
    std::fs::write(&files.files.client_crl[1], list_with(&other, &[], HOUR, expired)).unwrap();
    assert!(files.files.load(now()).is_err(), "a start would be refused");
    assert_eq!(files.reload(&live), Ok(true));
    let verify = |client: Made| live.trust().verify(&[client.der], now());
    assert_eq!(verify(client(&one, 7)), Err(CertificateError::Revoked));
    assert!(verify(client(&one, 1)).is_ok());
    let refused = verify(client(&other, 1)).unwrap_err();
    assert!(
        matches!(refused, CertificateError::ExpiredRevocationListContext { .. }),
        "{refused}"
    );
    let tells_of_it = live
        .now()
        .expiries()
        .any(|expiry| expiry.at() <= now() && expiry.what().contains("CN=other"));
    assert!(tells_of_it);
}

#[test]
fn an_authority_that_is_renewed_ahead_of_time_goes_on() {
    let key = KeyPair::generate().unwrap();
    let root = |from: SystemTime, until: SystemTime| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "root");
        is_authority(&mut params);
        params.not_before = from.into();
        params.not_after = until.into();
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, Issuer::new(params, &key))
    };
    let now = SystemTime::now();
    let (current, issuer) = root(now - HOUR, now + 9 * HOUR);
    let (renewed, _) = root(now + HOUR, now + 90 * HOUR);
    let mut leaf = CertificateParams::default();
    is_client(&mut leaf);
    leaf.not_after = (now + 20 * HOUR).into();
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    let files = Files::new(&[], &[]);
    std::fs::write(&files.files.client_ca, current + &renewed).unwrap();
    let trust = files.load().trust;
    let chain = [leaf.der().clone()];
    assert_eq!(hours(trust.verify(&chain, self::now()).unwrap()), 9);
    assert_eq!(hours(trust.verify(&chain, self::now().after(2 * HOUR)).unwrap()), 20);
}

#[test]
fn an_authoritys_own_limits_hold() {
    let for_servers = made("for servers", None, |params| {
        is_authority(params);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let trouble = Files::new(&[&for_servers], &[]).trouble();
    assert!(
        trouble.contains("its extended key usages leave out clients"),
        "{trouble}"
    );
    for (longest, is_good) in [(0, false), (1, true)] {
        let root = made("root", None, |params| {
            is_authority(params);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(longest));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let middle = made("middle", Some(&root), is_authority);
        let tls = Files::new(&[&root], &[]).load();
        assert!(verify(&tls, &[&client(&root, 1)]).is_ok());
        assert_eq!(
            verify(&tls, &[&client(&middle, 1), &middle]).is_ok(),
            is_good,
            "{longest}"
        );
    }
}

#[test]
fn a_damaged_line_does_not_make_an_authority_or_a_list_disappear() {
    let (one, other) = (authority("one"), authority("other"));
    let files = Files::new(&[&one], &[list(&one, &[], 5 * HOUR)]);
    for damaged in [
        "----BEGIN CERTIFICATE-----",
        " -----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFCATE-----",
    ] {
        let text = one.pem.clone() + &other.pem.replace("-----BEGIN CERTIFICATE-----", damaged);
        std::fs::write(&files.files.client_ca, text).unwrap();
        assert!(files.trouble().contains("is damaged"), "{damaged}");
    }
    std::fs::write(
        &files.files.client_ca,
        "Two of them:\r\n".to_owned() + &one.pem.replace('\n', "\r\n"),
    )
    .unwrap();
    files.load();
    let lists = edition(&one, 1, &[]) + &edition(&one, 2, &[7]).replace("X509 CRL", "CRL");
    std::fs::write(&files.files.client_crl[0], lists).unwrap();
    assert!(files.trouble().contains("is damaged"));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let root = authority("root");
    let pipe = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    for number in 0..4 {
        let files = Files::new(&[&root], &[list(&root, &[], 5 * HOUR)]);
        let all: Vec<_> = files.files.shown().chain(files.files.trusted()).collect();
        pipe(all[number]);
        assert!(files.trouble().contains("is not a regular file"), "{}", files.trouble());
    }
}

#[test]
fn a_half_swapped_set_of_files_is_not_taken() {
    let root = authority("root");
    let files = Files::new(&[&root], &[]);
    let renewed = made("server", None, |_| {});
    std::fs::write(&files.files.certificate, &renewed.pem).unwrap();
    let trouble = files.trouble();
    assert!(trouble.ends_with("the key is that of another certificate"), "{trouble}");
    std::fs::remove_file(&files.files.private_key).unwrap();
    assert!(files.trouble().contains("server.key"));
    write_key(&files.files.private_key, &renewed.key);
    files.load();
}

#[test]
fn a_server_certificate_that_has_expired_is_not_taken() {
    let files = Files::new(&[&authority("root")], &[]);
    let refused = files.files.load(now().after(11 * HOUR)).err().unwrap().to_string();
    assert!(refused.contains("server.pem: has expired on"), "{refused}");
}

#[test]
fn open_connections_are_judged_anew_only_when_that_can_make_a_difference() {
    let root = authority("root");
    let files = Files::new(&[&root], &[]);
    let live = LiveTls::new(files.load());
    let mut judgements = live.judgements();
    let reload_shown = || live.replace_shown(files.files.load_shown(now()).unwrap());
    assert!(!reload_shown() && !files.reload(&live).unwrap(), "nothing has changed");
    let renewed = made("server", None, |_| {});
    std::fs::write(&files.files.certificate, &renewed.pem).unwrap();
    write_key(&files.files.private_key, &renewed.key);
    assert!(reload_shown());
    assert!(!judgements.has_changed().unwrap());
    std::fs::write(&files.files.client_ca, root.pem.clone() + &authority("other").pem).unwrap();
    assert!(files.reload(&live).unwrap());
    assert!(judgements.has_changed().unwrap());
    judgements.mark_unchanged();
    let client = client(&root, 1);
    assert!(live.trust().verify(&[client.der], now()).is_ok());
}
