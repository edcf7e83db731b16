//! Nobody changes a log unnoticed.

use std::fs;
use std::io::BufReader;

use super::support::*;
use crate::audit::{Report, Verifier};

/// A log that was closed: a few calls, signed.
async fn closed(calls: u32) -> TestLog {
    let mut log = TestLog::new();
    log.settings.checkpoint_lines = 4;
    let audit = log.open();
    resolve_all(&audit, 0..calls).await;
    audit.close().await;
    log.assert_whole();
    log
}

fn verified(bytes: &[u8]) -> Report {
    let mut verifier = Verifier::new(Some(keys()), None);
    let file = BufReader::new(bytes);
    verifier.read("log", file, (0, std::time::Duration::ZERO)).unwrap();
    verifier.finish()
}

fn assert_found(bytes: &[u8], what: &str) {
    assert!(!verified(bytes).findings.is_empty(), "{what} is not noticed");
}

#[tokio::test]
async fn any_changed_byte_is_found() {
    let log = closed(5).await;
    let whole = fs::read(log.file(1)).unwrap();
    for at in 0..whole.len() {
        for flip in [1, 0x20, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            assert_found(&changed, &format!("byte {at} ^ {flip:#x}"));
        }
    }
}

#[tokio::test]
async fn any_changed_byte_of_a_torn_line_is_found() {
    let log = closed(2).await;
    log.crash();
    let mut torn = fs::read(log.file(1)).unwrap();
    let start = torn.len();
    torn.extend_from_slice(b"{\"seq\":99,\"time\":\"2026\n\nxyz\n");
    let end = torn.len();
    fs::write(log.file(1), &torn).unwrap();
    log.open().close().await;
    assert_eq!(log.assert_whole().notes.len(), 1);
    let whole = fs::read(log.file(1)).unwrap();
    for at in start..=end {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert_found(&changed, &format!("byte {at}"));
        changed.remove(at);
        assert_found(&changed, &format!("byte {at} removed"));
    }
}

#[tokio::test]
async fn a_line_that_is_removed_doubled_or_moved_is_found() {
    let log = closed(6).await;
    let text = log.read(1);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for at in 0..lines.len() - 1 {
        let mut removed = lines.clone();
        removed.remove(at);
        assert_found(removed.concat().as_bytes(), &format!("line {at} removed"));
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        assert_found(doubled.concat().as_bytes(), &format!("line {at} doubled"));
        let mut moved = lines.clone();
        moved.swap(at, at + 1);
        assert_found(moved.concat().as_bytes(), &format!("line {at} moved"));
    }
}

#[tokio::test]
async fn a_report_names_the_file_the_line_and_what_is_wrong() {
    let log = closed(6).await;
    let text = log.read(1);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let told = |lines: &[&str]| {
        let findings = verified(lines.concat().as_bytes()).findings;
        findings.first().map(ToString::to_string).unwrap_or_default()
    };
    assert_eq!(
        told(&[&lines[..4], &lines[5..]].concat()),
        "log:5: line 5 is missing before line 6"
    );
    assert_eq!(
        told(&[&lines[..2], &lines[6..]].concat()),
        "log:3: lines 3 to 6 are missing before line 7"
    );
    let changed = lines[3].replace("demo", "else");
    let mut with_change = lines.clone();
    with_change[3] = &changed;
    assert_eq!(
        told(&with_change),
        "log:5: line 4 was changed, or line 5 was: they do not fit together"
    );
    assert_eq!(told(&lines[2..]), "log:10: lines 1 to 2 are missing");
    assert!(told(&[&lines[..3], &["rubbish\n"], &lines[3..]].concat()).starts_with("log:4: is no line of the log"));
}

#[tokio::test]
async fn a_log_that_was_cut_is_found_by_what_the_vault_has_signed() {
    let log = closed(9).await;
    let whole = log.assert_whole();
    let text = log.read(1);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let last = crate::audit::Link {
        seq: whole.last,
        hash: crate::audit::Hash::of(lines[lines.len() - 1].trim_end().as_bytes()),
    };
    assert!(log.verify_against(Some(last)).findings.is_empty());
    fs::write(log.file(1), lines[..lines.len() - 3].concat()).unwrap();
    assert!(log.verify().findings.is_empty(), "the chain alone cannot tell");
    let findings = log.verify_against(Some(last)).findings;
    assert!(findings[0].what.contains("it was cut"), "{findings:#?}");
}

