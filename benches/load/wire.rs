//! A connection over mutual TLS, with tonic's client on it.
//!
//! Without tonic's `Channel`: its queue and its reconnecting are of no use here, and what the client costs is taken from the
//! server, which shares the machine with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tower::Service;
use tresor::pki::{DevPki, Pair};

use crate::support::Error;

/// How much may be on its way to a client that connects barely, in bytes: more than ever is.
const WINDOW: u32 = 16 << 20;

/// Whom to connect to, and as whom.
#[derive(Clone)]
pub(crate) struct Address {
    port: u16,
    tls: Arc<ClientConfig>,
}

/// An HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Connection(http2::SendRequest<Body>);

impl Address {
    pub(crate) fn new(port: u16, pki: &DevPki, client: &Pair) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&pki.ca)?)?;
        let chain = CertificateDer::pem_file_iter(&client.certificate)?.collect::<Result<_, _>>()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&client.key)?)?;
        tls.alpn_protocols = vec![b"h2".into()];
        Ok(Self {
            port,
            tls: Arc::new(tls),
        })
    }

    /// Connects. The connection is served by the runtime of whoever calls this.
    pub(crate) async fn connect(self) -> Result<Connection, Error> {
        let stream = TokioIo::new(self.greet().await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        // How it ends is told to the calls on it.
        tokio::spawn(connection);
        Ok(Connection(sender))
    }

    /// The same without hyper, which gives each call tasks of its own.
    pub(crate) async fn connect_barely(self) -> Result<SendRequest<Bytes>, Error> {
        let stream = self.greet().await?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(stream)
            .await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn greet(self) -> Result<Joined, Error> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let server = ServerName::try_from("localhost")?;
        Ok(Joined(TlsConnector::from(self.tls).connect(server, stream).await?))
    }
}

impl Connection {
    /// tonic's client on this connection.
    pub(crate) fn client(&self) -> Grpc<Self> {
        Grpc::with_origin(self.clone(), http::Uri::from_static("https://localhost"))
    }
}

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Does not write vectored, so that small frames leave in one TLS record, as those of our servers do.
struct Joined(TlsStream<TcpStream>);

impl AsyncRead for Joined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Joined {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
