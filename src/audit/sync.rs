//! Makes lines durable, on a thread of its own: a disk that takes its time holds up nobody who only writes.

use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::primitives::{Condvar, Instant, Mutex, MutexGuard};
use crate::telemetry::metrics;

/// How a file is made durable; `fdatasync`, but in tests.
pub(super) type SyncFile = Arc<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// How far the lines are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The newest line that is.
    pub(super) synced: u64,
    /// How often a sync has failed.
    pub(super) failures: u64,
}

/// What the writer and the thread tell each other.
pub(super) struct Syncer {
    interval: Duration,
    sync: SyncFile,
    /// Of who syncs. Held until what came of it is told.
    turn: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct State {
    /// The files with lines that are not durable yet.
    files: Vec<Arc<File>>,
    /// The newest line that was written.
    written: u64,
    /// When the oldest line was written that is not durable yet and not being made so.
    waiting_since: Option<Instant>,
    /// The same for those that are being made so.
    syncing_since: Option<Instant>,
    /// Somebody waits for it.
    is_urgent: bool,
    has_failed: bool,
    is_ending: bool,
}

impl Syncer {
    pub(super) fn new(interval: Duration, sync: SyncFile) -> Arc<Self> {
        Arc::new(Self {
            interval,
            sync,
            turn: Mutex::new(()),
            state: Mutex::default(),
            changed: Condvar::new(),
            progress: watch::Sender::default(),
        })
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Notes that lines up to `seq` are in the file.
    pub(super) fn written(&self, file: &Arc<File>, seq: u64, is_urgent: bool) {
        let mut state = self.state();
        if !state.files.last().is_some_and(|last| Arc::ptr_eq(last, file)) {
            state.files.push(Arc::clone(file));
        }
        state.written = seq;
        let is_first = state.waiting_since.is_none();
        state.waiting_since.get_or_insert_with(Instant::now);
        state.is_urgent |= is_urgent;
        if is_first || is_urgent {
            self.changed.notify_one();
        }
    }

    /// Whether a line has waited for longer than `limit` to become durable.
    pub(super) fn is_overdue(&self, limit: Duration) -> bool {
        self.is_late(&self.state(), limit)
    }

    fn is_late(&self, state: &State, limit: Duration) -> bool {
        let oldest = state.syncing_since.or(state.waiting_since);
        oldest.is_some_and(|since| since.elapsed() > self.interval + limit)
    }

    /// Whether syncs neither fail nor take too long. Asked before each group of lines: it takes one look.
    pub(super) fn is_in_order(&self, limit: Duration) -> bool {
        let state = self.state();
        !state.has_failed && !self.is_late(&state, limit)
    }

    /// Whether a sync has failed since this was asked last. What was written before is then not known to be durable, and no
    /// later sync of the same file can tell: the system reports a lost page once.
    pub(super) fn take_failure(&self) -> bool {
        std::mem::take(&mut self.state().has_failed)
    }

    /// Makes a file durable here and now. If that fails, whoever waits for a line of it is told: the system reports a lost page
    /// once, so that the thread may not hear of it.
    pub(super) fn sync_now(&self, file: &File) -> io::Result<()> {
        let _turn = self.turn();
        let synced = (self.sync)(file);
        if let Err(error) = &synced {
            self.note_failure(error);
        }
        synced
    }

    /// Whether a file that has no lines yet can be made durable.
    pub(super) fn try_sync(&self, file: &File) -> io::Result<()> {
        (self.sync)(file)
    }

    fn note_failure(&self, error: &io::Error) {
        tracing::error!(%error, "the audit log could not be made durable");
        self.progress.send_modify(|progress| progress.failures += 1);
    }

    /// The thread's work: until it is told to end and all is durable.
    pub(super) fn run(&self) {
        let mut state = self.state();
        loop {
            match state.waiting_since {
                None if state.is_ending => return,
                None => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Some(since) if !state.is_urgent && !state.is_ending => {
                    let rest = self.interval.saturating_sub(since.elapsed());
                    if !rest.is_zero() {
                        let waited = self.changed.wait_timeout(state, rest);
                        state = waited.unwrap_or_else(PoisonError::into_inner).0;
                        continue;
                    }
                }
                Some(_) => {}
            }
            state = self.sync_files(state);
        }
    }

    fn sync_files<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let files = std::mem::take(&mut state.files);
        let written = state.written;
        state.syncing_since = state.waiting_since.take();
        state.is_urgent = false;
        drop(state);
        let turn = self.turn();
        let began = Instant::now();
        let synced = files.iter().try_for_each(|file| (self.sync)(file));
        metrics::audit_sync(began.elapsed());
        let mut state = self.state();
        state.syncing_since = None;
        state.has_failed |= synced.is_err();
        match &synced {
            Ok(()) => self.progress.send_modify(|progress| progress.synced = written),
            Err(error) => self.note_failure(error),
        }
        drop(turn);
        state
    }

    pub(super) fn end(&self) {
        self.state().is_ending = true;
        self.changed.notify_one();
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
