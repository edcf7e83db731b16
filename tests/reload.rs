//! Certificates, authorities, revocation lists and the policy change, and certificates expire, while connections are open.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::CertificateParams;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tonic::{Code, Request};
use tresor::audit::{Hash, Record};
use tresor::pb::v1;
use tresor::pki::{self, DevPki};
use tresor::time::{Clock as _, SystemClock};

use support::certificates::{issued, numbered, replace, revocation_list, uri};
use support::process::{Server, free_address, prepare, refusal, serve_command};
use support::requests::{general, login, name, order, put_login};
use support::{PATIENCE, audit_lines, callers::Callers, told};

const DAY: Duration = Duration::from_hours(24);
const OPERATOR: &str = "spiffe://dynarex.local/operator";
const ORDER_SERVICE: &str = "spiffe://dynarex.local/order-service";

fn identity_expired() -> (Code, String) {
    (Code::Unauthenticated, "IDENTITY_EXPIRED".into())
}

/// A vault with the files that an operator would make, and where its certificates are.
fn serve(directory: &Path, environment: &[(&str, &str)]) -> (Server, PathBuf) {
    prepare(directory);
    (Server::serve(directory, environment), directory.join("tls"))
}

/// An authority of somebody else, with certificates like ours.
fn another_authority(directory: &Path) -> DevPki {
    pki::ensure(&directory.join("elsewhere"), SystemClock.now()).unwrap()
}

/// What the audit log says that calls were decided by, one after the other: hashes.
fn in_force(directory: &Path, what: &str) -> Vec<String> {
    let lines = audit_lines(directory);
    let records = lines.lines().filter_map(Record::of);
    let told = records.filter(|record| record.event == "in_force" && record.what.as_deref() == Some(what));
    told.map(|record| record.sha256.unwrap().into_owned()).collect()
}

/// The hash of the certificates in these files.
fn hash_of(files: &[&Path]) -> String {
    let certificates = files
        .iter()
        .flat_map(|file| CertificateDer::pem_file_iter(file).unwrap());
    let all: Vec<_> = certificates.map(|certificate| certificate.unwrap().to_vec()).collect();
    Hash::of(&all.concat()).to_string()
}

/// Saves something that a watch of the tenant hears of, and insists that the watch does.
async fn is_heard(operator: &Callers, watch: &mut tonic::Streaming<v1::WatchChangesResponse>) {
    let saved = operator
        .save(put_login(name("firm", "dat", general()), login("x")))
        .await;
    let event = watch.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!(event.revision, saved);
}

/// Insists that no call gets through: every try is answered or not connected, none is served.
async fn is_out(callers: &Callers) {
    for _ in 0..3 {
        let refused = callers.status().await.expect_err("it is out");
        assert!(
            matches!(
                refused.code(),
                Code::Unauthenticated | Code::Unavailable | Code::Unknown | Code::Cancelled
            ),
            "{refused}"
        );
    }
}

fn expires_in(time: Duration) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.not_after = (SystemTime::now() + time).into()
}

#[tokio::test]
async fn the_servers_certificate_changes_and_no_connection_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let (server, tls) = serve(directory.path(), &[]);
    let operator = server.operator();
    let mut watch = server.order_service().watch("firm").await;
    is_heard(&operator, &mut watch).await;

    let other = another_authority(directory.path());
    let expected = [&server.pki.server.certificate, &other.server.certificate].map(|file| hash_of(&[file]));
    let read = |path: &Path| std::fs::read(path).unwrap();
    // One after the other, as many tools do: the pair in between must not be taken.
    replace(&tls.join("server.pem"), read(&other.server.certificate));
    server.hang_up();
    server.has_logged("the key is that of another certificate", 1).await;
    assert!(server.operator().status().await.is_ok(), "the old pair still serves");
    replace(&tls.join("server.key"), read(&other.server.key));
    server.has_logged("\"reloaded\"", 1).await;

    is_heard(&operator, &mut watch).await;
    let pair = &server.pki.operator;
    let identity = || {
        Some(tonic::transport::Identity::from_pem(
            read(&pair.certificate),
            read(&pair.key),
        ))
    };
    let trusts_the_new_one = Callers::trusting(&server, &other.ca, identity());
    assert!(trusts_the_new_one.status().await.is_ok());
    let trusts_the_old_one = Callers::trusting(&server, &server.pki.ca, identity());
    assert!(trusts_the_old_one.status().await.is_err());
    server.stop().await;
    assert_eq!(in_force(directory.path(), "certificate"), expected);
}

