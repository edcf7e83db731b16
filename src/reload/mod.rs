//! Takes changed files into use while the server runs: certificates, authorities, revocation lists, the policy.
//!
//! One thread looks at the files every second, and at once when it is asked to. In come the files, out goes what they hold,
//! whole or not at all, to [`LiveTls`] and [`LivePolicy`](crate::access::LivePolicy). Files with a mistake change nothing;
//! the log says what is wrong, and they are tried again until they are mended. It also says what expires soon.

mod announcer;
mod source;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::announcer::Announcer;
pub use self::source::PolicyFile;
use self::source::Source;
use crate::audit::{Audit, Hash};
use crate::server::{Access, LiveTls, Tls, TlsFiles};
use crate::telemetry::metrics::Reload::{Authorities, Certificate, Policy};
use crate::time::{Clock as _, SystemClock, Timestamp};

/// How often the files are looked at. That needs no more than their metadata, works with every file system, and cannot miss
/// a change; the notifications of the operating system can do neither.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked what expires.
const EXPIRY_LOOK: Duration = Duration::from_hours(1);
/// How often it is told, until its last day; then every hour.
const REMINDER: Duration = Duration::from_hours(24);

/// Reloads for as long as it lives.
pub struct Reload {
    trigger: Trigger,
    telling: JoinHandle<()>,
}

/// Reloads at once.
#[derive(Clone)]
pub struct Trigger(Sender<oneshot::Sender<()>>);

impl Trigger {
    /// Looks at every file now, whether it seems changed or not, and returns when all are looked at.
    pub async fn pull(&self) {
        let (done, is_done) = oneshot::channel();
        // The thread ends only after the last trigger.
        let _ = self.0.send(done);
        let _ = is_done.await;
    }
}

impl Reload {
    /// Begins to watch over the certificates, and over the policy if it is from a file, and tells the audit log what holds.
    ///
    /// # Errors
    /// The system gives no thread, or the log cannot be written.
    pub async fn start(
        certificates: TlsFiles,
        policy: Option<PolicyFile>,
        access: &Access,
        audit: &Audit,
    ) -> io::Result<Self> {
        let (trigger, asked) = channel();
        let tls = Arc::clone(&access.tls);
        for (what, sha256) in [
            (Authorities, Some(tls.trust_digest().into())),
            (Certificate, Some(tls.shown_digest().into())),
            (Policy, policy.as_ref().map(|file| Hash::of(file.text.as_bytes()))),
        ] {
            let told = audit.announce_in_force(what.as_str(), sha256).await;
            told.map_err(io::Error::other)?;
        }
        let (announcer, telling) = Announcer::of(audit.clone());
        let mut sources = vec![
            source::authorities(certificates.clone(), &tls, announcer.clone()),
            source::certificate(certificates, &tls, announcer.clone()),
        ];
        sources
            .extend(policy.map(|file| source::policy(file, &access.policy, access.trust_domains.clone(), announcer)));
        std::thread::Builder::new()
            .name("reload".into())
            .spawn(move || watch(sources, &tls, &asked))?;
        Ok(Self {
            trigger: Trigger(trigger),
            telling,
        })
    }

    /// What reloads at once.
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        self.trigger.clone()
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

/// Until the last trigger is gone.
fn watch(mut sources: Vec<Source>, tls: &LiveTls, asked: &Receiver<oneshot::Sender<()>>) {
    let mut reminders = Reminders::default();
    loop {
        reminders.look(tls, SystemClock.now());
        let done = match asked.recv_timeout(LOOK) {
            Ok(done) => Some(done),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for source in &mut sources {
            source.look(done.is_some());
        }
        // Whoever has asked may have stopped waiting.
        let _ = done.map(|done| done.send(()));
    }
}

/// Tells of what expires.
#[derive(Default)]
struct Reminders {
    /// What was looked at, when, and when it was last told of.
    looked: Option<(Arc<Tls>, Timestamp)>,
    told: Option<Timestamp>,
}

impl Reminders {
    fn look(&mut self, tls: &LiveTls, now: Timestamp) {
        let current = tls.now();
        let is_new = match &self.looked {
            Some((looked, _)) if !Arc::ptr_eq(looked, &current) => true,
            Some((_, at)) if now.since(*at) < EXPIRY_LOOK => return,
            Some(_) => false,
            None => true,
        };
        let is_time = is_new || self.told.is_none_or(|told| now.since(told) >= REMINDER);
        for expiry in current.expiries().filter(|expiry| expiry.is_near(now)) {
            let is_last_day = expiry.at() <= now.after(REMINDER);
            if is_time || is_last_day {
                let has_expired = expiry.at() <= now;
                tracing::warn!(what = expiry.what(), at = %expiry.at(), has_expired, "expires soon: renew it");
            }
        }
        if is_time {
            self.told = Some(now);
        }
        self.looked = Some((current, now));
    }
}
