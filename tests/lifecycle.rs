//! What outlives the process, and how it ends.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use tonic::Code;
use tresor::pb::v1;

use support::callers::password;
use support::process::Server;
use support::requests::{general, login, name, office, put_login};
use support::told;

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
