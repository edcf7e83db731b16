//! What a client does with a signed credential or a receipt: it verifies it with a JOSE library against the published keys.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use super::support::TestVault;

/// A token whose signature holds.
pub(super) struct Token {
    pub(super) typ: String,
    pub(super) payload: Value,
}

/// Insists that one of the vault's published keys made the token.
pub(super) fn verified(vault: &TestVault, token: &str) -> Token {
    verify(&vault.jwks(), token).expect("the signature holds")
}

pub(super) fn verify(jwks: &str, token: &str) -> Option<Token> {
    let keys: JwkSet = serde_json::from_str(jwks).unwrap();
    let header = jsonwebtoken::decode_header(token).ok()?;
    assert_eq!(header.alg, Algorithm::EdDSA);
    let key = DecodingKey::from_jwk(keys.find(&header.kid?)?).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    // The clock of these tests is not that of the library.
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation).ok()?;
    Some(Token {
        typ: header.typ?,
        payload: decoded.claims,
    })
}
