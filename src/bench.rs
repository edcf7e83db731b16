//! Pieces of a resolve that are private otherwise, for `benches/pieces.rs` to measure one by one. No part of what this crate
//! offers.

use std::sync::Arc;

use prost::Message as _;

use crate::api::wire;
use crate::audit::{Entry, Link};
use crate::pb::v1;
use crate::vault::assignment::Mode;
use crate::vault::catalogue::Catalogue;
use crate::vault::record::{Content, SealedHead};
use crate::vault::scope::CredentialRef;
use crate::vault::{HandOut, Outcome, Tally, Vault, VaultError};

/// The head of a credential, as the copy in memory has it.
///
/// # Errors
/// That it is not there, or damaged.
pub fn look_up(vault: &Vault, credential: &CredentialRef) -> Result<Arc<SealedHead>, VaultError> {
    vault.require(credential)
}

/// What a head holds.
///
/// # Errors
/// That it is damaged.
pub fn open(vault: &Vault, credential: &CredentialRef, head: &SealedHead) -> Result<Content, VaultError> {
    Ok(vault.open_head(credential, head)?)
}

/// The answer of a resolve, translated and encoded.
#[must_use]
pub fn encode(hand_out: HandOut) -> Vec<u8> {
    let revision = hand_out.revision.0;
    let (credential, resolution, receipt) = wire::resolved(hand_out);
    let answer = v1::ResolveForOrderResponse {
        credential: Some(credential),
        resolution: Some(resolution),
        receipt,
        revision,
    };
    answer.encode_to_vec()
}

/// Decisions that are counted as a vault counts them.
pub struct Decisions {
    catalogue: Catalogue,
    tally: Tally,
}

impl Default for Decisions {
    fn default() -> Self {
        let catalogue = Catalogue::built_in();
        let tally = Tally::new(&catalogue);
        Self { catalogue, tally }
    }
}

impl Decisions {
    /// Counts one that has found the office's credential.
    pub fn count(&self, provider: &str) {
        let provider = self.catalogue.get(provider);
        self.tally
            .add(&self.catalogue, provider, Mode::PerOffice, Outcome::Found);
    }
}

/// Writes the line of a call to `lines`, chained to those before.
pub fn append_line(entry: &Entry<'_>, time: &str, chain: &mut Link, lines: &mut Vec<u8>) {
    chain.append(lines, time, entry.body().as_str());
}
