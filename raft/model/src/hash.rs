//! A hash that is the same on every machine and in every build: FNV-1a over the CBOR of a value.
//!
//! Not cryptographic: it tells an honest mistake from a repeat, and one state from another.

use serde::Serialize;
use std::io::{self, Write};

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Takes bytes, keeps 64 bits.
pub(crate) struct Fnv(u64);

impl Fnv {
    pub fn new() -> Self {
        Self(OFFSET)
    }

    pub fn add<T: Serialize>(&mut self, value: &T) {
        // Writing here cannot fail, and our types hold nothing that CBOR lacks.
        let written = ciborium::into_writer(value, &mut *self);
        debug_assert!(written.is_ok(), "every stored type has a CBOR form");
    }

    pub fn finish(self) -> u64 {
        self.0
    }
}

impl Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn of<T: Serialize>(value: &T) -> u64 {
    let mut hash = Fnv::new();
    hash.add(value);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // FNV-1a of "a" is a published test vector; CBOR of "" is the one byte 0x60.
        let mut hash = Fnv::new();
        hash.write_all(b"a").unwrap();
        assert_eq!(hash.finish(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(of(&""), (OFFSET ^ 0x60).wrapping_mul(PRIME));
        assert_ne!(of(&(1u64, u128::MAX)), of(&(2u64, u128::MAX)));
    }
}
