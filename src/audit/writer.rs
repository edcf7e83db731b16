//! The writer: it numbers, chains and writes lines. There is one, and who has it writes.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::chain::Link;
use super::entry::Body;
use super::error::{OpenError, Unavailable};
use super::events;
use super::handle::{Checkpoint, Settings, Sign, Status, up_to};
use super::log::{Log, Resumed, TimeText};
use super::queue::Line;
use super::sync::Syncer;
use crate::telemetry::metrics::{self, AuditSink};
use crate::time::{Clock, Timestamp};

/// How soon after a failure it tries again, and how late at most.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// A write that takes longer is no usual one: the next ones are left to the thread, for so long.
const SLOW: Duration = Duration::from_millis(50);
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Where lines go beside the files: for collectors of logs.
pub(super) type Copy = Box<dyn Write + Send>;

/// The only one who writes.
pub(super) struct Writer {
    settings: Settings,
    clock: Arc<dyn Clock>,
    log: Log,
    copy: Option<Copy>,
    link: Link,
    syncer: Arc<Syncer>,
    status: Arc<Status>,
    sign: Arc<OnceLock<Sign>>,
    checkpoints: watch::Sender<Option<Checkpoint>>,
    /// What the log has to say of itself before anything else.
    notes: Vec<Body>,
    /// The lines that are to be written next; empty but for that.
    group: Vec<Line>,
    buffer: Vec<u8>,
    time: TimeText,
    /// Lines since the last checkpoint, and when the first of them was written.
    unsigned: u64,
    unsigned_since: Option<Instant>,
    /// The same by the clock of the lines, which a machine that sleeps does not stop.
    unsigned_time: Option<Timestamp>,
    /// Whether this process has signed yet. It does as soon as it has the key.
    has_signed: bool,
    /// Whether it has looked for an old file since its start.
    has_tidied: bool,
    trouble: Option<Trouble>,
    rotate_not_before: Option<Instant>,
    /// Until when writing may take its time, as far as is known.
    slow_until: Option<Instant>,
}

/// Why nothing is written, and what is done about it.
struct Trouble {
    retry_at: Instant,
    delay: Duration,
    refused: u64,
    cause: Cause,
}

/// What it takes to mend it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// Lines have waited for too long to become durable: it is over when they are.
    Overdue,
    /// The file is looked at anew.
    Write,
    /// What was written before is not known to be durable: the file cannot be trusted any more.
    Sync,
    /// The new file is there, and has to prove itself.
    NewFile,
}

/// What a group of lines ends with.
enum Ending {
    Open,
    /// With a signature over everything, on a line that says this; without one if the key is not at hand.
    Signed(Body),
}

impl Ending {
    fn checkpoint() -> Self {
        Self::Signed(events::checkpoint())
    }
}

