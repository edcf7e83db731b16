//! Tresor, a credential vault: keeps the credentials of third-party systems encrypted, decides which one an order gets,
//! and hands it out decrypted and signed over gRPC.
//!
//! `docs/ARCHITECTURE.md` has the picture. The way of a call: [`server`] accepts it, [`access`] says who may do what,
//! [`api`] translates, [`vault`] decides, [`keyring`] opens, [`store`] keeps.

pub mod access;
pub mod config;
pub mod init;
pub mod keyring;
pub mod pb;
pub mod pki;
pub mod store;
pub mod time;
pub mod vault;
