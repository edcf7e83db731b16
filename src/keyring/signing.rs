//! Signing keys: Ed25519, for the JWS over a credential and for receipts (RFC 7515, RFC 8037).
//!
//! The three base64url parts are put together here rather than by a JOSE library, because the payload holds the secret and
//! must be wiped, and because a key is parsed once, not per signature. Tests verify the result with one.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::time::Timestamp;

/// What is signed; it stands as `typ` in the header, so that one can't be taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A credential, with its secret.
    Credential,
    /// Proof that a credential was handed out.
    Receipt,
    /// The audit log up to a line; the payload is that line.
    Checkpoint,
    /// A backup; the payload is what the vault says of it.
    Backup,
    /// That a store was made of a backup or of a damaged one; the payload is what is said of that.
    Restored,
}

/// The `typ` of a checkpoint of the audit log.
pub const CHECKPOINT_TYPE: &str = "tresor-audit-checkpoint+jws";

/// The `typ` of a backup's signature.
const BACKUP_TYPE: &str = "tresor-backup+jws";

/// The `typ` of the signature of what a restore or a rescue leaves.
const RESTORED_TYPE: &str = "tresor-restored+jws";

/// What a JWS has beside its payload.
#[derive(Clone)]
pub struct Signature {
    /// Which key made it.
    pub kid: String,
    /// Ed25519 over header and payload, encoded as they are sent.
    pub bytes: [u8; 64],
}

/// The public half of a key pair: what is published, and what puts a token together.
pub struct PublicKey {
    kid: String,
    bytes: [u8; 32],
    created_at: Timestamp,
    credential_header: String,
    receipt_header: String,
    checkpoint_header: String,
    backup_header: String,
    restored_header: String,
}

/// A key pair that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: Arc<PublicKey>,
    use_from: Timestamp,
}

impl PublicKey {
    /// The key with these bytes.
    pub(crate) fn new(bytes: [u8; 32], created_at: Timestamp) -> Self {
        let kid = thumbprint(&URL_SAFE_NO_PAD.encode(bytes));
        let header = |typ: &str| {
            let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#);
            URL_SAFE_NO_PAD.encode(header)
        };
        Self {
            bytes,
            created_at,
            credential_header: header("dynarex-credential+jws"),
            receipt_header: header("dynarex-receipt+jwt"),
            checkpoint_header: header(CHECKPOINT_TYPE),
            backup_header: header(BACKUP_TYPE),
            restored_header: header(RESTORED_TYPE),
            kid,
        }
    }

    /// Its id: the key's thumbprint (RFC 7638).
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// As a JSON Web Key (RFC 8037).
    #[must_use]
    pub fn jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(self.bytes),
        })
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.bytes
    }

    /// Whether this key made a signature over `payload`.
    pub(crate) fn has_made(&self, kind: TokenKind, payload: &[u8], signature: &[u8; 64]) -> bool {
        let input = self.signing_input(kind, payload);
        UnparsedPublicKey::new(&ED25519, self.bytes)
            .verify(input.as_bytes(), signature)
            .is_ok()
    }

    /// Whether this key made the [`detached`] signature of a payload.
    pub(crate) fn has_signed(&self, kind: TokenKind, jws: &str, payload: &[u8]) -> bool {
        let Some((header, signature)) = jws.split_once("..") else {
            return false;
        };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
            return false;
        };
        let input = self.signing_input(kind, payload);
        // The one header that this key makes for this kind.
        input.split_once('.').is_some_and(|(expected, _)| expected == header)
            && UnparsedPublicKey::new(&ED25519, self.bytes)
                .verify(input.as_bytes(), &signature)
                .is_ok()
    }

    /// The compact form (RFC 7515, 7.1) of a signature that this key made over `payload`.
    #[must_use]
    pub fn compact(&self, kind: TokenKind, payload: &[u8], signature: &[u8; 64]) -> String {
        with_signature(self.signing_input(kind, payload), signature)
    }

    fn signing_input(&self, kind: TokenKind, payload: &[u8]) -> Zeroizing<String> {
        let header = match kind {
            TokenKind::Credential => &self.credential_header,
            TokenKind::Receipt => &self.receipt_header,
            TokenKind::Checkpoint => &self.checkpoint_header,
            TokenKind::Backup => &self.backup_header,
            TokenKind::Restored => &self.restored_header,
        };
        // Room for the signature too, so that no copy of a secret stays behind in a smaller buffer.
        let mut input = Zeroizing::new(String::with_capacity(header.len() + payload.len().div_ceil(3) * 4 + 90));
        input.push_str(header);
        input.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut input);
        input
    }
}

impl SigningKey {
    /// The key pair that grows from `seed`; none if it grows none.
    pub(crate) fn from_seed(seed: &[u8; 32], created_at: Timestamp, use_from: Timestamp) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let bytes = pair.public_key().as_ref().try_into().ok()?;
        let public = Arc::new(PublicKey::new(bytes, created_at));
        Some(Self { pair, public, use_from })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &Arc<PublicKey> {
        &self.public
    }

