//! Access keys: what a signed request names, and the secret that it was signed with.
//!
//! The secret is here as sealed bytes: who may open them, and how, is not known to the state
//! (`muster-identity`, docs/decisions/0009). An access key counts as long as its user does.

use crate::error::Error;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// AWS: what the ids of users' long-lived keys begin with; tools tell them by it.
const PREFIX: &str = "AKIA";
/// Five bits each (RFC 4648, base32).
const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const DIGITS_PER_ID: usize = 16;

/// AWS's form, `AKIA` and sixteen characters, which hold 80 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccessKeyId(u128);

impl AccessKeyId {
    /// From bits that were minted at the edge; the lower 80 count.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits & ((1 << (5 * DIGITS_PER_ID)) - 1))
    }
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// AWS: what the ids of keys begin with that come with a session token.
    pub const TEMPORARY_PREFIX: &str = "ASIA";

    /// The same bits as the id of a key that comes with a session token; it does not parse back.
    pub fn temporary(self) -> String {
        format!("{}{}", Self::TEMPORARY_PREFIX, self.digits())
    }

    fn digits(self) -> String {
        let value = |place: usize| (self.0 >> (5 * place)) as usize % DIGITS.len();
        let digit = |place| char::from(*DIGITS.get(value(place)).unwrap_or(&b'A'));
        (0..DIGITS_PER_ID).rev().map(digit).collect()
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.digits())
    }
}

impl fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKeyId({self})")
    }
}

impl FromStr for AccessKeyId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let value = |digit: u8| DIGITS.iter().position(|known| *known == digit);
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() == DIGITS_PER_ID);
        let bits = digits.and_then(|digits| {
            digits.bytes().try_fold(0, |bits: u128, digit| Some(bits << 5 | value(digit)? as u128))
        });
        bits.map(Self).ok_or_else(|| {
            let allowed = "AKIA and 16 of the characters A-Z and 2-7";
            Error::invalid("accessKeyId", text, allowed)
        })
    }
}

/// A secret as it is stored. `Debug` shows its length.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret(pub Arc<[u8]>);

impl fmt::Debug for SealedSecret {
    /// Not even sealed bytes belong into logs and failed tests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({} bytes)", self.0.len())
    }
}

/// AWS: an inactive key is refused, and can be made active again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessKeyStatus {
    #[default]
    Active,
    Inactive,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub id: AccessKeyId,
    /// Name of the user who acts with it.
    pub user: Arc<str>,
    pub secret: SealedSecret,
    pub status: AccessKeyStatus,
    pub created_at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_form_that_tools_expect() {
        for (bits, text) in [
            (0, "AKIAAAAAAAAAAAAAAAAA"),
            (1, "AKIAAAAAAAAAAAAAAAAB"),
            (u128::MAX, "AKIA7777777777777777"),
            (0x0123_4567_89ab_cdef_0123, "AKIAAERUKZ4JVPG66AJD"),
        ] {
            let id = AccessKeyId::from_bits(bits);
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(id.temporary(), text.replacen("AKIA", "ASIA", 1));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let digits = "A".repeat(16);
        for text in
            ["", "AKIA", &digits, &format!("AKIA{}", "A".repeat(15)), "ASIAAAAAAAAAAAAAAAAA"]
        {
            assert!(text.parse::<AccessKeyId>().is_err(), "{text}");
        }
        for wrong in ["AKIAAAAAAAAAAAAAAAAa", "AKIAAAAAAAAAAAAAAAA1", "AKIAAAAAAAAAAAAAAAAA="] {
            let told = wrong.parse::<AccessKeyId>().map_err(|error| error.to_string());
            assert!(told.unwrap_err().contains("A-Z and 2-7"), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = SealedSecret(Arc::from(*b"hush"));
        assert_eq!(format!("{secret:?}"), "SealedSecret(4 bytes)");
    }
}
