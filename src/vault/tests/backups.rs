//! Whatever was done to a vault: what is restored from its backup is the same vault.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::builders::{Credential, order, tenant, wom};
use super::support::{TestVault, assigned, everything_of, password, set, settings};
use crate::backup::{self, Plan, RestoreError, Unsigned};
use crate::keyring::{KekSource, KeyFile};
use crate::offline;
use crate::store::{Key, Record, SledStore, Store};
use crate::time::Timestamp;
use crate::vault::SetAssignment;
use crate::vault::assignment::Mode;
use crate::vault::catalogue::Catalogue;
use crate::vault::examine::examine;
use crate::vault::record::open_version;

fn kek(byte: u8) -> KeyFile {
    // Made with mode 0600.
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&[byte; 32]).unwrap();
    KeyFile::read(file.path()).unwrap()
}

async fn backed_up(vault: &TestVault) -> Vec<u8> {
    let (out, mut parts) = mpsc::channel::<Bytes>(4);
    let making = async move {
        let made = vault.back_up("the newest signed line".into(), &out).await;
        drop(out);
        made
    };
    let taking = async {
        let mut bytes = Vec::new();
        while let Some(part) = parts.recv().await {
            bytes.extend_from_slice(&part);
        }
        bytes
    };
    let (made, bytes) = tokio::join!(making, taking);
    made.unwrap();
    bytes
}

fn plan<'a>(store: &'a Path, kek: &'a dyn KekSource) -> Plan<'a> {
    Plan {
        store,
        kek: Some(kek),
        published: None,
        identities: None,
        is_dry: false,
        now: Timestamp::EPOCH,
    }
}

/// Everything that a store holds: keys, revisions, bytes.
async fn raw(vault: &TestVault) -> Vec<(String, u64, Vec<u8>)> {
    let mut all = Vec::new();
    for key in vault.keys().await {
        let Record { key, revision, value } = vault.record(&Key::new(&key)).await;
        all.push((key.to_string(), revision.0, value.to_vec()));
    }
    all
}

/// What the vault tells of a version: all of its content, its signature included.
async fn history(vault: &TestVault) -> Vec<serde_json::Value> {
    let mut told = Vec::new();
    for key in vault.keys().await {
        let record = vault.record(&Key::new(&key)).await;
        assert!(examine(&record, &*vault.keyring).is_ok(), "{key} is not sound");
        if let Some(owner) = key.strip_prefix("version/").and_then(|path| path.split('/').next()) {
            let owner = tenant(owner);
            let (_, content) = open_version(&record, |id| vault.keyring.data_key(&owner, id)).unwrap();
            told.push(everything_of(&content));
        }
    }
    told
}

/// Restores into a folder and opens what is there.
async fn restored(bytes: &[u8], folder: &Path) -> TestVault {
    let report = backup::restore(bytes, &plan(folder, &kek(7))).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder).unwrap());
    assert_eq!(store.revision(), report.backup.end.revision);
    let vault = TestVault::over(store, Catalogue::built_in(), settings()).await.unwrap();
    assert_eq!(report.records, Some(vault.keys().await.len() as u64));
    vault
}

#[derive(Clone, Debug)]
enum Deed {
    Save(usize, u8),
    Rollback(usize),
    Switch(usize, bool),
    Delete(usize),
    Undelete(usize),
    Purge(usize),
    Assign(bool),
    RotateDataKey,
    RotateSigningKey,
    Erase,
}

fn deed() -> impl Strategy<Value = Deed> {
    let which = 0..5_usize;
    prop_oneof![
        6 => (which.clone(), any::<u8>()).prop_map(|(which, word)| Deed::Save(which, word)),
        1 => which.clone().prop_map(Deed::Rollback),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, is_on)| Deed::Switch(which, is_on)),
        1 => which.clone().prop_map(Deed::Delete),
        1 => which.clone().prop_map(Deed::Undelete),
        1 => which.prop_map(Deed::Purge),
        1 => any::<bool>().prop_map(Deed::Assign),
        1 => Just(Deed::RotateDataKey),
        1 => Just(Deed::RotateSigningKey),
        1 => Just(Deed::Erase),
    ]
}

