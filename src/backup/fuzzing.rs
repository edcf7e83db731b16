//! Backups that somebody else wrote, or changed.

use std::sync::{Arc, OnceLock};

use super::format::{Encoder, Header};
use super::read::{Judge, Reading, read};
use crate::audit::Keys;
use crate::fuzzing::Input;
use crate::keyring::{SigningKey, TokenKind};
use crate::pb::backup as pb;
use crate::store::{FORMAT, Revision};
use crate::time::Timestamp;

fn signing_key() -> &'static Arc<SigningKey> {
    static KEY: OnceLock<Arc<SigningKey>> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = SigningKey::from_seed(&[7; 32], Timestamp::EPOCH, Timestamp::EPOCH);
        Arc::new(key.expect("every seed is one"))
    })
}

/// A backup with these entries in its chunks.
fn backup_of(chunks: Vec<Vec<pb::Entry>>) -> Vec<u8> {
    let newest = chunks.iter().flatten().map(|entry| entry.revision).max();
    let header = Header {
        id: [3; 16],
        begun_at: Timestamp::EPOCH,
        program: "0.1.0".into(),
        store_format: FORMAT,
        begun_at_revision: Revision(0),
    };
    let (mut encoder, mut bytes) = Encoder::begin(&header);
    for entries in chunks {
        bytes.extend(encoder.chunk(entries).expect("they are small"));
    }
    let sign = |statement: &[u8]| signing_key().sign_detached(TokenKind::Backup, statement);
    let (revision, line) = (Revision(newest.unwrap_or(0)), "a line".to_owned());
    bytes.extend(encoder.finish(revision, Timestamp::EPOCH, line, signing_key().public().bytes(), sign));
    bytes
}

/// What a file holds, as far as it is a whole backup of this vault.
fn taken(file: &[u8]) -> Option<Vec<pb::Entry>> {
    let mut entries = Vec::new();
    let backup = read::<std::convert::Infallible>(file, None, |writes| {
        entries.extend(writes.iter().map(|(key, revision, value)| pb::Entry {
            key: key.as_str().to_owned(),
            revision: revision.0,
            value: value.map(<[u8]>::to_vec),
        }));
        Ok(())
    });
    let keys = Keys::of(&[signing_key().public()]);
    let is_ours = backup.ok()?.is_signed(Judge::Published(&keys)).is_ok();
    is_ours.then_some(entries)
}

/// Arbitrary bytes are no backup of this vault. In whichever pieces they come, the same is said of them.
pub(crate) fn file(data: &[u8]) {
    let mut input = Input(data);
    let step = 1 + usize::from(input.byte());
    let file = input.0;
    let judged = |step: usize| {
        let mut reading = Reading::new();
        for piece in file.chunks(step) {
            reading.check(piece)?;
        }
        reading.finish()
    };
    assert_eq!(judged(step), judged(file.len().max(1)));
    let known = taken(file);
    assert!(
        known.is_none() || file == original().as_slice(),
        "a forged backup was taken"
    );
}

fn original() -> &'static Vec<u8> {
    static ORIGINAL: OnceLock<Vec<u8>> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let entry = |key: &str, revision, value: Option<&[u8]>| pb::Entry {
            key: key.into(),
            revision,
            value: value.map(<[u8]>::to_vec),
        };
        backup_of(vec![
            vec![entry("data-key/demo/0000000001", 1, Some(&[1; 90]))],
            vec![
                entry("head/demo/dat/general", 2, Some(&[2; 300])),
                entry("head/demo/wom/general", 3, None),
            ],
        ])
    })
}

/// A backup with changes: bytes that are other ones, parts that are left out, moved or there twice. It is taken only if it is
/// still the same. With an odd first byte it is a backup of arbitrary entries, which come back as they were.
pub(crate) fn edited(data: &[u8]) {
    let mut input = Input(data);
    if input.byte() % 2 == 1 {
        return comes_back(input);
    }
    let mut file = original().clone();
    while !input.0.is_empty() && !file.is_empty() && file.len() < 4 * original().len() {
        let (kind, at) = (input.byte() % 6, usize::from(input.number()) % file.len());
        let length = usize::from(input.byte()).min(file.len() - at);
        let part = at..at + length;
        match kind {
            0 => file[at] ^= input.byte(),
            1 => drop(file.drain(part)),
            2 => drop(file.splice(at..at, input.bytes(length).iter().copied())),
            3 => {
                let copy = file[part].to_vec();
                let to = usize::from(input.number()) % file.len();
                file.splice(to..to, copy);
            }
            4 => file.truncate(at),
            _ => {
                let moved: Vec<u8> = file.drain(part).collect();
                let to = usize::from(input.number()) % (file.len() + 1);
                file.splice(to..to, moved);
            }
        }
    }
    assert!(
        taken(&file).is_none() || file == *original(),
        "a changed backup was taken"
    );
}

fn comes_back(mut input: Input<'_>) {
    let mut chunks = Vec::new();
    while !input.0.is_empty() && chunks.len() < 8 {
        let entries = (0..input.byte() % 5).map(|_| pb::Entry {
            key: input.text(),
            revision: u64::from(input.number()),
            value: match input.byte() {
                0 => None,
                length => Some(input.bytes(usize::from(length)).to_vec()),
            },
        });
        chunks.push(entries.collect::<Vec<_>>());
    }
    let expected: Vec<_> = chunks.iter().flatten().cloned().collect();
    assert!(
        taken(&backup_of(chunks)) == Some(expected),
        "a backup did not come back as it was made"
    );
}
