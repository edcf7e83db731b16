use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::store::{Key, Scan, SledStore, Store as _, Transaction};

/// The transaction of a revision: it writes one record, and removes another.
fn change(revision: u64, size: usize) -> Change {
    let value: Arc<[u8]> = vec![u8::try_from(revision % 251).unwrap(); size].into();
    Change {
        revision: Revision(revision),
        writes: vec![
            (Key::new(&format!("record/{revision}")), Some(value)),
            (Key::new(&format!("record/{}", revision / 2)), None),
        ],
    }
}

fn changes(revisions: std::ops::RangeInclusive<u64>) -> Vec<Change> {
    revisions.map(|revision| change(revision, 300)).collect()
}

fn append(journal: &mut Journal, changes: &[Change]) {
    let entry = Entry::of(changes).unwrap();
    assert!(journal.takes(&entry));
    journal.append(entry).unwrap();
}

fn reopened(folder: &Path) -> Journal {
    Journal::open(folder).unwrap().unwrap()
}

/// What the journal in a folder has that a store at a revision has not.
fn lacking(folder: &Path, found: u64) -> Result<Vec<u64>, StoreError> {
    let newer = reopened(folder).newer_than(Revision(found))?;
    for found in &newer.changes {
        let size = found.writes[0].1.as_ref().unwrap().len();
        assert!(found.writes == change(found.revision.0, size).writes);
    }
    let revisions: Vec<_> = newer.changes.iter().map(|change| change.revision.0).collect();
    assert_eq!(newer.revision.0, revisions.last().copied().unwrap_or(found));
    Ok(revisions)
}

fn flip(folder: &Path, at: u64) {
    let file = open_or_create(&folder.join(NAME)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn what_rots_in_front_of_other_entries_is_damage_and_the_last_one_is_as_if_it_was_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::make(folder.path()).unwrap();
    append(&mut journal, &changes(1..=3));
    let second = journal.end;
    append(&mut journal, &changes(4..=30));
    let third = journal.end;
    append(&mut journal, &changes(31..=31));
    let end = journal.end;
    assert!(third > second + PAGE as u64);
    for at in (FIRST..end).step_by(7) {
        flip(folder.path(), at);
        let found = lacking(folder.path(), 0);
        if at < third {
            assert!(matches!(found, Err(StoreError::Damaged { .. })), "{at}");
        } else {
            assert_eq!(found.unwrap(), (1..=30).collect::<Vec<_>>(), "{at}");
        }
        flip(folder.path(), at);
    }
    assert_eq!(lacking(folder.path(), 0).unwrap().len(), 31);
}

#[test]
fn a_first_page_that_cannot_be_read_and_another_length_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    drop(Journal::make(folder.path()).unwrap());
    let is_damaged = || matches!(Journal::open(folder.path()), Err(StoreError::Damaged { .. }));
    assert!(!is_damaged());
    for at in 0..(TITLE.len() + SALT + 4) as u64 {
        flip(folder.path(), at);
        assert!(is_damaged(), "{at}");
        flip(folder.path(), at);
    }
    let file = open_or_create(&folder.path().join(NAME)).unwrap();
    for length in [0, LENGTH as u64 - 1, LENGTH as u64 + 1] {
        file.set_len(length).unwrap();
        assert!(is_damaged(), "{length}");
    }
}

#[test]
fn a_store_that_is_older_than_the_beginning_has_lost_writes() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::make(folder.path()).unwrap();
    append(&mut journal, &changes(8..=9));
    let error = lacking(folder.path(), 6).unwrap_err();
    assert!(
        matches!(error, StoreError::LostWrites { acknowledged, .. } if acknowledged == Revision(7)),
        "{error}"
    );
    assert_eq!(lacking(folder.path(), 7).unwrap(), [8, 9]);
    append(&mut journal, &changes(10..=10));
    journal.begin_anew().unwrap();
    let error = lacking(folder.path(), 8).unwrap_err();
    assert!(
        matches!(error, StoreError::LostWrites { acknowledged, .. } if acknowledged == Revision(10)),
        "{error}"
    );
    assert_eq!(lacking(folder.path(), 10).unwrap(), [0; 0]);
}

