//! Which names were asked for within the last hour.

use std::num::NonZeroU32;
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

pub(super) const HOUR: Duration = Duration::from_hours(1);
/// How often the names are looked through, at most, to find out when there is room. Until then an answer may be so much older.
const LOOK_THROUGH: Duration = Duration::from_secs(1);

/// The names that were asked for within the last hour: at most as many as the limit. Exact: a name counts from when it was last
/// asked for, to the nanosecond, and asking for it again is free. Each takes some 30 bytes.
///
/// A name is a keyed hash of 64 bits. Two of 500 names share one in about one of 10^14 hours.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// When each name was last asked for. Some may have had their hour. A name is its own hash.
    last_asked: HashTable<(u64, Duration)>,
    /// The newest of these.
    newest: Duration,
    /// As of the last look through: when, and when there will be room at the earliest.
    looked_through: Duration,
    room_at: Duration,
}

impl Window {
    /// Whether there is room for a name at `now`; if not, after which time there may be.
    pub(super) fn room_for(&mut self, name: u64, limit: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let asked = self.last_asked.find(name, |(other, _)| *other == name);
        if asked.is_some_and(|(_, asked)| *asked + HOUR > now) {
            return Ok(());
        }
        let limit = limit.get() as usize;
        if self.last_asked.len() < limit {
            return Ok(());
        }
        if now >= self.room_at || now >= self.looked_through + LOOK_THROUGH {
            self.look_through(limit, now);
        }
        if self.last_asked.len() < limit {
            return Ok(());
        }
        Err(self.room_at.saturating_sub(now))
    }

    /// Notes that a name was asked for.
    pub(super) fn note(&mut self, name: u64, now: Duration) {
        match self.last_asked.entry(name, |(other, _)| *other == name, own_hash) {
            Entry::Occupied(mut asked) => asked.get_mut().1 = now,
            Entry::Vacant(place) => drop(place.insert((name, now))),
        }
        self.newest = now;
    }

    /// Whether every name has had its hour.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.last_asked.is_empty() || self.newest + HOUR <= now
    }

    /// Forgets what has had its hour, and finds out when there is room.
    fn look_through(&mut self, limit: usize, now: Duration) {
        self.last_asked.retain(|(_, asked)| *asked + HOUR > now);
        if self.last_asked.capacity() > 4 * self.last_asked.len() {
            self.last_asked.shrink_to_fit(own_hash);
        }
        self.looked_through = now;
        // More than the limit, if that was lowered: then several must go.
        let Some(too_many) = self.last_asked.len().checked_sub(limit) else {
            return;
        };
        let mut times: Vec<_> = self.last_asked.iter().map(|(_, asked)| *asked).collect();
        let (_, last_to_go, _) = times.select_nth_unstable(too_many);
        self.room_at = *last_to_go + HOUR;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.last_asked.len()
    }
}

fn own_hash((name, _): &(u64, Duration)) -> u64 {
    *name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn limit(limit: u32) -> NonZeroU32 {
        NonZeroU32::new(limit).unwrap()
    }

    fn ask(window: &mut Window, name: u64, most: u32, minute: u64) -> Result<(), Duration> {
        let now = Duration::from_mins(minute);
        window.room_for(name, limit(most), now)?;
        window.note(name, now);
        Ok(())
    }

    #[test]
    fn a_name_is_free_for_an_hour_after_it_was_last_asked_for() {
        let mut window = Window::default();
        for minute in [0, 50, 100] {
            assert_eq!(ask(&mut window, 1, 1, minute), Ok(()));
        }
        assert_eq!(ask(&mut window, 2, 1, 110), Err(Duration::from_mins(50)));
        assert_eq!(ask(&mut window, 2, 1, 160), Ok(()));
        assert_eq!(ask(&mut window, 1, 1, 161), Err(Duration::from_mins(59)));
    }

    #[test]
    fn whoever_waits_as_long_as_it_was_told_has_room() {
        let mut window = Window::default();
        for name in 0..5 {
            ask(&mut window, name, 5, name).unwrap();
        }
        assert_eq!(ask(&mut window, 9, 5, 10), Err(Duration::from_mins(50)));
        // The oldest is asked for again: now it is the second oldest that makes room.
        ask(&mut window, 0, 5, 20).unwrap();
        assert_eq!(ask(&mut window, 9, 5, 30), Err(Duration::from_mins(31)));
        assert_eq!(ask(&mut window, 9, 5, 61), Ok(()));
    }

    #[test]
    fn a_lowered_limit_waits_until_enough_have_gone() {
        let mut window = Window::default();
        for name in 0..5 {
            ask(&mut window, name, 5, name).unwrap();
        }
        assert_eq!(ask(&mut window, 4, 2, 10), Ok(()), "what is in use stays free");
        assert_eq!(ask(&mut window, 9, 2, 10), Err(Duration::from_mins(53)));
        assert_eq!(ask(&mut window, 9, 2, 63), Ok(()));
    }

    proptest! {
        /// Against the plainest thing that does the same.
        #[test]
        fn in_no_hour_are_there_more_names_than_the_limit(
            most in 1_u32..6,
            asked in prop::collection::vec((0_u64..12, 1_u64..25), 1..200),
        ) {
            let mut window = Window::default();
            let mut answered = BTreeMap::new();
            let mut minute = 0;
            for (name, later) in asked {
                minute += later;
                let now = Duration::from_mins(minute);
                answered.retain(|_, at: &mut Duration| *at + HOUR > now);
                let has_room = answered.contains_key(&name) || answered.len() < most as usize;
                let answer = ask(&mut window, name, most, minute);
                prop_assert_eq!(answer.is_ok(), has_room);
                if has_room {
                    answered.insert(name, now);
                } else {
                    let first = answered.values().min().copied().unwrap();
                    prop_assert_eq!(answer, Err((first + HOUR).saturating_sub(now)));
                }
                prop_assert!(window.len() <= most as usize + 1);
            }
        }
    }
}
