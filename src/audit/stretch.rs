//! How far a log goes on without a signature, as it is verified.

use std::time::Duration;

use super::events;
use super::log::parse_time;
use super::record::Record;
use crate::time::Timestamp;

/// The longest that can be configured (`audit.checkpoint_lines`, `audit.checkpoint_interval`).
const MOST_LINES: u64 = 1_000_000;
const LONGEST: Duration = Duration::from_hours(24);
/// Lines that are written at once with the one that makes a checkpoint due.
const GROUP: u64 = 4 * 1024;
/// How long after it is due the writer may take to sign.
const DELAY: Duration = Duration::from_secs(10);

/// The lines since the last signature.
pub(super) struct Stretch {
    most_lines: u64,
    longest: Duration,
    lines: u64,
    began: Option<Timestamp>,
    /// The first line that is later than the bound. Those of the same moment are signed together.
    late: Option<Timestamp>,
    /// No signature since the process began: the vault may be sealed.
    may_be_sealed: bool,
    is_told: bool,
}

impl Stretch {
    pub(super) fn new() -> Self {
        Self {
            most_lines: MOST_LINES,
            longest: LONGEST,
            lines: 0,
            began: None,
            late: None,
            may_be_sealed: true,
            is_told: false,
        }
    }

    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    pub(super) fn may_be_sealed(&self) -> bool {
        self.may_be_sealed
    }

    /// Whether the stretch is longer than the writer ever leaves one.
    pub(super) fn is_too_long(&self) -> bool {
        self.lines > self.most_lines + GROUP
    }

    /// A signature vouches for everything up to here.
    pub(super) fn signed(&mut self) {
        (self.lines, self.began, self.late) = (0, None, None);
        (self.may_be_sealed, self.is_told) = (false, false);
    }

    /// Takes a line without a signature. Says once if the vault had its keys and should have signed long ago.
    pub(super) fn take(&mut self, record: &Record<'_>) -> bool {
        self.may_be_sealed |= record.event == events::STARTED;
        // What others may have written sets no larger bound than the configuration can.
        if let Some(lines) = record.checkpoint_lines {
            self.most_lines = lines.min(MOST_LINES);
        }
        if let Some(ms) = record.checkpoint_ms {
            self.longest = Duration::from_millis(ms).min(LONGEST);
        }
        self.lines += 1;
        if let Some(time) = parse_time(&record.time) {
            let began = *self.began.get_or_insert(time);
            if time.since(began) > self.longest {
                self.late.get_or_insert(time);
            }
            if self.late.is_some_and(|late| time.since(late) > DELAY) {
                return self.tell();
            }
        }
        self.is_too_long() && self.tell()
    }

    fn tell(&mut self) -> bool {
        !self.may_be_sealed && !std::mem::replace(&mut self.is_told, true)
    }
}
