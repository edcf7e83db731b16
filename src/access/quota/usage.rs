//! What callers have used of their quotas. It survives a change of the policy, not the process.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use governor::clock::Clock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{RateLimiter, middleware::NoOpMiddleware};
use hashbrown::HashMap;

use super::window::Window;
use super::{Exceeded, Limits, Quota};
use crate::access::Caller;
use crate::telemetry::metrics;
use crate::vault::ids::{ProviderId, TenantId};
use crate::vault::scope::Scope;

/// After how long without a call a limit of calls per second is as if there had never been one.
const REFILLED: Duration = Duration::from_secs(1);
/// How often the log says that somebody is over a quota.
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// Up to how many entries nobody looks for idle ones.
const FEW: usize = 64;

/// What all callers have used. Those who are gone are forgotten when they have nothing left to be held back for, so that it
/// never holds many more than have called within the last hour.
#[derive(Debug)]
pub struct Quotas {
    shared: Arc<Shared>,
    callers: DashMap<Caller, Arc<Usage>>,
    look_at: AtomicUsize,
}

/// What one caller has used, over all of its connections.
#[derive(Debug)]
pub struct Usage {
    caller: Caller,
    shared: Arc<Shared>,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Shared {
    clock: Ticks,
    /// Keyed at random, so that nobody can choose names that share a hash.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Used {
    calls: Bucket,
    health_checks: Bucket,
    names: Window,
    /// A caller whose grants are for all tenants may make some up; so idle ones are forgotten, see [`Used::make_room`].
    tenants: HashMap<TenantId, UsedOfTenant, RandomState>,
    look_at: usize,
    said: [Said; Quota::ALL.len()],
}

#[derive(Debug, Default)]
struct UsedOfTenant {
    calls: Bucket,
    names: Window,
}

/// Calls per second: as many at once, then one after the other (GCRA).
#[derive(Debug, Default)]
struct Bucket {
    limiter: Option<(NonZeroU32, Limiter)>,
    last_taken: Duration,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>;

/// When the log was last told, and how often it was not.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    at: Option<Duration>,
    kept_quiet: u64,
}

/// Time since this began to count, which never goes back.
#[derive(Clone, Debug)]
enum Ticks {
    Since(Instant),
    #[cfg(test)]
    ByHand(governor::clock::FakeRelativeClock),
}

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        match self {
            Self::Since(start) => start.elapsed(),
            #[cfg(test)]
            Self::ByHand(clock) => Duration::from_nanos(clock.now().as_u64()),
        }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self::with(Ticks::Since(Instant::now()))
    }
}

impl Quotas {
    fn with(clock: Ticks) -> Self {
        let hasher = RandomState::new();
        Self {
            shared: Arc::new(Shared { clock, hasher }),
            callers: DashMap::new(),
            look_at: AtomicUsize::new(FEW),
        }
    }

    /// One whose time goes by when the clock is advanced.
    #[cfg(test)]
    pub(crate) fn by_hand(clock: &governor::clock::FakeRelativeClock) -> Self {
        Self::with(Ticks::ByHand(clock.clone()))
    }

    /// What a caller has used. Asked for once a connection.
    #[must_use]
    pub fn of(&self, caller: &Caller) -> Arc<Usage> {
        if let Some(usage) = self.callers.get(caller) {
            return Arc::clone(&usage);
        }
        self.make_room();
        let usage = || {
            Arc::new(Usage {
                caller: caller.clone(),
                shared: Arc::clone(&self.shared),
                used: Mutex::default(),
            })
        };
        Arc::clone(&self.callers.entry(caller.clone()).or_insert_with(usage))
    }

    fn make_room(&self) {
        if self.callers.len() < self.look_at.load(Ordering::Relaxed) {
            return;
        }
        let now = self.shared.clock.now();
        // Whoever is connected stays: its connection counts in what it holds.
        self.callers
            .retain(|_, usage| Arc::strong_count(usage) > 1 || !usage.used().is_idle(now));
        self.look_at.store(FEW.max(2 * self.callers.len()), Ordering::Relaxed);
    }
}

impl Usage {
    /// Counts a call, whatever it is for.
    ///
    /// # Errors
    /// [`Exceeded`] if the caller makes too many.
    pub fn count_call(&self, limits: &Limits) -> Result<(), Exceeded> {
        let Some(limit) = limits.get(Quota::TotalCalls) else {
            return Ok(());
        };
        let mut used = self.used();
        let taken = used.calls.take(limit, &self.shared.clock);
        self.counted(used, Quota::TotalCalls, limit, taken)
    }

    /// Counts a call of health or reflection.
    ///
    /// # Errors
    /// [`Exceeded`] if the caller makes too many.
    pub fn count_health_check(&self, limits: &Limits) -> Result<(), Exceeded> {
        let Some(limit) = limits.get(Quota::HealthChecks) else {
            return Ok(());
        };
        let mut used = self.used();
        let taken = used.health_checks.take(limit, &self.shared.clock);
        self.counted(used, Quota::HealthChecks, limit, taken)
    }

    /// Counts a call for a tenant.
    ///
    /// # Errors
    /// [`Exceeded`] if the caller makes too many for it.
    pub fn count_call_for(&self, tenant: &TenantId, limits: &Limits) -> Result<(), Exceeded> {
        let Some(limit) = limits.get(Quota::Calls) else {
            return Ok(());
        };
        let mut used = self.used();
        let taken = used
            .of(tenant, &self.shared.clock)
            .calls
            .take(limit, &self.shared.clock);
        self.counted(used, Quota::Calls, limit, taken)
    }

