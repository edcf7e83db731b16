//! The one client for all cases: threads with a runtime each, which keep their connections and call what they are told to.
//!
//! A closed loop has so many calls under way at all times: the next one begins when one is answered. An open loop begins
//! calls at fixed intervals, whether earlier ones are answered or not, and counts the time from when a call was to begin.
//! So a server that stalls is charged with everything that had to wait for it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tonic::client::Grpc;
use tonic::{Request, Status};

use super::answer::Wrong;
use super::case::{Case, Peer};
use super::codec::Raw;
use super::pace::Beat;
use super::wire::{Address, Connection};
use crate::support::Error;

/// Latencies in nanoseconds, three digits exact.
pub(crate) type Latencies = Histogram<u64>;

const LONGEST: Duration = Duration::from_mins(1);
/// How many calls of an open loop may be under way on a connection. Those that come on top wait, and their time counts.
const UNDER_WAY: usize = 200;

/// How calls follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many calls under way on each of so many connections.
    Closed { connections: usize, streams: usize },
    /// So many calls a second, on all connections.
    Open { per_second: f64 },
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) latencies: Latencies,
    /// From the first call to the last answer.
    pub(crate) elapsed: Duration,
}

/// A call that went wrong. The run ends with it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it was refused: {:?}, {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    #[error(transparent)]
    Wrong(#[from] Wrong),
    #[error("the connection: {0}")]
    Connection(#[from] hyper::Error),
    #[error("the timer: {0}")]
    Timer(#[from] std::io::Error),
}

/// The client.
pub(crate) struct Client {
    threads: Vec<mpsc::UnboundedSender<Order>>,
    connections: usize,
}

enum Order {
    Connect(usize, Peer, Box<Address>, oneshot::Sender<Result<(), Error>>),
    Call(Work, oneshot::Sender<Result<Outcome, Failure>>),
}

/// What one thread has to do.
#[derive(Clone)]
struct Work {
    server: usize,
    case: Arc<Case>,
    pace: Pace,
    lasts: Duration,
    /// Which thread of how many.
    thread: usize,
    threads: usize,
    /// The first call of this round.
    first: usize,
}

impl Client {
    /// With so many connections to each peer, spread over so many threads.
    pub(crate) fn new(threads: usize, connections: usize) -> Result<Self, Error> {
        let threads = (0..threads.min(connections))
            .map(|_| start_thread())
            .collect::<Result<_, _>>()?;
        Ok(Self { threads, connections })
    }

    /// Connects to a peer of a server, one connection after the other, so that a server which deals them out in turn deals
    /// them out alike.
    pub(crate) async fn connect(&self, server: usize, peer: Peer, address: &Address) -> Result<(), Error> {
        for index in 0..self.connections {
            let (answer, answered) = oneshot::channel();
            let order = Order::Connect(server, peer, Box::new(address.clone()), answer);
            self.threads[index % self.threads.len()].send(order)?;
            answered.await??;
        }
        Ok(())
    }

    /// Calls for so long, beginning with the call `first`.
    pub(crate) async fn run(
        &self,
        server: usize,
        case: &Arc<Case>,
        pace: Pace,
        lasts: Duration,
        first: usize,
    ) -> Result<Outcome, Error> {
        let mut running = Vec::with_capacity(self.threads.len());
        for (thread, orders) in self.threads.iter().enumerate() {
            let work = Work {
                server,
                case: Arc::clone(case),
                pace,
                lasts,
                thread,
                threads: self.threads.len(),
                first,
            };
            let (answer, answered) = oneshot::channel();
            orders.send(Order::Call(work, answer))?;
            running.push(answered);
        }
        let mut whole = Outcome {
            latencies: latencies(),
            elapsed: Duration::ZERO,
        };
        for answered in running {
            let outcome = answered.await?.map_err(|failure| format!("{}: {failure}", case.path))?;
            whole.latencies.add(&outcome.latencies)?;
            whole.elapsed = whole.elapsed.max(outcome.elapsed);
        }
        Ok(whole)
    }
}

pub(crate) fn latencies() -> Latencies {
    let longest = u64::try_from(LONGEST.as_nanos()).expect("it fits");
    Histogram::new_with_bounds(1, longest, 3).expect("the bounds are sound")
}

fn start_thread() -> Result<mpsc::UnboundedSender<Order>, Error> {
    let (inlet, orders) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("client".into())
        .spawn(move || LocalSet::new().block_on(&runtime, obey(orders)))?;
    Ok(inlet)
}

async fn obey(mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut connections: HashMap<(usize, Peer), Vec<Connection>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        // Whoever asked may be gone; then the run is over.
        match order {
            Order::Connect(server, peer, address, answer) => {
                let connected = address.connect().await.map(|connection| {
                    connections.entry((server, peer)).or_default().push(connection);
                });
                let _ = answer.send(connected);
            }
            Order::Call(work, answer) => {
                let own = connections.get(&(work.server, work.case.peer));
                let _ = answer.send(work.run(own.map_or(&[][..], Vec::as_slice)).await);
            }
        }
    }
}

impl Work {
    async fn run(self, connections: &[Connection]) -> Result<Outcome, Failure> {
        let began = Instant::now();
        let latencies = Rc::new(RefCell::new(latencies()));
        match self.pace {
            Pace::Closed {
                connections: wanted,
                streams,
            } => self.closed(connections, wanted, streams, &latencies).await?,
            Pace::Open { per_second } => self.open(connections, per_second, &latencies).await?,
        }
        Ok(Outcome {
            latencies: latencies.replace(self::latencies()),
            elapsed: began.elapsed(),
        })
    }

    async fn closed(
        &self,
        connections: &[Connection],
        wanted: usize,
        streams: usize,
        latencies: &Rc<RefCell<Latencies>>,
    ) -> Result<(), Failure> {
        let until = Instant::now() + self.lasts;
        // The connections are dealt out to the threads in turn.
        let own = (self.thread..wanted).step_by(self.threads).count();
        let next = Rc::new(std::cell::Cell::new(self.first + self.thread));
        let mut callers = JoinSet::new();
        for connection in connections.iter().take(own) {
            for _ in 0..streams {
                let (work, next, latencies) = (self.clone(), Rc::clone(&next), Rc::clone(latencies));
                let mut connection = connection.client();
                callers.spawn_local(async move {
                    let mut now = Instant::now();
                    while now < until {
                        let index = next.get();
                        next.set(index + work.threads);
                        call(&mut connection, &work.case, index).await?;
                        let answered = Instant::now();
                        record(&mut latencies.borrow_mut(), answered - now);
                        now = answered;
                    }
                    Ok::<_, Failure>(())
                });
            }
        }
        while let Some(ended) = callers.join_next().await {
            ended.expect("callers do not panic")?;
        }
        Ok(())
    }

    async fn open(
        &self,
        connections: &[Connection],
        per_second: f64,
        latencies: &Rc<RefCell<Latencies>>,
    ) -> Result<(), Failure> {
        let mut beat = Beat::new(per_second, self.lasts, self.thread, self.threads)?;
        let permits = connections.len() * UNDER_WAY;
        let under_way = Arc::new(Semaphore::new(permits));
        let failed = Rc::new(RefCell::new(None));
        let mut index = self.first + self.thread;
        while failed.borrow().is_none()
            && let Some(due) = beat.next().await?
        {
            let permit = Arc::clone(&under_way)
                .acquire_owned()
                .await
                .expect("it is never closed");
            let mut connection = connections[index / self.threads % connections.len()].client();
            let (case, latencies, failed) = (Arc::clone(&self.case), Rc::clone(latencies), Rc::clone(&failed));
            tokio::task::spawn_local(async move {
                match call(&mut connection, &case, index).await {
                    Ok(()) => record(&mut latencies.borrow_mut(), due.elapsed()),
                    Err(failure) => *failed.borrow_mut() = Some(failure),
                }
                drop(permit);
            });
            index += self.threads;
        }
        let all = u32::try_from(permits).expect("there are few connections");
        let _all = under_way.acquire_many(all).await.expect("it is never closed");
        failed.take().map_or(Ok(()), Err)
    }
}

async fn call(connection: &mut Grpc<Connection>, case: &Case, index: usize) -> Result<(), Failure> {
    let call = &case.calls[index % case.calls.len()];
    connection.ready().await?;
    let answer = connection
        .unary(Request::new(call.request.clone()), case.path.clone(), Raw)
        .await
        .map_err(|status| Failure::Refused(Box::new(status)))?;
    Ok(call.due.check(answer.into_inner())?)
}

pub(crate) fn record(latencies: &mut Latencies, latency: Duration) {
    let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    latencies.saturating_record(nanoseconds);
}
