//! Room for those who have not said yet who they are.
//!
//! Whoever comes last always finds a place. When all are taken, somebody is sent away: of those at the address that has taken
//! the most, the one who has been there longest. An honest client is done within a few round trips, one who only wants to be
//! in the way is not, and who comes in great numbers pushes out their own first. So silent connections, however many, keep
//! nobody out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::Future as _;
use std::net::{IpAddr, Ipv6Addr};
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
    size: usize,
    /// Those who are here, in the order they came, by their networks. A dropped sender tells its receiver to go.
    crowds: HashMap<IpAddr, BTreeMap<u64, oneshot::Sender<Infallible>>>,
}

/// A place among the newcomers; free again when it is dropped.
pub(super) struct Place {
    number: u64,
    network: IpAddr,
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

    /// A place for one more, if need be somebody else's.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let (stay, sent_away) = oneshot::channel();
        let network = network(address);
        let mut queue = self.queue();
        let number = queue.next;
        queue.next += 1;
        queue.size += 1;
        queue.crowds.entry(network).or_default().insert(number, stay);
        if queue.size > self.most.get() {
            queue.make_room();
        }
        Place {
            number,
            network,
            newcomers: Arc::clone(self),
            sent_away: Some(sent_away),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Sends away the first of the largest crowd; of the one that has been here longest, if there are several.
    fn make_room(&mut self) {
        let crowds = self.crowds.iter();
        let firsts =
            crowds.filter_map(|(network, crowd)| Some((crowd.len(), Reverse(*crowd.keys().next()?), *network)));
        if let Some((_, Reverse(number), network)) = firsts.max() {
            self.remove(number, network);
        }
    }

    fn remove(&mut self, number: u64, network: IpAddr) {
        let Some(crowd) = self.crowds.get_mut(&network) else {
            return;
        };
        if crowd.remove(&number).is_some() {
            self.size -= 1;
        }
        if crowd.is_empty() {
            self.crowds.remove(&network);
        }
    }
}

/// Who has an IPv6 address usually has 2^64 of them (RFC 4291, 2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
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
        self.newcomers.queue().remove(self.number, self.network);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn is_sent_away(place: &mut Place) -> bool {
        place.poll_sent_away(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn newcomers() -> Arc<Newcomers> {
        Newcomers::new(NonZeroUsize::new(2).unwrap())
    }

    fn enter(newcomers: &Arc<Newcomers>, address: &str) -> Place {
        newcomers.enter(address.parse().unwrap())
    }

    #[test]
    fn whoever_comes_last_gets_the_place_of_whoever_came_first() {
        let newcomers = newcomers();
        let enter = || enter(&newcomers, "10.0.0.1");
        let mut places = [enter(), enter(), enter()];
        assert_eq!(places.each_mut().map(is_sent_away), [true, false, false]);
        let mut last = enter();
        assert_eq!(places.each_mut().map(is_sent_away), [true, true, false]);
        assert!(!is_sent_away(&mut last));
    }

    #[test]
    fn a_crowd_of_one_network_pushes_out_its_own() {
        let newcomers = newcomers();
        let enter = |address| enter(&newcomers, address);
        let mut honest = enter("10.0.0.1");
        let mut crowd = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:3"].map(enter);
        assert!(!is_sent_away(&mut honest));
        assert_eq!(crowd.each_mut().map(is_sent_away), [true, true, false]);
        // With one each, the oldest goes.
        let mut another = enter("2001:db8:0:1::1");
        assert_eq!([&mut honest, &mut another].map(is_sent_away), [true, false]);
    }

    #[test]
    fn whoever_leaves_makes_room() {
        let newcomers = newcomers();
        let enter = || enter(&newcomers, "10.0.0.1");
        let mut first = enter();
        drop(enter());
        let _third = enter();
        assert!(!is_sent_away(&mut first));
        // Whoever was sent away takes nobody's place with them.
        let _fourth = enter();
        drop(first);
        assert_eq!(newcomers.queue().size, 2);
    }
}
