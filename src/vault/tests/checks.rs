//! A check finds what is wrong, names it, and finds nothing where nothing is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::builders::{dat, mail, tenant, wom};
use super::support::TestVault;
use crate::keyring::is_key;
use crate::store::{Key, Record, Transaction};
use crate::vault::assignment::Mode;
use crate::vault::check::{Finding, Inspector, Stop};
use crate::vault::credential::Version;
use crate::vault::examine::examine;
use crate::vault::record::{head_key, version_key};

#[derive(Default)]
struct Noted(Vec<String>);

#[async_trait::async_trait]
impl Inspector for Noted {
    async fn looked_at(&mut self, _: u64) -> Result<(), Stop> {
        Ok(())
    }

    async fn found(&mut self, Finding { key, defect, .. }: Finding) -> Result<(), Stop> {
        self.0.push(format!("{key}: {defect}"));
        Ok(())
    }
}

async fn findings(vault: &TestVault) -> Vec<String> {
    let mut noted = Noted::default();
    let records = vault.check(None, &mut noted).await.unwrap();
    assert_eq!(records, vault.keys().await.len() as u64);
    noted.0
}

async fn filled() -> TestVault {
    let vault = TestVault::new().await;
    for version in 1..=3 {
        vault
            .save(wom().office("leipzig").password(&format!("version {version}")))
            .await;
    }
    // A name that begins like another one.
    vault.save(wom().office("leipzig-2")).await;
    vault.save(dat()).await;
    vault.save(mail().oauth2()).await;
    vault.delete(mail().name(), None).await.unwrap();
    vault.save(wom().tenant("other")).await;
    vault.assign("wom", Mode::PerOffice).await;
    vault
}

async fn remove(vault: &TestVault, key: &Key) {
    let removed = vault
        .store
        .commit(Transaction::new().remove(key.clone()))
        .await
        .unwrap();
    vault.seen(removed).await;
}

fn leipzig(version: u64) -> Key {
    version_key(&wom().office("leipzig").name(), Version(version))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_in_a_sound_vault() {
    let vault = filled().await;
    assert_eq!(findings(&vault).await, [""; 0]);
    vault.rollback(wom().office("leipzig").rollback(1)).await.unwrap();
    vault.rotate_signing_key(true).await.unwrap();
    vault.rotate_data_key(&tenant("demo")).await.unwrap();
    vault.settle().await;
    // Erased, and not removed yet: that nothing of it opens is as it should be.
    vault.erase_tenant(&tenant("other")).await.unwrap();
    assert_eq!(findings(&vault).await, [""; 0]);
    assert_eq!(findings(&vault.reopened().await).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_defect_is_found_and_named() {
    const DAMAGED: &str = "it is damaged, or belongs in another place: it does not open";
    let vault = filled().await;
    let stolen = vault.record(&leipzig(1)).await.value;
    vault.overwrite(&leipzig(2), &stolen).await;
    assert_eq!(findings(&vault).await, [format!("{}: {DAMAGED}", leipzig(2))]);

    let vault = filled().await;
    remove(&vault, &leipzig(2)).await;
    assert_eq!(
        findings(&vault).await,
        [format!("{}: the version before it, 2, is not there", leipzig(3))]
    );
    remove(&vault, &leipzig(3)).await;
    let head = head_key(&wom().office("leipzig").name());
    assert_eq!(findings(&vault).await, [format!("{head}: its version 3 is not there")]);

    let vault = filled().await;
    remove(&vault, &head).await;
    let orphaned: Vec<_> = (1..=3)
        .map(|n| format!("{}: it is a version of a credential that is not there", leipzig(n)))
        .collect();
    assert_eq!(findings(&vault).await, orphaned);

    // An older head put back.
    let vault = TestVault::new().await;
    vault.save(wom().office("leipzig").password("first")).await;
    let older = vault.record(&head).await.value;
    vault.save(wom().office("leipzig").password("second")).await;
    vault.overwrite(&head, &older).await;
    assert_eq!(
        findings(&vault).await,
        [format!(
            "{}: it is newer than its credential, which has version 1",
            leipzig(2)
        )]
    );

    let vault = filled().await;
    vault.overwrite(&Key::new("notes/1"), b"x").await;
    vault.overwrite(&Key::new("head/demo/wom"), b"x").await;
    vault.overwrite(&Key::new("assignment/demo/wom"), b"x").await;
    let unknown = "no record has such a key";
    let expected = [
        format!("assignment/demo/wom: {DAMAGED}"),
        format!("head/demo/wom: {unknown}"),
        format!("notes/1: {unknown}"),
    ];
    assert_eq!(findings(&vault).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_damaged_or_missing_is_found() {
    let vault = filled().await;
    let name = Key::new("data-key/other/0000000001");
    let mut value = vault.record(&name).await.value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    vault.overwrite(&name, &value).await;
    let found = findings(&vault).await;
    assert!(
        found.len() == 1 && found[0].starts_with("data-key/other/0000000001: record data-key/"),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_of_any_record_is_noticed() {
    let vault = filled().await;
    vault.rotate_signing_key(true).await.unwrap();
    let mut looked_at = 0;
    for key in vault.keys().await {
        let sound = vault.record(&Key::new(&key)).await;
        for place in 0..sound.value.len() {
            let mut value = sound.value.to_vec();
            value[place] ^= 1 << (place % 8);
            let changed = Record {
                value: value.into(),
                ..sound.clone()
            };
            let is_noticed = if is_key(&key) {
                vault.keyring.check(&changed.key, &changed.value).await.is_err()
            } else {
                examine(&changed, &*vault.keyring).is_err()
            };
            assert!(is_noticed, "byte {place} of {key}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 3000, "{looked_at}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_nothing_wrong_with_what_changes_meanwhile() {
    let vault = filled().await;
    let (is_over, changes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn({
        let (vault, is_over, changes) = (Arc::clone(&vault.vault), Arc::clone(&is_over), Arc::clone(&changes));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                let number = changes.fetch_add(1, Ordering::Relaxed);
                let office = format!("office-{}", number % 9);
                vault.put(wom().office(&office).put()).await.unwrap();
                if number % 7 == 0 {
                    let office = wom().office(&format!("office-{}", number % 5));
                    drop(vault.purge(&office.name()).await);
                }
                if number % 50 == 0 {
                    vault.rotate_data_key(&tenant("demo")).await.unwrap();
                    vault.work_off().await;
                }
            }
        }
    });
    let mut checks = 0;
    while checks < 15 || changes.load(Ordering::Relaxed) < 60 {
        let mut noted = Noted::default();
        vault.check(None, &mut noted).await.unwrap();
        assert_eq!(noted.0, [""; 0]);
        checks += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}
