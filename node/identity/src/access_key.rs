//! Access keys: minted from the machine's entropy, their secrets sealed with a key that is derived
//! from the authority's.
//!
//! The one place that seals and opens (docs/decisions/0009). It does not know who may ask for a
//! secret, nor where sealed ones are kept. Invariant: a sealed secret opens under the id that it
//! was sealed for and no other, and no secret is printed by `Debug` or left behind in memory.

use crate::error::Error;
use crate::limits::{ACCESS_KEY_ID_BYTES, ACCESS_KEY_SECRET_BYTES};
use crate::pem;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use muster_model::{AccessKeyId, SealedSecret};
use rand::TryRngCore;
use rand::rngs::OsRng;
use ring::aead::{self, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use std::fmt;
use zeroize::Zeroizing;

/// First byte of what is stored: another way to seal will have another.
const FORM: u8 = 1;
/// Says what the derived key is for, so that another use of the authority's key derives another.
const SALT: &[u8] = b"muster access key secrets 1";
const SEAL: &str = "seal the secret of an access key";
const OPEN: &str = "open the secret of an access key";

/// The secret half of an access key. It has no `Display`: `reveal` does.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<String>);

impl SecretKey {
    /// The text that requests are signed with. Treat it as a password.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// A new access key: 80 random bits of id and 240 of secret, both in AWS's form.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn mint() -> Result<(AccessKeyId, SecretKey), Error> {
    let mut id = [0; ACCESS_KEY_ID_BYTES];
    let mut secret = Zeroizing::new([0; ACCESS_KEY_SECRET_BYTES]);
    for bytes in [&mut id[..], &mut secret[..]] {
        OsRng.try_fill_bytes(bytes).map_err(|error| Error::crypto("make an access key", error))?;
    }
    let bits = id.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let secret = Zeroizing::new(STANDARD.encode(*secret));
    Ok((AccessKeyId::from_bits(bits), SecretKey(secret)))
}

/// Seals and opens the secrets of one cluster.
pub struct Vault {
    key: LessSafeKey,
}

impl Vault {
    /// The vault of the cluster whose authority has this private key (PKCS #8, PEM).
    ///
    /// # Errors
    /// When it is no private key.
    pub fn of(authority_key_pem: &str) -> Result<Self, Error> {
        let authority = pem::private_key("authority key", authority_key_pem)?;
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT);
        let derived = salt.extract(authority.secret_der());
        let derived = derived
            .expand(&[b"AES-256-GCM"], &AES_256_GCM)
            .map_err(|_| Error::crypto("derive the key for secrets", "unknown error"))?;
        Ok(Self { key: LessSafeKey::new(UnboundKey::from(derived)) })
    }

    /// Form, a fresh random nonce, ciphertext and tag. Random nonces of 96 bits are safe for some
    /// four billion seals under one key (NIST SP 800-38D); a cluster makes thousands.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn seal(&self, id: AccessKeyId, secret: &SecretKey) -> Result<SealedSecret, Error> {
        let mut nonce = [0; aead::NONCE_LEN];
        OsRng.try_fill_bytes(&mut nonce).map_err(|error| Error::crypto(SEAL, error))?;
        let mut body = secret.reveal().as_bytes().to_vec();
        let aad = Aad::from(id.to_string());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .map_err(|_| Error::crypto(SEAL, "unknown error"))?;
        Ok(SealedSecret([&[FORM][..], &nonce, &body].concat().into()))
    }

    /// # Errors
    /// When it was not sealed here for this id, or was changed since.
    pub fn open(&self, id: AccessKeyId, sealed: &SealedSecret) -> Result<SecretKey, Error> {
        let wrong = || Error::crypto(OPEN, format!("it was not sealed by this cluster for {id}"));
        let Some((&FORM, rest)) = sealed.0.split_first() else {
            let what = "it is of a form that this version of muster does not read";
            return Err(Error::crypto(OPEN, what));
        };
        let (nonce, body) = rest.split_at_checked(aead::NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut body = Zeroizing::new(body.to_vec());
        let aad = Aad::from(id.to_string());
        let plain = self.key.open_in_place(nonce, aad, &mut body).map_err(|_| wrong())?;
        let text = std::str::from_utf8(plain).map_err(|_| wrong())?;
        Ok(SecretKey(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;
    use std::time::SystemTime;

    fn vault() -> Vault {
        let authority = Authority::create("test", SystemTime::now()).unwrap();
        Vault::of(&authority.key_pem()).unwrap()
    }

    #[test]
    fn a_minted_key_has_awss_form_and_is_never_the_same() {
        let (id, secret) = mint().unwrap();
        assert!(id.to_string().starts_with("AKIA") && id.to_string().len() == 20, "{id}");
        assert_eq!(secret.reveal().len(), 40);
        let (other_id, other) = mint().unwrap();
        assert_ne!((id, secret.reveal()), (other_id, other.reveal()));
        assert_eq!(format!("{secret:?}"), "SecretKey(..)");
    }

    #[test]
    fn what_was_sealed_opens_in_the_same_cluster_under_the_same_id() {
        let authority = Authority::create("test", SystemTime::now()).unwrap();
        let (id, secret) = mint().unwrap();
        let seal = || Vault::of(&authority.key_pem()).unwrap().seal(id, &secret).unwrap();
        let sealed = seal();
        assert_ne!(sealed, seal(), "each seal has a nonce of its own");
        assert!(sealed.0.len() <= muster_model::limits::SEALED_SECRET_BYTES_MAX);
        let again = Vault::of(&authority.key_pem()).unwrap();
        assert_eq!(again.open(id, &sealed).unwrap().reveal(), secret.reveal());
        assert!(!sealed.0.windows(10).any(|part| part == &secret.reveal().as_bytes()[..10]));
    }

    #[test]
    fn what_is_not_ours_does_not_open() {
        let (vault, (id, secret)) = (vault(), mint().unwrap());
        let sealed = vault.seal(id, &secret).unwrap();
        let (other, _) = mint().unwrap();
        assert!(vault.open(other, &sealed).is_err(), "another key's secret under this id");
        assert!(self::vault().open(id, &sealed).is_err(), "another cluster");
        for at in 0..sealed.0.len() {
            let mut bytes = sealed.0.to_vec();
            bytes[at] ^= 1;
            assert!(vault.open(id, &SealedSecret(bytes.into())).is_err(), "byte {at}");
            assert!(vault.open(id, &SealedSecret(sealed.0[..at].into())).is_err(), "cut at {at}");
        }
        assert!(Vault::of("").is_err());
    }
}
