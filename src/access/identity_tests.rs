//! Which certificates identify whom.

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::*;

const ORDERS: &str = "spiffe://dynarex.local/order-service";

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn certificate(names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn identify(names: Vec<SanType>) -> Result<String, IdentityError> {
    Caller::from_certificate(&certificate(names, |_| {})).map(|caller| caller.to_string())
}

/// Alternative names, as the bytes of the extension say.
fn identify_raw(names: &[u8]) -> Result<Caller, IdentityError> {
    let der = certificate(Vec::new(), |params| {
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], names.to_vec());
        params.custom_extensions.push(extension);
    });
    Caller::from_certificate(&der)
}

#[test]
fn the_spiffe_id_is_the_identity() {
    assert_eq!(identify(vec![uri(ORDERS)]).unwrap(), ORDERS);
    assert_eq!(
        identify(vec![dns("orders.local"), dns("other.local"), uri(ORDERS)]).unwrap(),
        ORDERS
    );
}

#[test]
fn without_a_spiffe_id_the_one_dns_name_is_the_identity() {
    assert_eq!(
        identify(vec![dns("orders.dynarex.local")]).unwrap(),
        "orders.dynarex.local"
    );
}

#[test]
fn two_identities_are_none() {
    let ambiguous = |kind| Err(IdentityError::Ambiguous { kind, count: 2 });
    assert_eq!(
        identify(vec![uri(ORDERS), uri("spiffe://dynarex.local/operator")]),
        ambiguous("URI")
    );
    assert_eq!(
        identify(vec![uri(ORDERS), uri("https://dynarex.local")]),
        ambiguous("URI")
    );
    assert_eq!(identify(vec![dns("a.local"), dns("b.local")]), ambiguous("DNS"));
}

#[test]
fn a_certificate_without_names_identifies_nobody() {
    assert_eq!(identify(Vec::new()), Err(IdentityError::Missing));
    let others = vec![
        SanType::IpAddress([127, 0, 0, 1].into()),
        SanType::Rfc822Name("order-service@dynarex.local".try_into().unwrap()),
    ];
    assert_eq!(identify(others), Err(IdentityError::Missing));
}

#[test]
fn a_malformed_spiffe_id_is_refused_and_its_dns_name_does_not_help() {
    for bad in [
        "spiffe://TD/a",
        "spiffe://td",
        "spiffe://td/a/../b",
        "https://td/a",
        "spiffe://td/%61",
    ] {
        let refused = identify(vec![uri(bad), dns("orders.local")]);
        assert!(
            matches!(refused, Err(IdentityError::SpiffeId { .. })),
            "{bad}: {refused:?}"
        );
    }
}

#[test]
fn a_wildcard_or_upper_case_dns_name_is_refused() {
    for bad in ["*.dynarex.local", "Orders.dynarex.local", "orders.dynarex.local."] {
        assert!(
            matches!(identify(vec![dns(bad)]), Err(IdentityError::DnsName { .. })),
            "{bad}"
        );
    }
}

#[test]
fn a_name_with_a_nul_or_with_broken_utf_8_is_refused() {
    let with_nul = b"\x30\x0f\x86\x0dspiffe://td/a";
    assert!(identify_raw(with_nul).is_ok(), "the bytes are as they should be");
    let mut nul = *with_nul;
    nul[16] = 0;
    assert!(matches!(identify_raw(&nul), Err(IdentityError::SpiffeId { .. })));
    let mut broken = *with_nul;
    broken[16] = 0xff;
    assert_eq!(
        identify_raw(&broken),
        Err(IdentityError::Malformed("an alternative name is malformed"))
    );
}

#[test]
fn an_authority_is_no_client() {
    let authorities: [fn(&mut CertificateParams); 3] = [
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign],
        |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign],
    ];
    for authority in authorities {
        let der = certificate(vec![uri(ORDERS)], authority);
        assert_eq!(Caller::from_certificate(&der), Err(IdentityError::Authority));
    }
    let leaf = certificate(vec![uri(ORDERS)], |params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(Caller::from_certificate(&leaf).is_ok());
}

#[test]
fn an_authority_that_may_not_sign_certificates_vouches_for_nobody() {
    let authority = |usages: &[KeyUsagePurpose]| {
        certificate(Vec::new(), |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = usages.to_vec();
        })
    };
    let own = certificate(vec![uri(ORDERS)], |_| {});
    let identify = |above: &[u8]| Caller::from_chain(&own, [above].into_iter()).map(|caller| caller.to_string());
    for proper in [authority(&[]), authority(&[KeyUsagePurpose::KeyCertSign]), own.clone()] {
        assert_eq!(identify(&proper).unwrap(), ORDERS);
    }
    assert_eq!(
        identify(&authority(&[KeyUsagePurpose::DigitalSignature])),
        Err(IdentityError::Issuer)
    );
    assert!(matches!(identify(b"no certificate"), Err(IdentityError::Malformed(_))));
}

