//! What the development authority promises.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use tempfile::TempDir;
use x509_parser::pem::parse_x509_pem;

use crate::access::Caller;
use crate::time::{Clock, SystemClock};

use super::*;

const FILES: [&str; 8] = [
    "ca.key",
    "ca.pem",
    "operator.key",
    "operator.pem",
    "order-service.key",
    "order-service.pem",
    "server.key",
    "server.pem",
];

fn now() -> Timestamp {
    SystemClock.now()
}

fn folder() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("pki");
    (parent, folder)
}

fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

#[test]
fn keys_are_for_their_owner_only() {
    let (_parent, folder) = folder();
    ensure(&folder, now()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert!(content(&folder).keys().eq(FILES));
    for name in ["ca", "server", "operator", "order-service"] {
        assert_eq!(mode(&folder.join(format!("{name}.key"))), 0o600, "{name}");
    }
    let key = folder.join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = ensure(&folder, now()).unwrap_err().to_string();
    assert!(
        error.ends_with(&format!("(mode 640); run: chmod 600 {}", key.display())),
        "{error}"
    );
}

#[test]
fn a_second_start_keeps_everything() {
    let (_parent, folder) = folder();
    let first = ensure(&folder, now()).unwrap();
    let before = content(&folder);
    assert_eq!(ensure(&folder, now()).unwrap(), first);
    assert_eq!(content(&folder), before);
}

#[test]
fn only_what_is_missing_or_expires_is_made_again() {
    let (_parent, folder) = folder();
    ensure(&folder, now()).unwrap();
    let first = content(&folder);
    fs::remove_file(folder.join("operator.pem")).unwrap();
    ensure(&folder, now()).unwrap();
    let second = content(&folder);
    for name in FILES {
        assert_eq!(first[name] == second[name], !name.starts_with("operator"), "{name}");
    }
    ensure(&folder, now().after(DAY * 794)).unwrap();
    assert_eq!(content(&folder), second);
    ensure(&folder, now().after(DAY * 796)).unwrap();
    let third = content(&folder);
    for name in FILES {
        assert_eq!(second[name] == third[name], name.starts_with("ca."), "{name}");
    }
}

#[test]
fn an_authority_that_expires_says_what_to_do() {
    let (_parent, folder) = folder();
    ensure(&folder, now()).unwrap();
    let error = ensure(&folder, now().after(DAY * 3621)).unwrap_err().to_string();
    assert!(
        error.ends_with(&format!("delete the folder {} to get a new one", folder.display())),
        "{error}"
    );
    // No certificate outlives its authority.
    ensure(&folder, now().after(DAY * 3619)).unwrap();
    let pem = fs::read(folder.join("server.pem")).unwrap();
    let (_, pem) = parse_x509_pem(&pem).unwrap();
    let expires = pem.parse_x509().unwrap().validity().not_after.timestamp();
    assert!(expires <= now().after(AUTHORITY_LIFETIME).unix_seconds());
}

#[test]
fn nothing_that_somebody_else_put_there_is_overwritten() {
    let (_other_parent, other) = folder();
    let (_parent, folder) = folder();
    ensure(&folder, now()).unwrap();
    ensure(&other, now()).unwrap();
    let expect = |changed: &str, from: &Path, reason: &str| {
        let own = fs::read(folder.join(changed)).unwrap();
        fs::copy(from, folder.join(changed)).unwrap();
        let error = ensure(&folder, now()).unwrap_err().to_string();
        assert!(error.contains(reason), "{changed}: {error}");
        assert_eq!(fs::read(folder.join(changed)).unwrap(), fs::read(from).unwrap());
        fs::write(folder.join(changed), own).unwrap();
    };
    expect(
        "server.key",
        &folder.join("operator.key"),
        "its key is that of another certificate",
    );
    expect("server.pem", &folder.join("ca.key"), "this is not a certificate");
    expect(
        "ca.key",
        &other.join("ca.key"),
        "cannot be used: its key is that of another certificate",
    );
    for name in ["server.pem", "server.key"] {
        fs::copy(other.join(name), folder.join(name)).unwrap();
    }
    let error = ensure(&folder, now()).unwrap_err().to_string();
    assert!(
        error.contains("another authority than ca.pem; delete it to get a new one"),
        "{error}"
    );
    fs::remove_file(folder.join("ca.key")).unwrap();
    let error = ensure(&folder, now()).unwrap_err().to_string();
    assert!(
        error.contains("its certificate or its key is missing; delete the folder"),
        "{error}"
    );
}

#[test]
fn each_certificate_may_do_one_thing() {
    let (_parent, folder) = folder();
    ensure(&folder, now()).unwrap();
    for (name, is_ca, server, client) in [
        ("ca.pem", true, false, false),
        ("server.pem", false, true, false),
        ("operator.pem", false, false, true),
        ("order-service.pem", false, false, true),
    ] {
        let pem = fs::read(folder.join(name)).unwrap();
        let (_, pem) = parse_x509_pem(&pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca == is_ca, "{name}");
        assert_eq!(constraints.value.path_len_constraint, is_ca.then_some(0));
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() == is_ca && usage.value.digital_signature() != is_ca);
        let extended = certificate.extended_key_usage().unwrap();
        assert_eq!(
            extended.as_ref().is_some_and(|usage| usage.value.server_auth),
            server,
            "{name}"
        );
        assert_eq!(
            extended.as_ref().is_some_and(|usage| usage.value.client_auth),
            client,
            "{name}"
        );
        assert!(certificate.raw_serial().len() > 8, "{name}");
    }
}

#[test]
fn clients_and_server_trust_each_other_and_the_server_knows_who_calls() {
    let (_parent, folder) = folder();
    let pki = ensure(&folder, now()).unwrap();
    for host in ["localhost", "127.0.0.1", "::1"] {
        assert_eq!(shake_hands(&pki, &pki.operator, host).unwrap(), OPERATOR);
        assert_eq!(shake_hands(&pki, &pki.order_service, host).unwrap(), ORDER_SERVICE);
    }
    assert!(shake_hands(&pki, &pki.operator, "elsewhere").is_err());
    assert!(
        shake_hands(&pki, &pki.server, "localhost").is_err(),
        "a server is no client"
    );
}

/// The caller that the server sees.
fn shake_hands(pki: &DevPki, client: &Pair, host: &str) -> Result<String, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&pki.ca).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let identity = |pair: &Pair| {
        let certificate = CertificateDer::from_pem_file(&pair.certificate).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_file(&pair.key).unwrap())
    };

    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let (chain, key) = identity(&pki.server);
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)?;
    let (chain, key) = identity(client);
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;

    let mut server = ServerConnection::new(Arc::new(server))?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    while server.is_handshaking() || client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    let chain = server.peer_certificates().unwrap();
    Ok(Caller::from_certificate(&chain[0]).unwrap().to_string())
}