#[tokio::test]
async fn a_new_authority_is_let_in_and_one_that_is_taken_out_is_out_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (server, tls) = serve(directory.path(), &[]);
    let other = another_authority(directory.path());
    let newcomer = || Callers::connect(&server, Some(&other.operator));
    assert!(newcomer().status().await.is_err());
    let operator = server.operator();
    let mut watch = server.order_service().watch("firm").await;

    let (ours, theirs) = (
        std::fs::read(&server.pki.ca).unwrap(),
        std::fs::read(&other.ca).unwrap(),
    );
    replace(&tls.join("client-ca.pem"), [ours, theirs.clone()].concat());
    server.has_logged("\"reloaded\"", 1).await;
    let new_operator = newcomer();
    assert!(new_operator.status().await.is_ok());
    let mut new_watch = Callers::connect(&server, Some(&other.order_service))
        .watch("firm")
        .await;
    is_heard(&operator, &mut watch).await;
    new_watch.message().await.unwrap().unwrap();

    let (ca, other_ca) = (&server.pki.ca, &other.ca);
    let expected = [hash_of(&[ca]), hash_of(&[ca, other_ca]), hash_of(&[other_ca])];
    replace(&tls.join("client-ca.pem"), theirs);
    assert_eq!(told(watch.message().await), identity_expired());
    is_out(&operator).await;
    is_heard(&new_operator, &mut new_watch).await;
    server.stop().await;
    assert_eq!(in_force(directory.path(), "authorities"), expected);
}

#[tokio::test]
async fn cve_2026_39388_what_is_revoked_is_out_on_open_connections_too() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let tls = directory.path().join("tls");
    let crl = tls.join("client.crl");
    replace(&crl, revocation_list(&tls, &[7]));
    let server = Server::serve(directory.path(), &[("TRESOR_SERVER_CLIENT_CRL", "tls/client.crl")]);
    let client = |id, serial| Callers::with_identity(&server, Some(numbered(&tls, id, serial)));
    is_out(&client(OPERATOR, 7)).await;
    let (stays, leaves) = (client(OPERATOR, 1), client(OPERATOR, 2));
    assert!(stays.status().await.is_ok() && leaves.status().await.is_ok());
    let mut stays_watching = client(ORDER_SERVICE, 3).watch("firm").await;
    let mut leaves_watching = client(ORDER_SERVICE, 4).watch("firm").await;

    replace(&crl, revocation_list(&tls, &[2, 4, 7]));
    assert_eq!(told(leaves_watching.message().await), identity_expired());
    is_out(&leaves).await;
    is_heard(&stays, &mut stays_watching).await;
    server
        .has_logged("the identity of an open connection has ended", 2)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn cve_2026_40264_an_identity_ends_with_its_certificate_and_not_with_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let environment = [
        ("TRESOR_RESOLVER_STALE_WAIT", "30s"),
        ("TRESOR_SERVER_DEFAULT_DEADLINE", "30s"),
    ];
    let (server, tls) = serve(directory.path(), &environment);
    let operator = server.operator();
    let saved = operator
        .save(put_login(name("firm", "wom", general()), login("x")))
        .await;
    let short = issued(&tls, vec![uri(ORDER_SERVICE)], expires_in(Duration::from_secs(3)));
    let short = Callers::with_identity(&server, Some(short));
    let mut watch = short.watch("firm").await;
    // It is let in while the certificate is good, and waits for a revision that comes when it is not any more.
    let waiting = v1::ResolveForOrderRequest {
        tenant: "firm".into(),
        provider: "wom".into(),
        order: Some(order("leipzig")),
        with_receipt: false,
        min_revision: saved + 1,
    };
    let mut resolver = short.resolver.clone();
    let mut request = Request::new(waiting);
    request.set_timeout(Duration::from_secs(30));
    let under_way = tokio::spawn(async move { resolver.resolve_for_order(request).await });

    let ended = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap();
    assert_eq!(told(ended), identity_expired());
    is_out(&short).await;
    operator
        .save(put_login(name("firm", "dat", general()), login("x")))
        .await;
    // The revision has come, and whoever waited for it is nobody any more.
    assert_eq!(told(under_way.await.unwrap()), identity_expired());
    assert!(operator.status().await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn a_changed_policy_holds_for_open_connections_and_a_bad_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = serve(directory.path(), &[]);
    let operator = server.operator();
    assert!(operator.status().await.is_ok());
    let file = directory.path().join("policy.toml");
    let policy = std::fs::read_to_string(&file).unwrap();

    replace(&file, policy.replace("\"operate\"", "\"oprate\""));
    server.has_logged("not reloaded", 1).await;
    let log = server.lines("stderr").join("\n");
    assert!(log.contains("policy.toml") && log.contains("did you mean"), "{log}");
    assert!(operator.status().await.is_ok(), "the old one holds");

    let narrower = policy.replace(" \"operate\",", "");
    let [whole_hash, narrower_hash] = [&policy, &narrower].map(|text| Hash::of(text.as_bytes()).to_string());
    replace(&file, narrower);
    server.has_logged("\"reloaded\"", 1).await;
    assert_eq!(
        told(operator.status().await),
        (Code::PermissionDenied, "NOT_GRANTED".into())
    );
    // Whatever is decided by a policy stands behind the line that says that it holds.
    let lines = audit_lines(directory.path());
    let place = |words: &str| lines.lines().position(|line| line.contains(words)).unwrap();
    assert!(place(&narrower_hash) < place("NOT_GRANTED"), "{lines}");
    replace(&file, policy);
    server.hang_up();
    server.has_logged("\"reloaded\"", 2).await;
    assert!(operator.status().await.is_ok());
    server.stop().await;
    assert_eq!(
        in_force(directory.path(), "policy"),
        [whole_hash.clone(), narrower_hash, whole_hash]
    );
}

