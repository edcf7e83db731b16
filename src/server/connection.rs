//! An accepted connection, as hyper reads and writes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::newcomers::Place;
use crate::api::Peer;

/// How long a client may take to say what protocol it speaks, and how long one without an identity may stay.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take none of what it is sent. Pings do not notice one that stops reading: they have to wait too.
const STALL: Duration = Duration::from_secs(20);
/// What every HTTP/2 connection begins with, in bytes (RFC 9113, 3.4). From there on, pings notice a client that is gone.
const PREFACE: usize = 24;

/// A stream and who is at its other end.
///
/// It answers `is_write_vectored() = false` (the trait's default), on purpose: h2 then copies small frames into one buffer
/// with their headers, which halves the number of writes and TLS records.
pub(super) struct Connection<S> {
    stream: S,
    peer: Peer,
    /// When it is closed; none once a client with an identity has spoken.
    patience: Option<Pin<Box<Sleep>>>,
    /// How many bytes the client has said, while there is patience.
    heard: usize,
    /// When it is closed if the client goes on taking nothing; none while it takes what it is sent.
    stall: Option<Pin<Box<Sleep>>>,
    room: Room,
}

/// What a connection takes up; free again with the end of the connection.
pub(super) enum Room {
    /// It has it for as long as it likes.
    Kept {
        _general: OwnedSemaphorePermit,
        _own: Option<OwnedSemaphorePermit>,
    },
    /// It has it until somebody else needs it.
    Lent(Place),
}

impl<S> Connection<S> {
    pub(super) fn new(stream: S, peer: Peer, room: Room) -> Self {
        let patience = Some(Box::pin(tokio::time::sleep(PATIENCE)));
        Self {
            stream,
            peer,
            patience,
            heard: 0,
            stall: None,
            room,
        }
    }

    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Room::Lent(place) = &mut self.room
            && place.poll_sent_away(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut self.patience {
            Some(patience) => patience
                .as_mut()
                .poll(context)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
            None => Poll::Pending,
        }
    }

    /// What came of an attempt to write, unless the client has taken nothing for too long, or its time is over.
    fn unless_stalled<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        if let Poll::Ready(Err(over)) = self.poll_patience(context) {
            return Poll::Ready(Err(over));
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        let over = stall.as_mut().poll(context);
        over.map(|()| Err(io::ErrorKind::TimedOut.into()))
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
        let is_stranger = self.peer.identity().is_err();
        // Also for one that talks without a pause.
        if is_stranger && let Poll::Ready(over) = self.poll_patience(context) {
            return Poll::Ready(over);
        }
        if is_stranger && self.peer.is_worn_out() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            if self.patience.is_some() {
                self.heard += buffer.filled().len() - before;
                if self.heard >= PREFACE && !is_stranger {
                    self.patience = None;
                }
            }
            return read;
        }
        self.poll_patience(context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(context);
        // Not after a write: TLS takes some of it even if the client takes nothing.
        if written.is_ready() {
            self.stall = None;
        }
        self.unless_stalled(context, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_shutdown(context);
        self.unless_stalled(context, written)
    }
}
