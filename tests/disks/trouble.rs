//! Disks that are full, cannot be written, or fail: what is stored is handed out, what cannot be kept is refused, and nothing is
//! lost.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tresor::pb::v1;

use super::disk::Disk;
use super::faults::Faults;
use crate::endurance::checks::{ADMIN, RESOLVER, is_serving, until_serving};
use crate::endurance::clients::look;
use crate::endurance::truth::Known;
use crate::endurance::vault::Vault;
use crate::support::callers::{Callers, password};
use crate::support::metrics::count;
use crate::support::process::{Server, free_address, refusal};
use crate::support::requests::{login, name, office, put_login};
use crate::support::{PATIENCE, told, wait_for};

const MEBIBYTES: u64 = 192;
/// How often the service manager is told that the vault gets on with its work.
const SIGN_OF_LIFE: Duration = Duration::from_millis(250);
const LIVENESS: &str = "liveness";
const MOMENT: Duration = Duration::from_millis(20);

/// A vault with its data in two places, that holds a credential.
struct Scene {
    vault: Vault,
    server: Server,
    operator: Callers,
    orders: Callers,
    metrics: SocketAddr,
}

impl Scene {
    async fn new(mut vault: Vault) -> Self {
        let metrics = free_address();
        vault.environment.push(("TRESOR_METRICS_LISTEN", metrics.to_string()));
        let server = vault.start();
        let (operator, orders) = (server.operator(), server.order_service());
        operator.assign("firm", "wom", v1::AssignmentMode::PerOffice).await;
        let scene = Self {
            vault,
            server,
            operator,
            orders,
            metrics,
        };
        scene.save("before").await.unwrap();
        scene
    }

    async fn save(&self, text: &str) -> Result<u64, Status> {
        let put = v1::PutCredentialRequest {
            note: text.into(),
            ..put_login(credential(), login(text))
        };
        Ok(self
            .operator
            .admin
            .clone()
            .put_credential(put)
            .await?
            .into_inner()
            .revision)
    }

    async fn resolve(&self) -> Result<(u64, String), Status> {
        let credential = self.orders.resolve("firm", "wom", "leipzig").await?;
        Ok((credential.version, password(&credential).to_owned()))
    }

    /// Saves until that is done.
    async fn until_saved(&self) {
        let saving = async {
            while self.save("in doubt").await.is_err() {
                tokio::time::sleep(MOMENT).await;
            }
        };
        tokio::time::timeout(PATIENCE, saving)
            .await
            .expect("saves are done again");
    }

    async fn look(&self) -> Known {
        look(&self.operator, credential()).await.unwrap()
    }

    /// Saves until that is refused, and returns how.
    async fn until_refused(&self) -> Status {
        let saving = async {
            loop {
                if let Err(refused) = self.save("in doubt").await {
                    return refused;
                }
            }
        };
        tokio::time::timeout(PATIENCE, saving).await.expect("saves are refused")
    }

    /// Why the store takes no writes, as an operator is told and whoever gathers metrics; nothing if it does.
    async fn store_trouble(&self) -> String {
        let why = self.operator.status().await.unwrap().store_trouble;
        // What was looked up a moment ago may be shown for a second.
        let expected = u64::from(why.is_empty());
        wait_for("the gauge to say what the status says", || {
            (count(self.metrics, "tresor_store_writable") == expected).then_some(())
        });
        why
    }

    /// What callers, health, the status and metrics say while the store takes no writes.
    async fn only_reads(&self) {
        until_serving(&self.server, ADMIN, false).await;
        assert_ne!(self.store_trouble().await, "");
        assert!(is_serving(&self.server, "").await && is_serving(&self.server, RESOLVER).await);
        self.resolve().await.unwrap();
    }

    /// Insists that it goes on where it was, by itself, also in the next life of the process.
    async fn goes_on_from(self, before: &Known) {
        until_serving(&self.server, ADMIN, true).await;
        assert!(is_serving(&self.server, "").await);
        assert_eq!(self.store_trouble().await, "");
        let mut now = self.look().await;
        // What was in doubt is there or not.
        let in_doubt = now.versions.split_off(before.versions.len().min(now.versions.len()));
        assert_eq!(now.versions, before.versions);
        assert!(
            in_doubt.len() <= 1 && in_doubt.iter().all(|text| text == "in doubt"),
            "{in_doubt:?}"
        );
        self.save("after").await.unwrap();
        let known = self.look().await;
        let newest = known.versions.len() as u64;
        assert_eq!(self.resolve().await.unwrap(), (newest, "after".into()));
        let Self { vault, server, .. } = self;
        server.stop().await;
        let server = vault.start();
        assert_eq!(look(&server.operator(), credential()).await.unwrap(), known);
        server.stop().await;
    }
}

fn credential() -> v1::CredentialRef {
    name("firm", "wom", office("leipzig"))
}

