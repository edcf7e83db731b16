//! What the disk itself can do: appending and syncing, one after the other.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::client::{Outcome, latencies};
use crate::support::Error;

/// About as much as a save writes.
const APPENDED: [u8; 1024] = [0x5a; 1024];

/// Appends to a file and calls `fdatasync`, again and again, for so long.
pub(crate) async fn sync_again_and_again(path: PathBuf, lasts: Duration) -> Result<Outcome, Error> {
    let work = tokio::task::spawn_blocking(move || {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let mut outcome = Outcome {
            latencies: latencies(),
            elapsed: Duration::ZERO,
        };
        let began = Instant::now();
        while outcome.elapsed < lasts {
            let before = Instant::now();
            file.write_all(&APPENDED)?;
            file.sync_data()?;
            outcome.latencies.record(u64::try_from(before.elapsed().as_nanos())?)?;
            outcome.elapsed = began.elapsed();
        }
        Ok(outcome)
    });
    work.await?
}
