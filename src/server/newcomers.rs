//! Room for those who have not said yet who they are.
//!
//! Whoever comes last always finds a place. When all are taken, the one who has been there longest is sent away: an honest
//! client is done within a few round trips, one who only wants to be in the way is not. So silent connections, however many,
//! keep nobody out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future as _;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

pub(super) struct Newcomers {
    most: NonZeroUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// Those who are here, in the order they came. A dropped sender tells its receiver to go.
    here: BTreeMap<u64, oneshot::Sender<Infallible>>,
}

/// A place among the newcomers; free again when it is dropped.
pub(super) struct Place {
    number: u64,
    newcomers: Arc<Newcomers>,
    /// None once it has said so.
    sent_away: Option<oneshot::Receiver<Infallible>>,
}

impl Newcomers {
    pub(super) fn new(most: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            most,
            queue: Mutex::default(),
        })
    }

    /// A place for one more, if need be the one of whoever came first.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let (here, sent_away) = oneshot::channel();
        let mut queue = self.queue();
        if queue.here.len() >= self.most.get() {
            queue.here.pop_first();
        }
        let number = queue.next;
        queue.next += 1;
        queue.here.insert(number, here);
        Place {
            number,
            newcomers: Arc::clone(self),
            sent_away: Some(sent_away),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until somebody else needs the place.
    pub(super) fn poll_sent_away(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(sent_away) = &mut self.sent_away {
            ready!(Pin::new(sent_away).poll(context)).ok();
            self.sent_away = None;
        }
        Poll::Ready(())
    }

    /// Waits until somebody else needs the place.
    pub(super) async fn sent_away(&mut self) {
        std::future::poll_fn(|context| self.poll_sent_away(context)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.newcomers.queue().here.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn is_sent_away(place: &mut Place) -> bool {
        place.poll_sent_away(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn whoever_comes_last_gets_the_place_of_whoever_came_first() {
        let newcomers = Newcomers::new(NonZeroUsize::new(2).unwrap());
        let mut places = [newcomers.enter(), newcomers.enter(), newcomers.enter()];
        assert_eq!(places.each_mut().map(is_sent_away), [true, false, false]);
        let mut last = newcomers.enter();
        assert_eq!(places.each_mut().map(is_sent_away), [true, true, false]);
        assert!(!is_sent_away(&mut last));
    }

    #[test]
    fn whoever_leaves_makes_room() {
        let newcomers = Newcomers::new(NonZeroUsize::new(2).unwrap());
        let mut first = newcomers.enter();
        drop(newcomers.enter());
        let _third = newcomers.enter();
        assert!(!is_sent_away(&mut first));
        // Whoever was sent away takes nobody's place with them.
        let _fourth = newcomers.enter();
        drop(first);
        assert_eq!(newcomers.queue().here.len(), 2);
    }
}
