//! More calls than a server can answer, and what becomes of them: each is answered or refused, and anything else ends the run.
//!
//! The client must be able to send that many, beside a server that is at the limit of its core. So it calls below tonic and hyper,
//! wakes up once for several calls, and looks into each kind of refusal once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::{Request, Uri};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::answer::Wrong;
use super::case::{Call, Case};
use super::client::{Latencies, latencies, record};
use super::pace::Beat;
use super::wire::Address;
use crate::support::Error;

/// How many calls may be open for each connection, so many that none has to wait for an earlier one unless the server is in trouble.
pub(crate) const STREAMS: usize = 1024;
/// How late a call may be begun, so that the client wakes up once for several.
const SLACK: Duration = Duration::from_millis(1);
/// What stands before each message, in bytes: whether it is compressed, and its length (gRPC over HTTP/2).
const PREFIX: usize = 5;
/// The shortest time that a refused caller may be told to stay away. A shorter one would let all come back at once.
const SHORTEST_RETRY: Duration = Duration::from_millis(500);

/// What was seen of a flood.
pub(crate) struct Flooded {
    pub(crate) accepted: Times,
    pub(crate) refused: Times,
    /// How long after it was due each call was begun: what the client could not keep up with.
    pub(crate) behind: Latencies,
    /// From when the first was due until the last was begun.
    pub(crate) sent_in: Duration,
}

/// How long answers took.
pub(crate) struct Times {
    /// From when the call was due.
    pub(crate) from_due: Latencies,
    /// From when it was begun.
    pub(crate) from_begun: Latencies,
}

impl Times {
    fn new() -> Self {
        Self {
            from_due: latencies(),
            from_begun: latencies(),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.from_due.len()
    }

    fn add(&mut self, other: &Self) -> Result<(), Error> {
        self.from_due.add(&other.from_due)?;
        Ok(self.from_begun.add(&other.from_begun)?)
    }
}

impl Flooded {
    fn new() -> Self {
        Self {
            accepted: Times::new(),
            refused: Times::new(),
            behind: latencies(),
            sent_in: Duration::ZERO,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.accepted.count() + self.refused.count()
    }

    /// Of the calls that were due, the share that was begun in the time that they were due in.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn kept_up(&self, per_second: f64) -> f64 {
        (self.count() as f64 / self.sent_in.as_secs_f64() / per_second).min(1.0)
    }

