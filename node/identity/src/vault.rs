//! What is kept sealed in the replicated state: access keys' secrets, the values of secrets, and
//! the private half of the signing key.
//!
//! The one place that seals and opens (docs/decisions/0009, 0017, 0019), with keys derived from the
//! authority's, one for each use. It does not know who may ask for a secret, nor where sealed ones
//! are kept. Invariant: what was sealed opens under the name that it was sealed for and no other,
//! and no secret is printed by `Debug` or left behind in memory.

use crate::error::Error;
use crate::pem;
use muster_model::{AccessKeyId, SealedSecret};
use rand::TryRngCore;
use rand::rngs::OsRng;
use ring::aead::{self, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use std::fmt;
use zeroize::Zeroizing;

/// First byte of what is stored: another way to seal will have another.
const FORM: u8 = 1;
/// Say what a derived key is for, so that another use of the authority's key derives another.
const ACCESS_KEYS: &[u8] = b"muster access key secrets 1";
const SECRETS: &[u8] = b"muster secrets 1";
const SIGNING_KEYS: &[u8] = b"muster signing keys 1";
const SEAL: &str = "seal a secret";
const OPEN: &str = "open a secret";

/// A text that is nobody's to see. It has no `Display`: `reveal` does.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    pub fn new(text: impl Into<Zeroizing<String>>) -> Self {
        Self(text.into())
    }

    /// Treat it as a password.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// What a text is sealed as: it opens as nothing else.
#[derive(Clone, Copy, Debug)]
pub enum Sealed<'a> {
    /// The secret of this access key.
    AccessKey(AccessKeyId),
    /// The value of the secret of this name, in any version.
    Secret(&'a str),
    /// The private half of the signing key of this id.
    SigningKey(&'a str),
}

impl fmt::Display for Sealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessKey(id) => write!(f, "access key {id}"),
            Self::Secret(name) => write!(f, "secret {name}"),
            Self::SigningKey(id) => write!(f, "signing key {id}"),
        }
    }
}

impl Sealed<'_> {
    /// Authenticated beside the text.
    fn associated(&self) -> String {
        match self {
            Self::AccessKey(id) => id.to_string(),
            Self::Secret(name) | Self::SigningKey(name) => (*name).to_owned(),
        }
    }
}

/// Seals and opens the secrets of one cluster.
pub struct Vault {
    access_keys: LessSafeKey,
    secrets: LessSafeKey,
    signing_keys: LessSafeKey,
}

impl Vault {
    /// The vault of the cluster whose authority has this private key (PKCS #8, PEM).
    ///
    /// # Errors
    /// When it is no private key.
    pub fn of(authority_key_pem: &str) -> Result<Self, Error> {
        let authority = pem::private_key("authority key", authority_key_pem)?;
        let derived = |salt| {
            let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(authority.secret_der());
            let derived = derived
                .expand(&[b"AES-256-GCM"], &AES_256_GCM)
                .map_err(|_| Error::crypto("derive the key for secrets", "unknown error"))?;
            Ok(LessSafeKey::new(UnboundKey::from(derived)))
        };
        Ok(Self {
            access_keys: derived(ACCESS_KEYS)?,
            secrets: derived(SECRETS)?,
            signing_keys: derived(SIGNING_KEYS)?,
        })
    }

    fn key(&self, of: Sealed<'_>) -> &LessSafeKey {
        match of {
            Sealed::AccessKey(_) => &self.access_keys,
            Sealed::Secret(_) => &self.secrets,
            Sealed::SigningKey(_) => &self.signing_keys,
        }
    }

