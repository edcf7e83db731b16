//! The signatures of checkpoints, verified with the vault's published keys (RFC 7515, RFC 7517, RFC 8037).

use std::collections::HashMap;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::keyring::CHECKPOINT_TYPE;

/// The vault's public keys.
pub struct Keys(HashMap<String, Vec<u8>>);

/// It is no JSON Web Key Set.
#[derive(Debug, thiserror::Error)]
#[error("is no JSON Web Key Set: {0}")]
pub struct KeysError(#[from] serde_json::Error);

/// Why a signature does not vouch for its payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSignature {
    /// It is not in the form of one.
    #[error("its signature is malformed")]
    Malformed,
    /// The key is not among those given.
    #[error("it is signed with the key {0}, which is not among the vault's keys")]
    UnknownKey(String),
    /// It is over something else.
    #[error("its signature does not fit")]
    Wrong,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

impl Keys {
    /// Reads a JSON Web Key Set. Keys of other kinds than the vault's are left out.
    ///
    /// # Errors
    /// [`KeysError`]
    pub fn parse(jwks: &str) -> Result<Self, KeysError> {
        let set: KeySet = serde_json::from_str(jwks)?;
        let ours = set.keys.into_iter().filter(|key| key.crv == "Ed25519");
        let keys = ours.filter_map(|key| Some((key.kid, URL_SAFE_NO_PAD.decode(key.x).ok()?)));
        Ok(Self(keys.collect()))
    }

    /// These keys.
    pub(crate) fn of(keys: &[&crate::keyring::PublicKey]) -> Self {
        Self(
            keys.iter()
                .map(|key| (key.kid().to_owned(), key.bytes().to_vec()))
                .collect(),
        )
    }

    /// Whether this key is among them.
    pub(crate) fn has(&self, kid: &str, public: &[u8]) -> bool {
        self.0.get(kid).is_some_and(|known| known == public)
    }

    /// Verifies a detached signature: `header..signature`.
    pub(super) fn verify(&self, jws: &str, payload: &[u8]) -> Result<(), BadSignature> {
        let (header, signature) = jws.split_once("..").ok_or(BadSignature::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadSignature::Malformed);
        let parsed: Header = serde_json::from_slice(&decode(header)?).map_err(|_| BadSignature::Malformed)?;
        if parsed.alg != "EdDSA" || parsed.typ != CHECKPOINT_TYPE {
            return Err(BadSignature::Malformed);
        }
        let signature = decode(signature)?;
        let Some(key) = self.0.get(&parsed.kid) else {
            return Err(BadSignature::UnknownKey(parsed.kid));
        };
        let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        UnparsedPublicKey::new(&ED25519, key)
            .verify(input.as_bytes(), &signature)
            .map_err(|_| BadSignature::Wrong)
    }
}
