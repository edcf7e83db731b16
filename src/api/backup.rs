//! The stream behind `Backup`.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tonic::Status;

use super::call::StreamEnd;
use super::fault::{ApiError, Fault};
use super::peer::Peer;
use crate::access::{Action, Permissions};
use crate::audit::Audit;
use crate::backup::Made;
use crate::pb::v1;
use crate::vault::Vault;

/// How many parts are made ahead of the caller; each has some 256 KiB.
const AHEAD: usize = 2;
/// The largest message, in bytes.
const MESSAGE: usize = 128 * 1024;

/// The bytes of a backup.
pub struct BackupStream {
    parts: mpsc::Receiver<Bytes>,
    /// What is left of the part that is being sent.
    rest: Bytes,
    outcome: Arc<OnceLock<Result<Made, ApiError>>>,
    vault: Arc<Vault>,
    taker: Peer,
    refusal: Option<ApiError>,
    is_over: bool,
    end: StreamEnd,
}

/// What one caller takes.
pub(super) struct Taking {
    pub(super) vault: Arc<Vault>,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) audit: Audit,
    pub(super) taker: Peer,
    /// What it is told when it may take it no longer.
    pub(super) refusal: ApiError,
}

impl BackupStream {
    /// Makes the backup on a runtime that outlives the one that the caller is served on, for as long as the caller takes it.
    pub(super) fn new(runtime: &Handle, taking: Taking, end: StreamEnd) -> Self {
        let Taking {
            vault,
            place,
            audit,
            taker,
            refusal,
        } = taking;
        let (out, parts) = mpsc::channel(AHEAD);
        let outcome = Arc::new(OnceLock::new());
        let told = Arc::clone(&outcome);
        let made_by = Arc::clone(&vault);
        runtime.spawn(async move {
            let checkpoint = audit.checkpoints().borrow().as_ref().map(|newest| newest.line.clone());
            let made = made_by.back_up(checkpoint.unwrap_or_default(), &out).await;
            let made = made.map_err(|error| {
                tracing::warn!(%error, "a backup was not made to its end");
                ApiError::Backup(Arc::new(error))
            });
            let _ = told.set(made);
            // Only now does the caller find out that there is no more; it may ask for the next one at once.
            drop(place);
            drop(out);
        });
        Self {
            parts,
            rest: Bytes::new(),
            outcome,
            vault,
            taker,
            refusal: Some(refusal),
            is_over: false,
            end,
        }
    }

    fn may_go_on(&self) -> bool {
        let allows = |permissions: Permissions| permissions.allows_operation(Action::Backup);
        self.taker.permissions().is_ok_and(allows)
    }

    fn end_with(&mut self, error: Option<&ApiError>) -> Poll<Option<Result<v1::BackupResponse, Status>>> {
        self.is_over = true;
        // Whoever makes it notices.
        self.parts.close();
        Poll::Ready(error.map(|error| Err(Fault::from(error).into())))
    }
}

impl Stream for BackupStream {
    type Item = Result<v1::BackupResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if self.rest.is_empty() {
            match self.parts.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(part)) => self.rest = part,
                Poll::Ready(None) => {
                    let outcome = Arc::clone(&self.outcome);
                    return match outcome.get() {
                        Some(Ok(made)) => {
                            self.end.backed_up(made.revision);
                            self.vault.was_backed_up(made);
                            self.end_with(None)
                        }
                        Some(Err(error)) => self.end_with(Some(error)),
                        // It was not made to its end because the process ends.
                        None => self.end_with(Some(&ApiError::ShuttingDown)),
                    };
                }
            }
            if !self.may_go_on() {
                let refusal = self.refusal.take();
                return self.end_with(refusal.as_ref());
            }
        }
        let length = self.rest.len().min(MESSAGE);
        let chunk = self.rest.split_to(length);
        self.end.count();
        Poll::Ready(Some(Ok(v1::BackupResponse { chunk })))
    }
}