#[test]
fn what_a_power_cut_brings_back_of_an_older_journal_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::make(folder.path()).unwrap();
    for revision in 1..=4 {
        append(&mut journal, &changes(revision..=revision));
    }
    let before = fs::read(folder.path().join(NAME)).unwrap();
    journal.begin_anew().unwrap();
    append(&mut journal, &changes(5..=5));
    // The new entry stands before the second old one.
    assert_eq!(lacking(folder.path(), 4).unwrap(), [5]);
    let after = fs::read(folder.path().join(NAME)).unwrap();
    fs::write(folder.path().join(NAME), &before).unwrap();
    assert_eq!(lacking(folder.path(), 4).unwrap(), [0; 0]);
    // Its second page made it to the disk and its first one did not.
    journal.begin_anew().unwrap();
    append(&mut journal, &[change(5, 6000)]);
    let mut torn = fs::read(folder.path().join(NAME)).unwrap();
    torn[PAGE..2 * PAGE].copy_from_slice(&after[PAGE..2 * PAGE]);
    torn[PAGE] = 0;
    fs::write(folder.path().join(NAME), torn).unwrap();
    assert_eq!(lacking(folder.path(), 4).unwrap(), [0; 0]);
}

/// A record that holds what an entry would look like, and a page of another journal.
#[test]
fn what_only_looks_like_an_entry_is_none() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut journal = Journal::make(folder.path()).unwrap();
    let mut foreign = Journal::make(other.path()).unwrap();
    append(&mut journal, &changes(1..=1));
    append(&mut foreign, &changes(1..=1));
    append(&mut foreign, &changes(2..=2));
    let page = fs::read(other.path().join(NAME)).unwrap()[2 * PAGE..3 * PAGE].to_vec();
    let file = open_or_create(&folder.path().join(NAME)).unwrap();
    file.write_all_at(&page, journal.end).unwrap();
    assert_eq!(lacking(folder.path(), 0).unwrap(), [1]);
}

#[test]
fn there_is_room_until_it_is_full_and_then_when_it_began_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::make(folder.path()).unwrap();
    let large = || Entry::of(&[change(1, LENGTH / 2)]).unwrap();
    journal.append(large()).unwrap();
    assert!(!journal.takes(&large()));
    journal.begin_anew().unwrap();
    assert!(journal.is_empty() && journal.takes(&large()));
    let many: Vec<_> = (1..=MOST as u64).map(|revision| change(revision, 1)).collect();
    journal.append(Entry::of(&many[1..]).unwrap()).unwrap();
    let one = || Entry::of(&many[..1]).unwrap();
    assert!(journal.takes(&one()));
    journal.append(one()).unwrap();
    assert!(!journal.takes(&one()));
}

#[derive(Clone, Debug)]
enum Step {
    /// So many transactions with so large a record.
    Append(u64, usize),
    BeginAnew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..20_u64, 0..5000_usize).prop_map(|(count, size)| Step::Append(count, size)),
        1 => Just(Step::BeginAnew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_was_appended_a_store_finds_just_what_it_lacks(
        steps in prop::collection::vec(step(), 1..25),
        behind in 0..1000_u64,
        torn in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::make(folder.path()).unwrap();
        // What the store has at least, what it may have, and the last entry: where it stands, and what came before it.
        let (mut durable, mut newest, mut last) = (0, 0, None);
        for step in steps {
            match step {
                Step::Append(count, size) => {
                    let changes: Vec<_> = (newest + 1..=newest + count).map(|at| change(at, size)).collect();
                    let entry = Entry::of(&changes).unwrap();
                    if !journal.takes(&entry) {
                        continue;
                    }
                    let place = journal.end;
                    journal.append(entry).unwrap();
                    last = Some((place, newest));
                    newest += count;
                }
                Step::BeginAnew => {
                    journal.begin_anew().unwrap();
                    (durable, last) = (newest, None);
                }
            }
        }
        let found = durable + behind % (newest - durable + 1);
        let expected: Vec<_> = (found + 1..=newest).collect();
        prop_assert_eq!(lacking(folder.path(), found).unwrap(), expected);
        // The power is cut within the last write.
        if let Some((place, before)) = last {
            flip(folder.path(), place + torn.index(usize::try_from(journal.end - place).unwrap()) as u64);
            let found = found.min(before);
            let expected: Vec<_> = (found + 1..=before).collect();
            prop_assert_eq!(lacking(folder.path(), found).unwrap(), expected);
        }
    }
}

