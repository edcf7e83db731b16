//! How much a caller may ask for: what each limit is, and what has been used of it ([`Quotas`]).
//!
//! Of each limit there are two: one for each tenant, one for all tenants together. The second is what stops a stolen key that
//! is good for every tenant. Health checks, which are for no tenant, have one.

mod usage;
mod window;

use std::num::NonZeroU32;
use std::time::Duration;

pub use usage::{Quotas, Usage};

/// The most that any limit can be set to.
pub(super) const HIGHEST_LIMIT: u64 = 1_000_000;

/// A limit's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Calls per second for one tenant.
    Calls,
    /// Calls per second of one caller, whatever they are for; denied ones too.
    TotalCalls,
    /// Distinct credentials per hour of one tenant.
    Credentials,
    /// Distinct credentials per hour of all tenants together.
    TotalCredentials,
    /// Calls per second of health and reflection, which no other limit counts: whoever has made too many calls may still ask
    /// whether the vault is well.
    HealthChecks,
}

impl Quota {
    /// Every limit.
    pub const ALL: [Self; 5] = [
        Self::Calls,
        Self::TotalCalls,
        Self::Credentials,
        Self::TotalCredentials,
        Self::HealthChecks,
    ];

    /// Its key in the policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls_per_second",
            Self::TotalCalls => "total_calls_per_second",
            Self::Credentials => "credentials_per_hour",
            Self::TotalCredentials => "total_credentials_per_hour",
            Self::HealthChecks => "health_checks_per_second",
        }
    }

    /// Whether it is for all tenants together.
    #[must_use]
    pub const fn is_total(self) -> bool {
        matches!(self, Self::TotalCalls | Self::TotalCredentials | Self::HealthChecks)
    }
}

/// A caller's limits, as far as something says them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits([Option<NonZeroU32>; Quota::ALL.len()]);

impl Limits {
    /// What holds where the policy says nothing.
    pub(super) const BUILT_IN: Self = Self([
        NonZeroU32::new(500),
        NonZeroU32::new(5_000),
        NonZeroU32::new(500),
        NonZeroU32::new(5_000),
        NonZeroU32::new(1_000),
    ]);

    /// The limit; none if nothing is said of it.
    #[must_use]
    pub fn get(&self, quota: Quota) -> Option<NonZeroU32> {
        self.0[quota as usize]
    }

    /// Each limit of which something is said, with its key in the policy.
    pub fn said(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let said = |quota: Quota| Some((quota.as_str(), self.get(quota)?.get()));
        Quota::ALL.into_iter().filter_map(said)
    }

    pub(super) fn set(&mut self, quota: Quota, limit: Option<NonZeroU32>) {
        self.0[quota as usize] = limit;
    }

    /// Of each limit the higher one; one that is said, rather than one that is not.
    pub(super) fn raised_to(self, other: &Self) -> Self {
        Self(Quota::ALL.map(|quota| self.get(quota).max(other.get(quota))))
    }

    /// Of each limit this one; if nothing is said of it, the other.
    pub(super) fn or(self, other: &Self) -> Self {
        Self(Quota::ALL.map(|quota| self.get(quota).or(other.get(quota))))
    }
}

/// A quota is used up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the quota {} = {limit} is used up; it may work again in {}", quota.as_str(), in_words(*retry_after))]
pub struct Exceeded {
    /// Which.
    pub quota: Quota,
    /// How high it is.
    pub limit: NonZeroU32,
    /// When there is room again, unless others take it.
    pub retry_after: Duration,
}

/// In the unit that tells something.
fn in_words(duration: Duration) -> String {
    let rounded = match duration.as_secs() {
        0 => Duration::from_millis(
            u64::try_from(duration.as_millis())
                .unwrap_or(u64::MAX)
                .saturating_add(1),
        ),
        seconds => Duration::from_secs(seconds.saturating_add(1)),
    };
    humantime::format_duration(rounded).to_string()
}
