//! How the log is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What the writer says of itself.
pub(in crate::audit) struct Status {
    began: Instant,
    /// Milliseconds after `began` plus one, when the writer took up what it is at; 0: it waits for work.
    busy_since: AtomicU64,
    is_writable: AtomicBool,
    written: AtomicU64,
    /// Calls that were refused because too many lines were waiting.
    no_room: AtomicU64,
    /// The revision that the store has, as far as it was told; 0: it was not.
    revision: AtomicU64,
}

impl Status {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            busy_since: AtomicU64::new(0),
            is_writable: AtomicBool::new(true),
            written: AtomicU64::new(0),
            no_room: AtomicU64::new(0),
            revision: AtomicU64::new(0),
        })
    }

    pub(in crate::audit) fn set_busy(&self, is_busy: bool) {
        let now = if is_busy { self.now() } else { 0 };
        self.busy_since.store(now, Ordering::Relaxed);
    }

    pub(in crate::audit) fn set_writable(&self, is_writable: bool) {
        self.is_writable.store(is_writable, Ordering::Relaxed);
    }

    pub(in crate::audit) fn set_written(&self, seq: u64) {
        self.written.store(seq, Ordering::Relaxed);
    }

    /// The number of the newest line.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// A call has found no room.
    pub(super) fn count_no_room(&self) {
        self.no_room.fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls found no room since this was asked last.
    pub(in crate::audit) fn no_room(&self) -> u64 {
        self.no_room.swap(0, Ordering::Relaxed)
    }

    pub(super) fn set_revision(&self, revision: u64) {
        self.revision.store(revision, Ordering::Relaxed);
    }

    pub(in crate::audit) fn revision(&self) -> Option<u64> {
        Some(self.revision.load(Ordering::Relaxed)).filter(|revision| *revision > 0)
    }

    /// Whether lines get written: nothing fails, and nothing takes longer than `limit`.
    pub(super) fn is_healthy(&self, limit: Duration) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed);
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let is_stuck = since > 0 && self.now().saturating_sub(since) > limit;
        !is_stuck && self.is_writable.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}
