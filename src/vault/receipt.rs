//! The receipt of a hand-out: what an order's file can keep as proof.

use serde::Serialize;

use super::handout::{Chosen, Resolution};
use super::ids::SubjectId;
use super::resolve::Order;
use super::scope::CredentialRef;
use super::{Vault, VaultError};
use crate::access::Reveal;
use crate::keyring::{KeyringError, TokenKind};
use crate::time::Timestamp;

impl Vault {
    /// A JWT (RFC 7519) that says what was handed out to whom and for which order, and its id.
    pub(super) fn receipt(
        &self,
        caller: &str,
        order: &Order,
        chosen: &Chosen,
        resolution: &Resolution,
        reveal: Reveal,
        now: Timestamp,
    ) -> Result<(String, String), VaultError> {
        let CredentialRef {
            tenant,
            provider,
            scope,
        } = &chosen.credential;
        let id = random_id()?;
        let claims = Receipt {
            iss: &self.settings.issuer,
            sub: caller,
            iat: now.unix_seconds(),
            exp: now.after(self.settings.receipt_lifetime).unix_seconds(),
            jti: &id,
            order_id: order.id.as_str(),
            tenant: tenant.as_str(),
            provider: provider.as_str(),
            scope: scope.kind().as_str(),
            subject: scope.subject().map(SubjectId::as_str),
            version: chosen.header.version.0,
            saved_at: chosen.header.saved_at.to_string(),
            fell_back: resolution.fell_back,
            reveal: reveal.as_str(),
        };
        let json = serde_json::to_vec(&claims).expect("writing to memory cannot fail, and all keys are strings");
        Ok((self.keyring.signing_key().token(TokenKind::Receipt, &json), id))
    }
}

#[derive(Serialize)]
struct Receipt<'a> {
    iss: &'a str,
    sub: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
    order_id: &'a str,
    tenant: &'a str,
    provider: &'a str,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    version: u64,
    saved_at: String,
    fell_back: bool,
    reveal: &'a str,
}

/// 128 random bits in hex.
fn random_id() -> Result<String, VaultError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| KeyringError::NoRandomness)?;
    Ok(hex::encode(bytes))
}
