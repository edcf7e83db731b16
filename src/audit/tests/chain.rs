//! What the log is made of: lines, files, restarts, signatures.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::support::*;
use crate::audit::{Entry, Event, Outcome, Reader};

#[tokio::test]
async fn a_line_is_in_the_file_before_its_ticket_is_good() {
    let log = TestLog::new();
    let audit = log.open();
    for order in ["2026-0815", "\"quoted\" \\ 訂單", "Nr. 7/2026 (Müller)"] {
        let seq = resolve(&audit, order).await.unwrap();
        let lines = log.lines();
        let line = lines.last().unwrap();
        assert_eq!(
            (line["seq"].as_u64(), line["order_id"].as_str()),
            (Some(seq), Some(order))
        );
    }
    log.assert_whole();
}

#[tokio::test]
async fn a_log_that_was_closed_is_signed_to_its_last_line() {
    let log = TestLog::new();
    let audit = log.open();
    resolve_all(&audit, 0..5).await;
    audit.close().await;
    let report = log.assert_whole();
    assert_eq!(report.signed_up_to, Some(report.last));
    assert_eq!((report.first, report.notes.len()), (1, 0));
    let events = log.events();
    assert_eq!(events[..3], ["file_opened", "started", "checkpoint"]);
    assert_eq!(events[8..], ["stopped", "checkpoint"]);
}

#[tokio::test]
async fn a_sealed_vault_has_a_log_without_signatures_until_its_keys_are_there() {
    let log = TestLog::new();
    let audit = log.open_sealed();
    resolve_all(&audit, 0..5).await;
    assert_eq!(log.verify().signed_up_to, None);
    audit.sign_with(signer());
    audit.close().await;
    let report = log.assert_whole();
    assert_eq!(report.signed_up_to, Some(report.last));
}

#[tokio::test]
async fn every_so_many_lines_are_signed() {
    let mut log = TestLog::new();
    log.settings.checkpoint_lines = 10;
    let audit = log.open();
    resolve_all(&audit, 0..35).await;
    assert_eq!(log.events().iter().filter(|event| *event == "checkpoint").count(), 4);
    let newest = audit.checkpoints().borrow().clone().unwrap();
    let report = log.verify_against(Some(newest.link));
    assert_eq!((report.findings.len(), report.signed_up_to), (0, Some(newest.link.seq)));
}

