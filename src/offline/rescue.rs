//! A new store out of what is left of one that does not open.

use std::path::Path;

use super::{Aside, OfflineError, check};
use crate::audit::keep_closed;
use crate::backup::{CHECKPOINT, Note};
use crate::config::{Config, Kek};
use crate::keyring::{OpenedKeys, is_key};
use crate::store::{self, Filling, Key, Record, Revision, Salvage, StoreError};
use crate::time::{Clock as _, SystemClock};
use crate::vault::check::Finding;
use crate::vault::examine::{Defect, examine};

/// How many records are written at once.
const AT_ONCE: usize = 256;

/// What was saved.
#[derive(Debug)]
pub struct Rescued {
    /// How many records the new store has, or would have.
    pub records: u64,
    /// The records that do not open, or that no record should be called; they are not in it.
    pub set_aside: Vec<(Key, Defect)>,
    /// How many places of the old file cannot be read.
    pub gaps: u64,
    /// How many records have a name or a frame that cannot be read.
    pub unreadable: u64,
    /// The revision that the new store goes on from.
    pub revision: Revision,
    /// What is wrong with the new store; nothing is known of one that was not written.
    pub findings: Vec<Finding>,
}

/// Reads the store in `from` without what usually opens it, and makes a new store of every record that opens, in the folder that the
/// configuration names, which must be empty. Nothing is changed in `from`. What does not open is written to a file, if one is named.
///
/// # Errors
/// [`OfflineError`]: then the folder is as empty as before, unless it is [`OfflineError::NotChecked`].
pub async fn rescue(config: &Config, from: &Path, aside: Option<&Path>, is_dry: bool) -> Result<Rescued, OfflineError> {
    let kek = Kek::new(&config.keys)?;
    if !store::leaves_something(from) {
        return Err(OfflineError::NoStore(from.into()));
    }
    let target = &config.store.path;
    if let (Ok(from), Ok(into)) = (from.canonicalize(), target.canonicalize())
        && from == into
    {
        return Err(OfflineError::SameFolder(from));
    }
    // The folder is a new one and tells nothing of a server whose folder was moved away.
    let _closed = (!is_dry).then(|| keep_closed(&config.audit.directory)).transpose()?;
    Filling::check(target)?;
    let source = from.to_owned();
    let salvage = tokio::task::spawn_blocking(move || store::salvage(&source));
    let Salvage {
        records,
        gaps,
        unreadable,
        revision,
        format,
    } = salvage.await.map_err(|_| StoreError::Closed)??;
    let wrapped: Vec<_> = records.iter().filter(|record| is_key(record.key.as_str())).collect();
    let wrapped: Vec<_> = wrapped.iter().map(|record| (&record.key, &*record.value)).collect();
    let keys = OpenedKeys::open(&*kek.source, &wrapped).await?.unless_none_opens()?;
    let (sound, broken) = sort(records, &keys);
    let count = sound.len() as u64;
    if !is_dry {
        if let Some(file) = aside.filter(|_| !broken.is_empty()) {
            let mut aside = Aside::create(file)?;
            for (record, defect) in &broken {
                aside.add(record, &defect.to_string())?;
            }
            aside.finish()?;
        }
        let now = SystemClock.now();
        let note = Note::of_rescue(from, revision, now, keys.signing_key(now).as_deref());
        fill(target, from, &sound, format, &note)?;
    }
    let findings = if is_dry {
        Vec::new()
    } else {
        let checked = check(config, None).await;
        let not_checked = |error| OfflineError::NotChecked {
            path: target.clone(),
            error: Box::new(error),
        };
        checked.map_err(not_checked)?.findings
    };
    Ok(Rescued {
        records: count,
        set_aside: broken
            .into_iter()
            .map(|(record, defect)| (record.key, defect))
            .collect(),
        gaps,
        unreadable,
        revision,
        findings,
    })
}

/// What opens, or lacks only something else, and what does not.
fn sort(records: Vec<Record>, keys: &OpenedKeys) -> (Vec<Record>, Vec<(Record, Defect)>) {
    let (mut sound, mut broken) = (Vec::new(), Vec::new());
    for record in records {
        match examine(&record, keys) {
            Err(defect) if defect.is_of_the_record() => broken.push((record, defect)),
            Ok(_) | Err(_) => sound.push(record),
        }
    }
    (sound, broken)
}

fn fill(target: &Path, from: &Path, records: &[Record], format: u32, note: &Note) -> Result<(), OfflineError> {
    let mut filling = Filling::begin(target)?;
    for some in records.chunks(AT_ONCE) {
        let writes: Vec<_> = some
            .iter()
            .map(|record| (record.key.clone(), record.revision, Some(&*record.value)))
            .collect();
        filling.apply(&writes)?;
    }
    let (name, text) = note.as_file();
    let checkpoint = std::fs::read(from.join(CHECKPOINT)).unwrap_or_default();
    let mut files = vec![(name, text.as_bytes())];
    if !checkpoint.is_empty() {
        files.push((CHECKPOINT, &checkpoint));
    }
    Ok(filling.finish(Revision(note.said.revision), format, &files)?)
}
