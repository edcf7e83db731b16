//! A store that was put back as a whole, its own marks included, shows by the audit log, which is elsewhere and was not: the log
//! is told now and then which revision the store has reached.

use std::sync::Arc;
use std::time::Duration;

use super::restored::Restored;
use crate::audit::{Audit, Entry, Event, Outcome, Reader};
use crate::store::Revision;
use crate::vault::{Door, Vault};

/// How often it is looked whether the vault is open.
const LOOK: Duration = Duration::from_millis(100);
/// How often the log is told at most.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Compares the store with the log, unless it was just restored, then tells the log of revisions for as long as it is let.
/// The log has `found` lines of those before.
pub(super) async fn keep(audit: Audit, found: u64, door: Arc<Door>, restored: Arc<Restored>) {
    let mut ticks = tokio::time::interval(LOOK);
    let vault = loop {
        ticks.tick().await;
        if let Ok(vault) = door.vault() {
            break Arc::clone(vault);
        }
    };
    if restored.vouched(&vault).is_none() {
        compare(&audit, found, &vault).await;
    }
    audit.set_revision(vault.revision().0);
    let mut told = vault.revision();
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        told = tell(&audit, &vault, told);
    }
}

/// Tells the log which revision the store has when the process ends.
pub(super) fn tell_last(audit: &Audit, door: &Door) {
    if let Ok(vault) = door.vault() {
        tell(audit, vault, vault.opened_at_revision());
    }
}

fn tell(audit: &Audit, vault: &Vault, told: Revision) -> Revision {
    let now = vault.revision();
    audit.set_revision(now.0);
    if now > told {
        audit.note(&Entry {
            revision: Some(now.0),
            ..Entry::new(Event::Upkeep, "StoreRevision")
        });
    }
    now
}

async fn compare(audit: &Audit, lines: u64, vault: &Vault) {
    let directory = audit.directory().to_owned();
    let newest = tokio::task::spawn_blocking(move || Reader::new(&directory)?.newest_revision(lines)).await;
    let found = vault.opened_at_revision();
    match newest {
        Ok(Ok(Some(logged))) if logged > found.0 => {
            tracing::error!(
                found = found.0,
                logged,
                "the store is older than the audit log says: it was put back to an older state; that is recorded in the log"
            );
            audit.note(&Entry {
                revision: Some(found.0),
                outcome: Some(Outcome::Failed),
                ..Entry::new(Event::Upkeep, "StoreIsOlder")
            });
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(%error, "the store could not be compared with the audit log"),
        Err(_) => tracing::error!("the store could not be compared with the audit log"),
    }
}
