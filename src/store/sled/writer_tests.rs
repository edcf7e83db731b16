use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use super::super::quiet::Held;
use super::super::recovery::recover;
use super::*;

fn open(folder: &Path) -> Writer {
    let mut opened = Opened::open(folder).unwrap();
    let mark = Mark::open(folder).unwrap();
    let (journal, revision) = recover(folder, &mut opened, &mark, Journal::open(folder)).unwrap();
    let shelf = Shelf::new(opened.tree.clone(), revision);
    let durable = Arc::new(AtomicU64::new(revision.0));
    Writer::new(folder, opened, journal, shelf, mark, durable)
}

/// Takes a transaction and makes it durable; sled does not have it yet.
fn make_durable(writer: &mut Writer, key: &Key) -> Revision {
    let revision = writer.take(Transaction::new().put(key.clone(), *b"value")).unwrap();
    writer.sync().unwrap();
    assert_eq!(writer.durable.load(Ordering::Acquire), revision.0);
    assert_eq!(writer.opened().unwrap().tree.get(key.as_str()).unwrap(), None);
    revision
}

fn has(held: &Held, key: &Key) -> bool {
    held.tree().get(key.as_str()).unwrap().is_some()
}

#[tokio::test]
async fn whoever_reads_waits_until_sled_has_what_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, key) = (open(folder.path()), Key::new("record"));
    let revision = make_durable(&mut writer, &key);
    let shelf = Arc::clone(&writer.shelf);
    let mut reading = pin!(shelf.tree(revision));
    let mut context = Context::from_waker(Waker::noop());
    assert!(reading.as_mut().poll(&mut context).is_pending());
    writer.bring_up_to_date().unwrap();
    assert!(has(&reading.await.unwrap(), &key));
}

#[tokio::test]
async fn what_sled_failed_to_take_after_it_was_acknowledged_is_there_once_the_store_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, key) = (open(folder.path()), Key::new("record"));
    let revision = make_durable(&mut writer, &key);
    writer.fail(StoreError::Closed);
    assert!(writer.shelf.tree(revision).await.is_err());
    assert!(writer.take(Transaction::new()).is_err());
    writer.bring_up_to_date().unwrap();
    writer.tend().unwrap();
    assert!(has(&writer.shelf.tree(revision).await.unwrap(), &key));
    let next = Key::new("next");
    let next_revision = make_durable(&mut writer, &next);
    assert_eq!(next_revision, Revision(revision.0 + 1));
    writer.bring_up_to_date().unwrap();
    assert!(has(&writer.shelf.tree(next_revision).await.unwrap(), &next));
}

#[test]
fn expectations_hold_also_of_records_that_are_not_remembered_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = open(folder.path());
    let key = |number: usize| Key::new(&format!("record/{number}"));
    let put = |number| Transaction::new().put(key(number), *b"value");
    let kept = writer.take(put(0)).unwrap();
    writer.take(put(1)).unwrap();
    writer.take(Transaction::new().remove(key(1))).unwrap();
    for number in 2..KNOWN + 2 {
        writer.take(put(number)).unwrap();
        if number % 500 == 0 {
            writer.sync().unwrap();
            writer.bring_up_to_date().unwrap();
        }
    }
    writer.sync().unwrap();
    writer.bring_up_to_date().unwrap();
    assert!(writer.known.len() < KNOWN, "everything is still remembered");
    assert!(!writer.known.contains_key(&key(0)) && !writer.known.contains_key(&key(1)));
    let mut holds = |number, expectation| {
        writer
            .take(Transaction::new().only_if(key(number), expectation))
            .is_ok()
    };
    // Looked up, and then remembered.
    for _ in 0..2 {
        assert!(holds(0, Expectation::WrittenAt(kept)) && holds(0, Expectation::Present));
        assert!(!holds(0, Expectation::WrittenAt(Revision(kept.0 + 1))) && !holds(0, Expectation::Absent));
        assert!(holds(1, Expectation::Absent) && !holds(1, Expectation::Present));
    }
}

#[test]
fn what_was_taken_and_is_not_there_once_the_store_is_mended_is_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut writer, key) = (open(folder.path()), Key::new("record"));
    let put = || Transaction::new().put(key.clone(), *b"value");
    writer.take(put()).unwrap();
    writer.fail(StoreError::Closed);
    writer.tend().unwrap();
    let first = writer.take(put().only_if(key.clone(), Expectation::Absent)).unwrap();
    assert_eq!(first, Revision(1));
}
