//! Points in time at fixed intervals, and waiting for them more precisely than the runtime's timers, which tick once a millisecond.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// When calls are due that begin at fixed intervals, whatever becomes of those before.
pub(crate) struct Beat {
    alarm: Alarm,
    due: Instant,
    interval: Duration,
    until: Instant,
    /// How late those may be that come first of several.
    slack: Duration,
}

/// A timer of the kernel's own.
struct Alarm(AsyncFd<OwnedFd>);

impl Beat {
    /// So many a second for so long, by so many threads together, of which this is one: their calls lie between each other's.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn new(per_second: f64, lasts: Duration, thread: usize, threads: usize) -> std::io::Result<Self> {
        let interval = Duration::from_secs_f64(threads as f64 / per_second);
        let began = Instant::now();
        Ok(Self {
            alarm: Alarm::new()?,
            due: began + interval.mul_f64(thread as f64 / threads as f64),
            interval,
            until: began + lasts,
            slack: Duration::ZERO,
        })
    }

    /// The same for whoever saves work by waking up for several at once, each of which may be so late for that.
    pub(crate) fn with_slack(self, slack: Duration) -> Self {
        Self { slack, ..self }
    }

    /// Waits until the next one is due, and says since when it is: who comes late finds it long past. None after the last.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Instant>> {
        if self.due >= self.until {
            return Ok(None);
        }
        if Instant::now() < self.due {
            let then = self.due + self.slack;
            while Instant::now() < then {
                self.alarm.wait_until(then).await?;
            }
        }
        let due = self.due;
        self.due += self.interval;
        Ok(Some(due))
    }
}

impl Alarm {
    fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Unsound only for types that close or lend out their descriptor; what takes its place is `unsafe`.
        #[allow(deprecated)]
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Waits until then, or returns earlier: whoever waits looks at the clock again.
    async fn wait_until(&self, then: Instant) -> std::io::Result<()> {
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
