//! Nothing that was acknowledged is lost, however often the process is killed and whatever its disk refuses.
//!
//! `tests/endure kills` does more rounds of it.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod endurance;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tonic::Code;

use endurance::cast::{Cast, curtain};
use endurance::checks::{ADMIN, Evidence, RESOLVER, everything_is_there, is_serving, until_serving};
use endurance::clients::Tally;
use endurance::random::{Random, rounds};
use endurance::vault::Vault;
use support::callers::password;
use support::process::Server;
use support::requests::{login, name, office, put_login};
use support::{PATIENCE, told};
use tresor::pb::v1;

/// After so many rounds a vault has enough of a history: another one begins.
const LIVES: usize = 20;
/// How many changes are acknowledged at most before the process is killed.
const MOST: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_is_there_after_a_kill_at_any_moment() {
    let mut random = Random::from_environment();
    let rounds = rounds(8);
    let tally = Arc::new(Tally::default());
    for first in (0..rounds).step_by(LIVES) {
        let vault = Vault::new();
        let cast = Cast::new(&tally);
        let mut server = vault.start();
        cast.set_the_stage(&server).await;
        for _ in first..rounds.min(first + LIVES) {
            let playing = cast.play(&server, &mut random);
            cast.has_changed(random.below(MOST) as u64).await;
            tokio::time::sleep(random.time_below(Duration::from_millis(3))).await;
            server.kill();
            curtain(playing).await;
            server = vault.start();
            server.has_logged("recovered all that it had acknowledged", 1).await;
            everything_is_there(&cast, &server, &vault.audit, Evidence::Outcome).await;
        }
        server.stop().await;
    }
    assert_eq!(tally.refused.load(Ordering::Relaxed), 0);
    let [changes, reads] = [&tally.changes, &tally.reads].map(|count| count.load(Ordering::Relaxed));
    println!("{rounds} kills: {changes} acknowledged changes are all there; {reads} reads explained");
}

fn longest_in(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap()
}

/// Limits how long the files of a process may get.
fn limit_files(server: &Server, size: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let usual = getrlimit(Resource::Fsize);
    let limit = Rlimit {
        current: size.or(usual.current),
        maximum: usual.maximum,
    };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_disk_refused_a_write_mends_itself_and_has_lost_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // A process that may not write beyond a size gets an error for it.
    let server = Server::dev_ignoring_size_signals(directory.path());
    let operator = server.operator();
    operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
    let put = |text: &str| put_login(name("firm", "wom", office("leipzig")), login(text));
    operator.save(put("kept")).await;
    for attempt in ["first", "second"] {
        // The journal of the store gets there long before the audit log.
        let limit = longest_in(&directory.path().join("data/audit")) + (16 << 10);
        limit_files(&server, Some(limit));
        let refused = async {
            loop {
                match operator.admin.clone().put_credential(put("lost")).await {
                    // There was still room.
                    Ok(_) => {}
                    refused => return told(refused),
                }
            }
        };
        let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
        assert_eq!(refused, (Code::Unavailable, "STORE_UNAVAILABLE".into()));
        until_serving(&server, ADMIN, false).await;
        assert!(is_serving(&server, "").await && is_serving(&server, RESOLVER).await);
        let during = operator.resolve("firm", "wom", "leipzig").await.unwrap();
        limit_files(&server, None);
        until_serving(&server, ADMIN, true).await;
        let after = operator.resolve("firm", "wom", "leipzig").await.unwrap();
        // What was in doubt may have happened.
        assert!((during.version..=during.version + 1).contains(&after.version));
        operator.save(put(attempt)).await;
        let saved = operator.resolve("firm", "wom", "leipzig").await.unwrap();
        assert_eq!((saved.version, password(&saved)), (after.version + 1, attempt));
    }
    let before = endurance::clients::look(&operator, name("firm", "wom", office("leipzig")))
        .await
        .unwrap();
    let revision = operator.status().await.unwrap().revision;
    server.stop().await;
    let server = Server::dev(directory.path());
    let operator = server.operator();
    let after = endurance::clients::look(&operator, name("firm", "wom", office("leipzig")))
        .await
        .unwrap();
    assert_eq!((operator.status().await.unwrap().revision, after), (revision, before));
    server.stop().await;
}
