//! Making a backup of a store that is being written.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::format::{Encoder, Header};
use super::snapshot::{Snapshot, SnapshotError};
use crate::keyring::{SigningKey, TokenKind};
use crate::store::{FORMAT, Revision, Store, StoreError};
use crate::time::{Clock, Timestamp};

/// How long whoever takes it may take for one part.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a part of the work may make it rest. It rests as long as it works, so that it takes half a core at most.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// Why a backup was not made to its end.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The records could not be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A part could not be packed.
    #[error("a part of the backup cannot be packed: {0}")]
    Pack(#[from] io::Error),
    /// There are no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// Nobody takes it any more.
    #[error("nobody takes the backup any more")]
    Abandoned,
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        SnapshotError::from(error).into()
    }
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Random.
    pub id: [u8; 16],
    /// The revision that it is of.
    pub revision: Revision,
    /// How many entries it has.
    pub entries: u64,
    /// How long it is.
    pub bytes: u64,
    /// When it was begun.
    pub begun_at: Timestamp,
}

/// Writes a backup of the store to `out`, part by part, and signs it. The newest signed line of the audit log goes with it.
///
/// It reads no faster than the parts are taken, and works half of the time at most.
///
/// # Errors
/// [`BackupError`]; what has come out by then is not to be used.
pub async fn make(
    store: Arc<dyn Store>,
    signing_key: Arc<SigningKey>,
    clock: &dyn Clock,
    audit_checkpoint: String,
    out: &mpsc::Sender<Bytes>,
) -> Result<Made, BackupError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| BackupError::NoRandomness)?;
    let mut snapshot = Snapshot::begin(store).await?;
    let header = Header {
        id,
        begun_at: clock.now(),
        program: env!("CARGO_PKG_VERSION").into(),
        store_format: FORMAT,
        begun_at_revision: snapshot.begun_at(),
    };
    let (mut encoder, first) = Encoder::begin(&header);
    let mut bytes = give(&mut snapshot, out, first).await?;
    loop {
        let since = Instant::now();
        let Some(entries) = snapshot.next().await? else {
            break;
        };
        let packing = tokio::task::spawn_blocking(move || {
            let chunk = encoder.chunk(entries);
            (encoder, chunk)
        });
        let (packed, chunk) = snapshot.during(packing).await?.map_err(|_| StoreError::Closed)?;
        encoder = packed;
        let rest = since.elapsed().min(LONGEST_REST);
        bytes += give(&mut snapshot, out, chunk?).await?;
        snapshot.during(tokio::time::sleep(rest)).await?;
    }
    let revision = snapshot.revision().ok_or(StoreError::Closed)?;
    let entries = encoder.entries();
    let public = signing_key.public().bytes();
    let sign = |statement: &[u8]| signing_key.sign_detached(TokenKind::Backup, statement);
    let last = encoder.finish(revision, clock.now(), audit_checkpoint, public, sign);
    bytes += give(&mut snapshot, out, last).await?;
    Ok(Made {
        id,
        revision,
        entries,
        bytes,
        begun_at: header.begun_at,
    })
}

async fn give(snapshot: &mut Snapshot, out: &mpsc::Sender<Bytes>, part: Vec<u8>) -> Result<u64, BackupError> {
    let length = part.len() as u64;
    let sent = snapshot.during(tokio::time::timeout(PATIENCE, out.send(part.into())));
    match sent.await? {
        Ok(Ok(())) => Ok(length),
        Ok(Err(_)) => Err(BackupError::Abandoned),
        Err(_) => Err(SnapshotError::TooSlow.into()),
    }
}
