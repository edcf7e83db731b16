//! An accepted connection, as hyper reads and writes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use crate::api::Peer;

/// How long a client may take to say anything, and how long one without an identity may stay.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream and who is at its other end.
///
/// It answers `is_write_vectored() = false` (the trait's default), on purpose: h2 then copies small frames into one buffer
/// with their headers, which halves the number of writes and TLS records.
pub(super) struct Connection<S> {
    stream: S,
    peer: Peer,
    /// When it is closed; none once a client with an identity has spoken.
    patience: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
    _stranger: Option<OwnedSemaphorePermit>,
}

impl<S> Connection<S> {
    /// A connection that keeps its permits for as long as it lives.
    pub(super) fn new(
        stream: S,
        peer: Peer,
        permit: OwnedSemaphorePermit,
        stranger: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let patience = Some(Box::pin(tokio::time::sleep(PATIENCE)));
        Self {
            stream,
            peer,
            patience,
            _permit: permit,
            _stranger: stranger,
        }
    }

    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.patience {
            Some(patience) => patience
                .as_mut()
                .poll(context)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
            None => Poll::Pending,
        }
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            if self.peer.identity().is_ok() {
                self.patience = None;
            }
            return read;
        }
        self.poll_patience(context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
