//! Which calls a worker takes on when more come than it can serve.
//!
//! A worker takes calls in turn. How many it takes on before they wait too long follows from what they cost it, which it measures
//! while it works. A call waits twice: until its connection is read, for as long as the worker needs for those that it has taken on,
//! and then among them. So they may need half of the time that a call may wait.
//!
//! While the worker comes to rest now and then, more are a burst, which is served. When it has not for a while, the queue only makes
//! everybody wait: then what would wait longer than the bound is refused as soon as it is read, and the less important before the
//! more important (the bounds are those of the controlled delay of "Fail at Scale", ACM Queue 13(8), 2015).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::class::Class;

/// The longest that anything waits in a burst.
const BURST: Duration = Duration::from_millis(50);
/// For how long a worker may be busy almost without a pause before what waits for it is more than a burst.
const BUSY: Duration = Duration::from_millis(100);
/// How long it must have been at rest within that time. Those who call too much pause now and then, too, for a moment.
const REST: Duration = Duration::from_millis(10);
/// After how long without any call a busy worker has stood still: the machine or the disk has held it up. What came meanwhile is
/// late through nobody's load, and is served; unless there was too much of it before.
const STANDSTILL: Duration = Duration::from_millis(50);
/// For how long after a refusal what can wait best is not begun.
const AFTERMATH: Duration = Duration::from_secs(1);
/// What a call costs a worker that has not measured anything yet, and the most that it takes one to cost. What seems dearer is a
/// handshake beside a few calls, or a machine that has other things to do: no reason to refuse a burst that is soon done.
const DEAREST: Duration = Duration::from_micros(50);
/// How long it works until it looks what calls have cost it meanwhile: longer than it takes for all that wait, so that reading and
/// writing count too.
const MEASURED: Duration = Duration::from_millis(20);
/// How many times as dear or as cheap as before they can be at once. What seems dearer is the machine's doing, most likely.
const LEAP: u32 = 4;
/// How many calls may always wait, however much they seem to cost: so few are no overload, but a machine that has no time.
const LEAST: usize = 64;
/// Which part of the room is for whoever comes first. Of the rest, each connection that calls has its share, so that one that calls a
/// lot leaves room for one that does not.
const FREE: usize = 4;
/// How long a connection counts as one that calls, at least.
const CALLS_FOR: Duration = Duration::from_millis(20);

/// What one worker knows of its queue. One thread uses it.
#[derive(Debug)]
pub(super) struct Admission {
    longest_wait: Duration,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    work: Work,
    crowd: Crowd,
    rest: Rest,
    refused_at: Option<Instant>,
    /// It stood still for so long, and as long ago may calls be late for it.
    stood_still: Duration,
    stood_still_until: Instant,
    /// How many calls wait for their first turn.
    waiting: usize,
}

/// How long the worker works for a call, whatever it does for it and between it and the next.
#[derive(Debug)]
struct Work {
    per_call: Duration,
    /// When it last had anything to do with a call.
    seen_at: Instant,
    /// Since when it measures, and how many calls have begun since.
    measures_since: Instant,
    begun: u32,
    /// Since when it has nothing to do.
    rests_since: Option<Instant>,
}

/// How long the worker was at rest lately.
#[derive(Debug)]
struct Rest {
    since: Instant,
    now: Duration,
    before: Duration,
}

/// How many connections call at the moment.
#[derive(Debug)]
struct Crowd {
    since: Instant,
    /// Counts the times that they were counted.
    count: u64,
    now: usize,
    before: usize,
}

/// One connection's part of the queue.
#[derive(Debug, Default)]
pub(super) struct Part(Mutex<PartOfQueue>);

#[derive(Debug, Default)]
struct PartOfQueue {
    waiting: usize,
    /// When it was counted last.
    counted: u64,
}

/// A call that waits for its first turn. It leaves the queue when it begins, or when it is dropped because its caller has gone.
#[derive(Debug)]
pub(super) struct Waiting {
    admission: Arc<Admission>,
    part: Arc<Part>,
}

impl Admission {
    /// Calls wait about that long, at most, for a worker that does not come to rest.
    pub(super) fn new(longest_wait: Duration) -> Self {
        Self {
            longest_wait,
            queue: Mutex::new(Queue::new(Instant::now())),
        }
    }

    /// The worker has nothing to do.
    pub(super) fn rests(&self, now: Instant) {
        self.queue().work.rests_since = Some(now);
    }

    /// The worker has something to do again.
    pub(super) fn wakes(&self, now: Instant) {
        self.queue().wake(now);
    }

