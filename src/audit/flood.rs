//! Keeps refusals from filling the disk: so many a second are listed one by one, the rest is counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::{Equivalent, HashMap};

use super::entry::{Body, Entry, Outcome};
use super::events;

/// Lines a second for calls without an identity, all of them together.
const STRANGERS: u64 = 20;
/// Lines a second for the refusals of one caller for one reason.
const CALLER: u64 = 100;
/// How many callers and reasons are told apart in a second.
const TOLD_APART: usize = 1024;
const WINDOW: Duration = Duration::from_secs(1);

/// Who was refused, how and why.
type Key = (Option<Box<str>>, &'static str, Box<str>);

/// The same, borrowed: nearly all that is refused is of those that are known.
#[derive(Hash)]
struct KeyRef<'a>(Option<&'a str>, &'static str, &'a str);

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, (caller, outcome, reason): &Key) -> bool {
        (self.0, self.1, self.2) == (caller.as_deref(), *outcome, &**reason)
    }
}

impl KeyRef<'_> {
    fn to_key(&self) -> Key {
        (self.0.map(Into::into), self.1, self.2.into())
    }
}

/// Refusals that have no lines of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusals {
    key: Key,
    count: u64,
}

impl Refusals {
    /// What the log says of them.
    pub(super) fn body(&self) -> Body {
        let (caller, outcome, reason) = &self.key;
        events::not_listed(caller.as_deref(), outcome, reason, self.count)
    }
}

/// Counts refusals.
#[derive(Default)]
pub(super) struct Flood(Mutex<Window>);

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    counts: HashMap<Key, u64>,
    /// What was not told of earlier seconds.
    owed: HashMap<Key, u64>,
}

impl Flood {
    /// Whether one more refusal gets a line of its own.
    pub(super) fn admits(&self, entry: &Entry<'_>) -> bool {
        let mut window = self.window();
        window.began.get_or_insert_with(Instant::now);
        let outcome = entry.outcome.unwrap_or(Outcome::Failed).as_str();
        let key = KeyRef(entry.caller, outcome, entry.reason.unwrap_or_default());
        if let Some(count) = window.counts.get_mut(&key) {
            *count += 1;
            return *count <= limit_of(entry.caller);
        }
        let key = told_apart(&window.counts, key.to_key());
        let limit = limit(&key);
        let count = window.counts.entry(key).or_default();
        *count += 1;
        *count <= limit
    }

    /// What is to be said about the last second, if it is over.
    pub(super) fn summary(&self) -> Vec<Refusals> {
        let mut window = self.window();
        if window.began.is_some_and(|began| began.elapsed() >= WINDOW) {
            window.close();
        }
        window.take_owed()
    }

    /// What is to be said, whether the second is over or not.
    pub(super) fn rest(&self) -> Vec<Refusals> {
        let mut window = self.window();
        window.close();
        window.take_owed()
    }

    /// It could not be said: it is said later.
    pub(super) fn put_back(&self, refusals: Refusals) {
        self.window().owe(refusals.key, refusals.count);
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn close(&mut self) {
        self.began = None;
        for (key, count) in std::mem::take(&mut self.counts) {
            let beyond = count.saturating_sub(limit(&key));
            if beyond > 0 {
                self.owe(key, beyond);
            }
        }
    }

    fn owe(&mut self, key: Key, count: u64) {
        let key = told_apart(&self.owed, key);
        *self.owed.entry(key).or_default() += count;
    }

    fn take_owed(&mut self) -> Vec<Refusals> {
        let owed = std::mem::take(&mut self.owed).into_iter();
        owed.map(|(key, count)| Refusals { key, count }).collect()
    }
}

/// The key itself, or one for all others when there are too many.
fn told_apart(known: &HashMap<Key, u64>, key: Key) -> Key {
    if known.len() >= TOLD_APART && !known.contains_key(&key) {
        (None, Outcome::Denied.as_str(), "OTHER".into())
    } else {
        key
    }
}

fn limit((caller, ..): &Key) -> u64 {
    limit_of(caller.as_deref())
}

fn limit_of(caller: Option<&str>) -> u64 {
    if caller.is_some() { CALLER } else { STRANGERS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Event;

    fn refusal<'a>(caller: Option<&'a str>, reason: &'a str) -> Entry<'a> {
        Entry {
            caller,
            outcome: Some(Outcome::Denied),
            reason: Some(reason),
            ..Entry::new(Event::Call, "GetStatus")
        }
    }

    #[test]
    fn what_is_above_the_limit_is_counted_and_told() {
        let flood = Flood::default();
        let stranger = refusal(None, "NO_IDENTITY");
        let admitted = (0..50).filter(|_| flood.admits(&stranger)).count() as u64;
        assert_eq!(admitted, STRANGERS);
        assert!(
            flood.admits(&refusal(Some("a"), "NOT_GRANTED")),
            "others are not held back"
        );
        assert!(flood.summary().is_empty(), "the second is not over");
        flood.window().began = Instant::now().checked_sub(WINDOW);
        let summary = flood.summary();
        let expected = events::not_listed(None, "denied", "NO_IDENTITY", 50 - STRANGERS);
        assert_eq!(summary.iter().map(Refusals::body).collect::<Vec<_>>(), [expected]);
        assert!(flood.admits(&stranger) && flood.summary().is_empty());
    }

    #[test]
    fn what_could_not_be_told_is_told_later_and_at_the_end_whatever_the_time() {
        let flood = Flood::default();
        let stranger = refusal(None, "NO_IDENTITY");
        let refuse = |times| (0..times).filter(|_| flood.admits(&stranger)).count();
        refuse(STRANGERS + 2);
        let told = flood.rest();
        assert_eq!(told.len(), 1);
        for refusals in told {
            flood.put_back(refusals);
        }
        refuse(STRANGERS + 3);
        let counts: Vec<_> = flood.rest().iter().map(|refusals| refusals.count).collect();
        assert_eq!(counts, [5]);
        assert!(flood.rest().is_empty());
    }

    #[test]
    fn callers_without_number_take_no_memory_without_limit() {
        let flood = Flood::default();
        for number in 0..5000 {
            flood.admits(&refusal(Some(&number.to_string()), "NOT_GRANTED"));
        }
        assert!(flood.window().counts.len() <= TOLD_APART + 1);
    }
}
