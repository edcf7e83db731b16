//! What benches share: a deployment of the vault as a user would run it, on a store of a chosen size.
//!
//! [`population`] says what is in such a store, and which credential each order must get; [`deployment`] makes it and keeps
//! it below `target/`, so that the next run need not.

// Each bench uses its own part of it.
#![allow(dead_code)]

pub(crate) mod deployment;
pub(crate) mod population;

/// What went wrong, for whoever runs the bench.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
