//! Calls that are refused are answered at once: as soon as what a connection has sent is read, and with the same write as others.
//!
//! The runtime would come to them only after every call that waits for its turn, so whoever is refused would wait like whoever is
//! served.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::Executor;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The calls of one connection that are not for the runtime; and what gives it all others.
#[derive(Clone, Default)]
pub(super) struct Aside(Arc<State>);

#[derive(Default)]
struct State {
    /// Whether the next one is one of them.
    is_next: AtomicBool,
    calls: Mutex<Vec<Call>>,
}

impl Aside {
    /// The call that is executed next is put aside.
    pub(super) fn put_next(&self) {
        self.0.is_next.store(true, Ordering::Relaxed);
    }

    /// Polls a connection, and what is put aside meanwhile until it leaves nothing to be sent.
    pub(super) fn poll<C: Future>(&self, mut connection: Pin<&mut C>, context: &mut Context<'_>) -> Poll<C::Output> {
        loop {
            let ended = connection.as_mut().poll(context);
            if ended.is_ready() || !self.do_all(context) {
                return ended;
            }
        }
    }

    /// Asks each for its answer, once: what has to wait for something is for the runtime after all. Whether there was any.
    fn do_all(&self, context: &mut Context<'_>) -> bool {
        let calls = std::mem::take(&mut *self.calls());
        let were_some = !calls.is_empty();
        for mut call in calls {
            if call.as_mut().poll(context).is_pending() {
                tokio::spawn(call);
            }
        }
        were_some
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Vec<Call>> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Aside {
    fn execute(&self, call: F) {
        if self.0.is_next.swap(false, Ordering::Relaxed) {
            self.calls().push(Box::pin(call));
        } else {
            tokio::spawn(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Is polled so many times, and has a call each time.
    struct Reads {
        aside: Aside,
        times: usize,
        answered: Arc<Mutex<Vec<usize>>>,
    }

    impl Future for Reads {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            if self.times > 0 {
                let (number, answered) = (self.times, Arc::clone(&self.answered));
                self.times -= 1;
                self.aside.put_next();
                self.aside.execute(async move { answered.lock().unwrap().push(number) });
            }
            Poll::Pending
        }
    }

    #[test]
    fn what_is_put_aside_is_answered_before_the_connection_waits() {
        // There is no runtime that it could be given to.
        let aside = Aside::default();
        let answered = Arc::default();
        let mut reads = Reads {
            aside: aside.clone(),
            times: 3,
            answered: Arc::clone(&answered),
        };
        let polled = aside.poll(Pin::new(&mut reads), &mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        assert_eq!(*answered.lock().unwrap(), [3, 2, 1]);
    }

    #[tokio::test]
    async fn what_has_to_wait_and_what_is_not_put_aside_is_the_runtimes() {
        let aside = Aside::default();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (other, waits) = (tell.clone(), tell);
        aside.put_next();
        aside.execute(async move {
            let _ = released.await;
            let _ = waits.send("has waited");
        });
        aside.execute(async move {
            let _ = other.send("another");
        });
        let context = &mut Context::from_waker(Waker::noop());
        assert!(
            aside
                .poll(Pin::new(&mut std::future::pending::<()>()), context)
                .is_pending()
        );
        assert_eq!(told.recv().await, Some("another"));
        release.send(()).unwrap();
        assert_eq!(told.recv().await, Some("has waited"));
    }
}