#[tokio::test]
async fn a_client_of_another_trust_domain_is_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (server, tls) = serve(directory.path(), &[("TRESOR_SERVER_TRUST_DOMAINS", "other.example")]);
    let operator = server.operator();
    let refused = operator.status().await.unwrap_err();
    assert!(refused.message().contains("server.trust_domains"), "{refused}");
    assert_eq!(told::<()>(Err(refused)), (Code::Unauthenticated, "NO_IDENTITY".into()));
    let stranger = issued(&tls, vec![uri("spiffe://other.example/operator")], |_| {});
    let stranger = Callers::with_identity(&server, Some(stranger));
    assert_eq!(
        told(stranger.status().await),
        (Code::PermissionDenied, "NOT_GRANTED".into())
    );
    server.stop().await;
}

#[tokio::test]
async fn what_expires_soon_is_told() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let tls = directory.path().join("tls");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_before = (SystemTime::now() - 80 * DAY).into();
    params.not_after = (SystemTime::now() + 10 * DAY).into();
    replace(&tls.join("server.pem"), params.self_signed(&key).unwrap().pem());
    replace(&tls.join("server.key"), key.serialize_pem());
    let server = Server::serve(directory.path(), &[]);
    server.has_logged("expires soon: renew it", 1).await;
    let log = server.lines("stderr");
    let warnings: Vec<_> = log.iter().filter(|line| line.contains("expires soon")).collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains("server.pem"),
        "{warnings:?}"
    );
    server.stop().await;
}

#[test]
fn a_list_that_would_let_nobody_in_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    // Its authority has the same name, as those of two environments of one firm often have.
    let other = another_authority(directory.path());
    let list = revocation_list(other.ca.parent().unwrap(), &[]);
    std::fs::write(directory.path().join("other.crl"), list).unwrap();
    let mut command = serve_command(directory.path());
    command
        .env("TRESOR_SERVER_LISTEN", free_address().to_string())
        .env("TRESOR_SERVER_HEALTH_LISTEN", free_address().to_string())
        .env("TRESOR_SERVER_CLIENT_CRL", "other.crl");
    let lines = refusal(&mut command);
    assert!(
        lines.iter().any(|line| line.contains("is not signed by it")),
        "{lines:?}"
    );
}