    /// From when on it signs.
    pub(super) fn use_from(&self) -> Timestamp {
        self.use_from
    }

    /// Signs `payload`, which may hold a secret.
    #[must_use]
    pub fn sign(&self, kind: TokenKind, payload: &[u8]) -> Signature {
        Signature {
            kid: self.public.kid.clone(),
            bytes: self.sign_input(&self.public.signing_input(kind, payload)),
        }
    }

    /// The same in its compact form.
    #[must_use]
    pub fn token(&self, kind: TokenKind, payload: &[u8]) -> String {
        let input = self.public.signing_input(kind, payload);
        let signature = self.sign_input(&input);
        with_signature(input, &signature)
    }

    /// The signature of what is no secret, without the payload: `header..signature`.
    #[must_use]
    pub fn sign_detached(&self, kind: TokenKind, payload: &[u8]) -> String {
        detached(&self.token(kind, payload))
    }

    fn sign_input(&self, input: &str) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(input.as_bytes()).as_ref());
        bytes
    }
}

fn with_signature(mut input: Zeroizing<String>, signature: &[u8; 64]) -> String {
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut input);
    // The one copy that goes out.
    std::mem::take(&mut *input)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKey({}, [redacted])", self.public.kid)
    }
}

/// The compact form without its payload, which stands beside it (RFC 7515, appendix F).
#[must_use]
pub fn detached(compact: &str) -> String {
    let (header, rest) = compact.split_once('.').unwrap_or_default();
    let (_, signature) = rest.split_once('.').unwrap_or_default();
    format!("{header}..{signature}")
}

/// RFC 7638, with the members of RFC 8037, 2: SHA-256 over the required members in the order of their names.
fn thumbprint(public: &str) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

    fn key() -> SigningKey {
        let seed: [u8; 32] = URL_SAFE_NO_PAD.decode(SEED).unwrap().try_into().unwrap();
        SigningKey::from_seed(&seed, Timestamp::EPOCH, Timestamp::EPOCH).unwrap()
    }

    #[test]
    fn public_key_and_thumbprint_are_those_of_rfc_8037() {
        assert_eq!(key().public().jwk()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key().public().kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn the_signature_is_that_of_rfc_8037() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#);
        let key = key();
        let public = PublicKey {
            credential_header: header,
            ..PublicKey::new(key.public().bytes(), Timestamp::EPOCH)
        };
        let key = SigningKey {
            public: Arc::new(public),
            ..key
        };
        let payload = b"Example of Ed25519 signing";
        let signature = key.sign(TokenKind::Credential, payload).bytes;
        let compact = key.public().compact(TokenKind::Credential, payload, &signature);
        assert_eq!(
            compact,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
             hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
        assert_eq!(key.token(TokenKind::Credential, payload), compact);
    }

    #[test]
    fn a_detached_signature_holds_for_its_payload_its_kind_and_its_key() {
        let (key, other) = (
            key(),
            SigningKey::from_seed(&[9; 32], Timestamp::EPOCH, Timestamp::EPOCH).unwrap(),
        );
        let jws = key.sign_detached(TokenKind::Backup, b"all of it");
        assert!(key.public().has_signed(TokenKind::Backup, &jws, b"all of it"));
        assert!(!key.public().has_signed(TokenKind::Backup, &jws, b"a part of it"));
        assert!(!key.public().has_signed(TokenKind::Checkpoint, &jws, b"all of it"));
        assert!(!other.public().has_signed(TokenKind::Backup, &jws, b"all of it"));
        for malformed in ["", "..", &jws.replace("..", "."), &jws[..jws.len() - 4]] {
            assert!(
                !key.public().has_signed(TokenKind::Backup, malformed, b"all of it"),
                "{malformed}"
            );
        }
    }

    #[test]
    fn a_jose_library_verifies_what_we_sign() {
        use jsonwebtoken::{Algorithm, DecodingKey, Validation};

        let key = key();
        let token = key.token(TokenKind::Receipt, br#"{"sub":"dat","exp":4102444800}"#);
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.public().jwk()).unwrap();
        let decoding = DecodingKey::from_jwk(&jwk).unwrap();
        let validation = Validation::new(Algorithm::EdDSA);
        let decoded = jsonwebtoken::decode::<serde_json::Value>(&token, &decoding, &validation).unwrap();
        assert_eq!(decoded.claims["sub"], "dat");
        assert_eq!(decoded.header.typ.as_deref(), Some("dynarex-receipt+jwt"));
        assert_eq!(decoded.header.kid.as_deref(), Some(key.public().kid()));
        let tampered = token.replacen('.', ".e30", 1);
        assert!(jsonwebtoken::decode::<serde_json::Value>(&tampered, &decoding, &validation).is_err());
    }
}