/// What a store left that was killed: its files as they are.
fn left_by(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

async fn put(store: &SledStore, number: usize, size: usize) -> Revision {
    let transaction = Transaction::new().put(Key::new(&format!("record/{number:03}")), vec![7; size]);
    store.commit(transaction).await.unwrap()
}

async fn names(store: &SledStore) -> usize {
    let all = Scan {
        prefix: String::new(),
        after: None,
        limit: usize::MAX,
    };
    store.scan(all).await.unwrap().len()
}

fn error_of(folder: &Path) -> StoreError {
    SledStore::open(folder).err().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_takes_what_it_lacks_from_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path()).unwrap();
    let before = left_by(folder.path());
    let mut newest = Revision(0);
    for number in 0..50 {
        newest = put(&store, number, 300).await;
    }
    let left = left_by(folder.path());
    // Also if sled's file has nothing of it.
    fs::copy(before.path().join("db"), left.path().join("db")).unwrap();
    let again = SledStore::open(left.path()).unwrap();
    assert_eq!((again.revision(), names(&again).await), (newest, 50));
    assert_eq!(again.applied().await.unwrap(), newest);
    assert_eq!(put(&again, 50, 300).await, Revision(newest.0 + 1));
    drop(again);
    // What is closed needs no journal to have everything.
    let all = salvage_of(left.path());
    fs::copy(before.path().join(NAME), left.path().join(NAME)).unwrap();
    assert_eq!((all, salvage_of(left.path())), (51, 51));
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_store_was_left_is_not_forgotten_by_who_cannot_open_it_or_only_looks() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path()).unwrap();
    let newest = put(&store, 1, 300).await;
    let left = left_by(folder.path());
    drop(store);
    // Whoever is refused, and who rescues, has taken the lock.
    fs::rename(left.path().join(NAME), left.path().join("away")).unwrap();
    error_of(left.path());
    fs::rename(left.path().join("away"), left.path().join(NAME)).unwrap();
    salvage_of(left.path());
    let again = SledStore::open(left.path()).unwrap();
    assert_eq!(again.left_at(), Some(newest));
    drop(again);
    assert_eq!(SledStore::open(left.path()).unwrap().left_at(), None);
}

fn salvage_of(folder: &Path) -> usize {
    let saved = crate::store::salvage(folder).unwrap();
    assert_eq!((saved.gaps, saved.unreadable), (0, 0));
    saved.records.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_journal_has_is_rescued_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path()).unwrap();
    let before = left_by(folder.path());
    for number in 0..20 {
        put(&store, number, 300).await;
    }
    let removed = Transaction::new().remove(Key::new("record/003"));
    store.commit(removed).await.unwrap();
    let left = left_by(folder.path());
    fs::copy(before.path().join("db"), left.path().join("db")).unwrap();
    fs::remove_file(left.path().join("lock")).unwrap();
    assert_eq!(salvage_of(left.path()), 19);
    // A place of the journal that cannot be read is a gap.
    flip(left.path(), 3 * PAGE as u64);
    let saved = crate::store::salvage(left.path()).unwrap();
    assert_eq!((saved.gaps, saved.records.len()), (1, 18));
    flip(left.path(), 0);
    assert_eq!(crate::store::salvage(left.path()).unwrap().gaps, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_journal_or_with_another_ones_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path()).unwrap();
    let old = left_by(folder.path());
    for number in 0..5 {
        put(&store, number, 300).await;
    }
    let left = left_by(folder.path());
    fs::remove_file(left.path().join(NAME)).unwrap();
    let error = error_of(left.path());
    assert!(
        matches!(&error, StoreError::Damaged { detail, .. } if detail.contains("journal is missing")),
        "{error}"
    );
    // The one of before, beside a file of before: what was acknowledged since is in neither.
    let left = left_by(folder.path());
    for name in [NAME, "db"] {
        fs::copy(old.path().join(name), left.path().join(name)).unwrap();
    }
    let error = error_of(left.path());
    assert!(matches!(error, StoreError::LostWrites { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_journal_takes_is_kept_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path()).unwrap();
    let mut large = Transaction::new();
    for number in 0..60 {
        large = large.put(Key::new(&format!("record/{number:03}")), vec![7; 100_000]);
    }
    store.commit(large).await.unwrap();
    let again = SledStore::open(left_by(folder.path()).path()).unwrap();
    assert_eq!(names(&again).await, 60);
    // Many transactions, so that it begins anew several times.
    let many = (100..900).map(|number| Transaction::new().put(Key::new(&format!("record/{number:03}")), [7; 9000]));
    let done = store.commit_all(many.collect()).await;
    assert!(done.iter().all(Result::is_ok));
    let again = SledStore::open(left_by(folder.path()).path()).unwrap();
    assert_eq!((again.revision(), names(&again).await), (store.revision(), 860));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_nobody_writes_to_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path()).unwrap();
    for number in 0..5 {
        put(&store, number, 300).await;
    }
    let is_empty = || {
        let content = fs::read(folder.path().join(NAME)).unwrap();
        content[PAGE..2 * PAGE].iter().all(|byte| *byte == 0)
    };
    assert!(!is_empty());
    while !is_empty() {
        store.tend().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let again = SledStore::open(left_by(folder.path()).path()).unwrap();
    assert_eq!(names(&again).await, 5);
}
