//! A store on a disk that rots: each byte of its files changed, one at a time. What the vault hands out then is right, or nothing, and
//! what is saved from the files by themselves was written there.
//!
//! `cargo test` changes a part of the bytes; with `TRESOR_FLIPS=all` it is every byte that is in use, which takes a while.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builders::{Credential, dat, mail, order, tenant, wom};
use super::support::{TestVault, everything_of, password, settings, with_fallback};
use crate::store::{Key, Record, Salvage, SledStore, Store, StoreError, salvage};
use crate::vault::VaultError;
use crate::vault::assignment::Mode;
use crate::vault::catalogue::Catalogue;
use crate::vault::record::open_version;

/// How many bytes are changed unless all of them are to be.
const SOME: usize = 160;
/// How many bytes say what the journal is.
const TITLE: u64 = 36;

/// In memory where that is a file system: a store is opened hundreds of times, and each time it waits for syncs. What rots is set up
/// here and needs no disk.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap()
}

fn names() -> [Credential; 4] {
    [wom(), wom().office("leipzig"), dat(), mail()]
}

/// What the vault says of everything that it holds; in place of what it refuses, nothing.
type Told = BTreeMap<String, Option<String>>;

async fn told(vault: &TestVault) -> Told {
    let mut told = Told::new();
    for office in ["leipzig", "gera"] {
        let handed_out = vault.resolve("wom", order().office(office));
        let handed_out = handed_out.map(|handed_out| password(&handed_out).to_owned());
        told.insert(format!("an order of {office}"), answer(handed_out));
    }
    for credential in names() {
        let name = credential.name();
        told.insert(name.to_string(), answer(vault.get(&name)));
        told.insert(format!("{name}'s history"), answer(vault.versions(&name).await));
    }
    told
}

/// None where damage was noticed. That there is no credential is an answer, and a wrong one.
fn answer(outcome: Result<impl Debug, VaultError>) -> Option<String> {
    match outcome {
        Ok(answer) => Some(format!("{answer:?}")),
        Err(error @ (VaultError::Refused(_) | VaultError::NotFound(_))) => Some(error.to_string()),
        Err(_) => None,
    }
}

/// Files of a store at rest, and how they are put back after one of them was changed.
struct Disk {
    folder: tempfile::TempDir,
    is_closed: bool,
    files: Vec<(PathBuf, Vec<u8>, u64)>,
}

impl Disk {
    fn of(folder: tempfile::TempDir, is_closed: bool) -> Self {
        let files = fs::read_dir(folder.path()).unwrap();
        let files = files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        // In the same order everywhere, so that the same bytes are changed.
        let mut paths: Vec<_> = files.collect();
        paths.sort_unstable();
        let files = paths.into_iter().map(|path| {
            let mut content = fs::read(&path).unwrap();
            let length = content.len() as u64;
            // Of sled's file most is empty.
            let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            content.truncate(used);
            (path, content, length)
        });
        Self {
            files: files.collect(),
            is_closed,
            folder,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts everything back as it was.
    fn heal(&self) {
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else if !self.files.iter().any(|(known, ..)| *known == path) {
                fs::remove_file(path).unwrap();
            }
        }
        for (path, content, length) in &self.files {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).open(path).unwrap();
            file.write_all_at(content, 0).unwrap();
            file.set_len(*length).unwrap();
        }
    }

    /// The places of all files that are changed: file, byte, and by what. Of what is empty there are a few, and of what is still
    /// in the journal of a store that was closed.
    fn places(&self) -> Vec<(usize, u64, u8)> {
        let (mut used, mut empty) = (Vec::new(), Vec::new());
        for (file, (path, content, length)) in self.files.iter().enumerate() {
            let is_over = self.is_closed && path.ends_with("journal");
            let end = if is_over { TITLE } else { content.len() as u64 };
            used.extend((0..end).map(|at| (file, at, 1 << (at % 8))));
            empty.extend((end..*length).step_by(1 << 22).map(|at| (file, at, 1)));
        }
        let is_all = std::env::var("TRESOR_FLIPS").is_ok_and(|value| value == "all");
        let step = if is_all { 1 } else { used.len().div_ceil(SOME) | 1 };
        used.into_iter().step_by(step).chain(empty).collect()
    }

