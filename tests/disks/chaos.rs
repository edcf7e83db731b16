//! Everything at once: clients, kills, restarts, full and failing disks, reloads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::disk::Disks;
use super::faults::Faults;
use crate::endurance::cast::{Cast, curtain};
use crate::endurance::checks::{ADMIN, Evidence, everything_is_there, until_serving};
use crate::endurance::clients::Tally;
use crate::endurance::random::{Random, time};
use crate::endurance::vault::Vault;
use crate::support::certificates::{for_server, replace};

/// How long a vault lives before another one begins.
const LIFE: Duration = Duration::from_mins(1);
const MEBIBYTES: u64 = 384;
/// How long nothing happens between two incidents, and how long a disk is in trouble, at most.
const PEACE: Duration = Duration::from_millis(1500);
const TROUBLE: Duration = Duration::from_millis(1500);

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Incident {
    Kill,
    Restart,
    PowerCut,
    FullDisk,
    FailingSyncs,
    Reload,
}

const INCIDENTS: [Incident; 6] = [
    Incident::Kill,
    Incident::Restart,
    Incident::PowerCut,
    Incident::FullDisk,
    Incident::FailingSyncs,
    Incident::Reload,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_every_read_is_explained_and_nothing_is_lost() {
    let mut random = Random::from_environment();
    let tally = Arc::new(Tally::default());
    let end = Instant::now() + time(Duration::from_secs(20));
    let mut happened = [0; INCIDENTS.len()];
    while Instant::now() < end {
        a_life(end.min(Instant::now() + LIFE), &mut random, &tally, &mut happened).await;
    }
    let [changes, reads, refused] =
        [&tally.changes, &tally.reads, &tally.refused].map(|count| count.load(Ordering::Relaxed));
    println!("{changes} changes, {reads} reads, {refused} refused; incidents: {INCIDENTS:?} {happened:?}");
    assert!(changes > 0 && reads > 0);
}

async fn a_life(end: Instant, random: &mut Random, tally: &Arc<Tally>, happened: &mut [usize; INCIDENTS.len()]) {
    let faults = Faults::build();
    let mut disks = Disks::new(MEBIBYTES);
    let mut vault = Vault::over(disks.places());
    vault.environment = faults.environment("FAILING_SYNCS", "/store/");
    let cast = Cast::new(tally);
    let mut server = vault.start();
    cast.set_the_stage(&server).await;
    let mut playing = cast.play(&server, random);
    let mut evidence = Evidence::Outcome;
    while Instant::now() < end {
        tokio::time::sleep(random.time_below(PEACE)).await;
        let number = random.below(INCIDENTS.len());
        let incident = INCIDENTS[number];
        happened[number] += 1;
        println!("{incident:?} after {} changes", tally.changes.load(Ordering::Relaxed));
        match incident {
            Incident::FullDisk => {
                let room = random.below(64 << 20) as u64;
                let filler = random.one_of(&[&disks.store, &disks.audit]).fill(room);
                tokio::time::sleep(random.time_below(TROUBLE)).await;
                drop(filler);
                until_serving(&server, ADMIN, true).await;
                continue;
            }
            Incident::FailingSyncs => {
                faults.begin();
                tokio::time::sleep(random.time_below(TROUBLE)).await;
                faults.end();
                until_serving(&server, ADMIN, true).await;
                continue;
            }
            Incident::Reload => {
                reload(&vault);
                server.hang_up();
                continue;
            }
            Incident::Kill => server.kill(),
            Incident::Restart => server.stop().await,
            Incident::PowerCut => {
                disks.cut_power(server);
                (vault.store, vault.audit) = disks.places();
                // The outcomes of the last moments are gone for good.
                evidence = Evidence::Intent;
            }
        }
        curtain(playing).await;
        server = vault.start();
        everything_is_there(&cast, &server, &vault.audit, evidence).await;
        playing = cast.play(&server, random);
    }
    server.stop().await;
    curtain(playing).await;
    let server = vault.start();
    everything_is_there(&cast, &server, &vault.audit, evidence).await;
    server.stop().await;
}

/// Another certificate, and another policy that says the same.
fn reload(vault: &Vault) {
    let tls = vault.folder().join("tls");
    let [certificate, key] = for_server(&tls);
    replace(&tls.join("server.key"), key);
    replace(&tls.join("server.pem"), certificate);
    let policy = vault.folder().join("policy.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    replace(&policy, text + "# Nothing new.\n");
}
