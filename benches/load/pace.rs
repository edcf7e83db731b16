//! Waiting for points in time more precisely than the runtime's timers, which tick once a millisecond.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's own.
pub(crate) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    pub(crate) fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Unsound only for types that close or lend out their descriptor; what takes its place is `unsafe`.
        #[allow(deprecated)]
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Waits until then, or returns earlier: whoever waits looks at the clock again.
    pub(crate) async fn wait_until(&self, then: Instant) -> std::io::Result<()> {
        let rest = then.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        let rest = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(rest),
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &rest)?;
        // Setting it anew makes it ready anew, so what it counts need not be read.
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
