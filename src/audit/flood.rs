//! Keeps refusals from filling the disk: so many a second are listed one by one, the rest is counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::entry::Body;
use super::events;

/// Lines a second for calls without an identity, all of them together.
const STRANGERS: u64 = 20;
/// Lines a second for the refusals of one caller for one reason.
const CALLER: u64 = 100;
/// How many callers and reasons are told apart in a second.
const TOLD_APART: usize = 1024;
const WINDOW: Duration = Duration::from_secs(1);

/// Who was refused, and why.
type Key = (Option<Box<str>>, Box<str>);

/// Counts refusals.
#[derive(Default)]
pub(super) struct Flood(Mutex<Window>);

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    counts: HashMap<Key, u64>,
}

impl Flood {
    /// Whether one more refusal gets a line of its own.
    pub(super) fn admits(&self, caller: Option<&str>, reason: &str) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.began.get_or_insert_with(Instant::now);
        let key = (caller.map(Into::into), reason.into());
        let is_full = window.counts.len() >= TOLD_APART && !window.counts.contains_key(&key);
        let key = if is_full { (None, "OTHER".into()) } else { key };
        let limit = if key.0.is_some() { CALLER } else { STRANGERS };
        let count = window.counts.entry(key).or_default();
        *count += 1;
        *count <= limit
    }

    /// What is to be said about the last second, if it is over.
    pub(super) fn summary(&self) -> Vec<Body> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| began.elapsed() < WINDOW) {
            return Vec::new();
        }
        let Window { counts, .. } = std::mem::take(&mut *window);
        let beyond = counts.into_iter().filter_map(|((caller, reason), count)| {
            let limit = if caller.is_some() { CALLER } else { STRANGERS };
            let beyond = count.checked_sub(limit).filter(|beyond| *beyond > 0)?;
            Some(events::not_listed(caller.as_deref(), &reason, beyond))
        });
        beyond.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_limit_is_counted_and_told() {
        let flood = Flood::default();
        let admitted = (0..50).filter(|_| flood.admits(None, "NO_IDENTITY")).count() as u64;
        assert_eq!(admitted, STRANGERS);
        assert!(flood.admits(Some("a"), "NOT_GRANTED"), "others are not held back");
        assert!(flood.summary().is_empty(), "the second is not over");
        flood.0.lock().unwrap().began = Instant::now().checked_sub(WINDOW);
        let expected = events::not_listed(None, "NO_IDENTITY", 50 - STRANGERS);
        assert_eq!(flood.summary(), [expected]);
        assert!(flood.admits(None, "NO_IDENTITY") && flood.summary().is_empty());
    }

    #[test]
    fn callers_without_number_take_no_memory_without_limit() {
        let flood = Flood::default();
        for number in 0..5000 {
            flood.admits(Some(&number.to_string()), "NOT_GRANTED");
        }
        assert!(flood.0.lock().unwrap().counts.len() <= TOLD_APART + 1);
    }
}
