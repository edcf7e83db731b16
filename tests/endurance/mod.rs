//! What the tests share that kill the process, cut the power and fill the disk: clients who know what they were promised, and what
//! they check after each start.

#![allow(dead_code)]

pub(crate) mod cast;
pub(crate) mod checks;
pub(crate) mod clients;
pub(crate) mod random;
pub(crate) mod truth;
pub(crate) mod vault;
