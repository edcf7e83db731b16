//! Imports: streams whose callers may change, and requests that are not as they must be.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::caller::{Api, by, login, named, reason};
use crate::access::Standing;
use crate::api::Peer;
use crate::pb::v1::{self, put_credential_request::Secret, scope};

const IMPORTER: &str = "importer.example";
const GRANT: &str = "[[grant]]\nwho = 'importer.example'\nmay = ['credentials.write']\ntenants = ['demo']\nproviders = ['dat']\n\
                     calls_per_second = 1000000\ntotal_calls_per_second = 1000000\n";

type Requests = mpsc::Sender<Result<v1::ImportCredentialsRequest, Status>>;
type Answers = ReceiverStream<Result<v1::ImportCredentialsResponse, Status>>;

fn lines(numbers: std::ops::Range<u64>) -> v1::ImportCredentialsRequest {
    let line = |number| v1::CredentialLine {
        number,
        put: Some(v1::PutCredentialRequest {
            r#ref: Some(named("dat", scope::Kind::OfficeId(format!("office-{number}")))),
            secret: Some(Secret::Login(login())),
            ..Default::default()
        }),
    };
    v1::ImportCredentialsRequest {
        lines: numbers.map(line).collect(),
    }
}

/// Opens an import without a first request.
async fn open(api: &Api, peer: &Peer) -> Result<(Requests, Answers), Status> {
    let (mut call, ()) = api.calls().begin("ImportCredentials", by(peer, ()));
    let (requests, rest) = mpsc::channel(8);
    let answer = api.admin.import(&mut call, None, ReceiverStream::new(rest)).await;
    let answers = call.end(answer).await?.into_inner();
    Ok((requests, answers))
}

#[tokio::test]
async fn an_import_ends_with_the_identity_of_its_caller() {
    let api = Api::new().await;
    api.grant(GRANT);
    let standing = Standing::for_good();
    let (requests, mut answers) = open(&api, &api.connection_while(IMPORTER, Arc::clone(&standing)))
        .await
        .unwrap();
    requests.send(Ok(lines(0..5))).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().saved, 5);
    let before = api.vault.revision();
    standing.end_now();
    requests.send(Ok(lines(5..10))).await.unwrap();
    assert_eq!(reason(&answers.next().await.unwrap().unwrap_err()), "IDENTITY_EXPIRED");
    assert!(answers.next().await.is_none());
    assert_eq!(api.vault.revision(), before);
}

/// Batches are saved in any order, and answered in that of the requests.
#[tokio::test]
async fn the_revision_of_an_answer_covers_all_answers_before_it() {
    let api = Api::new().await;
    api.grant(GRANT);
    let (requests, mut answers) = open(&api, &api.connection(IMPORTER)).await.unwrap();
    // The larger ones take longer than those behind them.
    for (first, count) in [(0, 300), (300, 1), (301, 200), (501, 1), (502, 1)] {
        requests.send(Ok(lines(first..first + count))).await.unwrap();
    }
    let mut newest = 0;
    for _ in 0..5 {
        let answer = answers.next().await.unwrap().unwrap();
        assert!(answer.revision >= newest, "{} after {newest}", answer.revision);
        newest = answer.revision;
    }
    assert_eq!(newest, api.vault.revision().0);
}

#[tokio::test]
async fn what_a_replaced_policy_takes_away_is_denied_from_the_next_request_on() {
    let api = Api::new().await;
    api.grant(GRANT);
    let (requests, mut answers) = open(&api, &api.connection(IMPORTER)).await.unwrap();
    requests.send(Ok(lines(0..3))).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().saved, 3);
    api.grant(&GRANT.replace("'dat'", "'wom'"));
    requests.send(Ok(lines(3..6))).await.unwrap();
    let answer = answers.next().await.unwrap().unwrap();
    let denied: Vec<_> = answer
        .failures
        .iter()
        .map(|failure| (failure.number, failure.error.as_ref().unwrap().reason.as_str()))
        .collect();
    assert_eq!(denied, [(3, "NOT_GRANTED"), (4, "NOT_GRANTED"), (5, "NOT_GRANTED")]);
    assert_eq!((answer.saved, answer.revision), (0, 0));
}

