//! The way from the thread that reloads to the audit log.

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::audit::{Audit, Hash, Unavailable};
use crate::telemetry::metrics::Reload;

/// Tells the audit log what calls will be decided by. It has no part of the log itself, which holds on to the vault's keys and so to the
/// store: a thread that ends when it likes must not keep them from being closed.
#[derive(Clone)]
pub(super) struct Announcer(mpsc::Sender<Request>);

struct Request {
    what: Reload,
    sha256: Hash,
    told: oneshot::Sender<Result<(), Unavailable>>,
}

impl Announcer {
    /// One that tells this log, for as long as the task goes on that is returned with it. Needs a tokio runtime.
    pub(super) fn of(audit: Audit) -> (Self, JoinHandle<()>) {
        let (inlet, mut requests) = mpsc::channel::<Request>(1);
        let telling = tokio::spawn(async move {
            while let Some(Request { what, sha256, told }) = requests.recv().await {
                let _ = told.send(audit.announce_in_force(what.as_str(), Some(sha256)).await);
            }
        });
        (Self(inlet), telling)
    }

    /// Waits until the log has the line. Not for a thread of a runtime.
    pub(super) fn announce(&self, what: Reload, sha256: Hash) -> Result<(), String> {
        let (told, is_told) = oneshot::channel();
        let sent = self.0.blocking_send(Request { what, sha256, told });
        let answer = sent.ok().and_then(|()| is_told.blocking_recv().ok());
        match answer {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => {
                Err("the audit log cannot be written, and this must not go without a line; mend that first".into())
            }
            None => Err("the server is ending".into()),
        }
    }
}
