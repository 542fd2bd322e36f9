//! Access keys, minted from the machine's entropy.
//!
//! It does not know who may ask for a secret, nor where sealed ones are kept. Invariant: no secret
//! is printed by `Debug` or left behind in memory.

use crate::error::Error;
use crate::limits::{ACCESS_KEY_ID_BYTES, ACCESS_KEY_SECRET_BYTES};
use crate::vault::SecretText;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use muster_model::AccessKeyId;
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// A new access key: 80 random bits of id and 240 of secret, both in AWS's form.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn mint() -> Result<(AccessKeyId, SecretText), Error> {
    let mut id = [0; ACCESS_KEY_ID_BYTES];
    let mut secret = Zeroizing::new([0; ACCESS_KEY_SECRET_BYTES]);
    for bytes in [&mut id[..], &mut secret[..]] {
        OsRng.try_fill_bytes(bytes).map_err(|error| Error::crypto("make an access key", error))?;
    }
    let bits = id.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let secret = Zeroizing::new(STANDARD.encode(*secret));
    Ok((AccessKeyId::from_bits(bits), SecretText::new(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_key_has_awss_form_and_is_never_the_same() {
        let (id, secret) = mint().unwrap();
        assert!(id.to_string().starts_with("AKIA") && id.to_string().len() == 20, "{id}");
        assert_eq!(secret.reveal().len(), 40);
        let (other_id, other) = mint().unwrap();
        assert_ne!((id, secret.reveal()), (other_id, other.reveal()));
        assert_eq!(format!("{secret:?}"), "SecretText(..)");
    }
}