    /// Takes on a call that has come over a connection; none if there is too much to do.
    pub(super) fn take(self: &Arc<Self>, class: Class, part: &Arc<Part>, now: Instant) -> Option<Waiting> {
        let is_taken = self.queue().take(class, &mut part.lock(), self.longest_wait, now);
        is_taken.then(|| Waiting {
            admission: Arc::clone(self),
            part: Arc::clone(part),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Estimates that a panic interrupted are soon right again.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Its turn has come. Whether it is begun: not if its deadline has passed, because nobody waits for it any more.
    pub(super) fn begins(self, deadline: Instant, now: Instant) -> bool {
        self.admission.queue().work.begin(now);
        now < deadline
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.admission.queue().waiting -= 1;
        self.part.lock().waiting -= 1;
    }
}

impl Part {
    fn lock(&self) -> MutexGuard<'_, PartOfQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn new(now: Instant) -> Self {
        Self {
            work: Work {
                per_call: DEAREST,
                seen_at: now,
                measures_since: now,
                begun: 0,
                rests_since: None,
            },
            crowd: Crowd {
                since: now,
                count: 1,
                now: 0,
                before: 0,
            },
            rest: Rest {
                since: now,
                now: BURST,
                before: Duration::ZERO,
            },
            refused_at: None,
            stood_still: Duration::ZERO,
            stood_still_until: now,
            waiting: 0,
        }
    }

    fn wake(&mut self, now: Instant) {
        let rested = self.work.wake(now);
        self.rest.look(now);
        self.rest.now += rested;
    }

    fn take(&mut self, class: Class, part: &mut PartOfQueue, longest_wait: Duration, now: Instant) -> bool {
        if let Some(stood_still) = self.work.stood_still(now)
            && !self.has_refused_lately(now)
        {
            self.stood_still = stood_still;
            self.stood_still_until = now + stood_still;
        }
        self.rest.look(now);
        self.crowd.count(part, now);
        let is_taken = match class {
            Class::Vital => true,
            // This refusal does not count: else whoever asks all the time would never be served again.
            Class::Survey if self.has_refused_lately(now) => return false,
            Class::Resolve | Class::Change | Class::Survey => {
                let room = self.room_for(class, longest_wait, now);
                let free = room / FREE;
                self.waiting < free || (self.waiting < room && part.waiting < self.crowd.share(room, free))
            }
        };
        if is_taken {
            self.waiting += 1;
            part.waiting += 1;
        } else {
            self.refused_at = Some(now);
        }
        is_taken
    }

    /// How many calls may wait when one of this class comes.
    fn room_for(&self, class: Class, longest_wait: Duration, now: Instant) -> usize {
        let room = self.work.calls_in(self.longest_wait(longest_wait, now) / 2);
        match class {
            Class::Vital => usize::MAX,
            Class::Resolve => room,
            Class::Change => room / 2,
            Class::Survey => room / 4,
        }
    }

    fn longest_wait(&self, longest_wait: Duration, now: Instant) -> Duration {
        let mut longest = longest_wait;
        if self.rest.was_enough() {
            longest = longest.max(BURST);
        }
        if now < self.stood_still_until {
            // What has come meanwhile can be read at once, so it does not wait for that.
            longest += 2 * self.stood_still;
        }
        longest
    }

    fn has_refused_lately(&self, now: Instant) -> bool {
        self.refused_at
            .is_some_and(|refused_at| now.saturating_duration_since(refused_at) <= AFTERMATH)
    }
}

impl Work {
    /// Time at rest is no work. How long that was.
    fn wake(&mut self, now: Instant) -> Duration {
        let since = self.rests_since.take();
        let rested = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.seen_at += rested;
        self.measures_since += rested;
        rested
    }

    /// How long it has stood still, if it has. That is no work either.
    fn stood_still(&mut self, now: Instant) -> Option<Duration> {
        let idle = now.saturating_duration_since(self.seen_at);
        self.seen_at = self.seen_at.max(now);
        if idle <= STANDSTILL {
            return None;
        }
        self.measures_since += idle;
        Some(idle)
    }

    fn begin(&mut self, now: Instant) {
        self.seen_at = self.seen_at.max(now);
        self.begun += 1;
        let worked = now.saturating_duration_since(self.measures_since);
        if worked >= MEASURED {
            let (least, most) = (self.per_call / LEAP, self.per_call * LEAP);
            let measured = (worked / self.begun).clamp(least, most);
            self.per_call = ((self.per_call + measured) / 2).min(DEAREST);
            self.measures_since = now;
            self.begun = 0;
        }
    }

    /// How many calls it can begin in that time; some at least.
    fn calls_in(&self, time: Duration) -> usize {
        let calls = time.as_nanos() / self.per_call.as_nanos().max(1);
        usize::try_from(calls).unwrap_or(usize::MAX).max(LEAST)
    }
}

impl Rest {
    fn look(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed > BUSY {
            self.before = if passed <= 2 * BUSY { self.now } else { Duration::ZERO };
            self.now = Duration::ZERO;
            self.since = now;
        }
    }

    fn was_enough(&self) -> bool {
        self.now + self.before >= REST
    }
}

impl Crowd {
    fn count(&mut self, part: &mut PartOfQueue, now: Instant) {
        if now.saturating_duration_since(self.since) > CALLS_FOR {
            let is_next = now.saturating_duration_since(self.since) <= 2 * CALLS_FOR;
            self.before = if is_next { self.now } else { 0 };
            self.since = now;
            self.count += 1;
            self.now = 0;
        }
        if part.counted != self.count {
            part.counted = self.count;
            self.now += 1;
        }
    }

    /// How much of the room each of them may have; a part of it is free.
    fn share(&self, room: usize, free: usize) -> usize {
        match self.now.max(self.before) {
            0 | 1 => room,
            several => ((room - free) / several).max(1),
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