#[test]
fn an_address_that_is_none_is_malformed() {
    let names = |address: &[u8]| {
        let id = b"spiffe://dynarex.local/operator";
        let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        element(0x30, &[element(0x86, id), element(0x87, address)].concat())
    };
    assert!(identify_raw(&names(&[127, 0, 0, 1])).is_ok());
    for malformed in [&[][..], &[127, 0], &[127, 0, 0, 1, 0]] {
        let refused = identify_raw(&names(malformed));
        assert!(matches!(refused, Err(IdentityError::Malformed(_))), "{malformed:?}");
    }
}

#[test]
fn a_malformed_extension_does_not_count_as_a_missing_one() {
    let der = certificate(vec![uri(ORDERS)], |params| {
        let constraints = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0x03, 0x01, 0x01]);
        params.custom_extensions.push(constraints);
    });
    assert!(matches!(
        Caller::from_certificate(&der),
        Err(IdentityError::Malformed(_))
    ));
}

#[test]
fn what_is_no_certificate_is_refused() {
    let mut der = certificate(vec![uri(ORDERS)], |_| {});
    der.push(0);
    for bad in [&der[..], &der[..100], b"", b"\x30\x80"] {
        assert!(matches!(
            Caller::from_certificate(bad),
            Err(IdentityError::Malformed(_))
        ));
    }
}

#[test]
fn identities_are_compared_byte_for_byte() {
    let caller = Caller::parse(ORDERS).unwrap();
    assert_eq!(caller, Caller::parse(ORDERS).unwrap());
    assert_ne!(caller, Caller::parse("spiffe://dynarex.local/Order-service").unwrap());
    assert!(Caller::parse("spiffe://dynarex.local/").is_err());
}

#[test]
fn cve_2025_5999_2025_6014_2025_64761_2026_89322_no_other_spelling_is_the_same_identity() {
    // Not lower-cased, trimmed, decoded, resolved or cut off: each is somebody else or nobody, at the check and at the use.
    for other in [
        "spiffe://dynarex.local/Order-service",
        "spiffe://dynarex.local/order-service ",
        " spiffe://dynarex.local/order-service",
        "spiffe://dynarex.local/order-service\t",
        "spiffe://dynarex.local/order-service/",
        "spiffe://dynarex.local//order-service",
        "spiffe://dynarex.local/./order-service",
        "spiffe://dynarex.local/x/../order-service",
        "spiffe://dynarex.local/order%2dservice",
        "spiffe://dynarex.local:443/order-service",
        "spiffe://DYNAREX.local/order-service",
        "SPIFFE://dynarex.local/order-service",
        "spiffe://dynarex.local./order-service",
        "spiffe://dynarex.local/order-service?a",
        "spiffe://dynarex.local/order-service#a",
    ] {
        let in_certificate = identify(vec![uri(other)]);
        assert_ne!(in_certificate, Ok(ORDERS.to_owned()), "{other:?}");
        // What the certificate may say is what the policy may say, and stays as it was written.
        let in_policy = Caller::parse(other).map(|caller| caller.to_string());
        assert_eq!(in_certificate.is_ok(), in_policy.is_ok(), "{other:?}");
        assert!(
            in_certificate.is_err() || in_certificate == Ok(other.to_owned()),
            "{other:?}"
        );
    }
    for other in [
        "orders.Dynarex.local",
        "orders.dynarex.local.",
        "orders.dynarex.local ",
        "orders..dynarex.local",
    ] {
        assert!(identify(vec![dns(other)]).is_err(), "{other:?}");
    }
}

#[test]
fn cve_2026_3605_no_wildcard_or_delimiter_in_an_identity_means_anything() {
    for bad in [
        "spiffe://dynarex.local/*",
        "spiffe://dynarex.local/order-*",
        "spiffe://*/order-service",
        "spiffe://dynarex.local/a,spiffe://dynarex.local/operator",
        "spiffe://dynarex.local/a;b",
        "spiffe://dynarex.local/a:b",
        "spiffe://dynarex.local/a=b",
        "spiffe://dynarex.local/a+b",
        "spiffe://dynarex.local/a|b",
        "spiffe://dynarex.local/a\\b",
        "spiffe://dynarex.local/${name}",
        "spiffe://dynarex.local/{{name}}",
        "spiffe://dynarex.local/a\nb",
    ] {
        assert!(identify(vec![uri(bad)]).is_err(), "{bad:?}");
        assert!(Caller::parse(bad).is_err(), "{bad:?}");
    }
    for bad in ["*", "*.dynarex.local", "a.*.local", "a,b", "a b", "a/b", "a|b"] {
        assert!(identify(vec![dns(bad)]).is_err(), "{bad:?}");
        assert!(Caller::parse(bad).is_err(), "{bad:?}");
    }
}
