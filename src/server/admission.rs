//! Which calls a worker begins when more come than it can serve.
//!
//! A worker takes calls in turn, so how long one has waited for its first turn is how far the worker is behind. While it comes
//! to rest now and then, that is a burst, which is served. When it has not for a while, the queue only makes everybody wait: then
//! what has waited longer than the bound is refused at once, and the less important before the more important
//! (the controlled delay of "Fail at Scale", ACM Queue 13(8), 2015).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::class::Class;

/// For how long a worker may be busy without a pause before what waits for it is more than a burst; and the longest that
/// anything waits in a burst.
const BURST: Duration = Duration::from_millis(100);
/// After how long without a turn of any call a worker has stood still: the machine or the disk has held it up. What came meanwhile
/// is late through nobody's load, and is served.
const STANDSTILL: Duration = Duration::from_millis(20);
/// For how long after a refusal what can wait best is not begun.
const AFTERMATH: Duration = Duration::from_secs(1);

/// What one worker knows of its queue.
#[derive(Debug)]
pub(super) struct Admission {
    longest_wait: Duration,
    /// All times are in microseconds since then.
    began: Instant,
    rested_at: AtomicU64,
    turned_at: AtomicU64,
    stood_still_until: AtomicU64,
    /// 0: never.
    refused_at: AtomicU64,
}

/// A call that waits for its first turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) class: Class,
    pub(super) since: Instant,
    /// Its deadline.
    pub(super) until: Instant,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is served.
    Begins,
    /// Nobody waits for its answer any more.
    ComesTooLate,
    /// There is too much to do.
    IsRefused,
}

impl Admission {
    /// Calls wait no longer than that for a worker that does not come to rest.
    pub(super) fn new(longest_wait: Duration) -> Self {
        Self {
            longest_wait,
            began: Instant::now(),
            rested_at: AtomicU64::new(0),
            turned_at: AtomicU64::new(0),
            stood_still_until: AtomicU64::new(0),
            refused_at: AtomicU64::new(0),
        }
    }

    /// The worker has nothing to do.
    pub(super) fn rests(&self, now: Instant) {
        self.rested_at.store(self.ticks(now), Ordering::Relaxed);
    }

    /// What becomes of a call whose turn it is now.
    pub(super) fn turn(&self, call: Waiting, now: Instant) -> Turn {
        let stood_still_until = self.stood_still_until(now);
        if now >= call.until {
            return Turn::ComesTooLate;
        }
        if self.ticks(call.since) < stood_still_until {
            return Turn::Begins;
        }
        if now.saturating_duration_since(call.since) > self.longest_wait_of(call.class, now) {
            self.refused_at.store(self.ticks(now).max(1), Ordering::Relaxed);
            return Turn::IsRefused;
        }
        // This refusal does not count: else whoever asks all the time would never be served again.
        if call.class == Class::Survey && self.has_refused_lately(now) {
            return Turn::IsRefused;
        }
        Turn::Begins
    }

    fn stood_still_until(&self, now: Instant) -> u64 {
        let ticks = self.ticks(now);
        let last = self.turned_at.swap(ticks, Ordering::Relaxed);
        if self.since(last, now) > STANDSTILL {
            self.stood_still_until.store(ticks, Ordering::Relaxed);
        }
        self.stood_still_until.load(Ordering::Relaxed)
    }

    fn longest_wait_of(&self, class: Class, now: Instant) -> Duration {
        let longest = if self.since(self.rested_at.load(Ordering::Relaxed), now) <= BURST {
            BURST.max(self.longest_wait)
        } else {
            self.longest_wait
        };
        match class {
            Class::Vital => Duration::MAX,
            Class::Resolve => longest,
            Class::Change => longest / 2,
            Class::Survey => longest / 4,
        }
    }

    fn has_refused_lately(&self, now: Instant) -> bool {
        let refused_at = self.refused_at.load(Ordering::Relaxed);
        refused_at != 0 && self.since(refused_at, now) <= AFTERMATH
    }

    fn since(&self, ticks: u64, now: Instant) -> Duration {
        Duration::from_micros(self.ticks(now).saturating_sub(ticks))
    }