#[tokio::test]
async fn new_lines_are_signed_after_a_while_however_few_they_are() {
    let mut log = TestLog::new();
    log.settings.checkpoint_interval = Duration::from_millis(1);
    let audit = log.open();
    let seq = resolve(&audit, "one").await.unwrap();
    let mut checkpoints = audit.checkpoints();
    let is_signed = |newest: &Option<crate::audit::Checkpoint>| newest.as_ref().is_some_and(|one| one.link.seq > seq);
    checkpoints.wait_for(is_signed).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_large_or_old_is_followed_by_the_next() {
    let mut log = TestLog::new();
    log.settings.rotate_size = 2000;
    let audit = log.open();
    resolve_all(&audit, 0..30).await;
    let large = crate::audit::files_in(&log.settings.directory).unwrap().len();
    assert!(large > 3, "{large}");
    audit.close().await;
    log.settings.rotate_size = 1 << 20;
    let audit = log.open();
    log.clock.advance(log.settings.rotate_age);
    until(|| crate::audit::files_in(&log.settings.directory).unwrap().len() > large).await;
    audit.close().await;
    log.assert_whole();
}

/// However many files are begun while nothing is saved.
#[tokio::test]
async fn each_file_tells_which_revision_the_store_has() {
    let mut log = TestLog::new();
    log.settings.rotate_size = 2000;
    let audit = log.open();
    audit.set_revision(7);
    resolve_all(&audit, 0..60).await;
    audit.close().await;
    assert!(crate::audit::files_in(&log.settings.directory).unwrap().len() > 6);
    let newest = |up_to| {
        Reader::new(&log.settings.directory)
            .unwrap()
            .newest_revision(up_to)
            .unwrap()
    };
    assert_eq!(newest(u64::MAX), Some(7));
    log.assert_whole();

    // What a file begins with may be older than what the one before tells; what came later does not count.
    let audit = log.open();
    audit.set_revision(8);
    let saved = Entry {
        revision: Some(9),
        ..Entry::new(Event::Call, "PutCredential")
    };
    let line = audit.submit(&saved).written().await.unwrap();
    let files = crate::audit::files_in(&log.settings.directory).unwrap().len();
    let mut order = 100;
    while crate::audit::files_in(&log.settings.directory).unwrap().len() == files {
        resolve(&audit, &order.to_string()).await.unwrap();
        order += 1;
    }
    audit.close().await;
    assert_eq!((newest(u64::MAX), newest(line - 1)), (Some(9), Some(7)));
}

#[tokio::test]
async fn what_is_old_enough_is_removed_and_the_log_says_so_under_a_signature() {
    let mut log = TestLog::new();
    log.settings.rotate_size = 2000;
    log.settings.keep = Some(Duration::from_hours(1));
    let audit = log.open();
    resolve_all(&audit, 0..20).await;
    log.clock.advance(Duration::from_hours(2));
    resolve_all(&audit, 20..40).await;
    audit.close().await;
    assert!(!log.file(1).exists());
    let report = log.assert_whole();
    assert!(
        report.first > 1 && report.notes[0].what.contains("old enough"),
        "{report:#?}"
    );
    // Somebody else who removes a file is found out.
    let first = crate::audit::files_in(&log.settings.directory).unwrap().remove(0).1;
    fs::remove_file(first).unwrap();
    assert_eq!(log.verify().findings.len(), 1);
}

#[tokio::test]
async fn what_a_crash_has_left_at_the_beginning_of_a_file_keeps_no_older_one() {
    let mut log = TestLog::new();
    log.settings.rotate_size = 2000;
    log.settings.keep = Some(Duration::from_hours(1));
    let audit = log.open();
    resolve_all(&audit, 0..2).await;
    audit.close().await;
    // With its mode.
    fs::copy(log.file(1), log.file(2)).unwrap();
    fs::write(log.file(2), b"probe").unwrap();
    let audit = log.open();
    resolve_all(&audit, 20..40).await;
    log.clock.advance(Duration::from_hours(2));
    resolve_all(&audit, 40..60).await;
    audit.close().await;
    assert!(!log.file(1).exists());
    log.assert_whole();
}

#[tokio::test]
async fn a_torn_line_is_kept_closed_and_recorded() {
    let log = TestLog::new();
    let audit = log.open();
    resolve_all(&audit, 0..3).await;
    audit.close().await;
    log.crash();
    let whole = fs::read(log.file(1)).unwrap();
    let ends: Vec<_> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    for cut in [ends[4] + 1, ends[4] + 2, ends[4] + 90, ends[5] - 1, ends[5]] {
        fs::write(log.file(1), &whole[..cut]).unwrap();
        let audit = log.open();
        resolve(&audit, "after").await.unwrap();
        audit.close().await;
        let report = log.assert_whole();
        // A line that lacks nothing but its end is whole.
        let is_torn = cut > ends[4] + 1 && cut < ends[5];
        assert_eq!(report.notes.len(), usize::from(is_torn), "{:#?}", report.notes);
        assert_eq!(log.events().contains(&"torn_line".to_owned()), is_torn);
        assert!(
            fs::read(log.file(1)).unwrap().starts_with(&whole[..cut]),
            "nothing is hidden"
        );
    }
}

#[tokio::test]
async fn a_crash_right_after_a_file_was_made_loses_nothing() {
    let log = TestLog::new();
    let audit = log.open();
    resolve_all(&audit, 0..3).await;
    audit.close().await;
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(log.file(2))
        .unwrap();
    let audit = log.open();
    resolve_all(&audit, 3..6).await;
    audit.close().await;
    log.assert_whole();
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(log.file(3))
        .unwrap();
    file.write_all(b"{\"seq\":").unwrap();
    log.open().close().await;
    assert_eq!(log.assert_whole().notes.len(), 1);
}

#[tokio::test]
async fn refusals_in_masses_are_counted_instead_of_listed() {
    let log = TestLog::new();
    let audit = log.open();
    let entry = Entry {
        outcome: Some(Outcome::Denied),
        reason: Some("NO_IDENTITY"),
        ..Entry::new(Event::Call, "GetStatus")
    };
    for _ in 0..500 {
        audit.submit(&entry).written().await.unwrap();
    }
    until(|| log.events().contains(&"not_listed".to_owned())).await;
    audit.close().await;
    let lines = log.lines();
    let listed = lines.iter().filter(|line| line["event"] == "call").count() as u64;
    let counted: u64 = lines.iter().filter_map(|line| line["count"].as_u64()).sum();
    assert!(listed < 100, "{listed}");
    assert_eq!(listed + counted, 500);
}

#[tokio::test]
async fn a_reader_gives_what_fits_its_filter_over_all_files() {
    let mut log = TestLog::new();
    log.settings.rotate_size = 2000;
    let audit = log.open();
    resolve_all(&audit, 0..20).await;
    let middle = crate::time::Clock::now(&*log.clock).after(Duration::from_secs(1));
    log.clock.advance(Duration::from_secs(2));
    resolve_all(&audit, 10..30).await;
    let reader = Reader::new(audit.directory()).unwrap();
    let count = |filter: &crate::audit::Filter| {
        let mut orders = Vec::new();
        let take = |_: &str, record: &crate::audit::Record<'_>| {
            orders.push(record.order_id.as_deref().unwrap_or_default().to_owned());
            std::ops::ControlFlow::Continue(())
        };
        reader.lines(filter, audit.newest(), take).unwrap();
        orders
    };
    let resolves = crate::audit::Filter {
        method: Some("ResolveForOrder".into()),
        ..Default::default()
    };
    assert_eq!(count(&resolves).len(), 40);
    let order = crate::audit::Filter {
        order: Some("15".into()),
        ..Default::default()
    };
    assert_eq!(count(&order), ["15", "15"]);
    let late = crate::audit::Filter {
        since: Some(middle),
        ..resolves.clone()
    };
    assert_eq!(count(&late).len(), 20);
    let early = crate::audit::Filter {
        until: Some(middle),
        tenant: Some("demo".into()),
        ..resolves
    };
    assert_eq!(count(&early).first().map(String::as_str), Some("0"));
    let none = crate::audit::Filter {
        tenant: Some("other".into()),
        ..Default::default()
    };
    assert!(count(&none).is_empty());
}

