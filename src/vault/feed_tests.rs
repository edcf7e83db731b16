//! Subscribing while changes are applied, in every order in which the steps can happen: whoever comes back with the newest revision
//! that it has seen, or was told of, gets each later change once, in order. Any of these fails it: listening begins before the lock
//! is taken, or after it is let go; which revision is applied is told before the lock is taken, or after it is let go; a change is
//! told of before it is kept.

// The feed itself once more, over a lock that is loom's to schedule.
#[expect(clippy::duplicate_mod, reason = "it is the feed itself that is tried")]
#[allow(dead_code, unreachable_pub, reason = "what the model does not use")]
#[path = "feed.rs"]
mod feed;

use std::sync::Arc;

use loom::thread;

use self::feed::{Event, EventKind, Feed, Subscription};
use super::ids::{self, ProviderId, TenantId};
use super::scope;
use crate::store::Revision;

mod primitives {
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

fn publish(feed: &Feed, revision: u64) {
    let event = Event {
        revision: Revision(revision),
        tenant: TenantId::parse("demo").unwrap(),
        provider: ProviderId::parse("dat").unwrap(),
        scope: None,
        kind: EventKind::AssignmentChanged,
    };
    feed.publish(event.revision, vec![event]);
}

#[test]
fn whoever_comes_back_gets_each_change_once_whatever_happens_meanwhile() {
    loom::model(|| {
        let feed = Arc::new(Feed::after(Revision(0)));
        let Subscription::Resumed { live: mut before, .. } = feed.subscribe(None) else {
            panic!("nothing was missed");
        };
        let applies = {
            let feed = Arc::clone(&feed);
            thread::spawn(move || {
                publish(&feed, 1);
                publish(&feed, 2);
            })
        };
        thread::yield_now();
        let seen = before
            .try_recv()
            .map_or_else(|_| feed.revision(), |event| event.revision);
        let Subscription::Resumed { missed, mut live } =
            feed.subscribe(Some((seen, &TenantId::parse("demo").unwrap())))
        else {
            panic!("what came after {seen} is said not to be known");
        };
        applies.join().unwrap();
        let mut told: Vec<_> = missed.iter().map(|event| event.revision.0).collect();
        while let Ok(event) = live.try_recv() {
            told.push(event.revision.0);
        }
        assert_eq!(told, (seen.0 + 1..=2).collect::<Vec<_>>());
    });
}