    fn ticks(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(10);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A worker whose time goes by when it is told.
    struct Worker {
        admission: Admission,
        now: Instant,
    }

    impl Worker {
        fn new() -> Self {
            let admission = Admission::new(BOUND);
            let now = admission.began;
            Self { admission, now }
        }

        /// One that has not come to rest for a while.
        fn behind() -> Self {
            let mut worker = Self::new();
            worker.works(BURST + ms(1));
            worker
        }

        /// Takes calls all the time.
        fn works(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                self.now += ms(1);
                self.turn(Class::Vital, ms(0));
            }
        }

        /// What becomes of a call that has waited so long.
        fn turn(&self, class: Class, waited: Duration) -> Turn {
            let since = self.now.checked_sub(waited).unwrap();
            let until = since + ms(5_000);
            self.admission.turn(Waiting { class, since, until }, self.now)
        }
    }

    #[test]
    fn a_burst_is_served_and_a_queue_that_stays_is_cut() {
        let mut worker = Worker::new();
        worker.works(ms(90));
        assert_eq!(worker.turn(Class::Resolve, ms(90)), Turn::Begins);
        worker.works(ms(11));
        assert_eq!(worker.turn(Class::Resolve, ms(11)), Turn::IsRefused);
        assert_eq!(
            worker.turn(Class::Resolve, BOUND),
            Turn::Begins,
            "what has come late in it"
        );
        worker.admission.rests(worker.now);
        worker.works(ms(50));
        assert_eq!(worker.turn(Class::Resolve, ms(50)), Turn::Begins, "it has come to rest");
        worker.works(ms(49));
        assert_eq!(
            worker.turn(Class::Resolve, ms(101)),
            Turn::IsRefused,
            "a burst has an end too"
        );
    }

    #[test]
    fn what_came_while_the_worker_stood_still_is_served() {
        let mut worker = Worker::behind();
        worker.now += ms(300);
        assert_eq!(worker.turn(Class::Resolve, ms(299)), Turn::Begins);
        assert_eq!(worker.turn(Class::Change, ms(1)), Turn::Begins);
        worker.works(ms(30));
        assert_eq!(
            worker.turn(Class::Resolve, ms(40)),
            Turn::Begins,
            "it is still one of those"
        );
        assert_eq!(worker.turn(Class::Resolve, ms(29)), Turn::IsRefused, "it came later");
    }

    #[test]
    fn the_less_important_is_refused_before_the_more_important() {
        let order = [Class::Survey, Class::Change, Class::Resolve, Class::Vital];
        for waited in [ms(0), ms(3), ms(6), ms(11), ms(4_000)] {
            let worker = Worker::behind();
            let mut worker_would = |class| {
                worker.admission.refused_at.store(0, Ordering::Relaxed);
                worker.turn(class, waited.min(worker.now - worker.admission.began)) == Turn::Begins
            };
            let begins = order.map(&mut worker_would);
            assert!(begins.is_sorted(), "{waited:?}: {begins:?}");
            assert!(begins[3], "health is never refused");
        }
        let worker = Worker::behind();
        assert_eq!(worker.turn(Class::Change, ms(5)), Turn::Begins);
        assert_eq!(worker.turn(Class::Change, ms(6)), Turn::IsRefused);
    }

    #[test]
    fn while_others_are_refused_no_survey_begins() {
        let mut worker = Worker::behind();
        assert_eq!(worker.turn(Class::Survey, ms(0)), Turn::Begins);
        assert_eq!(worker.turn(Class::Resolve, ms(11)), Turn::IsRefused);
        assert_eq!(worker.turn(Class::Survey, ms(0)), Turn::IsRefused);
        assert_eq!(worker.turn(Class::Change, ms(0)), Turn::Begins);
        worker.works(AFTERMATH + ms(1));
        assert_eq!(worker.turn(Class::Survey, ms(0)), Turn::Begins);
    }

    #[test]
    fn surveys_that_are_asked_for_all_the_time_begin_again_after_the_rush() {
        let mut worker = Worker::behind();
        assert_eq!(worker.turn(Class::Resolve, ms(11)), Turn::IsRefused);
        for _ in 0..11 {
            worker.works(ms(100));
            worker.turn(Class::Survey, ms(0));
        }
        assert_eq!(worker.turn(Class::Survey, ms(0)), Turn::Begins);
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun() {
        let worker = Worker::new();
        let call = |until| Waiting {
            class: Class::Vital,
            since: worker.now,
            until,
        };
        assert_eq!(worker.admission.turn(call(worker.now), worker.now), Turn::ComesTooLate);
        assert_eq!(
            worker.admission.turn(call(worker.now + ms(1)), worker.now),
            Turn::Begins
        );
    }
}
