use std::path::Path;
use std::sync::Mutex;
use std::task::Context;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tonic_types::StatusExt as _;

use super::*;
use crate::access::{LivePolicy, Policy};
use crate::config::Config;
use crate::server::admission::Waiting;
use crate::server::health::Health;
use crate::time::SystemClock;
use crate::vault::Door;

fn deadline(header: &str) -> Option<Duration> {
    asked_deadline(
        &Request::builder()
            .header("grpc-timeout", header)
            .body(Body::empty())
            .unwrap(),
    )
}

fn calls(directory: &Path) -> Calls {
    let mut settings = Config::parse(crate::init::CONFIGURATION, "", []).unwrap().audit;
    settings.directory = directory.into();
    Calls::new(Audit::open(&settings, Arc::new(SystemClock)).unwrap(), Arc::default())
}

fn permissions() -> LivePermissions {
    let text = "[[grant]]\nwho = 'a'\nmay = ['operate']\ntenants = ['*']\nproviders = ['*']\n";
    let policy = LivePolicy::new(Policy::parse(text, "test").unwrap());
    LivePermissions::new(Caller::parse("a").unwrap(), policy)
}

#[tokio::test]
async fn a_call_on_a_connection_whose_identity_has_ended_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let calls = calls(directory.path());
    let standing = Standing::for_good();
    let permissions = permissions().while_holds(Arc::clone(&standing));
    let peer = Peer::new(([127, 0, 0, 1], 1).into(), Ok(permissions));
    assert!(identify(&peer, &calls, "/").is_ok());
    standing.end_now();
    let refused = identify(&peer, &calls, "/").err();
    assert!(matches!(refused, Some(ApiError::IdentityEnded)), "{refused:?}");
}

/// One connection to a worker that has no time for its calls.
struct Overloaded {
    client: SendRequest<Bytes>,
    /// Where its caller has a place for each call that it may have open.
    room: Arc<Semaphore>,
    /// What the worker comes to first.
    _before: Vec<Waiting>,
    _audit: TempDir,
}

impl Overloaded {
    /// More than any worker takes on, also after the machine has held it up for a while.
    const BEFORE: usize = 100_000;

    async fn new(places: usize, default_deadline: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let calls = calls(directory.path());
        let services = crate::api::Services::new(&Arc::<Door>::default(), &calls);
        let dispatch = Dispatch::new(&services, &Health::new().await);
        let (_, is_ending) = signal::channel(false);
        let admission = Admission::new(Duration::from_millis(25));
        let gate = Gate::new(dispatch, calls, admission, default_deadline, is_ending);

        let (others, now) = (Arc::default(), std::time::Instant::now());
        let take = |_| gate.admission.take(Class::Vital, &others, now);
        let before = (0..Self::BEFORE).filter_map(take).collect();

        let room = Arc::new(Semaphore::new(places));
        let peer = Peer::with_room(([127, 0, 0, 1], 1).into(), permissions(), Arc::clone(&room));
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let aside = Aside::default();
        let gate = gate.for_connection(peer, aside.clone());
        let connection = http2::Builder::new(aside.clone()).serve_connection(TokioIo::new(theirs), gate);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            poll_fn(|context| aside.poll(connection.as_mut(), context)).await
        });
        let (client, connection) = h2::client::handshake(ours).await.unwrap();
        tokio::spawn(connection);
        Self {
            client,
            room,
            _before: before,
            _audit: directory,
        }
    }

    /// Makes a call whose body is still to come.
    async fn call(&self) -> (ResponseFuture, SendStream<Bytes>) {
        let call = Request::post("http://localhost/dynarex.credentials.v1.CredentialAdmin/ListCredentials")
            .header("content-type", "application/grpc")
            .body(());
        let mut client = self.client.clone().ready().await.unwrap();
        client.send_request(call.unwrap(), false).unwrap()
    }

    /// Waits until its caller may have so many more calls open.
    async fn has_free(&self, places: usize) {
        let comes = async {
            while self.room.available_permits() != places {
                tokio::task::yield_now().await;
            }
        };
        let has_come = tokio::time::timeout(PATIENCE, comes).await;
        assert!(has_come.is_ok(), "{} are free", self.room.available_permits());
    }
}

