//! A folder that backups are kept in, by a server or by who fetches them from one: what they are called, and which of them are old.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::file::{UNFINISHED, remove_unfinished};
use crate::store::Revision;
use crate::time::Timestamp;

/// A backup that the folder has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBackup {
    /// Where it is.
    pub path: PathBuf,
    /// When it was begun, to the second.
    pub begun_at: Timestamp,
    /// The revision that it is of.
    pub revision: Revision,
}

/// The name of a backup: `tresor-20261124T020000Z-r1234.backup`, with `.age` at its end if it is encrypted for recipients.
#[must_use]
pub fn file_name(begun_at: Timestamp, revision: Revision, is_encrypted: bool) -> String {
    let whole = Timestamp::from_unix_ms(begun_at.unix_seconds() * 1000).to_string();
    let time: String = whole.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let age = if is_encrypted { ".age" } else { "" };
    format!("tresor-{time}-r{revision}.backup{age}")
}

fn parse(name: &str) -> Option<(Timestamp, Revision)> {
    let rest = name.strip_prefix("tresor-")?;
    let rest = rest.strip_suffix(".age").unwrap_or(rest).strip_suffix(".backup")?;
    let (time, revision) = rest.split_once("-r")?;
    let part = |range| time.get(range);
    let [year, month, day] = [part(0..4)?, part(4..6)?, part(6..8)?];
    let [hour, minute, second] = [part(9..11)?, part(11..13)?, part(13..15)?];
    let written = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    let time: prost_types::Timestamp = written.parse().ok()?;
    let begun_at = Timestamp::try_from(&time).ok()?;
    let revision = Revision(revision.parse().ok()?);
    // What is only like a name of ours is somebody else's.
    let is_ours = [false, true]
        .iter()
        .any(|age| file_name(begun_at, revision, *age) == name);
    is_ours.then_some((begun_at, revision))
}

/// The backups in a folder, the oldest first.
///
/// # Errors
/// That it cannot be read.
pub fn kept(folder: &Path) -> io::Result<Vec<KeptBackup>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some((begun_at, revision)) = name.to_str().and_then(parse)
            && entry.file_type()?.is_file()
        {
            let path = entry.path();
            kept.push(KeptBackup {
                path,
                begun_at,
                revision,
            });
        }
    }
    kept.sort_by_key(|backup| (backup.begun_at, backup.revision));
    Ok(kept)
}

/// Removes all but the newest `keep` backups, and what was cut off while it was written. Nothing else that is there. Those from after the
/// one that was just `made` are of when the clock was wrong: they are the first to go.
///
/// # Errors
/// The system's.
pub fn clear(folder: &Path, keep: usize, made: Timestamp) -> io::Result<Vec<PathBuf>> {
    let (mut old, past): (Vec<_>, Vec<_>) = kept(folder)?.into_iter().partition(|backup| backup.begun_at > made);
    old.extend(past);
    let mut old: Vec<PathBuf> = old.into_iter().map(|backup| backup.path).collect();
    old.truncate(old.len().saturating_sub(keep));
    for path in &old {
        fs::remove_file(path)?;
    }
    let unfinished = folder.join(NEXT).with_extension(&UNFINISHED[1..]);
    match remove_unfinished(&unfinished) {
        // The next one is being made already.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
        _ => {}
    }
    File::open(folder)?.sync_all()?;
    Ok(old)
}

/// What the next backup is called until its revision is known.
pub const NEXT: &str = "next";

#[cfg(test)]
mod tests {
    use super::super::file::NewFile;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_ms(seconds * 1000 + 123)
    }

    #[test]
    fn a_name_says_when_and_of_which_revision_a_backup_is() {
        let name = file_name(at(1_795_485_600), Revision(1234), false);
        assert_eq!(name, "tresor-20261124T020000Z-r1234.backup");
        let whole = Timestamp::from_unix_ms(1_795_485_600_000);
        assert_eq!(parse(&name), Some((whole, Revision(1234))));
        assert_eq!(parse(&format!("{name}.age")), Some((whole, Revision(1234))));
        for other in [
            "",
            "tresor-20261124T020000Z-r01234.backup",
            "tresor-20261124T020000Z-r+1.backup",
            "tresor-20261124 020000Z-r1.backup",
            "tresor-20261324T020000Z-r1.backup",
            "tresor-20261124T020000Z-r1234.backup.part",
            "my-tresor-20261124T020000Z-r1234.backup",
            "tresor-é0261124T020000Z-r1234.backup",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_oldest_are_removed_and_nothing_that_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| fs::write(folder.path().join(name), b"").unwrap();
        let names: Vec<_> = (0..5)
            .map(|day| file_name(at(day * 86_400), Revision(5), day % 2 == 0))
            .collect();
        for name in &names {
            touch(name);
        }
        for name in ["notes.txt", "next.part", "tresor-by-hand.backup"] {
            touch(name);
        }
        fs::create_dir(folder.path().join(file_name(at(1), Revision(1), false))).unwrap();
        let removed = clear(folder.path(), 2, at(4 * 86_400)).unwrap();
        assert_eq!(removed, [0, 1, 2].map(|n| folder.path().join(&names[n])));
        let left: Vec<_> = kept(folder.path()).unwrap().into_iter().map(|kept| kept.path).collect();
        assert_eq!(left, [3, 4].map(|n| folder.path().join(&names[n])));
        assert!(folder.path().join("notes.txt").exists() && folder.path().join("tresor-by-hand.backup").exists());
        assert!(!folder.path().join("next.part").exists());
        assert!(clear(folder.path(), 2, at(4 * 86_400)).unwrap().is_empty());
    }

    #[test]
    fn one_that_is_being_written_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let being_written = NewFile::create(&folder.path().join(NEXT), &[]).unwrap();
        clear(folder.path(), 2, at(0)).unwrap();
        assert!(folder.path().join("next.part").exists());
        drop(being_written);
        assert!(!folder.path().join("next.part").exists());
    }

    #[test]
    fn backups_of_when_the_clock_was_ahead_go_before_the_one_that_was_just_made() {
        let folder = tempfile::tempdir().unwrap();
        let names = [100, 200, 10, 20].map(|day| file_name(at(day * 86_400), Revision(5), false));
        for name in &names {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        let made = at(20 * 86_400);
        let removed = clear(folder.path(), 2, made).unwrap();
        assert_eq!(removed, [0, 1].map(|n| folder.path().join(&names[n])));
        assert_eq!(clear(folder.path(), 1, made).unwrap(), [folder.path().join(&names[2])]);
        assert!(folder.path().join(&names[3]).exists());
    }
}