fn store_unavailable() -> (Code, String) {
    (Code::Unavailable, "STORE_UNAVAILABLE".into())
}

fn audit_unavailable() -> (Code, String) {
    (Code::Unavailable, "AUDIT_UNAVAILABLE".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_disk_of_the_store_is_full_saves_are_refused_and_resolves_go_on() {
    let disk = Disk::new(MEBIBYTES);
    let mut vault = Vault::new();
    vault.store = disk.path().join("store");
    let scene = Scene::new(vault).await;
    let before = scene.look().await;
    let filler = disk.fill(0);
    let refused = scene.save("refused").await.unwrap_err();
    assert!(refused.message().contains("disk of the store is full"), "{refused}");
    assert!(refused.get_details_retry_info().is_some());
    assert_eq!(told::<()>(Err(refused)), store_unavailable());
    scene.only_reads().await;
    let why = scene.store_trouble().await;
    assert!(why.contains("less than 32 MiB left"), "{why}");
    assert_eq!(scene.look().await, before, "histories are read as before");
    drop(filler);
    scene.goes_on_from(&before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_disk_of_the_audit_log_is_full_nothing_is_answered_until_there_is_room() {
    let disk = Disk::new(64);
    let mut vault = Vault::new();
    vault.audit = disk.path().join("audit");
    let scene = Scene::new(vault).await;
    let before = scene.look().await;
    let filler = disk.fill(0);
    let refusing = async { while scene.resolve().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refusing)
        .await
        .expect("the disk gets full");
    assert_eq!(told(scene.resolve().await), audit_unavailable());
    assert_eq!(told(scene.save("in doubt").await), audit_unavailable());
    for service in ["", RESOLVER, ADMIN] {
        until_serving(&scene.server, service, false).await;
    }
    drop(filler);
    until_serving(&scene.server, RESOLVER, true).await;
    scene.goes_on_from(&before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_disk_saves_stop_before_resolves_do() {
    let disk = Disk::new(MEBIBYTES);
    let scene = Scene::new(Vault::over((disk.path().join("store"), disk.path().join("audit")))).await;
    let before = scene.look().await;
    let nearly = disk.fill(8 << 20);
    assert_eq!(told(scene.save("refused").await), store_unavailable());
    scene.only_reads().await;
    for _ in 0..100 {
        scene.resolve().await.unwrap();
    }
    drop(nearly);
    let wholly = disk.fill(0);
    let refusing = async { while scene.resolve().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refusing)
        .await
        .expect("the disk gets full");
    until_serving(&scene.server, "", false).await;
    drop(wholly);
    scene.goes_on_from(&before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_written_any_more_loses_nothing_and_a_start_on_it_says_why_not() {
    let disk = Disk::new(MEBIBYTES);
    let mut vault = Vault::new();
    vault.store = disk.path().join("store");
    let scene = Scene::new(vault).await;
    let before = scene.look().await;
    disk.abort();
    assert_eq!(told::<()>(Err(scene.until_refused().await)), store_unavailable());
    scene.only_reads().await;
    let Scene { vault, server, .. } = scene;
    server.kill();
    // Its journal is replayed first, which takes writing.
    disk.mount_anew("rw");
    disk.mount_anew("ro");
    let said = refusal(&mut vault.command());
    assert!(said.len() == 1 && said[0].contains("Read-only file system"), "{said:?}");
    disk.mount_anew("rw");
    let server = vault.start();
    let mut found = look(&server.operator(), credential()).await.unwrap();
    found.versions.retain(|text| text != "in doubt");
    assert_eq!(found, before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_or_write_the_store_mends_itself() {
    for (kind, word) in [
        ("FAILING_SYNCS", "/data/journal"),
        ("FULL_FOR", "/data/journal"),
        ("FAILING_SYNCS", "/data/db"),
        ("FULL_FOR", "/data/db"),
    ] {
        let faults = Faults::build();
        let mut vault = Vault::new();
        vault.environment = faults.environment(kind, word);
        let scene = Scene::new(vault).await;
        let before = scene.look().await;
        faults.begin();
        if word == "/data/db" {
            // What the journal has is safe. sled's file is next written when nothing else is.
            scene.save("in doubt").await.unwrap();
            scene.server.has_logged("the store has failed", 1).await;
        } else {
            let refused = scene.until_refused().await;
            assert_eq!(told::<()>(Err(refused)), store_unavailable(), "{kind}");
        }
        scene.only_reads().await;
        // As long as the disk fails, it stays so.
        scene.server.has_logged("the store is not mended yet", 1).await;
        assert_eq!(told(scene.save("refused").await), store_unavailable());
        faults.end();
        scene.goes_on_from(&before).await;
    }
}

/// sled is closed by whoever lets go of it last, which fails with its disk: also when that is somebody who reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_while_a_sync_fails_lets_go_of_the_store_quietly() {
    let faults = Faults::build();
    let mut vault = Vault::new();
    vault.environment = faults.environment("FAILING_SYNCS", "/data/");
    let scene = Scene::new(vault).await;
    for _ in 0..200 {
        scene.save("read again and again").await.unwrap();
    }
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let admin = scene.operator.admin.clone();
            tokio::spawn(async move {
                loop {
                    let all = v1::ListCredentialVersionsRequest {
                        r#ref: Some(credential()),
                    };
                    // Refused while the disk fails.
                    let _ = admin.clone().list_credential_versions(all).await;
                }
            })
        })
        .collect();
    // Not each of the rounds meets a read in the right moment.
    for _ in 0..3 {
        faults.begin();
        scene.until_refused().await;
        faults.end();
        scene.until_saved().await;
    }
    for reader in readers {
        assert!(!reader.is_finished(), "it reads until it is stopped");
        reader.abort();
    }
    // Insists that the log tells of no panic.
    scene.server.stop().await;
}

/// What the service manager is told next; nothing if that takes several times as long as it takes to be told of life.
fn told_next(manager: &UnixDatagram) -> Option<String> {
    manager.set_read_timeout(Some(4 * SIGN_OF_LIFE)).unwrap();
    let mut told = [0; 1024];
    let length = manager.recv(&mut told).ok()?;
    Some(String::from_utf8(told[..length].to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_answer_is_told_by_silence_to_the_service_manager_and_to_probes() {
    let faults = Faults::build();
    let mut vault = Vault::new();
    vault.environment = faults.environment("STALLED", "/audit/");
    let socket = vault.folder().join("manager");
    let manager = UnixDatagram::bind(&socket).unwrap();
    vault.environment.extend([
        ("NOTIFY_SOCKET", socket.to_str().unwrap().to_owned()),
        ("WATCHDOG_USEC", (2 * SIGN_OF_LIFE).as_micros().to_string()),
    ]);
    let scene = Scene::new(vault).await;
    while told_next(&manager).unwrap() != "WATCHDOG=1\n" {}
    faults.begin();
    let orders = scene.orders.clone();
    let held_up = tokio::spawn(async move { orders.resolve("firm", "wom", "leipzig").await.map(drop) });
    scene.server.has_logged("the server is stuck", 1).await;
    until_serving(&scene.server, LIVENESS, false).await;
    while told_next(&manager).is_some() {}
    faults.end();
    held_up.await.unwrap().unwrap();
    scene.server.has_logged("the server gets on again", 1).await;
    until_serving(&scene.server, LIVENESS, true).await;
    while told_next(&manager).unwrap() != "WATCHDOG=1\n" {}
    scene.server.stop().await;
}

/// What the system has in memory after a failed sync is not what the disk has: whoever believes it loses the next change too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ended_after_a_failed_sync_leaves_word_to_the_next_one() {
    let faults = Faults::build();
    let mut vault = Vault::new();
    vault.environment = faults.environment("FAILING_SYNCS", "/data/");
    let scene = Scene::new(vault).await;
    let before = scene.look().await;
    faults.begin();
    scene.until_refused().await;
    let Scene { vault, server, .. } = scene;
    server.kill();
    let mark = || std::fs::read_to_string(vault.store.join("acknowledged")).unwrap();
    assert!(mark().ends_with("doubt\n"), "{}", mark());
    // While it cannot be written once more, it is not opened.
    let said = refusal(&mut vault.command());
    assert!(said.len() == 1 && said[0].contains("Input/output error"), "{said:?}");
    faults.end();
    let server = vault.start();
    assert!(!mark().contains("doubt"));
    let mut found = look(&server.operator(), credential()).await.unwrap();
    found.versions.retain(|text| text != "in doubt");
    assert_eq!(found, before);
    server.stop().await;
}

/// Nor is what a start has in memory that ended with a failed sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_ends_with_a_failed_sync_leaves_word_to_the_next_one() {
    let faults = Faults::build();
    let mut vault = Vault::new();
    vault.environment = faults.environment("FAILING_SYNCS", "/data/db");
    let scene = Scene::new(vault).await;
    let before = scene.look().await;
    let Scene { vault, server, .. } = scene;
    server.kill();
    let mark = || std::fs::read_to_string(vault.store.join("acknowledged")).unwrap();
    assert!(!mark().contains("doubt"));
    faults.begin();
    let said = refusal(&mut vault.command());
    assert!(said.len() == 1 && said[0].contains("Input/output error"), "{said:?}");
    assert!(mark().ends_with("doubt\n"), "{}", mark());
    faults.end();
    let server = vault.start();
    assert!(!mark().contains("doubt"));
    assert_eq!(look(&server.operator(), credential()).await.unwrap(), before);
    server.stop().await;
}
