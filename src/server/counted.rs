//! Counts a call's answer, whatever it is, and ends its trace.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::telemetry::metrics::Counted;
use crate::telemetry::traces::TracedCall;

/// Counts the answer. A stream goes on being open and counts when it ends.
pub(super) fn count(call: Counted, traced: Option<TracedCall>, answer: Response<Body>) -> Response<Body> {
    call.answered();
    // An answer whose end is in its head is an error; others say at their end how they end.
    let code = code_in(answer.headers());
    if let Some(traced) = traced {
        traced.end(code.unwrap_or(Code::Ok));
    }
    match code {
        None if call.is_stream() => answer.map(|body| Body::new(CountedBody { body, call: Some(call) })),
        code => {
            call.end(code.unwrap_or(Code::Ok));
            answer
        }
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// A stream that counts its end. If it is dropped before that, nobody takes it any more.
struct CountedBody {
    body: Body,
    call: Option<Counted>,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let code = match &frame {
            Poll::Ready(Some(Ok(frame))) => frame.trailers_ref().and_then(code_in),
            Poll::Ready(Some(Err(status))) => Some(status.code()),
            Poll::Ready(None) => Some(Code::Ok),
            Poll::Pending => None,
        };
        if let Some(code) = code
            && let Some(call) = self.call.take()
        {
            call.end(code);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
