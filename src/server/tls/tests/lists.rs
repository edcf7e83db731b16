//! Revocation lists.

use super::*;

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
