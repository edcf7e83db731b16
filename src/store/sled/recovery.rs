//! How a store is found when it is opened: sled's file, the journal and the mark are held against each other, and sled gets what only
//! the journal has.

use std::path::Path;

use sled::Tree;

use super::checkpoint::apply;
use super::guard::Mark;
use super::journal::{self, Journal, Newer};
use super::mending::has_room;
use super::{FORMAT_KEY, Opened, damaged, io_error, read_revision, settle, sled_error};
use crate::store::{FORMAT, Revision, StoreError};

/// The journal of a store that sled has just opened, and the store's revision; everything is durable then. Nothing is written before it
/// is known that nothing was lost.
pub(super) fn recover(
    path: &Path,
    opened: &mut Opened,
    mark: &Mark,
    journal: Result<Option<Journal>, StoreError>,
) -> Result<(Journal, Revision), StoreError> {
    let format = check_format(path, &opened.tree)?;
    let journal = journal?;
    if journal.is_none() && format.is_some_and(|format| format >= journal::SINCE) {
        return Err(damaged(path, "its journal is missing"));
    }
    let found = read_revision(path, &opened.tree)?;
    let newer = journal.as_ref().map(|journal| journal.newer_than(found)).transpose()?;
    let revision = newer.as_ref().map_or(found, |newer| newer.revision);
    mark.check(path, revision)?;
    let mut journal = journal.map_or_else(|| Journal::make(path), Ok)?;
    if let Some(newer) = newer {
        catch_up(path, opened, &mut journal, &newer)?;
    }
    if format == Some(FORMAT) && has_room(path, &opened.file).is_err() {
        // The journal keeps what sled has no room for, and what there is can be read.
        opened.file.sync_data().map_err(io_error(path))?;
        opened.length = mark.length;
        if !mark.is_in_doubt {
            mark.settle_as_it_was().map_err(io_error(path))?;
        }
        return Ok((journal, revision));
    }
    raise(path, opened, format)?;
    opened.make_durable(path)?;
    journal.begin_anew().map_err(io_error(path))?;
    if mark.is_in_doubt || mark.is_blank() {
        settle(path, opened, mark, revision)?;
    } else {
        mark.settle_as_it_was().map_err(io_error(path))?;
    }
    Ok((journal, revision))
}

/// Gives sled what only the journal has. It is in memory then, and still in the journal.
pub(super) fn catch_up(path: &Path, opened: &Opened, journal: &mut Journal, newer: &Newer) -> Result<(), StoreError> {
    if !newer.changes.is_empty() {
        tracing::info!(
            transactions = newer.changes.len(),
            revision = newer.revision.0,
            "the store takes from its journal what it had not in its file yet"
        );
    }
    apply(path, &opened.tree, &newer.changes)?;
    journal.go_on_behind(newer).map_err(io_error(path))
}

/// The format of the store; none if it was just made.
fn check_format(path: &Path, tree: &Tree) -> Result<Option<u32>, StoreError> {
    let Some(bytes) = tree.get(FORMAT_KEY).map_err(|error| sled_error(path, &error))? else {
        return if tree.is_empty() {
            Ok(None)
        } else {
            Err(damaged(path, "its format is missing"))
        };
    };
    match <[u8; 4]>::try_from(&*bytes).map(u32::from_be_bytes) {
        Ok(found) if found > FORMAT => Err(StoreError::NewerFormat {
            path: path.into(),
            found,
        }),
        Ok(found) if found > 0 => Ok(Some(found)),
        Ok(_) | Err(_) => Err(damaged(path, "its format cannot be read")),
    }
}

/// Makes a store one of this program's format, so that older programs leave it alone from now on.
fn raise(path: &Path, opened: &Opened, format: Option<u32>) -> Result<(), StoreError> {
    if format != Some(FORMAT) {
        let raised = opened.tree.insert(FORMAT_KEY, &FORMAT.to_be_bytes());
        raised.map_err(|error| sled_error(path, &error))?;
    }
    Ok(())
}
