//! Numbers that every call adds to. Each thread has one of a few copies of them, so that the threads which serve calls take no
//! cache line from one another; whoever reads adds the copies up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many copies there are. Threads above that share them.
const SHARDS: usize = 16;
/// What keeps two copies that lie beside each other off the same cache line, in numbers.
const APART: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// So many numbers, all 0 at first.
pub(crate) struct Sharded([Box<[AtomicU64]>; SHARDS]);

impl Sharded {
    pub(crate) fn new(numbers: usize) -> Self {
        let copy = |_| (0..numbers + APART).map(|_| AtomicU64::new(0)).collect();
        Self(std::array::from_fn(copy))
    }

    /// The copy of this thread.
    pub(crate) fn mine(&self) -> Copy<'_> {
        // A thread that is at its end counts with the first.
        Copy(&self.0[SHARD.try_with(|shard| *shard).unwrap_or_default()])
    }

    /// What all threads have added to the number at this place, less what they have taken from it.
    pub(crate) fn sum(&self, place: usize) -> u64 {
        let copies = self.0.iter().map(|copy| copy[place].load(Ordering::Relaxed));
        copies.fold(0, u64::wrapping_add)
    }
}

/// What one thread counts.
pub(crate) struct Copy<'a>(&'a [AtomicU64]);

impl Copy<'_> {
    pub(crate) fn add(&self, place: usize, amount: u64) {
        self.0[place].fetch_add(amount, Ordering::Relaxed);
    }

    /// It may be another thread that has added it.
    pub(crate) fn take(&self, place: usize, amount: u64) {
        self.0[place].fetch_sub(amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_thread_counts_adds_up() {
        let sharded = Sharded::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    sharded.mine().add(1, 3);
                    sharded.mine().take(0, 1);
                });
            }
        });
        sharded.mine().add(0, 2 * SHARDS as u64);
        assert_eq!((sharded.sum(0), sharded.sum(1)), (0, 6 * SHARDS as u64));
    }
}
