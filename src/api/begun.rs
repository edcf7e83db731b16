//! A request of which the beginning has been read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

pub(super) type Next = Result<Frame<Bytes>, Status>;

/// What stands before each message, in bytes: whether it is compressed, and its length (gRPC over HTTP/2).
pub(super) const PREFIX: usize = 5;

/// A body whose first frames are here already.
pub(super) struct Begun {
    read: VecDeque<Next>,
    /// None if it has ended.
    rest: Option<Body>,
    is_large: bool,
}

impl Begun {
    /// Reads until it is known whether the message has more than `small` bytes; no further if it claims more than `most`,
    /// for which it is refused.
    pub(super) async fn read(mut body: Body, small: usize, most: usize) -> Self {
        let (mut read, mut size, mut prefix) = (VecDeque::new(), 0, Vec::with_capacity(PREFIX));
        while size <= PREFIX + small {
            let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let is_over = !matches!(next, Some(Ok(_)));
            if let Some(Ok(frame)) = &next
                && let Some(data) = frame.data_ref()
            {
                size += data.len();
                prefix.extend(data.iter().take(PREFIX - prefix.len()));
            }
            read.extend(next);
            if is_over || claimed(&prefix).is_some_and(|length| length > most) {
                return Self {
                    read,
                    rest: (!is_over).then_some(body),
                    is_large: false,
                };
            }
        }
        Self {
            read,
            rest: Some(body),
            is_large: true,
        }
    }

    /// A body of which these frames have been read; without a rest, all of it.
    pub(super) fn after(read: impl IntoIterator<Item = Next>, rest: Option<Body>) -> Self {
        Self {
            read: read.into_iter().collect(),
            rest,
            is_large: false,
        }
    }

    /// Whether the message takes more than the small one's room.
    pub(super) fn is_large(&self) -> bool {
        self.is_large
    }
}

/// The length that a message claims.
fn claimed(prefix: &[u8]) -> Option<usize> {
    let length = prefix.get(1..PREFIX)?.try_into().ok()?;
    Some(usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX))
}

impl http_body::Body for Begun {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Next>> {
        if let Some(next) = self.read.pop_front() {
            return Poll::Ready(Some(next));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(context),
            None => Poll::Ready(None),
        }
    }
}
