//! What the vault promises, told through its own functions over a real store. `builders` and `support` have the words.

pub(crate) mod builders;
pub(crate) mod support;

mod assignments;
mod backups;
mod checks;
mod coverage;
mod customer_signatures;
pub(crate) mod doubtful_store;
mod dying_store;
mod erasing;
mod failing_store;
mod figures;
mod flips;
mod golden;
mod headers;
mod importing;
mod jws;
mod keys;
mod life;
mod listing;
mod mending;
mod noting_store;
mod peer_flaws;
mod records;
mod resolving;
mod restarts;
mod revealing;
mod rotating;
mod saving;
mod scoped_lists;
mod tampering;
mod versions;
mod warnings;
mod watching;
