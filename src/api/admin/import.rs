//! `ImportCredentials`: a stream of batches. While one is made durable the next ones are checked and sealed; answers leave in
//! the order of the requests.

mod batch;

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use self::batch::Batch;
use super::{Action, Admin, ApiError, Call, Vault, parse, v1};
use crate::api::call::StreamEnd;
use crate::api::fault::Fault;
use crate::vault::VaultError;

/// How many imports one caller may have under way.
pub(super) const OF_ONE_CALLER: NonZeroUsize = NonZeroUsize::new(2).expect("it is not 0");
/// How long the next one waits for the end of one before, which notices a moment later that its caller has gone.
const MOMENT: Duration = Duration::from_secs(2);
/// How many batches of an import are under way.
const AT_ONCE: usize = 12;

/// The answers, in the order of the requests.
pub(in crate::api) type Answers = ReceiverStream<Result<v1::ImportCredentialsResponse, Status>>;

impl Admin {
    pub(in crate::api) async fn import(
        &self,
        call: &mut Call,
        first: Option<v1::ImportCredentialsRequest>,
        rest: impl Stream<Item = Result<v1::ImportCredentialsRequest, Status>> + Send + Unpin + 'static,
    ) -> Result<Answers, ApiError> {
        call.authorize_somewhere(Action::CredentialsWrite)?;
        let vault = Arc::clone(self.vault()?);
        let peer = call.live()?;
        let identity = peer.identity().map_err(|why| ApiError::NoIdentity(why.to_owned()))?;
        let place = tokio::time::timeout(MOMENT, self.importers.of(identity).acquire_owned()).await;
        let place = place
            .map_err(|_| ApiError::TooManyImports)?
            .map_err(|_| ApiError::ShuttingDown)?;
        // It has waited.
        call.renew()?;
        let (inlet, answers) = mpsc::channel(1);
        let import = Import {
            batches: Batches {
                call: call.opened(),
                vault,
                hasher: RandomState::new(),
                under_way: VecDeque::new(),
            },
            answers: inlet,
            newest: 0,
            end: call.stream(),
            _place: place,
        };
        tokio::spawn(import.run(tokio_stream::iter(first.map(Ok)).chain(rest)));
        Ok(ReceiverStream::new(answers))
    }
}

/// An import under way.
struct Import {
    batches: Batches,
    answers: mpsc::Sender<Result<v1::ImportCredentialsResponse, Status>>,
    /// The newest revision that was told. Batches are saved in any order.
    newest: u64,
    end: StreamEnd,
    _place: OwnedSemaphorePermit,
}

/// The batches that have been begun and not answered. Each goes on to its end, whatever becomes of its import.
struct Batches {
    call: Call,
    vault: Arc<Vault>,
    /// Keyed at random, so that nobody can choose names that share a hash.
    hasher: RandomState,
    under_way: VecDeque<UnderWay>,
}

struct UnderWay {
    names: HashSet<u64>,
    outcome: JoinHandle<Outcome>,
}

type Outcome = Result<v1::ImportCredentialsResponse, Box<Fault>>;

impl Import {
    async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<v1::ImportCredentialsRequest, Status>> + Send + Unpin,
    ) {
        let mut is_over = false;
        while !(is_over && self.batches.under_way.is_empty()) {
            let has_room = self.batches.under_way.len() < AT_ONCE;
            let is_alive = tokio::select! {
                biased;
                () = self.answers.closed() => false,
                outcome = self.batches.next(), if !self.batches.under_way.is_empty() => self.answer(outcome).await,
                request = requests.next(), if has_room && !is_over => match request {
                    None => {
                        is_over = true;
                        true
                    }
                    Some(Ok(request)) => self.begin(request).await,
                    // What is under way is answered before.
                    Some(Err(status)) => self.answer_all().await && self.answer(unreadable(status)).await,
                },
            };
            if !is_alive {
                return;
            }
        }
    }

    /// Begins a batch. One that names a credential which is under way waits for its end, so that the last one counts.
    async fn begin(&mut self, request: v1::ImportCredentialsRequest) -> bool {
        let names = self.batches.names(&request);
        if self.batches.are_under_way(&names) && !self.answer_all().await {
            return false;
        }
        self.batches.begin(request, names);
        true
    }

    async fn answer_all(&mut self) -> bool {
        while !self.batches.under_way.is_empty() {
            let outcome = self.batches.next().await;
            if !self.answer(outcome).await {
                return false;
            }
        }
        true
    }

    /// Answers; false if that was the last answer.
    async fn answer(&mut self, mut outcome: Outcome) -> bool {
        let is_last = outcome.is_err();
        if is_last {
            // Whoever sends again what was not answered must not be overtaken by what it sent before.
            while !self.batches.under_way.is_empty() {
                let _ = self.batches.next().await;
            }
        }
        if let Ok(answer) = &mut outcome
            && answer.revision > 0
        {
            self.newest = self.newest.max(answer.revision);
            answer.revision = self.newest;
        }
        let sent = self.answers.send(outcome.map_err(|fault| (*fault).into())).await;
        if sent.is_ok() && !is_last {
            self.end.count();
        }
        sent.is_ok() && !is_last
    }
}

fn unreadable(status: Status) -> Outcome {
    Err(Box::new(Fault::from(&ApiError::Unreadable(status))))
}

impl Batches {
    /// The hash of each name, as it came.
    fn names(&self, request: &v1::ImportCredentialsRequest) -> Vec<u64> {
        let hash = |line: &v1::CredentialLine| {
            let named = line.put.as_ref().and_then(|put| put.r#ref.as_ref());
            let scope = parse::named_scope(named.and_then(|named| named.scope.as_ref()));
            self.hasher
                .hash_one((named.map(|named| (&named.tenant, &named.provider)), scope))
        };
        request.lines.iter().map(hash).collect()
    }

    fn are_under_way(&self, names: &[u64]) -> bool {
        let is_under_way = |name| self.under_way.iter().any(|batch| batch.names.contains(name));
        names.iter().any(is_under_way)
    }

    fn begin(&mut self, request: v1::ImportCredentialsRequest, names: Vec<u64>) {
        let batch = Batch::new(Arc::clone(&self.vault), self.call.parts());
        self.under_way.push_back(UnderWay {
            names: names.iter().copied().collect(),
            outcome: tokio::spawn(batch.run(request, names)),
        });
    }

    /// The outcome of the oldest batch. May be dropped while it waits.
    async fn next(&mut self) -> Outcome {
        let Some(oldest) = self.under_way.front_mut() else {
            return std::future::pending().await;
        };
        let outcome = (&mut oldest.outcome).await;
        self.under_way.pop_front();
        outcome.unwrap_or_else(|_| {
            let closed = ApiError::Vault(VaultError::Store(crate::store::StoreError::Closed));
            Err(Box::new(Fault::from(&closed)))
        })
    }
}
