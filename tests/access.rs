//! Who gets in, and how far.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rcgen::SanType;
use tonic::Code;
use tonic::transport::Identity;
use tresor::pb::v1;
use tresor::pki;
use tresor::time::{Clock as _, SystemClock};

use support::callers::Callers;
use support::certificates::{issued, uri};
use support::process::Server;
use support::requests::{general, login, name, put_login};
use support::{PATIENCE, told};

const OPERATOR: &str = "spiffe://dynarex.local/operator";

fn no_identity() -> (Code, String) {
    (Code::Unauthenticated, "NO_IDENTITY".into())
}

fn not_granted() -> (Code, String) {
    (Code::PermissionDenied, "NOT_GRANTED".into())
}

#[tokio::test]
async fn a_caller_gets_as_far_as_its_certificate_and_its_grants_go() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    without_a_certificate_nobody_gets_anything(&server).await;
    an_order_service_may_resolve_and_nothing_else(&server).await;
    a_certificate_that_names_nobody_or_two_is_no_identity(&server).await;
    a_certificate_of_another_authority_or_one_that_has_ended_does_not_connect(&server).await;
    whoever_goes_on_without_a_certificate_is_cut_off(&server).await;
    what_is_not_tls_1_3_does_not_connect(&server);
    assert!(
        server.operator().status().await.is_ok(),
        "everybody else is still served"
    );
    server.stop().await;
}

async fn without_a_certificate_nobody_gets_anything(server: &Server) {
    let stranger = Callers::connect(server, None);
    assert_eq!(told(stranger.resolve("demo", "dat", "leipzig").await), no_identity());
    assert_eq!(told(stranger.status().await), no_identity());
    let keys = stranger
        .resolver
        .clone()
        .get_signing_keys(v1::GetSigningKeysRequest {})
        .await;
    assert_eq!(told(keys), no_identity());
    let put = put_login(name("demo", "nobody", general()), login("x"));
    assert_eq!(told(stranger.admin.clone().put_credential(put).await), no_identity());
    let watch = stranger
        .resolver
        .clone()
        .watch_changes(v1::WatchChangesRequest::default())
        .await;
    assert_eq!(told(watch), no_identity());
}

/// No quota is theirs, so the connection is.
async fn whoever_goes_on_without_a_certificate_is_cut_off(server: &Server) {
    let stranger = Callers::connect(server, None);
    let mut refused = 0;
    let last = loop {
        let code = stranger.status().await.unwrap_err().code();
        if code != Code::Unauthenticated || refused > 100 {
            break code;
        }
        refused += 1;
    };
    assert_eq!(refused, 64, "{last:?}");
    // Whoever comes anew is told why, and nobody else has lost a call.
    let again = Callers::connect(server, None);
    assert_eq!(told(again.status().await), no_identity());
    let operator = server.operator();
    for _ in 0..100 {
        operator.status().await.unwrap();
    }
}

