//! Ties the audit log to the vault: the vault's key signs it, the newest checkpoint is kept beside the store, health tells of
//! it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::kept::Kept;
use crate::audit::{Audit, Checkpoint, Keys, Reader};
use crate::backup;
use crate::server::{Health, Obstacle};
use crate::vault::{Door, Vault};

/// How often it is looked whether the vault is open.
const LOOK: Duration = Duration::from_millis(100);
/// How often the newest checkpoint is kept at most.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// Where the newest checkpoint is kept: in the store's folder, away from the log. It is signed, so nobody can forge it.
pub(super) fn kept_beside(store: &Path) -> Kept {
    Kept::beside(store, backup::CHECKPOINT)
}

/// Once the vault is open, compares the log with what was kept of it, has it signed, and keeps checkpoints.
pub(super) async fn keep_signed(audit: Audit, door: Arc<Door>, kept: Kept) {
    let mut ticks = tokio::time::interval(LOOK);
    let vault = loop {
        ticks.tick().await;
        if let Ok(vault) = door.vault() {
            break Arc::clone(vault);
        }
    };
    compare(&audit, &vault, &kept).await;
    audit.sign_with(Arc::new(move |payload: &[u8]| vault.sign_checkpoint(payload)));
    let mut checkpoints = audit.checkpoints();
    while checkpoints.changed().await.is_ok() {
        keep_newest(&audit, &kept).await;
        tokio::time::sleep(KEEP_EVERY).await;
    }
}

/// Keeps the newest checkpoint, once the log itself has it on the disk: a power cut must not make the log look cut.
pub(super) async fn keep_newest(audit: &Audit, kept: &Kept) {
    let newest = audit.checkpoints().borrow().clone();
    let Some(Checkpoint { link, line }) = newest else {
        return;
    };
    if !audit.reaches_the_disk(link).await {
        return;
    }
    let kept = kept.clone();
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || kept.write(&line)).await {
        tracing::warn!(%error, "the newest checkpoint of the audit log was not kept");
    }
}

/// Tells health whether lines get written.
pub(super) async fn tell(audit: Audit, health: Health) {
    let mut is_healthy = audit.health();
    loop {
        let now = *is_healthy.borrow_and_update();
        if now {
            health.clear(Obstacle::Audit).await;
        } else {
            health.obstruct(Obstacle::Audit).await;
        }
        if is_healthy.changed().await.is_err() {
            return;
        }
    }
}

/// Records it if the log lacks what was kept of it: a chain cannot tell that its end was cut off.
async fn compare(audit: &Audit, vault: &Vault, kept: &Kept) {
    let kept = match kept.read() {
        Ok(kept) => kept,
        Err(error) => return tracing::error!(%error, "the audit log could not be compared with its kept checkpoint"),
    };
    let Some(line) = kept else { return };
    let keys = Keys::parse(&vault.jwks());
    let Some(kept) = keys.ok().and_then(|keys| Checkpoint::parse(&line, &keys)) else {
        return tracing::error!("the kept checkpoint of the audit log is damaged or forged");
    };
    let directory = audit.directory().to_owned();
    let found = tokio::task::spawn_blocking(move || Reader::new(&directory)?.hash_of(kept.link)).await;
    match found {
        Ok(Ok(found)) if found == Some(kept.link.hash) => {}
        Ok(Ok(found)) => {
            tracing::error!(
                line = kept.link.seq,
                "the audit log was cut or replaced: it lacks a line that was signed; that is recorded in it"
            );
            audit.note_cut(kept.link, found);
        }
        Ok(Err(error)) => tracing::error!(%error, "the audit log could not be compared with its kept checkpoint"),
        Err(_) => tracing::error!("the audit log could not be compared with its kept checkpoint"),
    }
}
