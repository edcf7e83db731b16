//! What is looked up when somebody asks for metrics.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::Audit;
use crate::server::{Expiry, LiveTls};
use crate::telemetry::metrics::{CertificateKind, Certificates, Connections, Readings, SOON};
use crate::time::{Clock as _, SystemClock};
use crate::vault::Door;

/// Looks at the vault, the audit log and the certificates. What is the server's own is left to the server.
pub(super) fn look(
    door: Arc<Door>,
    audit: Audit,
    tls: Arc<LiveTls>,
    backup_interval: Option<Duration>,
) -> Box<dyn Fn() -> Readings + Send + Sync> {
    Box::new(move || {
        let tls = tls.now();
        let now = SystemClock.now();
        let certificates = |kind| {
            let of_kind = || tls.expiries().filter(move |expiry| expiry.kind() == kind);
            Certificates {
                kind,
                first_end: of_kind().map(Expiry::at).min(),
                overdue: of_kind().filter(|expiry| expiry.is_near(now)).count() as u64,
            }
        };
        let vault = door.vault().ok();
        Readings {
            is_serving: false,
            connections: Connections::default(),
            audit: audit.readings(),
            certificates: CertificateKind::ALL.map(certificates),
            is_store_writable: door.store_trouble().is_none(),
            backup_interval,
            vault: vault.map(|vault| vault.figures(&SOON.map(|(_, within)| within))),
        }
    })
}
