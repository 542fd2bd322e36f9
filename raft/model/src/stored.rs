//! How rows are named and kept: tables, keys, row values, formats and their upgrades.

/// Serialises a value as self-describing bytes (CBOR) inside a positional encoding, so that
/// what users wrote can gain fields: an absent field takes its default when read back.
pub mod named {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&**value, &mut bytes).map_err(S::Error::custom)?;
        bytes.serialize(to)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        ciborium::from_reader(bytes.as_slice()).map(Arc::new).map_err(D::Error::custom)
    }
}