    fn flip(&self, (file, at, bits): (usize, u64, u8)) {
        let (path, content, _) = &self.files[file];
        let before = usize::try_from(at)
            .ok()
            .and_then(|at| content.get(at))
            .copied()
            .unwrap_or(0);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[before ^ bits], at).unwrap();
    }
}

/// What a vault says that is opened over the files; none if it does not open.
fn opened(path: &Path) -> Option<Told> {
    let runtime = runtime();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(SledStore::open(path).ok()?);
        let vault = TestVault::over(store, Catalogue::built_in(), settings()).await.ok()?;
        Some(told(&vault).await)
    })
}

/// Everything that was ever written, as it stood in the store.
type Written = BTreeSet<(String, u64, Vec<u8>)>;

async fn note(vault: &TestVault, written: &mut Written) {
    for key in vault.keys().await {
        let Record { key, revision, value } = vault.record(&Key::new(&key)).await;
        written.insert((key.to_string(), revision.0, value.to_vec()));
    }
}

/// A vault with histories, as it leaves its files when it is closed, and as it left them when it was killed just before.
struct Left {
    closed: tempfile::TempDir,
    killed: tempfile::TempDir,
    written: Written,
}

fn left_after(lives: usize) -> Left {
    let (closed, killed) = (folder(), folder());
    let mut written = Written::new();
    for life in 0..lives {
        runtime().block_on(async {
            let store: Arc<dyn Store> = Arc::new(SledStore::open(closed.path()).unwrap());
            let vault = TestVault::over(store, Catalogue::built_in(), settings()).await.unwrap();
            for (number, credential) in names().into_iter().enumerate() {
                let credential = if number < 2 {
                    credential.password(&format!("password {number} of life {life}"))
                } else {
                    credential.note(&format!("life {life}"))
                };
                vault.save(credential).await;
                note(&vault, &mut written).await;
            }
            vault.choose("wom", with_fallback(Mode::PerOffice)).await;
            note(&vault, &mut written).await;
            let files = fs::read_dir(closed.path()).unwrap();
            for path in files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
                fs::copy(&path, killed.path().join(path.file_name().unwrap())).unwrap();
            }
        });
    }
    Left {
        closed,
        killed,
        written,
    }
}

/// What a vault over such files says.
fn before(disk: &Disk) -> Told {
    let before = opened(disk.path()).unwrap();
    assert!(before.values().all(Option::is_some), "{before:?}");
    disk.heal();
    before
}

/// What became of bytes that rotted.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    named: usize,
    without_effect: usize,
}

impl Tally {
    /// It was tried at all, and nothing else is what was refused. Whether a byte without effect is among those that were tried
    /// depends on which they are.
    fn shows_that_it_is_noticed(&self) {
        assert!(self.refused + self.named > 9 * self.without_effect, "{self:?}");
    }
}

/// Has bytes rot, one at a time.
fn rot(disk: &Disk, places: impl IntoIterator<Item = (usize, u64, u8)>, written: &Written) -> Tally {
    let before = before(disk);
    let mut tally = Tally::default();
    for place in places {
        let (path, ..) = &disk.files[place.0];
        disk.flip(place);
        let Ok(saved) = salvage(disk.path()) else {
            panic!("{} byte {}: it cannot be read", path.display(), place.1);
        };
        for Record { key, revision, value } in saved.records {
            let found = (key.to_string(), revision.0, value.to_vec());
            assert!(
                written.contains(&found),
                "{} byte {}: {key} was never so",
                path.display(),
                place.1
            );
        }
        match opened(disk.path()) {
            None => tally.refused += 1,
            Some(after) if after == before => tally.without_effect += 1,
            Some(after) => {
                tally.named += 1;
                for (what, answer) in after.into_iter().filter(|(_, answer)| answer.is_some()) {
                    assert_eq!(answer, before[&what], "{} byte {}: {what}", path.display(), place.1);
                }
            }
        }
        disk.heal();
    }
    assert_eq!(opened(disk.path()).unwrap(), before);
    tally
}

#[test]
fn whichever_byte_of_a_store_rots_nothing_wrong_is_handed_out() {
    // In its first life sled has no snapshot and reads all of its log; later it has one, and reads what follows.
    for lives in [1, 3] {
        let Left { closed, written, .. } = left_after(lives);
        let disk = Disk::of(closed, true);
        rot(&disk, disk.places(), &written).shows_that_it_is_noticed();
    }
}

