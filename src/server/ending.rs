//! Ends open streams at shutdown, so that nobody's subscription holds it up.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_stream::Stream as _;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;
use tonic::body::Body;

use crate::api::{ApiError, Fault};

/// A body that ends with `UNAVAILABLE` once the server ends and the body has nothing to say.
pub(super) struct EndingBody {
    body: Body,
    is_ending: WatchStream<bool>,
    is_over: bool,
}

impl EndingBody {
    pub(super) fn new(body: Body, is_ending: WatchStream<bool>) -> Self {
        Self {
            body,
            is_ending,
            is_over: false,
        }
    }
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        while let Poll::Ready(ending) = Pin::new(&mut self.is_ending).poll_next(context) {
            if ending != Some(false) {
                self.is_over = true;
                let status = Status::from(Fault::from(&ApiError::ShuttingDown));
                let (parts, ()) = status.into_http::<()>().into_parts();
                return Poll::Ready(Some(Ok(Frame::trailers(parts.headers))));
            }
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
