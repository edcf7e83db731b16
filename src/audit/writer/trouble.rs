//! What the writer does when lines cannot be written.

use std::io;
use std::time::{Duration, Instant};

use super::{Ending, Writer};
use crate::audit::error::OpenError;
use crate::audit::events;
use crate::telemetry::metrics::{self, AuditSink};

/// How soon after a failure it tries again, and how late at most.
const FIRST_RETRY: Duration = Duration::from_millis(20);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(1);

/// Why nothing is written, and what is done about it.
pub(super) struct Trouble {
    pub(super) retry_at: Instant,
    pub(super) delay: Duration,
    pub(super) refused: u64,
    pub(super) cause: Cause,
}

/// What it takes to mend it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Lines have waited for too long to become durable: it is over when they are.
    Overdue,
    /// The file is looked at anew.
    Write,
    /// What was written before is not known to be durable: the file cannot be trusted any more.
    Sync,
    /// The new file is there, and has to prove itself.
    NewFile,
}

impl Writer {
    /// Whether lines can be written; mends what is wrong if it is time to try.
    pub(super) fn is_writable(&mut self) -> bool {
        if self.syncer.take_failure() {
            metrics::audit_failure(AuditSink::File);
            self.fail(&io::Error::other("its lines could not be made durable"), Cause::Sync);
        }
        // What is written and not durable for so long may never be: no more of it.
        let is_overdue = self.syncer.is_overdue(self.settings.timeout);
        if is_overdue && self.trouble.is_none() {
            metrics::audit_failure(AuditSink::File);
            self.fail(&io::Error::from(io::ErrorKind::TimedOut), Cause::Overdue);
        }
        if is_overdue {
            return false;
        }
        if let Some(trouble) = &self.trouble {
            if Instant::now() < trouble.retry_at {
                return false;
            }
            let delay = (trouble.delay * 2).min(LAST_RETRY);
            if let Err(error) = self.mend() {
                tracing::debug!(%error, "the audit log still cannot be written");
                if let Some(trouble) = &mut self.trouble {
                    (trouble.delay, trouble.retry_at) = (delay, Instant::now() + delay);
                }
                return false;
            }
            tracing::info!("the audit log can be written again");
        }
        self.status.set_writable(true);
        true
    }

    pub(super) fn fail(&mut self, error: &io::Error, cause: Cause) {
        tracing::error!(%error, "the audit log cannot be written: calls fail until it can");
        self.status.set_writable(false);
        let trouble = self.trouble.get_or_insert(Trouble {
            retry_at: Instant::now() + FIRST_RETRY,
            delay: FIRST_RETRY,
            refused: 0,
            cause,
        });
        // A second failure takes the graver remedy, and forgets nothing of the first.
        trouble.cause = trouble.cause.max(cause);
    }

    /// Opens the file anew, or another one, and writes what has happened. Only a line that was written proves that it works.
    pub(super) fn mend(&mut self) -> Result<(), OpenError> {
        let now = self.clock.now();
        let Some(trouble) = &mut self.trouble else {
            return Ok(());
        };
        let at = || OpenError::io(self.settings.directory.clone());
        match trouble.cause {
            Cause::Overdue => {}
            Cause::Write => {
                let resumed = self.log.reopen(self.link, now)?;
                self.link = resumed.link;
                // Before all others: it stands right behind what it speaks of.
                self.notes.splice(0..0, resumed.torn.map(events::torn_line));
                if let Some(lost) = resumed.lost {
                    self.notes.push(events::file_lost(lost));
                }
            }
            Cause::Sync | Cause::NewFile => {
                if trouble.cause == Cause::Sync {
                    self.log.begin_anew(now)?;
                    let synced = self.syncer.progress().borrow().synced;
                    self.notes.push(events::sync_failed(synced));
                    // However often it is tried, one new file is enough.
                    trouble.cause = Cause::NewFile;
                }
                self.log.probe(|file| self.syncer.try_sync(file)).map_err(at())?;
            }
        }
        let refused = trouble.refused + self.status.no_room();
        if trouble.cause == Cause::Overdue && refused == 0 {
            self.trouble = None;
            return Ok(());
        }
        if self.log.is_empty() {
            // One that waits is of a file that was lost, or of this one.
            self.notes.retain(|note| !events::is_of(note, events::OPENED));
            let revision = self.status.revision();
            let opened = events::file_opened(self.log.number(), &self.settings, revision);
            let is_torn = self
                .notes
                .first()
                .is_some_and(|note| events::is_of(note, events::RECOVERED));
            self.notes.insert(usize::from(is_torn), opened);
        }
        let notes = self.notes.len();
        self.notes.push(events::resumed(refused));
        if let Err(error) = self.write(&mut [], Ending::checkpoint()) {
            self.notes.truncate(notes);
            if let Some(trouble) = &mut self.trouble {
                trouble.refused = refused;
            }
            return Err(self.at_file()(error));
        }
        self.trouble = None;
        Ok(())
    }

    fn at_file(&self) -> impl FnOnce(io::Error) -> OpenError + use<> {
        OpenError::io(self.settings.directory.clone())
    }
}
