//! Tresor, a credential vault: keeps the credentials of third-party systems encrypted, decides which one an order gets,
//! and hands it out decrypted and signed over gRPC.
//!
//! `docs/ARCHITECTURE.md` has the picture. The way of a call: [`server`] accepts it, [`access`] says who may do what,
//! [`api`] translates, [`vault`] decides, [`keyring`] opens, [`store`] keeps.

pub mod access;
pub mod api;
pub mod audit;
pub mod backup;
#[doc(hidden)]
pub mod bench;
pub mod config;
pub mod dev;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hardening;
pub mod init;
mod json;
pub mod keyring;
pub mod offline;
pub mod pb;
pub mod pki;
pub mod reload;
pub mod serve;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod time;
pub mod vault;
