//! The writer: it numbers, chains and writes lines. There is one, and who has it writes.

mod rotation;
mod trouble;

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::trouble::{Cause, Trouble};
use super::chain::Link;
use super::entry::Body;
use super::error::Unavailable;
use super::events;
use super::handle::{Checkpoint, Settings, Sign, Status, up_to};
use super::log::{Log, Resumed, TimeText};
use super::queue::Line;
use super::sync::Syncer;
use crate::telemetry::metrics::{self, AuditSink};
use crate::time::{Clock, Timestamp};

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
            notes.push(events::file_opened(log.number(), &settings, status.revision()));
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
        let began = Instant::now();
        let written = self
            .log
            .write(&self.buffer)
            .inspect(|()| metrics::audit_write(began.elapsed()))
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

    fn is_checkpoint_due(&self, coming: usize) -> bool {
        let interval = self.settings.checkpoint_interval;
        let is_late = self.unsigned_since.is_some_and(|since| since.elapsed() >= interval)
            || self
                .unsigned_time
                .is_some_and(|time| self.clock.now().since(time) >= interval);
        let is_due = is_late || !self.has_signed || self.unsigned + coming as u64 >= self.settings.checkpoint_lines;
        is_due && self.sign.get().is_some()
    }

    /// Writes what the log says of itself, and says whether that worked.
    fn write_alone(&mut self, ending: Ending) -> bool {
        let written = self.write(&mut [], ending);
        if let Err(error) = &written {
            self.fail(error, Cause::Write);
        }
        written.is_ok()
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
