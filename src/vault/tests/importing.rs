//! Saving many at once: each is saved as if it were alone.

use std::sync::Arc;

use super::builders::{Credential, dat, order, wom};
use super::support::{TestVault, password};
use crate::vault::credential::Version;
use crate::vault::{Imported, Vault, VaultError};

async fn save_all(vault: &Arc<Vault>, all: &[Credential]) -> Vec<Result<Imported, VaultError>> {
    let prepared = all.iter().map(|one| vault.prepare(one.clone().put())).collect();
    vault.put_all(prepared).await.unwrap()
}

#[tokio::test]
async fn what_is_saved_with_others_is_as_if_it_were_saved_alone() {
    let (alone, together) = (TestVault::new().await, TestVault::new().await);
    let all = [
        dat().password(" blank "),
        dat().office("leipzig").note("n"),
        wom(),
        dat().tenant("other"),
    ];
    for vault in [&alone, &together] {
        vault.save(dat().office("leipzig")).await;
        let name = dat().office("leipzig").name();
        vault.set_enabled(name, false, None).await.unwrap();
    }
    let outcomes = save_all(&together.vault, &all).await;
    for (one, outcome) in all.iter().zip(outcomes) {
        let (expected, saved) = (alone.save(one.clone()).await, outcome.unwrap());
        assert_eq!(
            (saved.version, saved.revision.is_some(), &saved.warnings),
            (expected.credential.header.version, true, &expected.warnings)
        );
        assert_eq!(together.info(one), expected.credential);
    }
    assert_eq!(password(&together.resolve("dat", order()).unwrap()), " blank ");
}

#[tokio::test]
async fn what_is_stored_already_is_told_only_if_nothing_differs() {
    let vault = TestVault::new().await;
    let stored = dat().office("leipzig").note("n");
    vault.save(stored.clone()).await;
    let found = |one: Credential| vault.stored_as(&vault.prepare(one.put()).unless_stored()).unwrap();
    assert_eq!(found(stored.clone()), Some(Version(1)));
    for other in [
        stored.clone().password("other"),
        stored.clone().note("other"),
        stored.clone().partner("99", "other"),
        dat().office("dresden").note("n"),
    ] {
        assert_eq!(found(other), None);
    }
    assert_eq!(found(stored.clone().only_checked()), None, "a check tells nothing");
    let prepared = vault.prepare(stored.clone().put()).unless_stored();
    let outcome = vault.put_all(vec![prepared]).await.unwrap().pop().unwrap().unwrap();
    assert!(outcome.is_unchanged && outcome.revision.is_none() && outcome.version == Version(1));
    vault.delete(stored.name(), None).await.unwrap();
    assert_eq!(found(stored), None, "to save it would bring it back");
}

#[tokio::test(flavor = "multi_thread")]
async fn saves_at_once_do_not_lose_each_other() {
    const WRITERS: u64 = 4;
    const ROUNDS: u64 = 5;
    let vault = TestVault::new().await;
    let all: Vec<_> = (0..20)
        .map(|number| dat().office(&format!("office-{number}")))
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (vault, all) = (Arc::clone(&vault.vault), all.clone());
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    for outcome in save_all(&vault, &all).await {
                        outcome.unwrap();
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    for one in &all {
        assert_eq!(vault.info(one).header.version, Version(WRITERS * ROUNDS));
    }
}

#[tokio::test]
async fn one_that_is_refused_holds_no_other_up() {
    let vault = TestVault::new().await;
    vault.save(dat()).await;
    let outcomes = save_all(&vault.vault, &[dat().expecting(7), wom()]).await;
    assert!(matches!(
        outcomes[0],
        Err(VaultError::VersionMismatch { expected: 7, .. })
    ));
    assert_eq!(outcomes[1].as_ref().unwrap().version, Version(1));
}
