use std::io::Write;
use std::path::Path;

use clap::Parser;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::super::{Cli, run};
use super::*;
use crate::cli::output::Output;

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

/// Serves mutual TLS for `name` on a free port of this machine, in its own thread.
fn serve(ca: &Ca, name: &str) -> u16 {
    let (cert, key) = ca.issue(name);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(ca.pem()));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap().port()).unwrap();
                let (_, health) = tonic_health::server::health_reporter();
                Server::builder()
                    .tls_config(tls)
                    .unwrap()
                    .add_service(health)
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await
            })
    });
    told.recv().unwrap()
}

fn status(server: &str, directory: &Path) -> Failure {
    run_status(server, directory, &[])
}

fn run_status(server: &str, directory: &Path, options: &[&str]) -> Failure {
    let directory = directory.to_str().unwrap();
    let line = ["tresor", "status", "--server", server, "--dev-dir", directory];
    let cli = Cli::try_parse_from(line.iter().chain(options)).unwrap();
    run(cli.command, &cli.connection, &mut Output::captured(cli.output).0).unwrap_err()
}

fn identity(trusted: &Ca, issuer: &Ca) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = issuer.issue("operator");
    let pki = directory.path().join("pki");
    std::fs::create_dir(&pki).unwrap();
    std::fs::write(pki.join("ca.pem"), trusted.pem()).unwrap();
    std::fs::write(pki.join("operator.pem"), cert).unwrap();
    std::fs::write(pki.join("operator.key"), key).unwrap();
    directory
}

#[test]
fn a_good_identity_reaches_the_server() {
    let ca = Ca::new();
    let port = serve(&ca, "localhost");
    let failure = status(&format!("localhost:{port}"), identity(&ca, &ca).path());
    // This server has only the health service.
    assert!(
        matches!(&failure, Failure::Call(status) if status.code() == tonic::Code::Unimplemented),
        "{failure}"
    );
}

#[test]
fn a_server_of_another_ca_is_not_trusted() {
    let ca = Ca::new();
    let port = serve(&ca, "localhost");
    let failure = status(&format!("localhost:{port}"), identity(&Ca::new(), &ca).path());
    assert!(failure.to_string().contains("not from the CA in"), "{failure}");
    assert_eq!(failure.exit(), Exit::Unavailable);
}

#[test]
fn a_server_with_another_name_is_not_trusted() {
    let ca = Ca::new();
    let port = serve(&ca, "vault.example.org");
    let failure = status(&format!("localhost:{port}"), identity(&ca, &ca).path());
    assert!(failure.to_string().contains("for another name"), "{failure}");
}

#[test]
fn a_certificate_that_the_server_refuses_is_named() {
    let ca = Ca::new();
    let port = serve(&ca, "localhost");
    let failure = status(&format!("localhost:{port}"), identity(&ca, &Ca::new()).path());
    assert!(
        failure.to_string().contains("does not accept the certificate in"),
        "{failure}"
    );
    assert_eq!(failure.exit(), Exit::Denied);
}

#[test]
fn a_key_of_another_certificate_is_refused_before_connecting() {
    let ca = Ca::new();
    let directory = identity(&ca, &ca);
    std::fs::write(directory.path().join("pki/operator.key"), ca.issue("other").1).unwrap();
    let failure = status("localhost:1", directory.path());
    assert!(
        failure.to_string().contains("the key must be the certificate's own"),
        "{failure}"
    );
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_without_end() {
    let ca = Ca::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    let failure = run_status(&server, identity(&ca, &ca).path(), &["--timeout", "100ms"]);
    assert!(failure.to_string().ends_with("did not answer in time"), "{failure}");
    assert_eq!(failure.exit(), Exit::Unavailable);
}

#[test]
fn a_port_without_tls_is_said_to_be_one() {
    let ca = Ca::new();
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("127.0.0.1:{}", plain.local_addr().unwrap().port());
    std::thread::spawn(move || plain.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let failure = status(&server, identity(&ca, &ca).path());
    assert!(failure.to_string().ends_with("does not speak TLS"), "{failure}");
}

#[test]
fn a_port_that_nobody_listens_on_is_said_plainly() {
    let ca = Ca::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let failure = status(&format!("localhost:{free}"), identity(&ca, &ca).path());
    assert!(failure.to_string().ends_with("nothing listens there"), "{failure}");
    assert_eq!(failure.exit(), Exit::Unavailable);
}
