//! The answer to a call, now or later.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use super::held::HeldBody;

type Answered = Result<Response<HeldBody>, Infallible>;

/// An answer that is there, or what comes to it.
pub(super) enum Answering {
    Now(Option<Response<HeldBody>>),
    Later(Pin<Box<dyn Future<Output = Answered> + Send>>),
}

impl Answering {
    pub(super) fn now(answer: Response<HeldBody>) -> Self {
        Self::Now(Some(answer))
    }

    pub(super) fn later(work: impl Future<Output = Response<HeldBody>> + Send + 'static) -> Self {
        Self::Later(Box::pin(async { Ok(work.await) }))
    }
}

impl Future for Answering {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        match &mut *self {
            Self::Now(answer) => Poll::Ready(Ok(answer.take().expect("whoever has got the answer asks no more"))),
            Self::Later(work) => work.as_mut().poll(context),
        }
    }
}