#[test]
fn whichever_byte_rots_of_a_journal_that_a_killed_vault_left_nothing_wrong_is_handed_out() {
    let Left { killed, written, .. } = left_after(1);
    let disk = Disk::of(killed, false);
    let is_of_journal = |(file, at, _): &(usize, u64, u8)| {
        let (path, content, _) = &disk.files[*file];
        path.ends_with("journal") && *at < content.len() as u64
    };
    let places: Vec<_> = disk.places().into_iter().filter(is_of_journal).collect();
    // Of its first page only the title is read.
    let tally = rot(
        &disk,
        places.into_iter().filter(|(_, at, _)| !(TITLE..4096).contains(at)),
        &written,
    );
    assert!(tally.refused > SOME / 2, "{tally:?}");
    assert_eq!((tally.named, tally.without_effect), (0, 0), "{tally:?}");
}

/// sled takes the first thing that it cannot read for the end of its log, and writes zeros over the rest.
#[test]
fn a_log_that_is_broken_in_its_middle_is_refused_left_as_it_is_and_saved_but_for_the_gap() {
    let Left { closed, written, .. } = left_after(1);
    let disk = Disk::of(closed, true);
    let file = disk.files.iter().position(|(path, ..)| path.ends_with("db")).unwrap();
    let (path, content, _) = &disk.files[file];
    let whole = salvage(disk.path()).unwrap();
    assert_eq!((whole.gaps, whole.unreadable), (0, 0));
    let middle = (content.len() / 2) as u64;
    disk.flip((file, middle, 1));
    let damaged = fs::read(path).unwrap();
    let error = SledStore::open(disk.path()).err().unwrap();
    assert!(matches!(error, StoreError::LostWrites { .. }), "{error}");
    assert!(error.to_string().contains("tresor rescue"), "{error}");
    assert!(fs::read(path).unwrap() == damaged, "the file was changed");
    let Salvage {
        records,
        gaps,
        revision,
        ..
    } = salvage(disk.path()).unwrap();
    assert_eq!((gaps, revision), (1, whole.revision));
    // One message is lost: a change of a record, or a page that others have replaced since. What is saved was written there, and of
    // nearly every record it is the newest.
    let mut newest = 0;
    for record in &records {
        let Record { key, revision, value } = record;
        let found = (key.to_string(), revision.0, value.to_vec());
        assert!(written.contains(&found), "{key} was never so");
        let known = whole.records.iter().find(|known| known.key == *key);
        newest += usize::from(known.is_some_and(|known| known.revision == *revision));
    }
    assert!(newest > 0, "nothing was saved");
    assert!(
        newest + 1 >= records.len() && newest + 16 >= whole.records.len(),
        "{newest} of {}",
        whole.records.len()
    );
}

#[test]
fn what_is_saved_of_a_store_that_is_whole_is_all_of_it() {
    let folder = folder();
    let runtime = runtime();
    let mut expected = Vec::new();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path()).unwrap());
        let vault = TestVault::over(store, Catalogue::built_in(), settings()).await.unwrap();
        // Enough that pages are split, written anew, and merged when their records go.
        for round in 0..6 {
            for number in 0..60 {
                vault
                    .save(wom().office(&format!("office-{number}")).note(&format!("{round}")))
                    .await;
            }
        }
        for number in (0..60).filter(|number| number % 7 != 0) {
            vault
                .purge(&wom().office(&format!("office-{number}")).name())
                .await
                .unwrap();
        }
        vault.rotate_data_key(&tenant("demo")).await.unwrap();
        vault.settle().await;
        for key in vault.keys().await {
            let Record { key, revision, value } = vault.record(&Key::new(&key)).await;
            if key.as_str().starts_with("version/") {
                let (_, content) = open_version(&vault.record(&key).await, |id| {
                    vault.keyring.data_key(&tenant("demo"), id)
                })
                .unwrap();
                assert!(everything_of(&content).is_object());
            }
            expected.push((key, revision, value));
        }
        assert!(matches!(salvage(folder.path()), Err(StoreError::InUse { .. })));
    });
    drop(runtime);
    let saved = salvage(folder.path()).unwrap();
    assert_eq!(
        (saved.gaps, saved.unreadable, saved.format),
        (0, 0, crate::store::FORMAT)
    );
    let found: Vec<_> = saved
        .records
        .into_iter()
        .map(|Record { key, revision, value }| (key, revision, value))
        .collect();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "another record");
}