/// A batch may wait long for its quota.
#[tokio::test]
async fn what_a_policy_takes_away_while_a_batch_is_held_back_is_denied() {
    let api = Api::new().await;
    // One for the import itself, and two lines; here time stands still.
    api.grant(&GRANT.replace("1000000", "3"));
    let (requests, mut answers) = open(&api, &api.connection(IMPORTER)).await.unwrap();
    requests.send(Ok(lines(0..3))).await.unwrap();
    let held_back = tokio::time::timeout(std::time::Duration::from_millis(300), answers.next()).await;
    held_back.unwrap_err();
    api.grant(&GRANT.replace("'dat'", "'wom'"));
    let answer = answers.next().await.unwrap().unwrap();
    let denied = answer.failures.iter().map(|failure| failure.error.as_ref().unwrap());
    let denied: Vec<_> = denied.map(|error| error.reason.as_str()).collect();
    assert_eq!((denied, answer.saved), (vec!["NOT_GRANTED"; 3], 0));
}

#[tokio::test]
async fn a_request_with_too_many_lines_or_that_cannot_be_read_ends_the_stream_after_what_came_before() {
    let unreadable = Status::out_of_range("Error, decoded message length too large");
    for (bad, expected) in [
        (Ok(lines(0..1001)), "INVALID_FIELD"),
        (Err(unreadable), "REQUEST_TOO_LARGE"),
    ] {
        let api = Api::new().await;
        api.grant(GRANT);
        let (requests, mut answers) = open(&api, &api.connection(IMPORTER)).await.unwrap();
        requests.send(Ok(lines(0..1000))).await.unwrap();
        requests.send(bad).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().saved, 1000);
        let refused = answers.next().await.unwrap().unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, expected));
        assert!(answers.next().await.is_none());
    }
}

#[tokio::test]
async fn a_request_without_lines_counts_as_a_call() {
    let api = Api::new().await;
    // One for the import itself.
    api.grant(&GRANT.replace("1000000", "2"));
    let (requests, mut answers) = open(&api, &api.connection(IMPORTER)).await.unwrap();
    for _ in 0..2 {
        requests.send(Ok(lines(0..0))).await.unwrap();
    }
    let mut answer = async || {
        let answered = tokio::time::timeout(std::time::Duration::from_millis(300), answers.next()).await;
        answered.map(|answer| answer.unwrap().unwrap())
    };
    assert_eq!(answer().await.unwrap(), v1::ImportCredentialsResponse::default());
    // Here time stands still, so there never is room for a second one.
    answer().await.unwrap_err();
    api.grant(GRANT);
    while answer().await.is_err() {}
}

#[tokio::test]
async fn one_caller_has_few_imports_under_way() {
    let api = Api::new().await;
    api.grant(GRANT);
    let first = open(&api, &api.connection(IMPORTER)).await.unwrap();
    let _second = open(&api, &api.connection(IMPORTER)).await.unwrap();
    let refused = open(&api, &api.connection(IMPORTER)).await.err().unwrap();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::ResourceExhausted, "TOO_MANY_IMPORTS")
    );
    assert!(
        open(&api, &api.connection("tests.example")).await.is_ok(),
        "others are not kept out"
    );
    // Its place is free again as soon as its caller has gone.
    drop(first);
    assert!(open(&api, &api.connection(IMPORTER)).await.is_ok());
}

#[tokio::test]
async fn a_batch_whose_caller_has_gone_comes_to_its_end_and_is_listed() {
    let api = Api::new().await;
    api.grant(GRANT);
    let (requests, answers) = open(&api, &api.connection(IMPORTER)).await.unwrap();
    requests.send(Ok(lines(0..200))).await.unwrap();
    let intents = |api: &Api| api.lines().iter().filter(|line| line["event"] == "intent").count();
    let done = |api: &Api| api.lines().iter().filter(|line| line["version"] == 1).count();
    while intents(&api) == 0 {
        tokio::task::yield_now().await;
    }
    drop((requests, answers));
    let ending = async {
        while done(&api) < 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), ending)
        .await
        .unwrap();
    assert_eq!(
        api.vault.revision().0,
        201 + 1,
        "200 saves, the tenant's key and the signing key"
    );
}

#[tokio::test]
async fn once_an_import_has_failed_nothing_of_it_is_under_way() {
    let api = Api::new().await;
    api.grant(GRANT);
    let (requests, mut answers) = open(&api, &api.connection(IMPORTER)).await.unwrap();
    // Too many lines, and behind them some that take a while.
    for range in [0..1001, 2000..3000, 3000..4000] {
        requests.send(Ok(lines(range))).await.unwrap();
    }
    let failed = answers.next().await.unwrap().unwrap_err();
    let then = api.vault.revision();
    assert_eq!(failed.code(), Code::InvalidArgument);
    assert!(answers.next().await.is_none());
    assert!(then.0 >= 1000, "the others were not begun");
    api.vault.settle().await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(api.vault.revision(), then);
}