impl Writer {
    #[expect(clippy::too_many_arguments, reason = "it is made in one place")]
    pub(super) fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        (log, resumed): (Log, Resumed),
        copy: Option<Copy>,
        syncer: Arc<Syncer>,
        status: Arc<Status>,
        sign: Arc<OnceLock<Sign>>,
        checkpoints: watch::Sender<Option<Checkpoint>>,
    ) -> Self {
        let mut notes: Vec<_> = resumed.torn.map(events::torn_line).into_iter().collect();
        if let Some(torn) = resumed.torn {
            tracing::warn!(
                bytes = torn.bytes,
                "the audit log ended in a torn line; it is kept and recorded"
            );
        }
        if log.is_empty() {
            notes.push(events::file_opened(log.number(), &settings));
        }
        notes.push(events::started(&settings));
        Self {
            settings,
            clock,
            log,
            copy,
            link: resumed.link,
            syncer,
            status,
            sign,
            checkpoints,
            notes,
            group: Vec::new(),
            buffer: Vec::new(),
            time: TimeText::default(),
            unsigned: 0,
            unsigned_since: None,
            unsigned_time: None,
            has_signed: false,
            has_tidied: false,
            trouble: None,
            rotate_not_before: None,
            slow_until: None,
        }
    }

    /// Writes what the log says of itself at its start.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.write(&mut [], Ending::Open)
    }

    /// The lines that are to be written next.
    pub(super) fn group(&mut self) -> &mut Vec<Line> {
        &mut self.group
    }

    /// Writes the group if that is all there is to do, so that it takes microseconds; false, and nothing is done, if it is not.
    pub(super) fn write_if_usual(&mut self) -> bool {
        let began = Instant::now();
        if !self.is_usual() {
            return false;
        }
        self.status.set_busy(true);
        self.write_group(Ending::Open);
        if began.elapsed() > SLOW {
            self.slow_until = Some(Instant::now() + LEFT_ALONE);
        }
        self.status.set_busy(false);
        true
    }

    /// Whether lines can just be appended: to a file alone, which waits for no disk, and on which nothing waits to be mended.
    fn is_usual(&self) -> bool {
        self.copy.is_none()
            && self.trouble.is_none()
            && self.slow_until.is_none_or(|until| Instant::now() >= until)
            && self.syncer.is_in_order(self.settings.timeout)
            && !self.is_checkpoint_due(self.group.len())
            && !self.is_rotation_due(self.clock.now())
    }

    /// Does all there is to do.
    pub(super) fn turn(&mut self) {
        self.status.set_busy(true);
        self.look_around();
        self.status.set_busy(false);
    }

    fn look_around(&mut self) {
        if !self.is_writable() {
            self.refuse();
            return;
        }
        let no_room = self.status.no_room();
        if no_room > 0 {
            self.notes.push(events::resumed(no_room));
        }
        let is_due = self.is_checkpoint_due(self.group.len());
        let ending = if is_due { Ending::checkpoint() } else { Ending::Open };
        if (!self.group.is_empty() || !self.notes.is_empty() || is_due) && !self.write_group(ending) {
            return;
        }
        // One that was announced before a crash is finished.
        if self.has_signed && !std::mem::replace(&mut self.has_tidied, true) {
            self.remove_old_file(self.clock.now());
        }
        self.rotate_if_due();
    }

    /// Writes the group and answers it; if that fails, refuses it.
    fn write_group(&mut self, ending: Ending) -> bool {
        let mut group = std::mem::take(&mut self.group);
        let written = self.write(&mut group, ending);
        self.group = group;
        match written {
            Ok(()) => {
                self.answer();
                true
            }
            Err(error) => {
                self.fail(&error, Cause::Write);
                self.refuse();
                false
            }
        }
    }

    /// Writes the notes and a group of lines, all or none of them.
    fn write(&mut self, group: &mut [Line], ending: Ending) -> io::Result<()> {
        let now = self.clock.now();
        let time = self.time.of(now);
        let before = self.link;
        self.buffer.clear();
        for note in &self.notes {
            self.link.append(&mut self.buffer, time, note.as_str());
        }
        let mut is_urgent = false;
        for line in group {
            self.link.append(&mut self.buffer, time, line.body.as_str());
            line.seq = self.link.seq;
            is_urgent |= line.is_urgent;
        }
        let mut checkpoint = None;
        if let (Some(sign), Ending::Signed(body)) = (self.sign.get(), ending) {
            let start = self.buffer.len();
            self.link
                .append_signed(&mut self.buffer, time, body.as_str(), |payload| sign(payload));
            let line = String::from_utf8_lossy(&self.buffer[start..]).trim_end().to_owned();
            checkpoint = Some(Checkpoint { link: self.link, line });
        }
        if let Err(error) = self.write_buffer() {
            self.link = before;
            return Err(error);
        }
        self.notes.clear();
        self.syncer.written(self.log.file(), self.link.seq, is_urgent);
        self.status.set_written(self.link.seq);
        metrics::audit_lines(self.link.seq - before.seq);
        if checkpoint.is_some() {
            self.has_signed = true;
            (self.unsigned, self.unsigned_since, self.unsigned_time) = (0, None, None);
            self.checkpoints.send_replace(checkpoint);
        } else {
            self.unsigned += self.link.seq - before.seq;
            self.unsigned_since.get_or_insert_with(Instant::now);
            self.unsigned_time.get_or_insert(now);
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let written = self
            .log
            .write(&self.buffer)
            .inspect_err(|_| metrics::audit_failure(AuditSink::File));
        let written = written.and_then(|()| match &mut self.copy {
            Some(copy) => copy
                .write_all(&self.buffer)
                .and_then(|()| copy.flush())
                .inspect_err(|_| metrics::audit_failure(AuditSink::Stdout)),
            None => Ok(()),
        });
        if written.is_ok() {
            self.log.keep(&self.buffer);
        } else if let Err(error) = self.log.take_back() {
            tracing::warn!(%error, "lines of refused calls could not be taken back from the audit log");
        }
        written
    }

    fn answer(&mut self) {
        let mut withheld = Vec::new();
        for line in self.group.drain(..) {
            if let Some(answer) = line.answer
                && answer.to.send(Ok(line.seq)).is_err()
            {
                withheld.extend(up_to(line.seq, answer.lines));
            }
        }
        if !withheld.is_empty() {
            self.notes.push(events::withheld(&withheld));
        }
    }

    fn refuse(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.refused += self.group.len() as u64;
        }
        for line in self.group.drain(..) {
            if let Some(answer) = line.answer {
                let _ = answer.to.send(Err(Unavailable));
            }
        }
    }

    /// Whether lines can be written; mends what is wrong if it is time to try.
    fn is_writable(&mut self) -> bool {
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

    fn fail(&mut self, error: &io::Error, cause: Cause) {
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
    fn mend(&mut self) -> Result<(), OpenError> {
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
                self.log.probe(|file| self.syncer.sync_now(file)).map_err(at())?;
            }
        }
        let refused = trouble.refused + self.status.no_room();
        if trouble.cause == Cause::Overdue && refused == 0 {
            self.trouble = None;
            return Ok(());
        }
        if self.log.is_empty() {
            let opened = events::file_opened(self.log.number(), &self.settings);
            if !self.notes.contains(&opened) {
                self.notes.insert(0, opened);
            }
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

    fn is_checkpoint_due(&self, coming: usize) -> bool {
        let interval = self.settings.checkpoint_interval;
        let is_late = self.unsigned_since.is_some_and(|since| since.elapsed() >= interval)
            || self
                .unsigned_time
                .is_some_and(|time| self.clock.now().since(time) >= interval);
        let is_due = is_late || !self.has_signed || self.unsigned + coming as u64 >= self.settings.checkpoint_lines;
        is_due && self.sign.get().is_some()
    }

    fn is_rotation_due(&self, now: Timestamp) -> bool {
        let is_large = self.log.length() >= self.settings.rotate_size;
        let is_old = now.since(self.log.began()) >= self.settings.rotate_age;
        let may = self.rotate_not_before.is_none_or(|time| Instant::now() >= time);
        (is_large || is_old) && may && !self.log.is_empty()
    }

    fn rotate_if_due(&mut self) {
        let now = self.clock.now();
        if !self.is_rotation_due(now) {
            return;
        }
        if let Err(error) = self.rotate(now) {
            // The old file still takes lines; there is no reason to refuse calls.
            tracing::error!(%error, "the audit log cannot begin its next file; it goes on with the old one");
            self.rotate_not_before = Some(Instant::now() + LAST_RETRY);
        }
    }

    /// Signs what the file holds, makes it durable and begins the next one. If that cannot be, the old file still takes lines;
    /// if it is a write that fails, nothing does.
    fn rotate(&mut self, now: Timestamp) -> Result<(), OpenError> {
        if self.unsigned > 0 && self.sign.get().is_some() && !self.write_alone(Ending::checkpoint()) {
            return Ok(());
        }
        // The next file must not be on the disk while lines of this one are not.
        if let Err(error) = self.syncer.sync_now(self.log.file()) {
            self.fail(&error, Cause::Sync);
            return Ok(());
        }
        self.log.begin_anew(now)?;
        self.notes.push(events::file_opened(self.log.number(), &self.settings));
        if self.write_alone(Ending::Open) {
            self.remove_old_file(now);
        }
        Ok(())
    }

    /// Writes what the log says of itself, and says whether that worked.
    fn write_alone(&mut self, ending: Ending) -> bool {
        let written = self.write(&mut [], ending);
        if let Err(error) = &written {
            self.fail(error, Cause::Write);
        }
        written.is_ok()
    }

    /// Removes the oldest file if it is older than it has to be kept. The log says so, durably and signed, before it happens.
    /// One file for each new one is enough, and a clock that jumps does not take the whole log.
    fn remove_old_file(&mut self, now: Timestamp) {
        // Without a signature nobody could tell it from a theft.
        let Some(keep) = self.settings.keep.filter(|_| self.sign.get().is_some()) else {
            return;
        };
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let limit = Timestamp::from_unix_ms(now.unix_ms().saturating_sub(keep));
        let (number, last) = match self.log.oldest_before(limit) {
            Ok(Some(oldest)) => oldest,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "no old file of the audit log can be removed"),
        };
        if !self.write_alone(Ending::Signed(events::file_removed(number, last))) {
            return;
        }
        if let Err(error) = self.syncer.sync_now(self.log.file()) {
            return self.fail(&error, Cause::Sync);
        }
        if let Err(error) = self.log.remove(number) {
            tracing::error!(%error, "an old file of the audit log cannot be removed");
        }
    }

    /// The last line.
    pub(super) fn end(&mut self) {
        if self.trouble.is_some()
            && let Err(error) = self.mend()
        {
            tracing::error!(%error, "the audit log could not be closed");
            return self.syncer.end();
        }
        self.notes.push(events::stopped());
        if let Err(error) = self.write(&mut [], Ending::checkpoint()) {
            tracing::error!(%error, "the audit log could not be closed");
        }
        self.syncer.end();
    }
}
