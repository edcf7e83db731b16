//! The log as those who use it see it.

mod status;
mod ticket;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub(super) use self::status::Status;
pub use self::ticket::Ticket;
pub(crate) use self::ticket::up_to;
use self::ticket::{NO_LINE, TicketState};
use super::chain::{Hash, Link, signed_parts};
use super::entry::{Body, Entry, Outcome};
use super::error::{OpenError, Unavailable};
use super::events;
use super::flood::{Flood, Refusals};
use super::jws::Keys;
use super::log::Log;
use super::queue::{Answer, Line, Queue};
use super::record::Record;
use super::sync::{Progress, SyncFile, Syncer};
use super::writer::{Copy, Writer};
use crate::telemetry::metrics::{self, AuditReadings, AuditSink};
use crate::time::Clock;

/// How often it is looked at whether the writer is stuck.
const WATCH: Duration = Duration::from_millis(50);

/// What a deployment chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The directory of the log.
    pub directory: PathBuf,
    /// How long a line may be written and not durable.
    pub sync_interval: Duration,
    /// How long a call waits for its line.
    pub timeout: Duration,
    /// How large a file gets before the next one begins, in bytes.
    pub rotate_size: u64,
    /// How long a file is written before the next one begins.
    pub rotate_age: Duration,
    /// How long lines are kept; none: for ever.
    pub keep: Option<Duration>,
    /// After how many lines a checkpoint is signed.
    pub checkpoint_lines: u64,
    /// After what time one is signed if there are new lines.
    pub checkpoint_interval: Duration,
    /// Whether lines go to standard output too.
    pub stdout: bool,
}

/// Signs the payload of a checkpoint: a JWS whose payload is detached (RFC 7515, appendix F).
pub type Sign = Arc<dyn Fn(&[u8]) -> String + Send + Sync>;

/// A line with a signature over everything before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its place in the chain.
    pub link: Link,
    /// The line.
    pub line: String,
}

impl Checkpoint {
    /// The checkpoint that a line holds; none if it is none, or is not signed by one of these keys.
    #[must_use]
    pub fn parse(line: &str, keys: &Keys) -> Option<Self> {
        let record = Record::of(line)?;
        let (payload, signature) = signed_parts(line.as_bytes())?;
        keys.verify(signature, &payload).ok()?;
        Some(Self {
            link: Link {
                seq: record.seq,
                hash: Hash::of(line.as_bytes()),
            },
            line: line.to_owned(),
        })
    }
}

