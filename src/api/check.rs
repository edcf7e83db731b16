//! The stream behind `CheckStore`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tonic::Status;

use super::call::StreamEnd;
use super::fault::{ApiError, Fault};
use super::peer::Peer;
use crate::access::Action;
use crate::audit::LogFolder;
use crate::pb::v1::{self, check_store_response::Seen};
use crate::vault::check::{CheckError, Finding, Inspector, Stop};
use crate::vault::{Vault, VaultError};

/// How much is told ahead of the caller.
const AHEAD: usize = 64;
/// How long a caller may take to make room for one more message.
const PATIENCE: Duration = Duration::from_secs(30);

type Message = Result<v1::CheckStoreResponse, Status>;

/// What is seen in the store.
pub struct CheckStream {
    messages: mpsc::Receiver<Message>,
    end: StreamEnd,
}

/// What one caller looks at.
pub(super) struct Looking {
    pub(super) vault: Arc<Vault>,
    /// What it is compared with.
    pub(super) log: LogFolder,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) reader: Peer,
    /// What it is told when it may look no longer.
    pub(super) refusal: ApiError,
}

struct Telling {
    reader: Peer,
    messages: mpsc::Sender<Message>,
    /// Why it does not go on, if somebody is to be told.
    trouble: Option<ApiError>,
    refusal: Option<ApiError>,
}

impl CheckStream {
    /// Looks on a runtime that outlives the one that the caller is served on, for as long as the caller takes what is seen.
    pub(super) fn new(runtime: &Handle, looking: Looking, end: StreamEnd) -> Self {
        let Looking {
            vault,
            log,
            place,
            reader,
            refusal,
        } = looking;
        let (outlet, messages) = mpsc::channel(AHEAD);
        runtime.spawn(async move {
            let taken = outlet.clone();
            let mut telling = Telling {
                reader,
                messages: outlet,
                trouble: None,
                refusal: Some(refusal),
            };
            let checked = tokio::select! {
                checked = vault.check(Some(&log), &mut telling) => checked,
                // Also while nothing is told yet.
                () = taken.closed() => Err(CheckError::Stopped(Stop)),
            };
            match checked {
                Ok(records) => drop(telling.tell(Seen::Records(records)).await),
                Err(CheckError::Stopped(Stop)) => {}
                Err(CheckError::Store(error)) => telling.trouble = Some(VaultError::from(error).into()),
                Err(error @ CheckError::Log(_)) => {
                    tracing::error!(%error, "the store could not be compared with the audit log");
                    telling.trouble = Some(ApiError::AuditUnreadable);
                }
                Err(CheckError::Kek(error)) => telling.trouble = Some(VaultError::from(error).into()),
            }
            if let Some(trouble) = &telling.trouble {
                tracing::warn!(error = %trouble, "a check of the store was not done to its end");
                let _ = telling.messages.try_send(Err(Fault::from(trouble).into()));
            }
            drop(place);
        });
        Self { messages, end }
    }
}

impl Telling {
    async fn tell(&mut self, seen: Seen) -> Result<(), Stop> {
        let may_look = self
            .reader
            .permissions()
            .is_ok_and(|permissions| permissions.allows_operation(Action::Operate));
        if !may_look {
            self.trouble = self.refusal.take();
            return Err(Stop);
        }
        let message = v1::CheckStoreResponse { seen: Some(seen) };
        match self.messages.send_timeout(Ok(message), PATIENCE).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Stop),
        }
    }
}

#[async_trait]
impl Inspector for Telling {
    async fn looked_at(&mut self, records: u64) -> Result<(), Stop> {
        self.tell(Seen::RecordsSoFar(records)).await
    }

    async fn found(&mut self, finding: Finding) -> Result<(), Stop> {
        let Finding { key, revision, defect } = finding;
        self.tell(Seen::Finding(v1::StoreFinding {
            record: key.to_string(),
            revision: revision.0,
            defect: defect.to_string(),
        }))
        .await
    }
}

impl Stream for CheckStream {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.messages.poll_recv(context);
        if let Poll::Ready(Some(Ok(_))) = &next {
            self.end.count();
        }
        next
    }
}
