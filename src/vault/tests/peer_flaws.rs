//! Flaws that were published of other vaults, as far as they could be in this room.

use std::time::Duration;

use super::builders::{dat, order};
use super::support::{TestVault, password, start};
use crate::vault::resolve::Refusal;

#[tokio::test]
async fn cve_2026_115362_expiry_is_looked_at_when_a_credential_is_used() {
    let vault = TestVault::new().await;
    let end = start().after(Duration::from_mins(1));
    vault.save(dat().valid_until(end).password("short-lived")).await;
    // Nothing runs between the two but the clock.
    vault.clock.advance(Duration::from_mins(1) - Duration::from_millis(1));
    assert_eq!(password(&vault.resolve("dat", order()).unwrap()), "short-lived");
    vault.clock.advance(Duration::from_millis(1));
    assert!(matches!(vault.refusal("dat", order()).refusal, Refusal::Expired));
    assert!(vault.explain("dat", order()).outcome.is_err());
    // Nor does a start prolong it: `reopened` begins at the same hour as every test.
    let reopened = vault.reopened().await;
    reopened.clock.set(end);
    assert!(matches!(reopened.refusal("dat", order()).refusal, Refusal::Expired));
}

#[tokio::test]
async fn cve_2026_115362_what_a_caller_keeps_does_not_outlive_the_credential() {
    let vault = TestVault::new().await;
    vault
        .save(dat().valid_until(start().after(Duration::from_secs(10))))
        .await;
    vault.clock.advance(Duration::from_secs(7));
    let hand_out = vault.resolve("dat", order()).unwrap();
    assert_eq!(hand_out.cache_for, Duration::from_secs(3));
}
