//! Lines of the log that strangers can cause in any number.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many such lines a second the log gets, of each kind.
const MOST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Lets few enough lines through that nobody can fill a disk with them.
#[derive(Debug)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Debug)]
struct State {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Seldom {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            began: None,
            lines: 0,
            left_out: 0,
        }))
    }

    /// Whether a line may be written now; if so, how many were left out since the last one.
    pub(super) fn may_log(&self) -> Option<u64> {
        self.may_log_at(Instant::now())
    }

    fn may_log_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            (state.began, state.lines) = (Some(now), 0);
        }
        if state.lines == MOST {
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_lines_a_second_the_first_are_written_and_the_others_counted() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        let written = (0..25).filter(|_| seldom.may_log_at(start) == Some(0)).count();
        assert_eq!(written, 10);
        assert_eq!(seldom.may_log_at(start + WINDOW), Some(15));
        assert_eq!(seldom.may_log_at(start + WINDOW), Some(0));
    }
}
