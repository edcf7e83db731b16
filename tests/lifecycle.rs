//! What outlives the process, and how it ends.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::Code;
use tresor::pb::v1;

use support::callers::password;
use support::process::Server;
use support::requests::{general, login, name, office, put_login};
use support::{PATIENCE, told};

#[tokio::test]
async fn a_restart_keeps_everything_and_loads_the_sample_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let operator = server.operator();
    operator
        .save(put_login(name("firm", "dat", office("leipzig")), login("kept")))
        .await;
    operator.assign("firm", "dat", v1::AssignmentMode::PerOffice).await;
    let sample = name("demo", "wom", general());
    let purge = v1::PurgeCredentialRequest {
        r#ref: Some(sample.clone()),
        confirm: "demo/wom/general".into(),
    };
    operator.admin.clone().purge_credential(purge).await.unwrap();
    let before = operator.resolve("firm", "dat", "leipzig").await.unwrap();
    let revision = operator.status().await.unwrap().revision;
    server.stop().await;

    let server = Server::dev(directory.path());
    let operator = server.operator();
    let after = operator.resolve("firm", "dat", "leipzig").await.unwrap();
    assert_eq!(
        (password(&after), &after.signed_credential),
        ("kept", &before.signed_credential)
    );
    assert_eq!(operator.status().await.unwrap().revision, revision);
    let request = v1::GetCredentialRequest { r#ref: Some(sample) };
    let refused = told(operator.admin.clone().get_credential(request).await);
    assert_eq!(refused, (Code::NotFound, "CREDENTIAL_NOT_FOUND".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_a_kill() {
    const LIVES: usize = 3;
    const WRITERS: usize = 8;
    /// How many writes each life acknowledges at least before it ends.
    const ENOUGH: u32 = 60;
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; WRITERS];
    for _ in 0..LIVES {
        let server = Server::dev(directory.path());
        let operator = server.operator();
        let done = Arc::new(Semaphore::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (operator, done, mut last) = (operator.clone(), Arc::clone(&done), acknowledged[writer]);
                tokio::spawn(async move {
                    loop {
                        let content = login(&(last + 1).to_string());
                        let request = put_login(
                            name("firm", "wom", office(&writer.to_string())),
                            without_number(content),
                        );
                        match operator.admin.clone().put_credential(request).await {
                            Ok(_) => last += 1,
                            Err(_) => return last,
                        }
                        done.add_permits(1);
                    }
                })
            })
            .collect();
        let enough = tokio::time::timeout(PATIENCE, done.acquire_many(ENOUGH)).await;
        enough.expect("writes are acknowledged").unwrap().forget();
        server.kill();
        for (writer, last) in writers.into_iter().enumerate() {
            acknowledged[writer] = last.await.unwrap();
        }
        // The next life goes on from what is there, and checks it.
        let server = Server::dev(directory.path());
        let operator = server.operator();
        operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
        for (writer, last) in acknowledged.iter_mut().enumerate() {
            let found = operator.resolve("firm", "wom", &writer.to_string()).await.unwrap();
            let kept: usize = password(&found).parse().unwrap();
            // One more may have been written, its answer cut off.
            assert!(
                (*last..=*last + 1).contains(&kept),
                "{last} was acknowledged, {kept} is there"
            );
            *last = kept;
        }
        server.stop().await;
    }
}

fn without_number(login: v1::Login) -> v1::Login {
    v1::Login {
        customer_number: String::new(),
        ..login
    }
}

#[tokio::test]
async fn a_watch_is_told_of_the_end_and_does_not_hold_it_up() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::dev(directory.path());
    let request = v1::WatchChangesRequest {
        tenant: "demo".into(),
        ..v1::WatchChangesRequest::default()
    };
    let mut watch = server
        .order_service()
        .resolver
        .watch_changes(request)
        .await
        .unwrap()
        .into_inner();
    let stopped = tokio::spawn(server.stop());
    assert_eq!(told(watch.message().await), (Code::Unavailable, "SHUTTING_DOWN".into()));
    stopped.await.unwrap();
}
