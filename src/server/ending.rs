//! Ends open streams: at shutdown, so that nobody's subscription holds it up, and when the identity of their caller ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch as signal;
use tokio_stream::Stream as _;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;
use tonic::body::Body;

use crate::api::{ApiError, Fault};

/// A body that ends at once with `UNAUTHENTICATED` when the caller's identity ends, and with `UNAVAILABLE` once the server ends
/// and the body has nothing to say.
pub(super) struct EndingBody {
    body: Body,
    identity_has_ended: WatchStream<bool>,
    is_ending: WatchStream<bool>,
    is_over: bool,
}

impl EndingBody {
    pub(super) fn new(
        body: Body,
        identity_has_ended: signal::Receiver<bool>,
        is_ending: signal::Receiver<bool>,
    ) -> Self {
        Self {
            body,
            identity_has_ended: WatchStream::new(identity_has_ended),
            is_ending: WatchStream::new(is_ending),
            is_over: false,
        }
    }

    fn end(&mut self, error: &ApiError) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.is_over = true;
        let (parts, ()) = Status::from(Fault::from(error)).into_http::<()>().into_parts();
        Poll::Ready(Some(Ok(Frame::trailers(parts.headers))))
    }
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if has_turned_true(&mut self.identity_has_ended, context) {
            return self.end(&ApiError::IdentityEnded);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if has_turned_true(&mut self.is_ending, context) {
            return self.end(&ApiError::ShuttingDown);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Whether the signal has turned true, or will never come because its sender is gone. If not, the task is woken when it does.
fn has_turned_true(signal: &mut WatchStream<bool>, context: &mut Context<'_>) -> bool {
    while let Poll::Ready(is_so) = Pin::new(&mut *signal).poll_next(context) {
        if is_so != Some(false) {
            return true;
        }
    }
    false
}
