//! What a call takes up until its answer has been taken.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

/// A body that gives its caller's place free when it has been sent, or when nobody waits for it any more.
struct HeldBody {
    body: Body,
    _place: OwnedSemaphorePermit,
}

/// Keeps the place for as long as there is something to send.
pub(super) fn hold(answer: Response<Body>, place: OwnedSemaphorePermit) -> Response<Body> {
    if answer.body().is_end_stream() {
        return answer;
    }
    answer.map(|body| Body::new(HeldBody { body, _place: place }))
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