fn credential(which: usize) -> Credential {
    match which {
        0 => wom(),
        1 => wom().office("leipzig"),
        2 => super::builders::dat().appraiser("mueller"),
        3 => super::builders::mail().oauth2(),
        _ => wom().tenant("other"),
    }
}

/// Does it; what the vault refuses, such as deleting what is not there, is refused.
async fn carry_out(vault: &TestVault, deed: &Deed) {
    match deed {
        Deed::Save(which, word) => drop(vault.try_save(credential(*which).note(&format!("note {word}"))).await),
        Deed::Rollback(which) => drop(vault.rollback(credential(*which).rollback(1)).await),
        Deed::Switch(which, is_on) => drop(vault.set_enabled(credential(*which).name(), *is_on, None).await),
        Deed::Delete(which) => drop(vault.delete(credential(*which).name(), None).await),
        Deed::Undelete(which) => drop(vault.undelete(credential(*which).name(), None).await),
        Deed::Purge(which) => drop(vault.purge(&credential(*which).name()).await),
        Deed::Assign(per_office) => {
            let mode = if *per_office { Mode::PerOffice } else { Mode::General };
            let set: SetAssignment = set("wom", assigned(mode));
            drop(vault.set_assignment(set).await);
        }
        Deed::RotateDataKey => {
            drop(vault.rotate_data_key(&tenant("demo")).await);
            vault.settle().await;
        }
        Deed::RotateSigningKey => drop(vault.rotate_signing_key(true).await),
        // Not settled: what is to be done in the background is restored too.
        Deed::Erase => drop(vault.erase_tenant(&tenant("other")).await),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_was_done_to_a_vault_its_backup_restores_the_same_one(deeds in prop::collection::vec(deed(), 0..24)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let vault = TestVault::new().await;
            for deed in &deeds {
                carry_out(&vault, deed).await;
            }
            let bytes = backed_up(&vault).await;
            let folder = tempfile::tempdir().unwrap();
            let other = restored(&bytes, folder.path()).await;
            assert_eq!(raw(&other).await, raw(&vault).await);
            assert_eq!(other.jwks(), vault.jwks());
            let is_erasing = !vault.all_tasks().await.is_empty();
            if !is_erasing {
                assert_eq!(history(&other).await, history(&vault).await);
            }
            for which in 0..4 {
                let name = credential(which).name();
                assert_eq!(other.get(&name).ok(), vault.get(&name).ok());
            }
            // It goes on.
            other.settle().await;
            other.save(wom().tenant("new").password("later")).await;
            let again = tempfile::tempdir().unwrap();
            let third = restored(&backed_up(&other).await, again.path()).await;
            assert_eq!(raw(&third).await, raw(&other).await);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_another_vault_or_with_another_key_is_refused_and_nothing_is_left() {
    let vault = TestVault::new().await;
    vault.save(wom().password("secret")).await;
    let bytes = backed_up(&vault).await;
    let folder = tempfile::tempdir().unwrap();
    let refused = backup::restore(&bytes[..], &plan(folder.path(), &kek(8)))
        .await
        .unwrap_err();
    assert!(matches!(refused, RestoreError::Keys { count: 2, .. }), "{refused}");
    // A whole and consistent file whose keys open, signed by somebody else.
    let store = Arc::clone(&vault.store);
    let another_key =
        Arc::new(crate::keyring::SigningKey::from_seed(&[9; 32], Timestamp::EPOCH, Timestamp::EPOCH).unwrap());
    let (out, mut parts) = mpsc::channel::<Bytes>(64);
    backup::make(store, another_key, &crate::time::SystemClock, String::new(), &out)
        .await
        .unwrap();
    drop(out);
    let mut forged = Vec::new();
    while let Some(part) = parts.recv().await {
        forged.extend_from_slice(&part);
    }
    let refused = backup::restore(&forged[..], &plan(folder.path(), &kek(7)))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, RestoreError::Unsigned(Unsigned::Foreign { .. })),
        "{refused}"
    );
    for damage in [bytes.len() / 2, bytes.len() - 1, 20] {
        let mut damaged = bytes.clone();
        damaged[damage] ^= 1;
        assert!(
            backup::restore(&damaged[..], &plan(folder.path(), &kek(7)))
                .await
                .is_err()
        );
        assert!(
            backup::restore(&bytes[..damage], &plan(folder.path(), &kek(7)))
                .await
                .is_err()
        );
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["lock"]);
    let vault = restored(&bytes, folder.path()).await;
    assert_eq!(password(&vault.resolve("wom", order()).unwrap()), "secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_finds_out_everything_and_writes_nothing() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let bytes = backed_up(&vault).await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("store");
    let kek = kek(7);
    let dry = Plan {
        is_dry: true,
        ..plan(&target, &kek)
    };
    let report = backup::restore(&bytes[..], &dry).await.unwrap();
    assert_eq!((report.records, report.keys), (None, Some(2)));
    assert!(backup::restore(&bytes[..bytes.len() - 1], &dry).await.is_err());
    assert!(!target.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_backed_up_as_it_is_and_told() {
    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let key = crate::vault::record::head_key(&wom().name());
    let mut value = vault.record(&key).await.value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    vault.overwrite(&key, &value).await;
    let bytes = backed_up(&vault).await;
    let opened = offline::open_all(|| Ok(&bytes[..]), None, &kek(7)).await.unwrap();
    let told: Vec<_> = opened.damaged.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["head/demo/wom/general: it is damaged, or belongs in another place: it does not open"]
    );
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        &*restored(&bytes, folder.path()).await.record(&key).await.value,
        &value[..]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_for_a_recipient_takes_the_identity_and_the_key() {
    use age::secrecy::ExposeSecret as _;

    let vault = TestVault::new().await;
    vault.save(wom()).await;
    let bytes = backed_up(&vault).await;
    let identity = age::x25519::Identity::generate();
    let recipient = backup::Recipient::parse(&identity.to_public().to_string()).unwrap();
    let mut sink = backup::Sink::new(Vec::new(), &[recipient]).unwrap();
    sink.write_all(&bytes).unwrap();
    let encrypted = sink.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, identity: &age::x25519::Identity| {
        let path = folder.path().join(name);
        std::fs::write(
            &path,
            format!("# made for a test\n{}\n", identity.to_string().expose_secret()),
        )
        .unwrap();
        backup::Identities::read(&path).unwrap()
    };
    let (own, others) = (
        file("own", &identity),
        file("others", &age::x25519::Identity::generate()),
    );
    let (store, kek) = (folder.path().join("store"), kek(7));
    let with = |identities| Plan {
        identities,
        ..plan(&store, &kek)
    };
    let told = |error: RestoreError| error.to_string();
    let refused = backup::restore(&encrypted[..], &with(None))
        .await
        .map_err(told)
        .unwrap_err();
    assert!(refused.contains("--identity"), "{refused}");
    let refused = backup::restore(&encrypted[..], &with(Some(&others)))
        .await
        .map_err(told)
        .unwrap_err();
    assert!(refused.contains("other recipients"), "{refused}");
    for length in [encrypted.len() - 1, encrypted.len() / 2, 100] {
        assert!(backup::restore(&encrypted[..length], &with(Some(&own))).await.is_err());
    }
    backup::restore(&encrypted[..], &with(Some(&own))).await.unwrap();
    // What is not encrypted is read all the same.
    let again = folder.path().join("again");
    let plain = Plan {
        identities: Some(&own),
        ..plan(&again, &kek)
    };
    backup::restore(&bytes[..], &plain).await.unwrap();
}
