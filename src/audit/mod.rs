//! The audit log: who got what, who was refused, and who changed what, in lines that cannot be changed unnoticed.
//!
//! In goes an [`Entry`] for each call, out comes a [`Ticket`] that is good once the line is written: whoever answers waits
//! for it, and does not answer if it fails. Whoever waits writes what waits: gives the lines their numbers,
//! chains them by their hashes and appends them. A thread does it where more is to be done than that, another one makes them
//! durable. The vault's signing key signs checkpoints as soon as it is at hand. `docs/AUDIT.md`
//! says what a line holds, what is guaranteed and what is not.

mod chain;
mod directory;
mod entry;
mod error;
mod events;
mod flood;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handle;
mod jws;
mod ledger;
mod log;
mod primitives;
mod queue;
mod read;
mod record;
mod stretch;
mod sync;
mod tail;
mod verify;
mod writer;

pub use self::chain::{Hash, Link};
pub use self::directory::{Closed, files_in, keep_closed};
pub use self::entry::{Entry, Event, Outcome};
pub use self::error::{OpenError, Unavailable};
pub use self::handle::{Audit, Checkpoint, Intent, Settings, Sign, Ticket};
pub(crate) use self::handle::{NOT_FINISHED, up_to};
pub use self::jws::{Keys, KeysError};
pub use self::ledger::LogFolder;
pub use self::read::{Filter, ReadError, Reader};
pub use self::record::Record;
pub use self::verify::{Finding, Report, Verifier, verify};

#[cfg(test)]
mod tests;
