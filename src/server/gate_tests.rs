use std::sync::Mutex;
use std::task::Context;

use super::*;
use crate::access::{LivePolicy, Policy};
use crate::config::Config;
use crate::time::SystemClock;

fn deadline(header: &str) -> Option<Duration> {
    asked_deadline(
        &Request::builder()
            .header("grpc-timeout", header)
            .body(Body::empty())
            .unwrap(),
    )
}

#[tokio::test]
async fn a_call_on_a_connection_whose_identity_has_ended_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Config::parse(crate::init::CONFIGURATION, "", []).unwrap().audit;
    settings.directory = directory.path().into();
    let audit = Audit::open(&settings, Arc::new(SystemClock)).unwrap();
    let text = "[[grant]]\nwho = 'a'\nmay = ['operate']\ntenants = ['*']\nproviders = ['*']\n";
    let policy = LivePolicy::new(Policy::parse(text, "test").unwrap());
    let standing = Standing::for_good();
    let permissions = LivePermissions::new(Caller::parse("a").unwrap(), policy).while_holds(Arc::clone(&standing));
    let peer = Peer::new(([127, 0, 0, 1], 1).into(), Ok(permissions));
    let calls = Calls::new(audit, Arc::default());
    assert!(identify(&peer, &calls, "/").is_ok());
    standing.end_now();
    let refused = identify(&peer, &calls, "/").err();
    assert!(matches!(refused, Some(ApiError::IdentityEnded)), "{refused:?}");
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