    fn add(&mut self, other: &Self) -> Result<(), Error> {
        self.accepted.add(&other.accepted)?;
        self.refused.add(&other.refused)?;
        self.behind.add(&other.behind)?;
        self.sent_in = self.sent_in.max(other.sent_in);
        Ok(())
    }
}

/// What the server said.
enum Answer {
    Accepted,
    Refused,
}

/// A call that was neither answered rightly nor refused as it should be. The run ends with it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it failed: {:?}, {}", .0.code(), .0.message())]
    Failed(Box<Status>),
    #[error("it was refused without saying when to try again: {0:?}")]
    WithoutRetry(Box<Status>),
    #[error(transparent)]
    Wrong(#[from] Wrong),
    #[error("the connection: {0}")]
    Connection(#[from] h2::Error),
    #[error("connecting: {0}")]
    Connecting(Error),
    #[error("the timer: {0}")]
    Timer(#[from] std::io::Error),
}

/// What is called, and how.
#[derive(Clone)]
pub(crate) struct Flood {
    pub(crate) case: Arc<Case>,
    pub(crate) address: Address,
    pub(crate) connections: usize,
    pub(crate) per_second: f64,
    pub(crate) lasts: Duration,
}

type Part = oneshot::Receiver<Result<Flooded, Failure>>;

impl Flood {
    /// Begins so many calls a second for so long, on all connections in turn, whatever becomes of those before.
    pub(crate) async fn pour(&self, threads: usize) -> Result<Flooded, Error> {
        let threads = threads.min(self.connections);
        let parts = (0..threads).map(|thread| self.start(thread, threads));
        let mut whole = Flooded::new();
        for part in parts.collect::<Result<Vec<_>, _>>()? {
            let part = part
                .await?
                .map_err(|failure| format!("{}: {failure}", self.case.path))?;
            whole.add(&part)?;
        }
        Ok(whole)
    }

    /// Starts one of so many threads.
    fn start(&self, thread: usize, threads: usize) -> Result<Part, Error> {
        let (answer, answered) = oneshot::channel();
        let flood = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("flood".into()).spawn(move || {
            let part = LocalSet::new().block_on(&runtime, flood.part(thread, threads));
            // Whoever asked may be gone; then the run is over.
            let _ = answer.send(part);
        })?;
        Ok(answered)
    }

    async fn part(self, thread: usize, threads: usize) -> Result<Flooded, Failure> {
        let mut connections = Vec::new();
        for _ in (thread..self.connections).step_by(threads) {
            let connection = self.address.clone().connect_barely().await;
            connections.push(connection.map_err(Failure::Connecting)?);
        }
        let permits = connections.len() * STREAMS;
        let room = Arc::new(Semaphore::new(permits));
        let caller = Rc::new(Caller::new(&self.case));
        let seen = Rc::new(RefCell::new(Ok(Flooded::new())));
        let start = Instant::now();
        let mut beat = Beat::new(self.per_second, self.lasts, thread, threads)?.with_slack(SLACK);
        let (mut index, mut last) = (thread, start);
        while seen.borrow().is_ok()
            && let Some(due) = beat.next().await?
        {
            let place = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
            let connection = connections[index / threads % connections.len()].clone();
            let (case, caller, seen) = (Arc::clone(&self.case), Rc::clone(&caller), Rc::clone(&seen));
            last = Instant::now();
            tokio::task::spawn_local(async move {
                let begun = Instant::now();
                let answer = caller.call(connection, &case.calls[index % case.calls.len()]).await;
                note(&mut seen.borrow_mut(), due, begun, answer);
                drop(place);
            });
            index += threads;
        }
        let all = u32::try_from(permits).expect("there are few connections");
        let _all = room.acquire_many(all).await.expect("it is never closed");
        let mut seen = seen.replace(Ok(Flooded::new()))?;
        seen.sent_in = self.lasts.max(last - start);
        Ok(seen)
    }
}

fn note(seen: &mut Result<Flooded, Failure>, due: Instant, begun: Instant, answer: Result<Answer, Failure>) {
    let Ok(flooded) = seen else { return };
    let times = match answer {
        Ok(Answer::Accepted) => &mut flooded.accepted,
        Ok(Answer::Refused) => &mut flooded.refused,
        Err(failure) => {
            *seen = Err(failure);
            return;
        }
    };
    record(&mut times.from_due, due.elapsed());
    record(&mut times.from_begun, begun.elapsed());
    record(&mut flooded.behind, begun - due);
}

/// Makes calls of one method.
struct Caller {
    uri: Uri,
    headers: HeaderMap,
    /// The details of refusals that were found to be as they should.
    proper: RefCell<Vec<HeaderValue>>,
}

impl Caller {
    fn new(case: &Case) -> Self {
        let uri = Uri::builder()
            .scheme("https")
            .authority("localhost")
            .path_and_query(case.path.clone());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        Self {
            uri: uri.build().expect("its parts are sound"),
            headers,
            proper: RefCell::default(),
        }
    }

    async fn call(&self, connection: SendRequest<Bytes>, call: &Call) -> Result<Answer, Failure> {
        let mut request = Request::post(self.uri.clone()).body(()).expect("its parts are sound");
        request.headers_mut().clone_from(&self.headers);
        let (answer, mut stream) = connection.ready().await?.send_request(request, false)?;
        stream.send_data(framed(&call.request), true)?;
        let answer = answer.await?;
        if answer.headers().contains_key(Status::GRPC_STATUS) {
            return self.refusal(answer.headers());
        }
        let message = message(answer.into_body()).await?;
        call.due.check(message)?;
        Ok(Answer::Accepted)
    }

    fn refusal(&self, headers: &HeaderMap) -> Result<Answer, Failure> {
        let details = headers.get(Status::GRPC_STATUS_DETAILS);
        let is_known = details.is_some_and(|details| self.proper.borrow().contains(details));
        if is_known && headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "8") {
            return Ok(Answer::Refused);
        }
        let status = Status::from_header_map(headers).unwrap_or_else(|| Status::unknown("no status"));
        let reason = status.get_details_error_info().map(|info| info.reason);
        if status.code() != Code::ResourceExhausted || reason.as_deref() != Some("OVERLOADED") {
            return Err(Failure::Failed(Box::new(status)));
        }
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        match (details, retry_after) {
            (Some(details), Some(retry_after)) if retry_after >= SHORTEST_RETRY => {
                self.proper.borrow_mut().push(details.clone());
                Ok(Answer::Refused)
            }
            _ => Err(Failure::WithoutRetry(Box::new(status))),
        }
    }
}

/// A message as it is sent.
fn framed(message: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("a request is small"));
    framed.put_slice(message);
    framed.freeze()
}

/// The one message of an answer that says that all went well.
async fn message(mut body: RecvStream) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        whole.put(piece);
    }
    let end = body.trailers().await?;
    let status = end.as_ref().and_then(Status::from_header_map);
    let status = status.unwrap_or_else(|| Status::unknown("the answer has no end"));
    if status.code() != Code::Ok {
        return Err(Failure::Failed(Box::new(status)));
    }
    if whole.len() < PREFIX {
        return Err(Wrong.into());
    }
    Ok(whole.freeze().split_off(PREFIX))
}
