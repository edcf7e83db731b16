//! A credential that a decision can be about without there being one.

use tresor::time::Timestamp;
use tresor::vault::credential::State;
use tresor::vault::resolve::Candidate;

/// A credential that is there and can be used.
pub(crate) struct Usable;

impl Candidate for Usable {
    fn state(&self) -> State {
        State::Enabled
    }

    fn valid_until(&self) -> Option<Timestamp> {
        None
    }
}
