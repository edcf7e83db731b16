//! What happens when lines cannot be written: the call fails, and the log mends itself.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::support::*;
use crate::audit::writer::Copy;
use crate::audit::{Audit, Entry, Event, Unavailable};
use crate::time::{Clock, Timestamp};
use crate::vault::tests::support::start;

#[tokio::test]
async fn a_file_that_was_removed_fails_a_call_and_is_followed_by_another() {
    let log = TestLog::new();
    let audit = log.open();
    resolve_all(&audit, 0..3).await;
    fs::remove_file(log.file(1)).unwrap();
    assert_eq!(resolve(&audit, "lost").await, Err(Unavailable));
    let seq = until_written(&audit, "found").await;
    until_healthy(&audit, true).await;
    audit.close().await;
    let orders: Vec<_> = log
        .lines()
        .iter()
        .filter_map(|line| line["order_id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(orders, ["found"]);
    assert!(log.events().contains(&"file_lost".into()) && seq > 5);
    let report = log.verify();
    assert!(report.findings[0].what.contains("are missing"), "{report:#?}");
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.what.contains("the server lost the file 1")),
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_file_that_was_replaced_takes_no_more_lines() {
    let log = TestLog::new();
    let audit = log.open();
    resolve_all(&audit, 0..3).await;
    let content = fs::read(log.file(1)).unwrap();
    fs::rename(log.file(1), log.parent().join("moved")).unwrap();
    fs::write(log.file(1), &content).unwrap();
    assert_eq!(resolve(&audit, "lost").await, Err(Unavailable));
    until_written(&audit, "found").await;
    audit.close().await;
    assert_eq!(fs::read(log.file(1)).unwrap(), content);
    assert_eq!(
        fs::read(log.parent().join("moved")).unwrap(),
        content,
        "the refused call has left no line"
    );
    log.assert_whole();
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_fails_every_call_until_it_is_back() {
    let log = TestLog::new();
    let audit = log.open();
    resolve_all(&audit, 0..3).await;
    let (directory, away) = (&log.settings.directory, log.parent().join("away"));
    fs::rename(directory, &away).unwrap();
    fs::write(directory, "in the way").unwrap();
    for _ in 0..3 {
        assert_eq!(resolve(&audit, "refused").await, Err(Unavailable));
    }
    until_healthy(&audit, false).await;
    fs::remove_file(directory).unwrap();
    // It recovers by itself, without a call.
    until_healthy(&audit, true).await;
    until_written(&audit, "again").await;
    audit.close().await;
    assert!(log.events().contains(&"resumed".into()), "{:?}", log.events());
}

#[tokio::test]
async fn cve_2026_115357_no_ticket_is_good_whose_line_cannot_be_written() {
    let log = TestLog::new();
    let pipe = Pipe::default();
    let audit = log.open_with(Some(Box::new(pipe.clone())), Arc::new(fs::File::sync_data));
    resolve_all(&audit, 0..3).await;
    pipe.is_broken.store(true, Ordering::Relaxed);
    // Lines of refused calls are taken back.
    let before = log.read(1);
    for _ in 0..5 {
        assert_eq!(resolve(&audit, "refused").await, Err(Unavailable));
    }
    until_healthy(&audit, false).await;
    until(|| log.read(1) == before).await;
    pipe.is_broken.store(false, Ordering::Relaxed);
    until_healthy(&audit, true).await;
    resolve(&audit, "again").await.unwrap();
    audit.close().await;
    let resumed = log.lines().into_iter().find(|line| line["event"] == "resumed").unwrap();
    assert!(resumed["refused"].as_u64().unwrap() >= 5, "{resumed}");
    log.assert_whole();
    let copy = String::from_utf8(pipe.taken.lock().unwrap().clone()).unwrap();
    assert!(
        copy.contains("\"again\"") && !copy.contains("\"order_id\":\"refused\""),
        "{copy}"
    );
}

#[tokio::test]
async fn a_sink_that_hangs_fails_calls_in_time_and_blocks_nobody() {
    let log = TestLog::new();
    let pipe = Pipe::default();
    let audit = log.open_with(Some(Box::new(pipe.clone())), Arc::new(fs::File::sync_data));
    resolve_all(&audit, 0..3).await;
    pipe.barrier.close();
    let began = Instant::now();
    let (one, other) = tokio::join!(resolve(&audit, "one"), resolve(&audit, "other"));
    assert_eq!((one, other), (Err(Unavailable), Err(Unavailable)));
    assert!(began.elapsed() >= log.settings.timeout);
    until_healthy(&audit, false).await;
    pipe.barrier.open();
    until_healthy(&audit, true).await;
    until_written(&audit, "again").await;
    audit.close().await;
    let withheld: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| line["event"] == "withheld")
        .collect();
    assert!(
        !withheld.is_empty(),
        "the log says which answers have not left: {:?}",
        log.events()
    );
    log.assert_whole();
}

#[tokio::test]
async fn a_change_that_is_not_durable_in_time_is_not_answered() {
    let log = TestLog::new();
    let barrier = Barrier::default();
    let at = barrier.clone();
    let sync = Arc::new(move |file: &fs::File| {
        at.pass();
        file.sync_data()
    });
    let audit = log.open_with(None, sync);
    let entry = Entry::new(Event::Intent, "PutCredential");
    let intent = audit.announce(&entry).await.unwrap();
    audit.is_durable(intent).await.unwrap();
    barrier.close();
    let intent = audit.announce(&entry).await.unwrap();
    assert_eq!(audit.is_durable(intent).await, Err(Unavailable));
    // What cannot be made durable for longer than is promised is not taken any more.
    until_healthy(&audit, false).await;
    assert_eq!(resolve(&audit, "refused").await, Err(Unavailable));
    barrier.open();
    until_healthy(&audit, true).await;
    until_written(&audit, "again").await;
    audit.close().await;
    let resumed = log.lines().into_iter().find(|line| line["event"] == "resumed").unwrap();
    assert!(resumed["refused"].as_u64().unwrap() >= 1, "{resumed}");
    log.assert_whole();
}

#[tokio::test]
async fn the_readings_tell_what_waits_what_is_written_what_is_durable_and_what_is_signed() {
    let log = TestLog::new();
    let (disk, pipe) = (Barrier::default(), Pipe::default());
    let at = disk.clone();
    let sync = Arc::new(move |file: &fs::File| {
        at.pass();
        file.sync_data()
    });
    let audit = log.open_with(Some(Box::new(pipe.clone())), sync);
    let signed = audit.checkpoints().borrow().as_ref().unwrap().link.seq;
    let entry = Entry::new(Event::Intent, "PutCredential");
    let durable = audit.announce(&entry).await.unwrap();
    audit.is_durable(durable).await.unwrap();
    disk.close();
    let newest = audit.announce(&entry).await.unwrap().seq;
    let readings = audit.readings();
    assert!(signed < durable.seq && durable.seq < newest, "{readings:?}");
    assert_eq!(
        (readings.signed, readings.durable, readings.newest, readings.queue),
        (signed, durable.seq, newest, 0)
    );
    // What is being written does not wait any more; what comes meanwhile does.
    pipe.barrier.close();
    let mut tickets = vec![audit.submit(&entry)];
    while audit.readings().queue > 0 {
        tokio::task::yield_now().await;
    }
    tickets.extend((0..3).map(|_| audit.submit(&entry)));
    assert_eq!(audit.readings().queue, 3);
    pipe.barrier.open();
    disk.open();
    for ticket in tickets {
        ticket.written().await.unwrap();
    }
    assert_eq!(audit.readings().queue, 0);
    audit.close().await;
}

#[tokio::test]
async fn after_a_failed_sync_the_log_goes_on_in_a_new_file_and_says_so() {
    let log = TestLog::new();
    let is_failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&is_failing);
    let sync = Arc::new(move |file: &fs::File| {
        if fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        file.sync_data()
    });
    let audit = log.open_with(None, sync);
    resolve_all(&audit, 0..3).await;
    is_failing.store(true, Ordering::Relaxed);
    let entry = Entry::new(Event::Intent, "PutCredential");
    let intent = audit.announce(&entry).await.unwrap();
    assert_eq!(audit.is_durable(intent).await, Err(Unavailable));
    until_healthy(&audit, false).await;
    is_failing.store(false, Ordering::Relaxed);
    until_healthy(&audit, true).await;
    until_written(&audit, "again").await;
    audit.close().await;
    assert!(log.file(2).exists());
    let report = log.assert_whole();
    assert!(
        report.notes.iter().any(|note| note.what.contains("a sync failed")),
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_leaves_a_line_that_says_so() {
    let log = TestLog::new();
    let pipe = Pipe::default();
    let audit = log.open_with(Some(Box::new(pipe.clone())), Arc::new(fs::File::sync_data));
    pipe.barrier.close();
    let gone = tokio::time::timeout(Duration::from_millis(1), resolve(&audit, "gone")).await;
    assert!(gone.is_err());
    pipe.barrier.open();
    until_written(&audit, "next").await;
    audit.close().await;
    let lines = log.lines();
    let seq = lines.iter().find(|line| line["order_id"] == "gone").unwrap()["seq"].clone();
    let withheld = lines.iter().find(|line| line["event"] == "withheld").unwrap();
    assert!(withheld["lines"].as_array().unwrap().contains(&seq), "{withheld}");
}

#[tokio::test]
async fn a_link_in_the_way_of_the_next_file_is_not_followed_and_the_old_file_goes_on() {
    let mut log = TestLog::new();
    log.settings.rotate_size = 2000;
    let audit = log.open();
    let victim = log.parent().join("victim");
    fs::write(&victim, "theirs").unwrap();
    std::os::unix::fs::symlink(&victim, log.file(2)).unwrap();
    resolve_all(&audit, 0..40).await;
    audit.close().await;
    assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
    fs::remove_file(log.file(2)).unwrap();
    log.assert_whole();
}

#[tokio::test]
async fn a_disk_whose_syncs_fail_gets_one_new_file_and_no_refusal_is_forgotten() {
    let log = TestLog::new();
    let (is_failing, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (fails, counted) = (Arc::clone(&is_failing), Arc::clone(&tries));
    let sync = Arc::new(move |file: &fs::File| {
        counted.fetch_add(1, Ordering::Relaxed);
        if fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        file.sync_data()
    });
    let audit = log.open_with(None, sync);
    is_failing.store(true, Ordering::Relaxed);
    let _ = resolve(&audit, "one").await;
    until_healthy(&audit, false).await;
    assert_eq!(resolve(&audit, "refused").await, Err(Unavailable));
    let before = tries.load(Ordering::Relaxed);
    until(|| tries.load(Ordering::Relaxed) > before + 3).await;
    is_failing.store(false, Ordering::Relaxed);
    until_healthy(&audit, true).await;
    audit.close().await;
    assert_eq!(crate::audit::files_in(&log.settings.directory).unwrap().len(), 2);
    let resumed: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| line["event"] == "resumed")
        .collect();
    assert!(
        resumed.len() == 1 && resumed[0]["refused"].as_u64() >= Some(1),
        "{resumed:?}"
    );
    log.assert_whole();
}

/// Tells on which threads the log was written: its writer asks for the time before each group.
#[derive(Default)]
struct Witness {
    threads: Mutex<Vec<String>>,
    /// How long the next look at the clock takes.
    delay: AtomicU64,
}

impl Clock for Witness {
    fn now(&self) -> Timestamp {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        if thread != "audit-writer" {
            std::thread::sleep(Duration::from_millis(self.delay.swap(0, Ordering::Relaxed)));
        }
        self.threads.lock().unwrap().push(thread);
        start()
    }
}

impl Witness {
    /// Whether the thread of this test has written since this was asked last.
    fn is_written_here(&self) -> bool {
        self.looks_here() > 0
    }

    /// How often it has looked at the clock since then: up to three times a write.
    fn looks_here(&self) -> usize {
        let here = std::thread::current().name().unwrap_or_default().to_owned();
        let looks = std::mem::take(&mut *self.threads.lock().unwrap());
        looks.iter().filter(|thread| **thread == here).count()
    }
}

fn open_before(witness: &Arc<Witness>, log: &TestLog, copy: Option<Copy>) -> Audit {
    Audit::open_with(
        &log.settings,
        Arc::clone(witness) as _,
        copy,
        Arc::new(fs::File::sync_data),
    )
    .unwrap()
}

#[tokio::test]
async fn whoever_waits_for_a_line_writes_it_and_those_that_came_meanwhile() {
    let (log, witness) = (TestLog::new(), Arc::new(Witness::default()));
    let audit = open_before(&witness, &log, None);
    let resolve_eight = async || {
        witness.looks_here();
        let calls = (0..8).map(|order| {
            let audit = audit.clone();
            tokio::spawn(async move { resolve(&audit, &order.to_string()).await.unwrap() })
        });
        let calls: Vec<_> = calls.collect();
        let mut lines = Vec::new();
        for call in calls {
            lines.push(call.await.unwrap());
        }
        assert!(lines.is_sorted_by(|one, next| one + 1 == *next), "{lines:?}");
        witness.looks_here()
    };
    // Now and then the log's own thread looks around and takes them, or some.
    let mut looks = Vec::new();
    while !looks.last().is_some_and(|looks| (1..8).contains(looks)) {
        assert!(looks.len() < 100, "one write takes them all: {looks:?}");
        looks.push(resolve_eight().await);
    }
    audit.close().await;
}

#[tokio::test]
async fn a_log_with_a_copy_or_a_slow_disk_is_left_to_its_own_thread() {
    let (log, witness) = (TestLog::new(), Arc::new(Witness::default()));
    let audit = open_before(&witness, &log, Some(Box::new(Pipe::default())));
    witness.is_written_here();
    resolve_all(&audit, 0..20).await;
    assert!(!witness.is_written_here(), "a pipe may be full");
    audit.close().await;

    let (log, witness) = (TestLog::new(), Arc::new(Witness::default()));
    let audit = open_before(&witness, &log, None);
    resolve_all(&audit, 0..5).await;
    assert!(witness.is_written_here());
    // A machine that is busy itself may be over the second for which it is left alone.
    for tries in 1.. {
        witness.delay.store(100, Ordering::Relaxed);
        while witness.delay.load(Ordering::Relaxed) > 0 {
            resolve(&audit, "slow").await.unwrap();
        }
        witness.is_written_here();
        let began = Instant::now();
        resolve_all(&audit, 5..8).await;
        let is_written_here = witness.is_written_here();
        if began.elapsed() < Duration::from_millis(500) {
            assert!(!is_written_here, "it may be slow again");
            break;
        }
        assert!(tries < 100, "the machine is too slow for this");
    }
    let tries = async {
        while !witness.is_written_here() {
            resolve_all(&audit, 25..26).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_mins(1);
    tokio::time::timeout(patience, tries).await.expect("it is tried again");
    audit.close().await;
}

#[test]
fn lines_of_many_threads_are_each_written_once_and_chained() {
    const THREADS: usize = 4;
    const CALLS: usize = 200;
    let log = TestLog::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let audit = runtime.block_on(async { log.open() });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let audit = &audit;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let calls: Vec<_> = (0..CALLS)
                        .map(|call| {
                            let (audit, order) = (audit.clone(), format!("{thread}-{call}"));
                            tokio::spawn(async move { resolve(&audit, &order).await.unwrap() })
                        })
                        .collect();
                    for call in calls {
                        call.await.unwrap();
                    }
                });
            });
        }
    });
    runtime.block_on(audit.close());
    log.assert_whole();
    let mut orders: Vec<_> = log
        .lines()
        .iter()
        .filter_map(|line| Some(line["order_id"].as_str()?.to_owned()))
        .collect();
    orders.sort_unstable();
    orders.dedup();
    assert_eq!(orders.len(), THREADS * CALLS);
}
