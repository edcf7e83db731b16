//! The vault in numbers: what is looked up for whoever watches over it.

use std::time::Duration;

use super::builders::{dat, wom};
use super::noting_store::{NotingStore, WAITING};
use super::support::start;
use crate::store::Store as _;
use crate::vault::assignment::Mode;

#[tokio::test]
async fn every_figure_is_of_what_its_name_says() {
    let (vault, store) = NotingStore::vault().await;
    vault.clock.advance(Duration::from_secs(100));
    vault.save(dat()).await;
    let data_key_made = start().after(Duration::from_secs(100));
    vault.clock.advance(Duration::from_secs(100));
    vault.assign("wom", Mode::PerOffice).await;
    vault.seen(store.revision()).await;
    let before = vault.figures(&[]);
    assert_eq!(before.store_queue, WAITING as u64);
    assert_eq!(
        (before.revision, before.replica_revision),
        (store.revision(), store.revision())
    );
    assert_eq!((before.counts.enabled, before.counts.assignments), (1, 1));
    assert_eq!((before.tenants, before.data_keys), (1, 1));
    assert_eq!(before.newest_signing_key, Some(start()));
    assert_eq!(before.oldest_data_key, Some(data_key_made));
    assert_eq!((before.published_keys, before.wrapping.keys), (1, 2));

    let seals = |figures: &crate::vault::Figures| figures.fewest_seals_left.unwrap();
    vault.save(wom()).await;
    let after = vault.figures(&[]);
    let of_a_save = seals(&before) - seals(&after);
    assert!(of_a_save > 0);
    for password in ["one", "two", "three"] {
        vault.save(wom().password(password)).await;
    }
    assert_eq!(seals(&after) - seals(&vault.figures(&[])), 3 * of_a_save);
    // They only seal; opening costs none.
    let left = seals(&vault.figures(&[]));
    vault.resolve("dat", super::builders::order()).unwrap();
    assert_eq!(seals(&vault.figures(&[])), left);
}