    /// Form, a fresh random nonce, ciphertext and tag. Random nonces of 96 bits are safe for some
    /// four billion seals under one key (NIST SP 800-38D); a cluster makes thousands.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn seal(&self, of: Sealed<'_>, secret: &SecretText) -> Result<SealedSecret, Error> {
        let mut nonce = [0; aead::NONCE_LEN];
        OsRng.try_fill_bytes(&mut nonce).map_err(|error| Error::crypto(SEAL, error))?;
        let mut body = secret.reveal().as_bytes().to_vec();
        let aad = Aad::from(of.associated());
        self.key(of)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .map_err(|_| Error::crypto(SEAL, "unknown error"))?;
        Ok(SealedSecret([&[FORM][..], &nonce, &body].concat().into()))
    }

    /// # Errors
    /// When it was not sealed here as this, or was changed since.
    pub fn open(&self, of: Sealed<'_>, sealed: &SealedSecret) -> Result<SecretText, Error> {
        let wrong = || Error::crypto(OPEN, format!("it was not sealed by this cluster for {of}"));
        let Some((&FORM, rest)) = sealed.0.split_first() else {
            let what = "it is of a form that this version of muster does not read";
            return Err(Error::crypto(OPEN, what));
        };
        let (nonce, body) = rest.split_at_checked(aead::NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut body = Zeroizing::new(body.to_vec());
        let aad = Aad::from(of.associated());
        let plain = self.key(of).open_in_place(nonce, aad, &mut body).map_err(|_| wrong())?;
        let text = std::str::from_utf8(plain).map_err(|_| wrong())?;
        Ok(SecretText::new(text.to_owned()))
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
    use crate::access_key::mint;
    use muster_model::limits::{
        SEALED_SECRET_BYTES_MAX, SEALED_VALUE_BYTES_MAX, SECRET_VALUE_BYTES_MAX,
    };
    use std::time::SystemTime;

    fn vault() -> Vault {
        let authority = Authority::create("test", SystemTime::now()).unwrap();
        Vault::of(&authority.key_pem()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_in_the_same_cluster_as_what_it_was_sealed() {
        let authority = Authority::create("test", SystemTime::now()).unwrap();
        let (id, secret) = mint().unwrap();
        for of in [Sealed::AccessKey(id), Sealed::Secret("db"), Sealed::SigningKey("k")] {
            let seal = || Vault::of(&authority.key_pem()).unwrap().seal(of, &secret).unwrap();
            let sealed = seal();
            assert_ne!(sealed, seal(), "each seal has a nonce of its own");
            assert!(sealed.0.len() <= SEALED_SECRET_BYTES_MAX);
            let again = Vault::of(&authority.key_pem()).unwrap();
            assert_eq!(again.open(of, &sealed).unwrap().reveal(), secret.reveal());
            let start = &secret.reveal().as_bytes()[..10];
            assert!(!sealed.0.windows(10).any(|part| part == start));
        }
    }

    #[test]
    fn the_longest_value_fits_what_the_state_takes() {
        let longest = SecretText::new("x".repeat(SECRET_VALUE_BYTES_MAX));
        let sealed = vault().seal(Sealed::Secret("db"), &longest).unwrap();
        assert_eq!(sealed.0.len(), SEALED_VALUE_BYTES_MAX);
    }

    #[test]
    fn what_is_not_ours_does_not_open() {
        let (vault, (id, secret)) = (vault(), mint().unwrap());
        let of = Sealed::AccessKey(id);
        let sealed = vault.seal(of, &secret).unwrap();
        let (other, _) = mint().unwrap();
        let named = id.to_string();
        assert!(vault.open(Sealed::AccessKey(other), &sealed).is_err(), "another key's");
        for other in [Sealed::Secret(&named), Sealed::SigningKey(&named)] {
            assert!(vault.open(other, &sealed).is_err(), "for another use");
        }
        assert!(self::vault().open(of, &sealed).is_err(), "another cluster");
        let value = vault.seal(Sealed::Secret("db"), &secret).unwrap();
        assert!(vault.open(Sealed::Secret("api"), &value).is_err(), "another secret's");
        for at in 0..sealed.0.len() {
            let mut bytes = sealed.0.to_vec();
            bytes[at] ^= 1;
            assert!(vault.open(of, &SealedSecret(bytes.into())).is_err(), "byte {at}");
            assert!(vault.open(of, &SealedSecret(sealed.0[..at].into())).is_err(), "cut at {at}");
        }
        assert!(Vault::of("").is_err());
    }
}