/// For what comes at once, unless the machine has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a call was refused.
async fn refused(answer: ResponseFuture) -> String {
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it is answered");
    let status = Status::from_header_map(answer.unwrap().headers()).unwrap();
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn a_refused_call_whose_body_is_still_to_come_is_one_of_those_that_its_caller_has_open() {
    let worker = Overloaded::new(2, LONGEST_DEADLINE).await;
    let (first, mut body) = worker.call().await;
    worker.has_free(1).await;
    let second = worker.call().await;
    worker.has_free(0).await;
    // For the body of one more nobody waits.
    let (third, _to_come) = worker.call().await;
    assert_eq!(refused(third).await, OVERLOADED);
    assert_eq!(worker.room.available_permits(), 0, "the others still wait");

    body.send_data(Bytes::new(), true).unwrap();
    assert_eq!(refused(first).await, OVERLOADED);
    worker.has_free(1).await;
    // Its caller goes away.
    drop(second);
    worker.has_free(2).await;
}

#[tokio::test]
async fn a_refused_call_whose_body_never_comes_is_open_for_no_longer_than_others() {
    let worker = Overloaded::new(1, Duration::from_millis(20)).await;
    let (answer, _to_come) = worker.call().await;
    assert_eq!(refused(answer).await, OVERLOADED);
    worker.has_free(1).await;
}

/// Never answers, and says when it goes.
struct Endless<'a>(&'a Mutex<Vec<&'static str>>);

impl Future for Endless<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Endless<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("dropped");
    }
}

#[tokio::test]
async fn a_call_is_given_up_at_its_deadline_and_dropped_after_that() {
    let said = Mutex::default();
    let until = Instant::now() + Duration::from_millis(5);
    let answer = within(until, Endless(&said), || said.lock().unwrap().push("given up")).await;
    assert_eq!(answer, None);
    assert_eq!(*said.lock().unwrap(), ["given up", "dropped"]);
}

#[tokio::test]
async fn an_answer_in_time_is_the_answer_however_often_it_is_asked_for() {
    for times in 0..2 * ASKED_WITHOUT_TIMER {
        let answer = async {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
            times
        };
        let until = Instant::now() + Duration::from_mins(5);
        let answer = within(until, answer, || unreachable!("it is in time")).await;
        assert_eq!(answer, Some(times));
    }
    let answer = tokio::time::sleep(Duration::from_millis(5));
    let until = Instant::now() + Duration::from_mins(5);
    let answer = within(until, answer, || unreachable!("it is in time")).await;
    assert_eq!(answer, Some(()), "it is asked again when it says so");
}

#[test]
fn an_answer_that_is_quick_takes_no_timer() {
    // This runtime has no timers: whoever asks for one panics.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ask = |times: u32| {
        let answer = async move {
            for _ in 1..times {
                tokio::task::yield_now().await;
            }
        };
        let until = Instant::now() + Duration::from_mins(5);
        let asked = || runtime.block_on(within(until, answer, || unreachable!("it is in time")));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(asked)).ok()
    };
    for times in 1..=ASKED_WITHOUT_TIMER {
        assert_eq!(ask(times), Some(Some(())), "after {times}");
    }
    assert_eq!(ask(ASKED_WITHOUT_TIMER + 1), None, "it takes a timer, and is noticed");
}

#[test]
fn only_what_is_written_like_a_method_is_listed_by_its_name() {
    for (path, name) in [
        ("/dynarex.credentials.v1.VaultOperator/GetStatus", "GetStatus"),
        ("/dynarex.credentials.v1.VaultOperator/Nothing", "Nothing"),
        ("/other.Service/Method", "other.Service/Method"),
        (
            "/dynarex.credentials.v1.Other/GetStatus",
            "dynarex.credentials.v1.Other/GetStatus",
        ),
        (
            "/dynarex.credentials.v1.VaultOperator/a/GetStatus",
            "dynarex.credentials.v1.VaultOperator/a/GetStatus",
        ),
        ("/", "?"),
        ("/a/\"b", "?"),
        ("/%0a", "?"),
    ] {
        assert_eq!(method(path), name, "{path}");
    }
}

#[test]
fn a_deadline_has_up_to_eight_digits_and_a_unit() {
    assert_eq!(deadline("5S"), Some(Duration::from_secs(5)));
    assert_eq!(deadline("250m"), Some(Duration::from_millis(250)));
    assert_eq!(deadline("99999999H"), Some(Duration::from_hours(99_999_999)));
    for malformed in ["", "5", "S", "5x", "-5S", "123456789S", "5 S", "ü"] {
        assert_eq!(deadline(malformed), None, "{malformed}");
    }
}
