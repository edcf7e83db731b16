//! Whom the files let in, and which files are taken.

#[path = "tests/lists.rs"]
mod lists;
#[path = "tests/made.rs"]
mod made;

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::CertificateError;

use self::made::*;
use super::*;

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
fn what_cannot_be_announced_is_not_taken() {
    let root = authority("root");
    let files = Files::new(&[&root], &[]);
    let live = LiveTls::new(files.load());
    let before = (live.shown_digest(), live.trust_digest());
    let renewed = made("server", None, |_| {});
    std::fs::write(&files.files.certificate, &renewed.pem).unwrap();
    write_key(&files.files.private_key, &renewed.key);
    std::fs::write(&files.files.client_ca, authority("other").pem).unwrap();
    let shown = || files.files.load_shown(now()).unwrap();
    let trust = || files.files.load_trust(Some(&live.trust()), now()).unwrap();
    assert_eq!(live.replace_shown(shown(), |_| Err("full")), Err("full"));
    assert_eq!(live.replace_trust(trust(), |_| Err("full")), Err("full"));
    assert_eq!((live.shown_digest(), live.trust_digest()), before);
    let mut told = Vec::new();
    let mut announce = |digest| {
        told.push(digest);
        Ok::<_, &str>(())
    };
    assert_eq!(live.replace_shown(shown(), &mut announce), Ok(true));
    assert_eq!(live.replace_trust(trust(), &mut announce), Ok(true));
    assert_eq!(told, [live.shown_digest(), live.trust_digest()]);
}

#[test]
fn open_connections_are_judged_anew_only_when_that_can_make_a_difference() {
    let root = authority("root");
    let files = Files::new(&[&root], &[]);
    let live = LiveTls::new(files.load());
    let mut judgements = live.judgements();
    let reload_shown = || {
        live.replace_shown(files.files.load_shown(now()).unwrap(), |_| Ok::<_, String>(()))
            .unwrap()
    };
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
