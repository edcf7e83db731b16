//! Backups that somebody takes over the wire: when the newest was begun is kept, so that whoever looks at the metrics knows it after a
//! restart, too.

use std::path::Path;
use std::sync::Arc;

use super::kept::Kept;
use crate::telemetry::metrics;
use crate::time::Timestamp;
use crate::vault::Vault;

/// Where it is kept: in the store's folder, in seconds since 1970.
pub(super) fn kept_beside(store: &Path) -> Kept {
    Kept::beside(store, "backup-taken")
}

/// Tells of the newest, and of each that is taken from now on.
pub(super) async fn keep(vault: Arc<Vault>, kept: Kept) {
    match kept.read() {
        Ok(line) => {
            if let Some(begun_at) = line.and_then(|line| line.trim().parse().ok()) {
                metrics::last_backup(begun_at);
            }
        }
        Err(error) => tracing::warn!(%error, "when the newest backup was taken cannot be read"),
    }
    let mut taken = vault.backups_taken();
    // One may have been taken before this looks.
    taken.mark_changed();
    while taken.changed().await.is_ok() {
        let newest = *taken.borrow_and_update();
        let Some(begun_at) = newest.map(Timestamp::unix_seconds) else {
            continue;
        };
        metrics::last_backup(begun_at);
        let kept = kept.clone();
        let written = tokio::task::spawn_blocking(move || kept.write(&format!("{begun_at}\n"))).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "that a backup was taken is forgotten with the next restart");
        }
    }
}
