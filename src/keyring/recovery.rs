//! The recovery key: a second way to the wrapped keys, for the day when the key-encryption key is lost.
//!
//! Only its public half is where the vault is. What it opens, whoever has the secret half opens, so that half is kept apart.
//! HPKE (RFC 9180) in base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, by rustls.

use std::fmt;
use std::path::Path;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use zeroize::{Zeroize as _, Zeroizing};

use super::kek::{KekError, read_secret_file};
use crate::pb::storage;
use crate::store::Key;

const INFO: &str = "tresor recovery v1";
const PUBLIC: &str = "recovery-x25519:";
const SECRET: &str = "recovery-secret-x25519:";
const EXPECTED: &str = "a line that begins with recovery-secret-x25519:, as `tresor recovery keygen` writes it";

/// The public half: keys are wrapped for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryKey([u8; 32]);

/// The secret half: it unwraps them.
pub struct RecoverySecret(Zeroizing<[u8; 32]>);

/// Not a recovery key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no recovery key; one looks like recovery-x25519:… and is made by `tresor recovery keygen`")]
pub struct NotARecoveryKey;

/// What was wrapped was not wrapped for this key, or was changed, or no randomness is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recovery key does not fit")]
pub(super) struct DoesNotFit;

impl RecoveryKey {
    /// Reads it as the configuration has it.
    ///
    /// # Errors
    /// [`NotARecoveryKey`], also for points on the curve that keep no secret.
    pub fn parse(text: &str) -> Result<Self, NotARecoveryKey> {
        let encoded = text.strip_prefix(PUBLIC).ok_or(NotARecoveryKey)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotARecoveryKey)?;
        let key = Self(bytes.try_into().map_err(|_| NotARecoveryKey)?);
        let trial = key.wrap(&Key::new("trial"), &[0; 32]);
        trial.map(|_| key).map_err(|_| NotARecoveryKey)
    }

    pub(super) fn wrap(&self, name: &Key, key: &[u8; 32]) -> Result<storage::RecoveryWrapping, DoesNotFit> {
        let public = HpkePublicKey(self.0.to_vec());
        let sealed = SUITE.seal(&info(name), &[], key, &public);
        let (EncapsulatedSecret(encapsulated), ciphertext) = sealed.map_err(|_| DoesNotFit)?;
        Ok(storage::RecoveryWrapping {
            recipient: self.to_string(),
            encapsulated,
            ciphertext,
        })
    }
}

/// Binds what is wrapped to its record: without it, it opens nowhere.
fn info(name: &Key) -> Vec<u8> {
    format!("{INFO} {name}").into_bytes()
}

impl fmt::Display for RecoveryKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{PUBLIC}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl RecoverySecret {
    /// A new one; none if the operating system gives no random bytes.
    #[must_use]
    pub fn generate() -> Option<Self> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut secret[..]).ok()?;
        Some(Self(secret))
    }

    /// Reads the file that holds it.
    ///
    /// # Errors
    /// [`KekError`] if it is missing, open to others or holds something else.
    pub fn read(path: &Path) -> Result<Self, KekError> {
        let content = read_secret_file(path, EXPECTED)?;
        let not_a_key = || KekError::NotAKey {
            path: path.into(),
            expected: EXPECTED,
        };
        let encoded = content
            .trim_ascii()
            .strip_prefix(SECRET.as_bytes())
            .ok_or_else(not_a_key)?;
        let mut bytes = Zeroizing::new([0; 32]);
        match URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes[..]) {
            Ok(32) => Ok(Self(bytes)),
            _ => Err(not_a_key()),
        }
    }

    /// The line that its file holds.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(SECRET.len() + 44));
        text.push_str(SECRET);
        URL_SAFE_NO_PAD.encode_string(&self.0[..], &mut text);
        text.push('\n');
        text
    }

    /// Its public half; none if the bytes are no key.
    #[must_use]
    pub fn public(&self) -> Option<RecoveryKey> {
        let private = PrivateKey::from_private_key(&X25519, &self.0[..]).ok()?;
        let public = private.compute_public_key().ok()?;
        Some(RecoveryKey(public.as_ref().try_into().ok()?))
    }

    pub(super) fn unwrap(
        &self,
        name: &Key,
        wrapped: &storage::RecoveryWrapping,
    ) -> Result<Zeroizing<[u8; 32]>, DoesNotFit> {
        let encapsulated = EncapsulatedSecret(wrapped.encapsulated.clone());
        let secret = HpkePrivateKey::from(self.0.to_vec());
        let mut opened = SUITE
            .open(&encapsulated, &info(name), &[], &wrapped.ciphertext, &secret)
            .map_err(|_| DoesNotFit)?;
        let key = <[u8; 32]>::try_from(&opened[..]).map(Zeroizing::new);
        opened.zeroize();
        key.map_err(|_| DoesNotFit)
    }
}

impl fmt::Debug for RecoverySecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RecoverySecret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn secret(byte: u8) -> RecoverySecret {
        RecoverySecret(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn only_the_secret_half_unwraps_and_only_in_the_same_place() {
        let name = Key::new("data-key/demo/0000000001");
        let public = secret(7).public().unwrap();
        let wrapped = public.wrap(&name, &[42; 32]).unwrap();
        assert_eq!(wrapped.recipient, public.to_string());
        assert_eq!(*secret(7).unwrap(&name, &wrapped).unwrap(), [42; 32]);
        assert!(secret(8).unwrap(&name, &wrapped).is_err());
        assert!(
            secret(7)
                .unwrap(&Key::new("data-key/other/0000000001"), &wrapped)
                .is_err()
        );
    }

    /// Made by the HPKE of pyca/cryptography 50.0.2.
    #[test]
    fn what_another_library_wrapped_is_unwrapped() {
        let public = "13be4feaeaf204c7fd3358fc9c00721881d174278128227ec674f37f7fe97b6d";
        assert_eq!(hex::encode(secret(7).public().unwrap().0), public);
        let wrapped = storage::RecoveryWrapping {
            recipient: secret(7).public().unwrap().to_string(),
            encapsulated: hex::decode("21a5702177648ea07144c9a4873436b11609adc18a60a0da19a846ce4b80f34c").unwrap(),
            ciphertext: hex::decode(
                "1622b15a0a652df5c0346f0a93cbe6c5090b0318b46f153f361f65b32e3312f313138b4bc99d0fb5ba27689ea0c92b9e",
            )
            .unwrap(),
        };
        let name = Key::new("data-key/demo/0000000001");
        assert_eq!(*secret(7).unwrap(&name, &wrapped).unwrap(), [42; 32]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let public = secret(7).public().unwrap();
        assert_eq!(RecoveryKey::parse(&public.to_string()), Ok(public.clone()));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recovery.key");
        std::fs::write(&path, secret(7).expose().as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(RecoverySecret::read(&path).unwrap().public(), Some(public));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(RecoverySecret::read(&path), Err(KekError::Exposed { .. })));
    }

    #[test]
    fn what_is_no_recovery_key_is_refused() {
        let low_order = format!("{PUBLIC}{}", URL_SAFE_NO_PAD.encode([0; 32]));
        let secret = secret(7).expose();
        for text in ["", PUBLIC, "recovery-x25519:AAAA", low_order.as_str(), secret.trim()] {
            assert_eq!(RecoveryKey::parse(text), Err(NotARecoveryKey), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", secret(7)), "RecoverySecret([redacted])");
    }
}
