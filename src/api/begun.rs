//! A request of which the beginning has been read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

type Next = Result<Frame<Bytes>, Status>;

/// A body whose first frames are here already.
pub(super) struct Begun {
    read: VecDeque<Next>,
    /// None if it has ended.
    rest: Option<Body>,
}

impl Begun {
    /// Reads until the body ends or has had more than `enough` bytes.
    pub(super) async fn read(mut body: Body, enough: usize) -> Self {
        let (mut read, mut size) = (VecDeque::new(), 0);
        while size <= enough {
            let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let is_over = !matches!(next, Some(Ok(_)));
            if let Some(Ok(frame)) = &next {
                size += frame.data_ref().map_or(0, Bytes::len);
            }
            read.extend(next);
            if is_over {
                return Self { read, rest: None };
            }
        }
        Self { read, rest: Some(body) }
    }

    /// Whether all of it is here.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_none()
    }
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