async fn an_order_service_may_resolve_and_nothing_else(server: &Server) {
    let order_service = server.order_service();
    assert!(order_service.resolve("demo", "dat", "leipzig").await.is_ok());
    assert_eq!(told(order_service.status().await), not_granted());
    let mut admin = order_service.admin.clone();
    // What is there, what is not, and what is malformed are refused alike.
    for (tenant, provider) in [("demo", "wom"), ("nobody", "wom"), ("demo", "nobody"), ("a/b", "")] {
        let named = || Some(name(tenant, provider, general()));
        let get = v1::GetCredentialRequest { r#ref: named() };
        assert_eq!(told(admin.get_credential(get).await), not_granted());
        let put = put_login(name(tenant, provider, general()), login("x"));
        assert_eq!(told(admin.put_credential(put).await), not_granted());
        let delete = v1::DeleteCredentialRequest {
            r#ref: named(),
            expected_version: None,
        };
        assert_eq!(told(admin.delete_credential(delete).await), not_granted());
        let list = v1::ListCredentialsRequest {
            tenant: tenant.into(),
            ..v1::ListCredentialsRequest::default()
        };
        assert_eq!(told(admin.list_credentials(list).await), not_granted());
        let set = v1::SetAssignmentRequest {
            tenant: tenant.into(),
            provider: provider.into(),
            ..v1::SetAssignmentRequest::default()
        };
        assert_eq!(told(admin.set_assignment(set).await), not_granted());
    }
}

async fn a_certificate_that_names_nobody_or_two_is_no_identity(server: &Server) {
    let folder = server.directory.join("data/pki");
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    for names in [
        vec![],
        vec![uri(OPERATOR), uri("spiffe://dynarex.local/order-service")],
        vec![uri(OPERATOR), uri(OPERATOR)],
        vec![uri("https://dynarex.local/operator"), dns("operator.dynarex.local")],
        vec![dns("one.dynarex.local"), dns("two.dynarex.local")],
        vec![dns("*.dynarex.local")],
        vec![SanType::IpAddress([127, 0, 0, 1].into())],
    ] {
        let shown = format!("{names:?}");
        let caller = Callers::with_identity(server, Some(issued(&folder, names, |_| {})));
        assert_eq!(told(caller.status().await), no_identity(), "{shown}");
    }
    for unknown in [
        uri("spiffe://dynarex.local/Operator"),
        uri("spiffe://dynarex.local/operator/x"),
        dns("dynarex.local"),
    ] {
        let caller = Callers::with_identity(server, Some(issued(&folder, vec![unknown], |_| {})));
        assert_eq!(told(caller.status().await), not_granted());
    }
    let operator = Callers::with_identity(server, Some(issued(&folder, vec![uri(OPERATOR)], |_| {})));
    assert!(operator.status().await.is_ok(), "the name counts, not the certificate");
}

async fn a_certificate_of_another_authority_or_one_that_has_ended_does_not_connect(server: &Server) {
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = pki::ensure(elsewhere.path(), SystemClock.now()).unwrap().operator;
    let read = |path| std::fs::read(path).unwrap();
    let foreign = Identity::from_pem(read(foreign.certificate), read(foreign.key));
    let folder = server.directory.join("data/pki");
    let ended = issued(&folder, vec![uri(OPERATOR)], |params| {
        params.not_after = params.not_before + std::time::Duration::from_hours(24);
    });
    let of_a_server = issued(&folder, vec![uri(OPERATOR)], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for identity in [foreign, ended, of_a_server] {
        let caller = Callers::with_identity(server, Some(identity));
        // The code is the client library's: no call was answered.
        let (_, reason) = told(caller.status().await);
        assert_eq!(reason, "");
    }
    // A client may know before the line is there.
    server.has_logged("invalid peer certificate", 3).await;
}

fn what_is_not_tls_1_3_does_not_connect(server: &Server) {
    // RFC 8446, 6.2: protocol_version.
    assert_eq!(answer_to(server, &client_hello_of_tls_1_2()), [21, 3, 3, 0, 2, 2, 70]);
    let plain_http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let answer = answer_to(server, plain_http2);
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
}

/// Everything that the server answers before it closes the connection.
fn answer_to(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has been answered too.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// RFC 5246, 7.4.1.2: a client that offers TLS 1.2 and nothing newer.
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let extension = |id: u16, content: &[u8]| [&id.to_be_bytes(), with_length(content).as_slice()].concat();
    let ecdhe_with_aes_gcm = with_length(&[0xc0, 0x2b, 0xc0, 0x2f]);
    let extensions = with_length(
        &[
            extension(10, &with_length(&[0, 23, 0, 29])),
            extension(11, &[1, 0]),
            extension(13, &with_length(&[4, 3, 8, 4, 4, 1])),
        ]
        .concat(),
    );
    let random_and_no_session = [[7; 32].as_slice(), &[0]].concat();
    let body = [
        &[3, 3],
        &random_and_no_session[..],
        &ecdhe_with_aes_gcm,
        &[1, 0],
        &extensions,
    ]
    .concat();
    let handshake = [&[1, 0][..], &with_length(&body)].concat();
    [&[22, 3, 1][..], &with_length(&handshake)].concat()
}
