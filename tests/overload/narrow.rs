//! A reader that takes as little as HTTP/2 lets it, so that it shows when it is sent no more.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use http::Request;
use prost::Message;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tresor::pki::Pair;

use crate::support::PATIENCE;
use crate::support::process::Server;

/// What stands before each message, in bytes: whether it is compressed, and its length (gRPC over HTTP/2).
const PREFIX: usize = 5;

/// A stream of which no more is taken than fits into its window, until it is read.
pub(crate) struct Narrow {
    body: RecvStream,
    window: usize,
    /// What was read and belongs to no message yet.
    rest: BytesMut,
}

impl Narrow {
    /// Calls a method over a connection of its own, and waits until the answer has begun.
    pub(crate) async fn call(server: &Server, pair: &Pair, path: &str, request: &impl Message, window: u32) -> Self {
        let stream = TcpStream::connect(server.listen).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(tls(&server.pki.ca, pair))
            .connect(name, stream)
            .await;
        let client = h2::client::Builder::new()
            .initial_window_size(window)
            .handshake::<_, Bytes>(stream.unwrap());
        let (client, connection) = client.await.unwrap();
        tokio::spawn(connection);
        let head = Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let mut client = client.ready().await.unwrap();
        let (answer, mut body) = client.send_request(head.body(()).unwrap(), false).unwrap();
        body.send_data(framed(request), true).unwrap();
        let answer = answer.await.unwrap();
        assert!(!answer.headers().contains_key("grpc-status"), "{path}: {answer:?}");
        Self {
            body: answer.into_body(),
            window: usize::try_from(window).unwrap(),
            rest: BytesMut::new(),
        }
    }

    /// Waits until its window is full: there is more to send, and it cannot be sent.
    pub(crate) async fn is_blocked(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.body.flow_control().available_capacity() > 0 {
            assert!(Instant::now() < deadline, "there is nothing more for it");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert_eq!(self.body.flow_control().used_capacity(), self.window);
    }

    /// Reads on, up to the next message; none at the end of the stream, which must be a good one.
    pub(crate) async fn next<T: Message + Default>(&mut self) -> Option<T> {
        loop {
            if let Some(message) = self.message() {
                return Some(T::decode(message).unwrap());
            }
            let Some(piece) = tokio::time::timeout(PATIENCE, self.body.data()).await.unwrap() else {
                let end = self.body.trailers().await.unwrap().unwrap();
                assert_eq!(end["grpc-status"], "0", "{end:?}");
                assert!(self.rest.is_empty());
                return None;
            };
            let piece = piece.unwrap();
            self.body.flow_control().release_capacity(piece.len()).unwrap();
            self.rest.put(piece);
        }
    }

    fn message(&mut self) -> Option<Bytes> {
        let length = self.rest.get(1..PREFIX)?.try_into().unwrap();
        let whole = PREFIX + usize::try_from(u32::from_be_bytes(length)).unwrap();
        if self.rest.len() < whole {
            return None;
        }
        let mut message = self.rest.split_to(whole);
        message.advance(PREFIX);
        Some(message.freeze())
    }
}

fn tls(ca: &Path, pair: &Pair) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let chain = CertificateDer::pem_file_iter(&pair.certificate).unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let tls = tls
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key);
    let mut tls = tls.unwrap();
    tls.alpn_protocols = vec![b"h2".into()];
    Arc::new(tls)
}

fn framed(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut framed).unwrap();
    framed.freeze()
}