#[tokio::test]
async fn who_rewrites_the_whole_chain_lacks_the_key() {
    let log = closed(6).await;
    let text = log.read(1).replace("\"demo\"", "\"fake\"");
    let mut forged = Vec::new();
    let mut link = crate::audit::Link::START;
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let (begin, end) = (line.find("\"event\"").unwrap(), line.find(",\"prev\"").unwrap());
        let time = record["time"].as_str().unwrap();
        match record["jws"].as_str() {
            None => link.append(&mut forged, time, &line[begin..end]),
            Some(jws) => link.append_signed(&mut forged, time, &line[begin..end], |_| jws.to_owned()),
        }
    }
    let report = verified(&forged);
    assert_eq!(report.signed_up_to, Some(3), "up to the first line that is another one");
    let is_bad = |finding: &crate::audit::Finding| finding.what.contains("its signature does not fit");
    assert!(!report.findings.is_empty() && report.findings.iter().all(is_bad));
}

/// Appends lines to a log as who can write its file, and lacks the key, may do.
fn forge(log: &TestLog, bodies: &[String]) {
    let mut bytes = fs::read(log.file(1)).unwrap();
    let mut link = crate::audit::Link::START;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        (link.seq, link.hash) = (link.seq + 1, crate::audit::Hash::of(line));
    }
    for body in bodies {
        link.append(&mut bytes, "2026-01-01T00:00:00.000Z", body);
    }
    fs::write(log.file(1), bytes).unwrap();
}

#[tokio::test]
async fn a_log_without_any_signature_is_not_whole() {
    let log = TestLog::new();
    let audit = log.open_sealed();
    resolve_all(&audit, 0..5).await;
    audit.close().await;
    let findings = log.verify().findings;
    assert!(findings[0].what.contains("nothing in it is signed"), "{findings:#?}");
}

#[tokio::test]
async fn more_lines_without_a_signature_than_the_writer_ever_leaves_are_found() {
    let log = closed(5).await;
    log.crash();
    let calls = vec![r#""event":"call""#.to_owned(); 5000];
    forge(&log, &calls);
    let findings = log.verify().findings;
    assert!(findings[0].what.contains("signs sooner"), "{findings:#?}");
}

#[tokio::test]
async fn lines_of_a_later_time_than_the_writer_leaves_unsigned_are_found() {
    let log = closed(5).await;
    log.crash();
    let mut bytes = fs::read(log.file(1)).unwrap();
    let mut link = crate::audit::Link::START;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        (link.seq, link.hash) = (link.seq + 1, crate::audit::Hash::of(line));
    }
    for year in 2040..2044 {
        let time = format!("{year}-01-01T00:00:00.000Z");
        link.append(&mut bytes, &time, r#""event":"call""#);
    }
    let findings = verified(&bytes).findings;
    assert!(findings[0].what.contains("signs sooner"), "{findings:#?}");
}

#[tokio::test]
async fn a_removal_that_others_announce_is_none_even_if_the_server_signs_what_follows() {
    let mut log = closed(6).await;
    let first = log.assert_whole().last;
    let last = log.read(1).lines().last().unwrap().to_owned();
    let hash = crate::audit::Hash::of(last.as_bytes());
    let body = format!(r#""event":"file_removed","file":1,"last":{first},"last_hash":"{hash}""#);
    forge(&log, &[body]);
    log.settings.rotate_size = 1;
    log.open().close().await;
    let findings = log.verify().findings;
    assert!(findings[0].what.contains("file_removed"), "{findings:#?}");
    fs::remove_file(log.file(1)).unwrap();
    assert!(!log.verify().findings.is_empty());
}

#[tokio::test]
async fn a_cut_that_the_server_has_recorded_is_a_finding() {
    let log = closed(3).await;
    let audit = log.open();
    let kept = crate::audit::Link {
        seq: 99,
        hash: crate::audit::Hash::NONE,
    };
    audit.note_cut(kept, None);
    audit.close().await;
    let findings = log.verify().findings;
    assert!(findings[0].what.contains("had signed were missing"), "{findings:#?}");
}

#[tokio::test]
async fn a_torn_line_behind_an_orderly_end_is_a_finding() {
    let log = closed(3).await;
    let mut bytes = fs::read(log.file(1)).unwrap();
    bytes.extend_from_slice(b"{\"seq\":");
    fs::write(log.file(1), bytes).unwrap();
    log.open().close().await;
    let findings = log.verify().findings;
    assert!(findings[0].what.contains("closed in order"), "{findings:#?}");
}

/// Whoever may write the files while the server does not run could have it sign what they have added.
#[tokio::test]
async fn lines_behind_an_orderly_end_are_a_finding_even_if_the_server_signs_what_follows() {
    let log = closed(3).await;
    let added = log.assert_whole().last + 1;
    forge(&log, &[r#""event":"call","outcome":"ok""#.to_owned()]);
    log.open().close().await;
    let findings = log.verify().findings;
    assert!(
        findings[0]
            .what
            .contains(&format!("line {added} stands behind the end")),
        "{findings:#?}"
    );
    assert_eq!(findings.len(), 1, "{findings:#?}");
}
