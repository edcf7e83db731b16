//! Journals as somebody may have left them beside the store.

use std::path::Path;

use super::entry::{Entry, Found, PAGE, SALT, entry_at, seal};
use super::{FIRST, intact, newer_in};
use crate::fuzzing::Input;
use crate::store::{Change, Revision};

const SALTED: [u8; SALT] = [7; SALT];
/// How many pages a journal has at most: a page takes three bytes of input, and much longer to look at.
const MOST: usize = 8;

/// A journal made of pages, some of which are sealed so that what is in them is read: what is found is what was written, byte for byte, and
/// what a store lacks follows it without a gap.
pub(crate) fn pages(data: &[u8]) {
    let mut input = Input(data);
    let found = Revision(u64::from(input.number()));
    let mut content = vec![0; PAGE];
    while !input.0.is_empty() && content.len() < MOST * PAGE {
        let is_sealed = input.byte() & 1 == 1;
        let length = usize::from(input.number());
        let mut entry = input.bytes(length).to_vec();
        entry.resize(entry.len().next_multiple_of(PAGE).max(PAGE), 0);
        if is_sealed {
            seal(&mut entry, &SALTED);
        }
        content.extend(entry);
    }
    check(&content, found);
}

fn check(content: &[u8], found: Revision) {
    for entry in intact(content, &SALTED) {
        let again = Entry::of(&entry.changes).expect("it is no longer than it was");
        assert_eq!(again.length(), entry.length);
        let again = again.sealed_with(&SALTED);
        let Some(Found { first, changes, .. }) = entry_at(&again, 0, &SALTED) else {
            panic!("what is written can be read");
        };
        let same = |(one, other): (&Change, &Change)| one.revision == other.revision && one.writes == other.writes;
        assert!(first == entry.first && changes.len() == entry.changes.len());
        assert!(changes.iter().zip(&entry.changes).all(same));
    }
    let Ok(newer) = newer_in(content, &SALTED, found, Path::new("store")) else {
        return;
    };
    assert!(newer.end >= FIRST && newer.end <= content.len() as u64);
    let mut revision = found;
    for change in &newer.changes {
        assert_eq!(change.revision, Revision(revision.0 + 1));
        revision = change.revision;
    }
    assert_eq!(revision, newer.revision);
}
