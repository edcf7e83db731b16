//! Files that are not as they were made are refused, with the reason.

use std::convert::Infallible;

use super::support::{backed_up, filled};
use crate::backup::{Backup, Flaw, Judge, ReadError, Unsigned, read};

async fn small() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 5).await;
    backed_up(&store).await.1
}

/// Three chunks.
async fn larger() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 3500).await;
    backed_up(&store).await.1
}

fn check(bytes: &[u8]) -> Result<Backup, Flaw> {
    match read(bytes, None, |_| Ok::<_, Infallible>(())) {
        Ok(backup) => Ok(backup),
        Err(ReadError::Flaw(flaw)) => Err(flaw),
        Err(ReadError::Io(error)) => panic!("{error}"),
    }
}

/// Where each frame begins, and the end of the file.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut places = vec![16];
    while let Some(length) = bytes
        .get(places[places.len() - 1]..)
        .and_then(|rest| rest.first_chunk::<4>())
    {
        places.push(places[places.len() - 1] + 4 + u32::from_be_bytes(*length) as usize);
    }
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_byte_is_noticed() {
    let whole = small().await;
    assert!(check(&whole).unwrap().is_consistent().is_ok());
    for place in 0..whole.len() {
        for change in [1, 0x80] {
            let mut changed = whole.clone();
            changed[place] ^= change;
            let is_noticed = check(&changed).is_err_and(|_| true) || check(&changed).unwrap().is_consistent().is_err();
            assert!(is_noticed, "byte {place}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let whole = small().await;
    for length in 0..whole.len() {
        let flaw = check(&whole[..length]).unwrap_err();
        let is_told = match length {
            0 => flaw == Flaw::NotABackup,
            _ => matches!(flaw, Flaw::CutShort { at, .. } if at == length as u64),
        };
        assert!(is_told, "{length} bytes: {flaw}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(check(&longer), Err(Flaw::Continued { at: whole.len() as u64 }));
    longer.pop();
    longer.extend(&whole);
    assert_eq!(check(&longer), Err(Flaw::Continued { at: whole.len() as u64 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_moved_left_out_repeated_or_of_another_backup_are_noticed() {
    let whole = larger().await;
    let places = frames(&whole);
    assert_eq!(*places.last().unwrap(), whole.len());
    assert!(places.len() >= 6, "{places:?}");
    let frame = |bytes: &[u8], number: usize| bytes[places[number]..places[number + 1]].to_vec();
    let with = |order: &[usize]| {
        let mut bytes = whole[..16].to_vec();
        for number in order {
            bytes.extend(frame(&whole, *number));
        }
        check(&bytes)
    };
    let last = places.len() - 2;
    let all: Vec<_> = (0..=last).collect();
    assert!(with(&all).is_ok());
    let misplaced = |found, expected| move |flaw: &Flaw| matches!(flaw, Flaw::Misplaced { found: f, expected: e, .. } if (*f, *e) == (found, expected));
    let mut swapped = all.clone();
    swapped.swap(1, 2);
    assert!(with(&swapped).is_err_and(|flaw| misplaced(2, 1)(&flaw)));
    let mut lacking = all.clone();
    lacking.remove(1);
    assert!(with(&lacking).is_err_and(|flaw| misplaced(2, 1)(&flaw)));
    let mut repeated = all.clone();
    repeated.insert(2, 1);
    assert!(with(&repeated).is_err_and(|flaw| misplaced(1, 2)(&flaw)));
    for order in [
        vec![0, last],
        vec![last],
        vec![1, 2, last],
        vec![0, 0, 1],
        vec![0, last, 1],
    ] {
        assert!(with(&order).is_err(), "{order:?}");
    }
    // The same records in another backup: the same parts, and yet not this one's.
    let other = larger().await;
    let others = frames(&other);
    for number in 0..=last {
        let mut bytes = whole[..places[number]].to_vec();
        bytes.extend(&other[others[number]..others[number + 1]]);
        bytes.extend(&whole[places[number + 1]..]);
        let flaw = check(&bytes).unwrap_err();
        assert!(matches!(flaw, Flaw::Damaged { .. }), "{number}: {flaw}");
    }
}

#[test]
fn what_is_no_backup_is_told_apart() {
    assert_eq!(check(b"-----BEGIN CERTIFICATE-----\n"), Err(Flaw::NotABackup));
    assert_eq!(check(b"\0\0\0\0"), Err(Flaw::NotABackup));
    assert_eq!(
        check(b"age-encryption.org/v1\n-> X25519 abc\n"),
        Err(Flaw::ForRecipient)
    );
    let newer = |found: &str| Err(Flaw::OtherFormat { found: found.into() });
    assert_eq!(check(b"tresor backup 2\nwhatever"), newer("2"));
    assert_eq!(check(b"tresor backup 10\n"), newer("10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_vaults_own_signature_counts() {
    use super::support::signing_key;
    let backup = check(&small().await).unwrap();
    let keys = |seed| {
        let jwk = signing_key(seed).public().jwk();
        crate::audit::Keys::parse(&serde_json::json!({ "keys": [jwk] }).to_string()).unwrap()
    };
    assert_eq!(backup.is_signed(Judge::Published(&keys(7))), Ok(()));
    let kid = signing_key(7).public().kid().to_owned();
    assert_eq!(
        backup.is_signed(Judge::Published(&keys(8))),
        Err(Unsigned::Foreign { kid: kid.clone() })
    );
    assert_eq!(backup.end.audit_checkpoint, "the newest line");
    let mut forged = backup.clone();
    forged.end.statement.push(0);
    assert_eq!(forged.is_consistent(), Err(Unsigned::Wrong));
    // The id of a key beside another key's bytes.
    let mixed = format!(
        r#"{{"keys":[{{"kid":"{kid}","crv":"Ed25519","x":"{}"}}]}}"#,
        signing_key(8).public().jwk()["x"].as_str().unwrap()
    );
    let mixed = crate::audit::Keys::parse(&mixed).unwrap();
    assert!(backup.is_signed(Judge::Published(&mixed)).is_err());
}