/// The audit log. Its clones are the same one.
#[derive(Clone)]
pub struct Audit(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    timeout: Duration,
    queue: Arc<Queue>,
    flood: Flood,
    /// Lines that nobody waited for and that found no room.
    lost: AtomicU64,
    progress: watch::Receiver<Progress>,
    sign: Arc<OnceLock<Sign>>,
    checkpoints: watch::Receiver<Option<Checkpoint>>,
    status: Arc<Status>,
    is_healthy: watch::Receiver<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A change that was announced.
#[derive(Clone, Copy, Debug)]
pub struct Intent {
    /// The number of its line.
    pub seq: u64,
    failures: u64,
}

impl Audit {
    /// Opens the log and begins to write; what a crash has left is recorded first. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way.
    pub fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let copy: Option<Copy> = settings.stdout.then(|| Box::new(std::io::stdout()) as Copy);
        Self::open_with(settings, clock, copy, Arc::new(File::sync_data))
    }

    /// The same with a copy and a way to make files durable that a test has chosen.
    pub(super) fn open_with(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        copy: Option<Copy>,
        sync: SyncFile,
    ) -> Result<Self, OpenError> {
        let opened = Log::open(&settings.directory, clock.now())?;
        let at = || OpenError::io(settings.directory.clone());
        let syncer = Syncer::new(settings.sync_interval, sync);
        let (status, sign) = (Status::new(), Arc::new(OnceLock::new()));
        let (checkpoint, checkpoints) = watch::channel(None);
        let mut writer = Writer::new(
            settings.clone(),
            clock,
            opened,
            copy,
            Arc::clone(&syncer),
            Arc::clone(&status),
            Arc::clone(&sign),
            checkpoint,
        );
        writer.begin().map_err(at())?;
        let queue = Arc::new(Queue::new(writer));
        let writing = Arc::clone(&queue);
        let progress = syncer.progress();
        let threads = vec![
            spawn("audit-writer", move || writing.run()).map_err(at())?,
            spawn("audit-sync", move || syncer.run()).map_err(at())?,
        ];
        let (health, is_healthy) = watch::channel(true);
        let shared = Arc::new(Shared {
            directory: settings.directory.clone(),
            timeout: settings.timeout,
            queue,
            flood: Flood::default(),
            lost: AtomicU64::new(0),
            progress,
            sign,
            checkpoints,
            status,
            is_healthy,
            threads: Mutex::new(threads),
        });
        tokio::spawn(watch_over(Arc::downgrade(&shared), health));
        Ok(Self(shared))
    }

    /// Hands in the line of a call that is over.
    pub fn submit(&self, entry: &Entry<'_>) -> Ticket {
        self.submit_as(entry, Kind::of(entry))
    }

    /// The same for calls that anybody can make in any number, whatever they end with: of many only some are listed.
    pub fn submit_seldom(&self, entry: &Entry<'_>) -> Ticket {
        self.submit_as(entry, Kind::Seldom)
    }

    /// Hands in the lines of calls that are over and came together: they are written together, or none is.
    pub fn submit_all<'a>(&self, entries: impl IntoIterator<Item = Entry<'a>>) -> Ticket {
        let is_listed = |entry: &Entry<'_>| self.is_listed(entry, Kind::of(entry));
        let bodies = entries.into_iter().filter(is_listed).map(|entry| entry.body());
        self.hand_in(bodies.collect(), false)
    }

    /// Says that the answers of these lines did not leave.
    pub fn withhold(&self, lines: &[u64]) {
        let lines: Vec<_> = lines.iter().copied().filter(|line| *line != NO_LINE).collect();
        if !lines.is_empty() && self.send(events::withheld(&lines)).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Announces a change: its line is written when this returns, and becomes durable beside the change.
    ///
    /// # Errors
    /// [`Unavailable`]: then nothing may be changed.
    pub async fn announce(&self, entry: &Entry<'_>) -> Result<Intent, Unavailable> {
        let failures = self.0.progress.borrow().failures;
        let seq = self.submit_as(entry, Kind::Urgent).written().await?;
        Ok(Intent { seq, failures })
    }

    /// Announces changes that are made together: their lines are written one behind the other, the last of them being that of
    /// the intent.
    ///
    /// # Errors
    /// [`Unavailable`]: then nothing may be changed.
    pub async fn announce_all<'a>(&self, entries: impl IntoIterator<Item = Entry<'a>>) -> Result<Intent, Unavailable> {
        let failures = self.0.progress.borrow().failures;
        let bodies = entries.into_iter().map(|entry| entry.body()).collect();
        let seq = self.hand_in(bodies, true).written().await?;
        Ok(Intent { seq, failures })
    }

    /// Waits until the announcement of a change is durable.
    ///
    /// # Errors
    /// [`Unavailable`] if that fails or takes too long.
    pub async fn is_durable(&self, intent: Intent) -> Result<(), Unavailable> {
        let mut progress = self.0.progress.clone();
        let decided =
            progress.wait_for(|progress| progress.synced >= intent.seq || progress.failures != intent.failures);
        match tokio::time::timeout(self.0.timeout, decided).await {
            Ok(Ok(progress)) if progress.failures == intent.failures => Ok(()),
            _ => Err(Unavailable),
        }
    }

    /// Waits until this line is durable; false if that takes too long. It still may be later.
    pub async fn reaches_the_disk(&self, line: Link) -> bool {
        let mut progress = self.0.progress.clone();
        let is_there = progress.wait_for(|progress| progress.synced >= line.seq);
        matches!(tokio::time::timeout(self.0.timeout, is_there).await, Ok(Ok(_)))
    }

    /// Hands in a line that nobody waits for, because its caller has gone.
    pub fn note(&self, entry: &Entry<'_>) {
        if self.is_listed(entry, Kind::of(entry)) && self.send(entry.body()).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that the log lacks a checkpoint that the store has kept: `found` is what stands in its place.
    pub fn note_cut(&self, kept: Link, found: Option<Hash>) {
        let _ = self.send(events::log_cut(kept, found));
    }

    /// Says what calls are decided by from now on (`what` is its word), before they are: its line is written when this returns, so that
    /// the lines of all calls that begin with it come after this one.
    ///
    /// # Errors
    /// [`Unavailable`]: then it must not be taken into use.
    pub async fn announce_in_force(&self, what: &str, sha256: Option<Hash>) -> Result<(), Unavailable> {
        let line = self.hand_in(vec![events::in_force(what, sha256)], true);
        line.written().await.map(drop)
    }

    /// From now on checkpoints are signed; the first one at once.
    pub fn sign_with(&self, sign: Sign) {
        let _ = self.0.sign.set(sign);
        self.0.queue.wake_thread();
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn checkpoints(&self) -> watch::Receiver<Option<Checkpoint>> {
        self.0.checkpoints.clone()
    }

    /// Whether lines get written.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<bool> {
        self.0.is_healthy.clone()
    }

    /// Which revision the store has: the next file begins with it.
    pub(crate) fn set_revision(&self, revision: u64) {
        self.0.status.set_revision(revision);
    }

    /// The number of the newest line.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.0.status.written()
    }

    /// How the log is doing, in numbers.
    #[must_use]
    pub fn readings(&self) -> AuditReadings {
        let signed = self.0.checkpoints.borrow().as_ref().map(|newest| newest.link.seq);
        AuditReadings {
            is_healthy: *self.0.is_healthy.borrow(),
            newest: self.newest(),
            durable: self.0.progress.borrow().synced,
            signed: signed.unwrap_or_default(),
            queue: self.0.queue.waiting() as u64,
        }
    }

    /// Where the files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Signs and closes the log. Lines that are handed in later fail.
    pub async fn close(&self) {
        let shared = Arc::clone(&self.0);
        let closed = tokio::task::spawn_blocking(move || {
            let mut last_words: Vec<_> = shared.flood.rest().iter().map(Refusals::body).collect();
            let lost = shared.lost.swap(0, Ordering::Relaxed);
            last_words.extend((lost > 0).then(|| events::lines_lost(lost)));
            shared.queue.end(last_words);
            let threads = std::mem::take(&mut *shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
            for thread in threads {
                let _ = thread.join();
            }
        });
        if tokio::time::timeout(self.0.timeout * 5, closed).await.is_err() {
            tracing::error!("the audit log could not be closed in time");
        }
    }

    fn submit_as(&self, entry: &Entry<'_>, kind: Kind) -> Ticket {
        if !self.is_listed(entry, kind) {
            return self.not_listed();
        }
        let (answer, answered) = oneshot::channel();
        let line = Line {
            is_urgent: kind == Kind::Urgent,
            answer: Some(Answer { lines: 1, to: answer }),
            ..Line::for_nobody(entry.body())
        };
        self.ticket_of(1, self.0.queue.put(line), answered)
    }

    /// Hands in lines that are written together.
    fn hand_in(&self, bodies: Vec<Body>, is_urgent: bool) -> Ticket {
        if bodies.is_empty() {
            return self.not_listed();
        }
        let count = bodies.len();
        let (answer, answered) = oneshot::channel();
        let lines = count as u64;
        let mut answer = Some(Answer { lines, to: answer });
        let line = |(place, body)| {
            let is_last = place + 1 == count;
            Line {
                is_urgent,
                answer: if is_last { answer.take() } else { None },
                goes_on: !is_last,
                ..Line::for_nobody(body)
            }
        };
        let put = self.0.queue.put_all(bodies.into_iter().enumerate().map(line));
        self.ticket_of(lines, put, answered)
    }

    fn ticket_of(
        &self,
        lines: u64,
        put: Result<(), Unavailable>,
        answer: oneshot::Receiver<Result<u64, Unavailable>>,
    ) -> Ticket {
        if put.is_err() {
            self.0.status.count_no_room();
            metrics::audit_failure(AuditSink::File);
            return self.ticket(lines, TicketState::NoRoom);
        }
        let is_seen_to = false;
        self.ticket(lines, TicketState::Waiting { answer, is_seen_to })
    }

    fn not_listed(&self) -> Ticket {
        // What is counted has to be written, too.
        let is_healthy = self.0.status.is_healthy(self.0.timeout);
        let state = if is_healthy {
            TicketState::NotListed
        } else {
            TicketState::NoRoom
        };
        self.ticket(0, state)
    }

    fn ticket(&self, lines: u64, state: TicketState) -> Ticket {
        Ticket {
            audit: self.clone(),
            until: Instant::now() + self.0.timeout,
            lines,
            state,
        }
    }

    fn is_listed(&self, entry: &Entry<'_>, kind: Kind) -> bool {
        kind != Kind::Seldom || self.0.flood.admits(entry)
    }

    /// Hands in a line that nobody waits for.
    fn send(&self, body: Body) -> Result<(), Unavailable> {
        self.0.queue.put(Line::for_nobody(body))?;
        self.0.queue.wake_thread();
        Ok(())
    }
}

/// How a line is dealt with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usual,
    /// Somebody waits until it is durable.
    Urgent,
    /// Of many only some are listed.
    Seldom,
}

impl Kind {
    fn of(entry: &Entry<'_>) -> Self {
        if entry.outcome == Some(Outcome::Denied) || entry.reason == Some(NOT_FINISHED) {
            Self::Seldom
        } else {
            Self::Usual
        }
    }
}

/// The reason of calls whose caller has gone.
pub(crate) const NOT_FINISHED: &str = "NOT_FINISHED";

/// Tells whether lines get written, and what was not listed one by one, for as long as somebody uses the log.
async fn watch_over(shared: Weak<Shared>, health: watch::Sender<bool>) {
    let mut ticks = tokio::time::interval(WATCH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let is_healthy = shared.status.is_healthy(shared.timeout);
        health.send_if_modified(|before| std::mem::replace(before, is_healthy) != is_healthy);
        if !is_healthy {
            continue;
        }
        let audit = Audit(shared);
        for refusals in audit.0.flood.summary() {
            if audit.send(refusals.body()).is_err() {
                audit.0.flood.put_back(refusals);
            }
        }
        let lost = audit.0.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && audit.send(events::lines_lost(lost)).is_err() {
            audit.0.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}
