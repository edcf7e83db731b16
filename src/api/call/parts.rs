//! Calls that come many in one message, such as the saves of an import: each is counted, decided and listed like a call.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::{About, Call, Unanswered, ended, unavailable};
use crate::access::{Action, NamedScope, Reach};
use crate::api::fault::{ApiError, Fault};
use crate::audit::{Entry, Event, Intent, NOT_FINISHED, up_to};
use crate::vault::scope::CredentialRef;

/// The parts of one message. When they are dropped, those that were announced and have no outcome get a line.
pub(in crate::api) struct Parts {
    /// Whose they are. It has a line of its own.
    call: Call,
    all: Vec<Part>,
    /// The announcement of the last of them.
    intent: Option<Intent>,
    /// How long quotas have held them back.
    held_back: Duration,
}

struct Part {
    about: About,
    /// The line that has announced it.
    intent: Option<u64>,
}

/// What became of a part: the version that it is about, or why it failed.
pub(in crate::api) type Outcome<'a> = Result<Option<u64>, &'a Fault>;

impl Call {
    /// The same call, once it has opened a stream and has its line.
    pub(in crate::api) fn opened(&self) -> Self {
        let mut call = self.with(self.about.clone());
        call.is_over = true;
        call
    }

    /// The parts of a message of the stream that this call has opened.
    pub(in crate::api) fn parts(&self) -> Parts {
        Parts {
            call: self.opened(),
            all: Vec::new(),
            intent: None,
            held_back: Duration::ZERO,
        }
    }

    /// Refuses unless the caller may do this with anything at all.
    pub(in crate::api) fn authorize_somewhere(&self, action: Action) -> Result<(), ApiError> {
        self.unless(self.permissions()?.allows_somewhere(action), action)
    }
}

impl Parts {
    /// Asks anew who the caller is and what it may do.
    pub(in crate::api) fn renew(&mut self) -> Result<(), ApiError> {
        self.call.renew()
    }

    /// Adds a part: says whether the caller may do this with this credential. The texts are as they came. If the caller is over a
    /// quota, it waits until there is room.
    ///
    /// # Errors
    /// That the caller is nobody any more.
    pub(in crate::api) async fn add(
        &mut self,
        action: Action,
        tenant: &str,
        provider: &str,
        scope: NamedScope<'_>,
    ) -> Result<Result<(), ApiError>, ApiError> {
        self.wait_for_room(false).await?;
        let allowed = self.allows(action, tenant, provider, scope)?;
        if allowed.is_ok() {
            self.wait_for_room(true).await?;
        }
        self.all.push(Part {
            about: self.call.about.clone(),
            intent: None,
        });
        Ok(allowed)
    }

    /// Whether the caller may do this with this credential.
    ///
    /// # Errors
    /// That the caller is nobody any more.
    pub(in crate::api) fn allows(
        &mut self,
        action: Action,
        tenant: &str,
        provider: &str,
        scope: NamedScope<'_>,
    ) -> Result<Result<(), ApiError>, ApiError> {
        self.call.note_credential(tenant, provider, scope);
        let granted = self.call.permissions()?.allows(action, tenant, provider, scope);
        Ok(match granted {
            Some(_) => Ok(()),
            None => Err(self.call.not_granted_credential(action)),
        })
    }

    /// Counts a call that has no part; waits like one.
    ///
    /// # Errors
    /// That the caller is nobody any more.
    pub(in crate::api) async fn count_none(&mut self) -> Result<(), ApiError> {
        self.wait_for_room(false).await
    }

    /// Counts a part like a call: for the caller, or for its tenant.
    async fn wait_for_room(&mut self, is_for_tenant: bool) -> Result<(), ApiError> {
        loop {
            let permissions = self.call.permissions()?;
            let Some(usage) = self.call.usage() else {
                return Ok(());
            };
            let counted = match (&self.call.about.tenant, is_for_tenant) {
                (_, false) => usage.count_call_or_wait(permissions.total_limits()),
                (Some(tenant), true) => usage.count_call_for_or_wait(tenant, &permissions.limits(tenant.as_str())),
                (None, true) => Ok(()),
            };
            let Err(room_after) = counted else { return Ok(()) };
            let began = Instant::now();
            tokio::time::sleep(room_after).await;
            self.held_back += began.elapsed();
            self.renew()?;
        }
    }

    /// How long quotas have held them back.
    pub(in crate::api) fn held_back(&self) -> Duration {
        self.held_back
    }

    /// What the caller may do this with.
    pub(in crate::api) fn reach(&self, action: Action) -> Result<Reach, ApiError> {
        Ok(self.call.permissions()?.reach(action))
    }

    /// The caller's identity.
    pub(in crate::api) fn caller(&self) -> String {
        self.call.caller()
    }

    /// Notes which credential a part is about.
    pub(in crate::api) fn about_credential(&mut self, part: usize, credential: &CredentialRef) {
        let about = &mut self.all[part].about;
        about.tenant = Some(credential.tenant.clone());
        about.provider = Some(credential.provider.clone());
        about.scope = Some(credential.scope.clone());
    }

    /// Announces that these parts are about to change something. Their lines are written when this returns.
    pub(in crate::api) async fn announce(&mut self, parts: &[usize]) -> Result<(), ApiError> {
        if parts.is_empty() {
            return Ok(());
        }
        let entries = parts.iter().map(|part| self.entry(&self.all[*part], Event::Intent));
        let intent = self.call.audit.announce_all(entries).await?;
        // One behind the other, the last one last.
        for (part, line) in parts.iter().rev().zip((1..=intent.seq).rev()) {
            self.all[*part].intent = Some(line);
        }
        self.intent = Some(intent);
        Ok(())
    }

    /// Ends the parts: their lines are written, and those of what they have changed are durable, when this returns. If that fails,
    /// nothing of what came of them may leave.
    ///
    /// # Errors
    /// That the audit log is not available.
    pub(in crate::api) async fn end(&mut self, outcomes: &[Outcome<'_>]) -> Result<(), Box<Fault>> {
        let mut parts = std::mem::take(&mut self.all);
        for (part, outcome) in parts.iter_mut().zip(outcomes) {
            part.about.version = outcome.as_ref().ok().copied().flatten();
        }
        let entries = parts.iter().zip(outcomes).map(|(part, outcome)| {
            let (code, reason) = match outcome {
                Ok(_) => (Code::Ok, None),
                Err(fault) => (fault.code, Some(fault.reason)),
            };
            ended(self.entry(part, Event::Call), code, reason)
        });
        let ticket = self.call.audit.submit_all(entries);
        tracing::debug!(
            target: "tresor::call",
            method = self.call.method,
            parts = parts.len(),
            failed = outcomes.iter().filter(|outcome| outcome.is_err()).count(),
            "parts of a call"
        );
        let lines = ticket.lines();
        let last = ticket.written().await.map_err(unavailable)?;
        let unanswered = Unanswered {
            audit: self.call.audit.clone(),
            own: None,
            parts: up_to(last, lines),
        };
        unanswered.may_leave(self.intent).await
    }

    fn entry<'a>(&'a self, part: &'a Part, event: Event) -> Entry<'a> {
        Entry {
            intent: part.intent,
            ..self.call.entry_about(&part.about, event)
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for part in self.all.iter().filter(|part| part.intent.is_some()) {
            let entry = self.entry(part, Event::Call);
            self.call.audit.note(&ended(entry, Code::Cancelled, Some(NOT_FINISHED)));
        }
    }
}
