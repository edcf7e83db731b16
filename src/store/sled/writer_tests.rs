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
