//! The writer's files: when the next one begins, and when the oldest one goes.

use std::time::Instant;

use super::trouble::{Cause, LAST_RETRY};
use super::{Ending, Writer};
use crate::audit::error::OpenError;
use crate::audit::events;
use crate::time::Timestamp;

impl Writer {
    pub(super) fn is_rotation_due(&self, now: Timestamp) -> bool {
        let is_large = self.log.length() >= self.settings.rotate_size;
        let is_old = now.since(self.log.began()) >= self.settings.rotate_age;
        let may = self.rotate_not_before.is_none_or(|time| Instant::now() >= time);
        (is_large || is_old) && may && !self.log.is_empty()
    }

    pub(super) fn rotate_if_due(&mut self) {
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
        let revision = self.status.revision();
        let opened = events::file_opened(self.log.number(), &self.settings, revision);
        self.notes.push(opened);
        if self.write_alone(Ending::Open) {
            self.remove_old_file(now);
        }
        Ok(())
    }

    /// Removes the oldest file if it is older than it has to be kept. The log says so, durably and signed, before it happens.
    /// One file for each new one is enough, and a clock that jumps does not take the whole log.
    pub(super) fn remove_old_file(&mut self, now: Timestamp) {
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
}
