//! The fingerprint of a cluster: the SHA-256 of its authority's certificate.
//!
//! Two authorities with one digest are the same certificate, byte for byte.

use crate::error::Error;
use crate::pem;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// SHA-256 of an authority's certificate in DER; 64 lower-case hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CaDigest([u8; 32]);

impl CaDigest {
    pub fn of_der(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// The digest of the first certificate in `text`.
    ///
    /// # Errors
    /// When `text` holds no certificate in PEM.
    pub fn of_pem(text: &str) -> Result<Self, Error> {
        let certificates = pem::certificates("authority certificate", text)?;
        match certificates.first() {
            Some(first) => Ok(Self::of_der(first)),
            None => Err(Error::invalid("authority certificate", "empty")),
        }
    }

    /// The first eight digits: enough for a person to tell two clusters apart.
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }
}

impl fmt::Display for CaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for CaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaDigest({self})")
    }
}

impl FromStr for CaDigest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let problem = || Error::invalid("authority digest", "it must be 64 lower-case hex digits");
        if text.len() != 64 || !is_hex(text) {
            return Err(problem());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| problem())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| problem())?;
        }
        Ok(Self(bytes))
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` is lower-case hex digits only: one value has one spelling.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