/// What happens to a log.
#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    Restart,
    /// The process ends in the midst of a line.
    Tear(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..20_u8).prop_map(Step::Write),
        Just(Step::Restart),
        (1..200_u8).prop_map(Step::Tear)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_happens_every_line_that_was_good_is_there_and_the_log_is_whole(
        steps in prop::collection::vec(step(), 1..8),
        rotate_size in 1000..6000_u64,
        checkpoint_lines in 1..12_u64,
    ) {
        let mut log = TestLog::new();
        (log.settings.rotate_size, log.settings.checkpoint_lines) = (rotate_size, checkpoint_lines);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let written = runtime.block_on(async {
            let mut written = 0_u32;
            let mut audit = log.open();
            for step in &steps {
                match step {
                    Step::Write(count) => {
                        resolve_all(&audit, written..written + u32::from(*count)).await;
                        written += u32::from(*count);
                    }
                    Step::Restart => {
                        audit.close().await;
                        audit = log.open();
                    }
                    Step::Tear(bytes) => {
                        audit.close().await;
                        log.crash();
                        let (_, newest) = crate::audit::files_in(&log.settings.directory).unwrap().pop().unwrap();
                        let torn = vec![b'x'; usize::from(*bytes)];
                        OpenOptions::new().append(true).open(newest).unwrap().write_all(&torn).unwrap();
                        audit = log.open();
                    }
                }
            }
            audit.close().await;
            written
        });
        let report = log.verify();
        prop_assert!(report.findings.is_empty(), "{:#?}", report.findings);
        let tears = steps.iter().filter(|step| matches!(step, Step::Tear(_))).count();
        // A busy machine may have refused calls, too.
        let torn = report.notes.iter().filter(|note| note.what.contains("a torn line")).count();
        prop_assert_eq!(torn, tears);
        let orders: Vec<_> = log.lines().iter().filter_map(|line| line["order_id"].as_str().map(str::to_owned)).collect();
        let expected: Vec<_> = (0..written).map(|order| order.to_string()).collect();
        prop_assert_eq!(orders, expected);
    }
}

#[tokio::test]
async fn a_clock_that_jumps_takes_one_file_and_empty_ones_are_in_nobodys_way() {
    let mut log = TestLog::new();
    log.settings.rotate_size = 2000;
    log.settings.keep = Some(Duration::from_hours(1));
    let audit = log.open();
    resolve_all(&audit, 0..40).await;
    audit.close().await;
    let before = crate::audit::files_in(&log.settings.directory).unwrap();
    assert!(before.len() > 4, "{before:?}");
    // A crash between the removal of one file and that of the next one: both are announced.
    fs::write(log.settings.directory.join("audit-000000.jsonl"), "").unwrap();
    log.clock.advance(Duration::from_hours(10_000));
    log.settings.rotate_size = 1 << 20;
    log.settings.rotate_age = Duration::from_hours(100_000);
    let second = fs::read(log.file(2)).unwrap();
    for life in 0..2 {
        let audit = log.open();
        until(|| log.events().iter().filter(|event| *event == "file_removed").count() > life).await;
        audit.close().await;
    }
    assert!(!log.file(0).exists() && !log.file(1).exists() && !log.file(2).exists() && log.file(3).exists());
    fs::write(log.file(2), second).unwrap();
    log.assert_whole();
    log.open().close().await;
    log.assert_whole();
}

#[tokio::test]
async fn a_line_is_found_in_whichever_file_it_is() {
    let mut log = TestLog::new();
    log.settings.rotate_size = 2000;
    let audit = log.open();
    resolve_all(&audit, 0..40).await;
    audit.close().await;
    let reader = Reader::new(&log.settings.directory).unwrap();
    let paths = crate::audit::files_in(&log.settings.directory).unwrap();
    let text: String = paths
        .iter()
        .map(|(_, path)| fs::read_to_string(path).unwrap())
        .collect();
    for (line, seq) in text.lines().zip(1..) {
        let hash = crate::audit::Hash::of(line.as_bytes());
        let found = reader.hash_of(crate::audit::Link { seq, hash }).unwrap();
        assert_eq!(found, Some(hash), "{seq}");
    }
    let missing = crate::audit::Link {
        seq: 9999,
        hash: crate::audit::Hash::NONE,
    };
    assert_eq!(reader.hash_of(missing).unwrap(), None);
}
