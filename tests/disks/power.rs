//! Lost power: everything is gone that was never synced.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::Disks;
use super::faults::Faults;
use crate::endurance::cast::{Cast, curtain};
use crate::endurance::checks::{Evidence, everything_is_there};
use crate::endurance::clients::Tally;
use crate::endurance::random::{Random, rounds};
use crate::endurance::vault::Vault;
use crate::support::wait_for;

/// After so many cuts a vault has enough of a history: another one begins.
const LIVES: usize = 10;
/// How many changes are acknowledged at most before the power is cut.
const MOST: usize = 200;
const MEBIBYTES: u64 = 512;
/// After how many cuts something is lost of what is not synced.
const ENOUGH: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_is_there_after_a_power_cut() {
    let mut random = Random::from_environment();
    let tally = Arc::new(Tally::default());
    let rounds = rounds(3);
    cut_again_and_again(rounds, &mut random, &tally, &[]).await;
    let changes = tally.changes.load(Ordering::Relaxed);
    println!("{rounds} power cuts: {changes} acknowledged changes are all there");
}

/// Else the test before would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_syncs_of_the_stores_journal_a_power_cut_loses_something() {
    let lost = lost_without_syncs_of("/store/journal", |environment| async move {
        let mut random = Random::from_environment();
        cut_again_and_again(ENOUGH, &mut random, &Arc::default(), &environment).await;
    });
    is_loss_of_the_store(&lost.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_journal_has_given_to_sled_is_there_after_a_power_cut() {
    cut_after_a_checkpoint(&[]).await;
}

/// What it has moved to another place must be there by the time it writes over the old one, however much that is between two
/// checkpoints. It has to be on the disk, and the file's length with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_syncs_its_whole_file_with_each_of_its_writes() {
    let faults = Faults::build();
    cut_after_a_checkpoint(&faults.environment("WHOLE", "/store/db")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_syncs_of_sleds_file_a_power_cut_loses_something() {
    let lost = lost_without_syncs_of("/store/db", |environment| async move {
        for _ in 0..ENOUGH {
            cut_after_a_checkpoint(&environment).await;
        }
    });
    is_loss_of_the_store(&lost.await);
}

fn is_loss_of_the_store(lost: &str) {
    let words = ["acknowledged was", "waited in vain", "it ended with"];
    assert!(words.iter().any(|word| lost.contains(word)), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_syncs_of_the_audit_log_a_power_cut_loses_something() {
    let lost = lost_without_syncs_of("/audit/", |environment| async move {
        let mut random = Random::from_environment();
        cut_again_and_again(ENOUGH, &mut random, &Arc::default(), &environment).await;
    });
    let lost = lost.await;
    assert!(
        lost.contains("listed") || lost.contains("missing") || lost.contains("it ended with"),
        "{lost}"
    );
}

type Environment = Vec<(&'static str, String)>;

/// What is found to be lost by cuts of the power when files whose names hold a word are not synced.
async fn lost_without_syncs_of<F>(word: &str, cut: impl FnOnce(Environment) -> F) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let faults = Faults::build();
    let failed = tokio::spawn(cut(faults.environment("UNSYNCED", word))).await;
    let failed = failed.expect_err("something is lost without syncs");
    words_of(failed.into_panic().as_ref())
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

async fn cut_again_and_again(
    rounds: usize,
    random: &mut Random,
    tally: &Arc<Tally>,
    environment: &[(&'static str, String)],
) {
    for first in (0..rounds).step_by(LIVES) {
        let mut disks = Disks::new(MEBIBYTES);
        let mut vault = Vault::over(disks.places());
        vault.environment = environment.to_vec();
        let cast = Cast::new(tally);
        let mut server = vault.start();
        cast.set_the_stage(&server).await;
        for _ in first..rounds.min(first + LIVES) {
            let playing = cast.play(&server, random);
            cast.has_changed(1 + random.below(MOST) as u64).await;
            disks.cut_power(server);
            curtain(playing).await;
            (vault.store, vault.audit) = disks.places();
            server = vault.start();
            server.has_logged("recovered all that it had acknowledged", 1).await;
            everything_is_there(&cast, &server, &vault.audit, Evidence::Intent).await;
        }
        server.stop().await;
    }
}

/// Has the store bring its file up to date, and cuts the power when its journal holds something else.
async fn cut_after_a_checkpoint(environment: &[(&'static str, String)]) {
    let mut disks = Disks::new(MEBIBYTES);
    let mut vault = Vault::over(disks.places());
    vault.environment = environment.to_vec();
    let cast = Cast::new(&Arc::default());
    let server = vault.start();
    cast.set_the_stage(&server).await;
    wait_for("the journal to begin anew", || {
        let journal = std::fs::read(vault.store.join("journal")).unwrap();
        journal[4096..8192].iter().all(|byte| *byte == 0).then_some(())
    });
    let playing = cast.play(&server, &mut Random::from_environment());
    cast.has_changed(3).await;
    disks.cut_power(server);
    curtain(playing).await;
    (vault.store, vault.audit) = disks.places();
    let server = vault.start();
    everything_is_there(&cast, &server, &vault.audit, Evidence::Intent).await;
    server.stop().await;
}
