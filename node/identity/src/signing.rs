//! The key that statements about tasks are signed with: made, and used for JSON Web Tokens of the
//! algorithm ES256 (RFC 7515, RFC 7518), whose public half is shown as a JSON Web Key (RFC 7517).
//!
//! Only signing is here, in the one algorithm: nothing in Muster reads a token of others, and a
//! library for all of JOSE would bring a second set of ciphers (docs/decisions/0019). It does not
//! know what a statement says. Invariant: a key's name follows from its public half.

use crate::error::Error;
use crate::vault::SecretText;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// RFC 7518's name of ECDSA with P-256 and SHA-256.
pub const ALGORITHM: &str = "ES256";
const CURVE: &str = "P-256";
/// First byte of an uncompressed point (SEC 1, 2.3.3); x and y follow.
const UNCOMPRESSED: u8 = 4;
const COORDINATE_BYTES: usize = 32;

/// Both halves of a key, in memory.
pub struct Signer {
    pair: EcdsaKeyPair,
    id: String,
    random: SystemRandom,
}

impl Signer {
    /// A new private key: PKCS #8, in base64, to be sealed.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn mint() -> Result<SecretText, Error> {
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let made = made.map_err(|_| Error::crypto("make a signing key", "no random bytes"))?;
        Ok(SecretText::new(Zeroizing::new(STANDARD.encode(made.as_ref()))))
    }

    /// # Errors
    /// When it is not what `mint` made.
    pub fn of(private: &SecretText) -> Result<Self, Error> {
        let wrong = || Error::crypto("read a signing key", "it is no key of P-256 in PKCS #8");
        let bytes = STANDARD.decode(private.reveal()).map_err(|_| wrong())?;
        let (bytes, random) = (Zeroizing::new(bytes), SystemRandom::new());
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &bytes, &random)
            .map_err(|_| wrong())?;
        let id = key_id(pair.public_key().as_ref());
        Ok(Self { pair, id, random })
    }

    /// A point of P-256, uncompressed.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// A token that says these claims.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn token(&self, claims: &Value) -> Result<String, Error> {
        let header = json!({ "alg": ALGORITHM, "kid": self.id, "typ": "JWT" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&self.random, text.as_bytes());
        let signature = signature.map_err(|_| Error::crypto("sign a token", "no random bytes"))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

/// What a key is called in tokens and in sets of keys.
pub fn key_id(public: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(public))
}

/// A public half as others read it; `None` if it is no point of P-256, uncompressed.
pub fn json_web_key(public: &[u8]) -> Option<Value> {
    let (&UNCOMPRESSED, point) = public.split_first()? else { return None };
    let (x, y) = point.split_at_checked(COORDINATE_BYTES)?;
    let coordinate = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    (y.len() == COORDINATE_BYTES).then(|| {
        json!({
            "kty": "EC",
            "crv": CURVE,
            "alg": ALGORITHM,
            "use": "sig",
            "kid": key_id(public),
            "x": coordinate(x),
            "y": coordinate(y),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    fn part(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// As a reader of the key set sees a token: the claims, if the signature is right.
    fn read(token: &str, key: &Value) -> Option<Value> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let header: Value = serde_json::from_slice(&part(header)).ok()?;
        assert_eq!((&header["alg"], &header["kid"]), (&key["alg"], &key["kid"]));
        let coordinate = |name: &str| part(key[name].as_str().unwrap());
        let point = [vec![UNCOMPRESSED], coordinate("x"), coordinate("y")].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(text.as_bytes(), &part(signature)).ok()?;
        serde_json::from_slice(&part(claims)).ok()
    }

    #[test]
    fn a_token_reads_with_the_public_key_that_is_shown_and_with_no_other() {
        let (signer, other) = (Signer::mint().unwrap(), Signer::mint().unwrap());
        let (signer, other) = (Signer::of(&signer).unwrap(), Signer::of(&other).unwrap());
        let claims = json!({ "sub": "a", "aud": "ü" });
        let token = signer.token(&claims).unwrap();
        let key = json_web_key(signer.public()).unwrap();
        assert_eq!(read(&token, &key), Some(claims));
        assert_ne!(key["kid"], json_web_key(other.public()).unwrap()["kid"]);
        let forged = json!({ "x": key["x"], "y": key["y"], "alg": ALGORITHM, "kid": other.id });
        assert_eq!(read(&other.token(&json!({})).unwrap(), &forged), None);
        assert!(!format!("{signer:?}").contains("EcdsaKeyPair"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "x", "AAAA"] {
            assert!(Signer::of(&SecretText::new(text.to_owned())).is_err());
        }
        let point = |form: u8, bytes: usize| [vec![form], vec![1; bytes]].concat();
        assert!(json_web_key(&point(UNCOMPRESSED, 64)).is_some());
        for public in [vec![], point(2, 64), point(UNCOMPRESSED, 63), point(UNCOMPRESSED, 65)] {
            assert_eq!(json_web_key(&public), None, "{public:?}");
        }
    }
}
