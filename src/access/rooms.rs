//! Room for each caller, so that none takes all there is.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

use super::live::LivePermissions;

/// So and so many places for each caller, on all of its connections together. Those whom the policy does not name have one
/// room among them, however many they are.
#[derive(Debug)]
pub struct Rooms {
    places: usize,
    rooms: Mutex<HashMap<Option<Box<str>>, Weak<Semaphore>>>,
}

impl Rooms {
    /// Rooms with that many places each.
    #[must_use]
    pub fn new(places: NonZeroUsize) -> Self {
        Self {
            places: places.get(),
            rooms: Mutex::default(),
        }
    }

    /// The room of this caller. It lasts for as long as somebody holds it or a place in it.
    #[must_use]
    pub fn of(&self, caller: &LivePermissions) -> Arc<Semaphore> {
        let name = caller.now().is_known().then(|| caller.caller().as_str().into());
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.get(&name).and_then(Weak::upgrade) {
            return room;
        }
        rooms.retain(|_, room| room.strong_count() > 0);
        let room = Arc::new(Semaphore::new(self.places.min(Semaphore::MAX_PERMITS)));
        rooms.insert(name, Arc::downgrade(&room));
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Caller, LivePolicy, Policy};

    #[test]
    fn each_caller_has_a_room_and_those_whom_nobody_knows_share_one() {
        let grant =
            |who| format!("[[grant]]\nwho = \"{who}\"\nmay = [\"watch\"]\ntenants = [\"*\"]\nproviders = [\"*\"]\n");
        let policy = format!("{}{}", grant("one"), grant("two"));
        let policy = LivePolicy::new(Policy::parse(&policy, "test").unwrap());
        let caller = |name| LivePermissions::new(Caller::parse(name).unwrap(), Arc::clone(&policy));
        let rooms = Rooms::new(NonZeroUsize::new(2).unwrap());
        let room = |name| rooms.of(&caller(name));

        let _places = [room("one").try_acquire_owned(), room("one").try_acquire_owned()].map(Result::unwrap);
        assert!(room("one").try_acquire_owned().is_err());
        let two = room("two").try_acquire_owned().unwrap();

        let _places = [room("a").try_acquire_owned(), room("b").try_acquire_owned()].map(Result::unwrap);
        assert!(room("c").try_acquire_owned().is_err());

        // What nobody is in any more is forgotten.
        drop(two);
        drop(room("d"));
        let _three = room("two");
        assert_eq!(rooms.rooms.lock().unwrap().len(), 3);
    }
}
