//! What `build.rs` generates from `proto/`: the wire contract and the records of the store.
//!
//! Messages that can hold a secret have no `Debug`. They live only in `api` (the contract), `vault::record` and `keyring`
//! (the records); everything else works with the types of [`crate::vault`].

#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]

pub(crate) mod codec;

/// The wire contract, `dynarex.credentials.v1`.
pub mod v1 {
    tonic::include_proto!("dynarex.credentials.v1");
}

/// The records of the store, `tresor.storage.v1`.
pub(crate) mod storage {
    tonic::include_proto!("tresor.storage.v1");
}

/// What is in a backup, `tresor.backup.v1`.
pub(crate) mod backup {
    tonic::include_proto!("tresor.backup.v1");
}

/// What KMS plugins speak, `v2` of Kubernetes.
pub(crate) mod kms {
    tonic::include_proto!("v2");
}

/// The contract's descriptors with their comments, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
