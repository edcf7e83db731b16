//! Imports whose server cannot take them just now.

use std::io::{BufRead as _, BufReader};
use std::process::ChildStderr;

use tokio_stream::wrappers::ReceiverStream;

use super::*;

fn begin(server: &Server, file: &Path) -> (Child, BufReader<ChildStderr>) {
    let mut command = import(server, file, &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let messages = BufReader::new(child.stderr.take().unwrap());
    (child, messages)
}

/// Insists that it says so.
fn waits(messages: &mut BufReader<ChildStderr>) {
    let mut line = String::new();
    messages.read_line(&mut line).unwrap();
    assert!(line.contains("the import waits"), "{line}");
}

/// Insists that it does, and returns what else it has said.
fn ends_well(child: Child, mut messages: BufReader<ChildStderr>, expected: u64) -> String {
    let output = child.wait_with_output().unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut messages, &mut rest).unwrap();
    assert_eq!(output.status.code(), Some(0), "{rest}");
    let [saved, unchanged, failed] = counts(&serde_json::from_slice(&output.stdout).unwrap()).map(Option::unwrap);
    assert_eq!((saved + unchanged, failed), (expected, 0));
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_until_there_is_room_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let operator = server.operator();
    let mut others = Vec::new();
    for _ in 0..2 {
        let (outlet, requests) = tokio::sync::mpsc::channel(1);
        outlet.send(v1::ImportCredentialsRequest::default()).await.unwrap();
        let mut admin = operator.admin.clone();
        let answers = admin.import_credentials(ReceiverStream::new(requests)).await.unwrap();
        others.push((answers, outlet));
    }
    let file = write(&directory, "logins.jsonl", &many("firm", 10));
    let (child, mut messages) = begin(&server, &file);
    waits(&mut messages);
    drop(others);
    assert_eq!(ends_well(child, messages, 10), "");
    assert_eq!(stored(&operator, "firm").await.len(), 10);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_also_for_its_first_question_to_be_answered() {
    let directory = tempfile::tempdir().unwrap();
    let policy = ALL.replace("total_calls_per_second = 1000000", "total_calls_per_second = 1");
    let server = serve(directory.path(), &policy);
    let operator = server.operator();
    // Whoever asks all the time leaves nothing of the quota to others with the same identity.
    let flood = tokio::spawn(async move {
        loop {
            let _ = operator.status().await;
        }
    });
    let file = write(&directory, "logins.jsonl", &many("firm", 1));
    let (child, mut messages) = begin(&server, &file);
    waits(&mut messages);
    flood.abort();
    // It may say that the quota is small.
    let _ = ends_well(child, messages, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_on_when_its_server_is_started_anew() {
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), ALL);
    let file = write(&directory, "logins.jsonl", &many("firm", MANY));
    let (child, mut messages) = begin(&server, &file);
    let operator = server.operator();
    while stored(&operator, "firm").await.is_empty() {}
    drop(operator);
    let server = server.restart().await;
    waits(&mut messages);
    assert_eq!(ends_well(child, messages, MANY as u64), "");
    let stored = stored(&server.operator(), "firm").await;
    assert_eq!(stored.len(), MANY);
    assert!(stored.values().all(|version| *version == 1), "nothing was saved twice");
    server.stop().await;
}

const ALL: &str = "
[[grant]]
who = 'spiffe://dynarex.local/operator'
may = ['credentials.read', 'credentials.write']
tenants = ['firm']
providers = ['*']
calls_per_second = 1000000
total_calls_per_second = 1000000
";