    /// Counts a call like [`Self::count_call`], for whoever waits for room rather than be refused, and so is never over its
    /// quota.
    ///
    /// # Errors
    /// After which time there may be room; then it is not counted.
    pub fn count_call_or_wait(&self, limits: &Limits) -> Result<(), Duration> {
        let Some(limit) = limits.get(Quota::TotalCalls) else {
            return Ok(());
        };
        self.used().calls.take(limit, &self.shared.clock)
    }

    /// Counts a call for a tenant in the same way.
    ///
    /// # Errors
    /// After which time there may be room; then it is not counted.
    pub fn count_call_for_or_wait(&self, tenant: &TenantId, limits: &Limits) -> Result<(), Duration> {
        let Some(limit) = limits.get(Quota::Calls) else {
            return Ok(());
        };
        let mut used = self.used();
        let calls = &mut used.of(tenant, &self.shared.clock).calls;
        calls.take(limit, &self.shared.clock)
    }

    /// Counts a credential that is asked for by its name, whether there is one or not. Within an hour each counts once.
    ///
    /// # Errors
    /// [`Exceeded`] if the caller has asked for too many; then this one is not counted.
    pub fn count_credential(
        &self,
        tenant: &TenantId,
        provider: &ProviderId,
        scope: &Scope,
        limits: &Limits,
    ) -> Result<(), Exceeded> {
        let name = self.shared.hasher.hash_one((tenant, provider, scope));
        let now = self.shared.clock.now();
        let mut used = self.used();
        let (own, total) = used.names_of(tenant, &self.shared.clock);
        let no_room = [(Quota::Credentials, &mut *own), (Quota::TotalCredentials, &mut *total)]
            .into_iter()
            .find_map(|(quota, names)| {
                let limit = limits.get(quota)?;
                let retry_after = names.room_for(name, limit, now).err()?;
                Some((quota, limit, retry_after))
            });
        if let Some((quota, limit, retry_after)) = no_room {
            return self.counted(used, quota, limit, Err(retry_after));
        }
        own.note(name, now);
        total.note(name, now);
        Ok(())
    }

    /// Tells metrics and log of a quota that is used up.
    fn counted(
        &self,
        mut used: MutexGuard<'_, Used>,
        quota: Quota,
        limit: NonZeroU32,
        outcome: Result<(), Duration>,
    ) -> Result<(), Exceeded> {
        let Err(retry_after) = outcome else {
            return Ok(());
        };
        let kept_quiet = used.said[quota as usize].again(self.shared.clock.now());
        drop(used);
        metrics::quota_exceeded(quota);
        if let Some(kept_quiet) = kept_quiet {
            let (caller, quota) = (self.caller.as_str(), quota.as_str());
            tracing::warn!(caller, quota, limit, kept_quiet, "a caller is over its quota");
        }
        Err(Exceeded {
            quota,
            limit,
            retry_after,
        })
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // A count that a panic interrupted is at most one off.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    fn of(&mut self, tenant: &TenantId, clock: &Ticks) -> &mut UsedOfTenant {
        self.make_room(clock);
        self.tenants.entry_ref(tenant).or_default()
    }

    /// The names of a tenant, and those of all.
    fn names_of(&mut self, tenant: &TenantId, clock: &Ticks) -> (&mut Window, &mut Window) {
        self.make_room(clock);
        let own = self.tenants.entry_ref(tenant).or_default();
        (&mut own.names, &mut self.names)
    }

    /// Forgets tenants that hold nothing back, once there are many. What stays is bounded by the limits for all tenants together: a
    /// second's calls and an hour's credentials.
    fn make_room(&mut self, clock: &Ticks) {
        if self.tenants.len() < self.look_at.max(FEW) {
            return;
        }
        let now = clock.now();
        self.tenants.retain(|_, used| !used.is_idle(now));
        self.look_at = 2 * self.tenants.len();
    }

    fn is_idle(&self, now: Duration) -> bool {
        self.calls.is_full(now)
            && self.health_checks.is_full(now)
            && self.names.is_over(now)
            && self.tenants.values().all(|used| used.is_idle(now))
    }
}

impl UsedOfTenant {
    fn is_idle(&self, now: Duration) -> bool {
        self.calls.is_full(now) && self.names.is_over(now)
    }
}

impl Bucket {
    /// Takes a call; if there is none left, says after which time there is.
    fn take(&mut self, limit: NonZeroU32, clock: &Ticks) -> Result<(), Duration> {
        let limiter = match &mut self.limiter {
            Some((old, limiter)) if *old == limit => limiter,
            // A changed limit begins anew.
            outdated => {
                let per_second = governor::Quota::per_second(limit);
                let limiter = RateLimiter::direct_with_clock(per_second, clock.clone());
                &mut outdated.insert((limit, limiter)).1
            }
        };
        let now = clock.now();
        self.last_taken = now;
        limiter.check().map_err(|until| until.wait_time_from(now))
    }

    fn is_full(&self, now: Duration) -> bool {
        self.limiter.is_none() || self.last_taken + REFILLED <= now
    }
}

impl Said {
    /// How often it was not said since; none if it is not said now either.
    fn again(&mut self, now: Duration) -> Option<u64> {
        if self.at.is_some_and(|at| now < at + SAY_AGAIN) {
            self.kept_quiet += 1;
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.kept_quiet))
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
