//! Points in time, and the one clock.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first point in time that can be written down: 0001-01-01T00:00:00Z, as `google.protobuf.Timestamp` has it.
const MIN_MS: i64 = -62_135_596_800_000;
/// The last one: 9999-12-31T23:59:59.999Z.
const MAX_MS: i64 = 253_402_300_799_999;

/// A point in time, in Unix milliseconds (UTC), between the years 1 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The point in time `ms` milliseconds after the Unix epoch; the nearest one that can be written down.
    #[must_use]
    pub fn from_unix_ms(ms: i64) -> Self {
        Self(ms.clamp(MIN_MS, MAX_MS))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time from `earlier` to this one; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The point in time `duration` after this one.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_ms(self.0.saturating_add(ms))
    }
}

/// RFC 3339 in UTC, with milliseconds if there are any.
impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(ms) = u64::try_from(self.0) else {
            // humantime knows no time before 1970.
            return prost_types::Timestamp::from(*self).fmt(out);
        };
        let time = UNIX_EPOCH + Duration::from_millis(ms);
        if ms % 1000 == 0 {
            humantime::format_rfc3339_seconds(time).fmt(out)
        } else {
            humantime::format_rfc3339_millis(time).fmt(out)
        }
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        let nanos = timestamp.0.rem_euclid(1000) * 1_000_000;
        Self {
            seconds: timestamp.unix_seconds(),
            nanos: i32::try_from(nanos).expect("nanoseconds of one second are below 10^9"),
        }
    }
}

/// Not a point in time between the years 1 and 9999.
#[derive(Debug, thiserror::Error)]
#[error("is not a time between the years 1 and 9999")]
pub struct InvalidTimestamp;

/// Rounds down to the millisecond.
impl TryFrom<&prost_types::Timestamp> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(wire: &prost_types::Timestamp) -> Result<Self, InvalidTimestamp> {
        if !(0..1_000_000_000).contains(&wire.nanos) {
            return Err(InvalidTimestamp);
        }
        wire.seconds
            .checked_mul(1000)
            .map(|ms| ms + i64::from(wire.nanos) / 1_000_000)
            .filter(|ms| (MIN_MS..=MAX_MS).contains(ms))
            .map(Self)
            .ok_or(InvalidTimestamp)
    }
}

/// Where the time comes from. Tests set it by hand.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_ms(i64::try_from(since_epoch.as_millis()).unwrap_or(MAX_MS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_rfc_3339() {
        assert_eq!(Timestamp::from_unix_ms(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_unix_ms(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_wire_timestamp_outside_the_calendar_is_refused() {
        let wire = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
        for bad in [
            wire(i64::MAX, 0),
            wire(i64::MIN, 0),
            wire(0, -1),
            wire(0, 1_000_000_000),
            wire(253_402_300_800, 0),
        ] {
            assert!(Timestamp::try_from(&bad).is_err(), "{}s {}ns", bad.seconds, bad.nanos);
        }
    }

    proptest! {
        #[test]
        fn survives_the_wire(ms in MIN_MS..=MAX_MS) {
            let timestamp = Timestamp::from_unix_ms(ms);
            let wire = prost_types::Timestamp::from(timestamp);
            prop_assert_eq!(Timestamp::try_from(&wire).unwrap(), timestamp);
        }

        #[test]
        fn prints_like_its_protobuf(ms in prop_oneof![MIN_MS..=MAX_MS, (MIN_MS / 1000..=MAX_MS / 1000).prop_map(|s| s * 1000)]) {
            let timestamp = Timestamp::from_unix_ms(ms);
            prop_assert_eq!(timestamp.to_string(), prost_types::Timestamp::from(timestamp).to_string());
        }
    }
}
