//! How long things take: how many took at most so long.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Up to which times there are buckets, in microseconds. The first are for what happens in memory, the last for disks and
/// networks in trouble.
const BOUNDS: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
];

/// The buckets: one for each bound, and one for all that takes longer.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// The bucket of what took so long.
pub(super) fn bucket(took: Duration) -> usize {
    let took = nanoseconds(took);
    BOUNDS.iter().take_while(|bound| took > **bound * 1_000).count()
}

pub(super) fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes what was counted in each bucket, and the sum of all times in nanoseconds.
pub(super) fn encode(mut encoder: MetricEncoder<'_>, counts: [u64; BUCKETS], sum: u64) -> fmt::Result {
    let mut buckets = [(f64::INFINITY, 0); BUCKETS];
    for (place, (bucket, count)) in buckets.iter_mut().zip(counts).enumerate() {
        if let Some(bound) = BOUNDS.get(place) {
            bucket.0 = Duration::from_micros(*bound).as_secs_f64();
        }
        bucket.1 = count;
    }
    let sum = Duration::from_nanos(sum).as_secs_f64();
    encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
}

/// Counts without a lock. For what is done seldom, or by one thread.
#[derive(Debug)]
pub(super) struct Durations {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Durations {
    pub(super) const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn note(&self, took: Duration) {
        self.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanoseconds(took), Ordering::Relaxed);
    }
}

impl EncodeMetric for &'static Durations {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = std::array::from_fn(|place| self.counts[place].load(Ordering::Relaxed));
        encode(encoder, counts, self.sum.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_it_does_not_exceed() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_micros(50)), 0);
        assert_eq!(bucket(Duration::from_nanos(50_001)), 1);
        assert_eq!(bucket(Duration::from_secs(5)), BUCKETS - 2);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }
}
