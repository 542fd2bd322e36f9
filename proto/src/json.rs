//! ECS's JSON form of the public messages: camel-case names, times as epoch seconds.
//!
//! Input is checked against the schema that `build.rs` generates, so every error names the path of
//! the value and what is allowed there; serde only decodes what passed. It does not know what a
//! value means: ranges and references are `convert`'s. Invariant: no text makes it panic.

mod check;
mod ecs;
mod resource;
mod text;

use muster_model::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Deepest nesting of the input; the deepest ECS document has 7 levels.
pub const DEPTH_MAX: usize = 32;
/// Longest input in bytes: ECS's limit for a task definition is 64 KiB, gRPC's for a message 4 MiB.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a message looks like in JSON.
#[derive(Debug)]
pub struct Message {
    pub name: &'static str,
    pub fields: &'static [Field],
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub repeated: bool,
}

#[derive(Debug)]
pub enum Shape {
    Text,
    /// Text that ECS has an enum for, and what that may say. More may come: what is allowed where,
    /// `convert` judges.
    OneOf(&'static [&'static str]),
    Bool,
    /// A whole number within these bounds, both allowed.
    Int {
        low: i128,
        high: i128,
    },
    /// A number, with or without a fraction.
    Real,
    /// Seconds since 1970, with a fraction.
    Seconds,
    /// An object whose values are strings.
    TextMap,
    Message(&'static Message),
}

/// A public message that has a JSON form.
pub trait Described {
    const MESSAGE: &'static Message;
}

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// What to do with names that the message does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    Refuse,
    /// Refuse what ECS has and Muster has not, if it asks for something; ignore what ECS ignores.
    RefuseNotBuilt,
    Ignore,
}

/// Operations of ECS that have no rpc, and what they would need.
pub use ecs::NOT_BUILT_OPERATIONS;

/// Decodes JSON; a field that the message does not have is an error which names its path and the
/// nearest field there is, or says that ECS has it and Muster does not yet.
pub fn from_str_strict<T: Described + DeserializeOwned>(text: &str) -> Result<T, Error> {
    decode(text, Unknown::Refuse)
}

/// As `from_str_strict`, but ignores fields that the message does not have, as the ECS protocol
/// does. Wrong types are errors all the same.
pub fn from_str_lenient<T: Described + DeserializeOwned>(text: &str) -> Result<T, Error> {
    decode(text, Unknown::Ignore)
}

/// A body of the ECS wire protocol. Names that ECS does not have are ignored, as ECS does; what ECS
/// has and this release does not is an error if it asks for something. An empty body is an empty
/// message.
pub fn from_ecs<T: Described + DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    match std::str::from_utf8(body) {
        Ok("") => decode("{}", Unknown::RefuseNotBuilt),
        Ok(text) => decode(text, Unknown::RefuseNotBuilt),
        Err(error) => {
            let at = format!("byte {}", error.valid_up_to());
            Err(Error::invalid("document", at, "text in UTF-8"))
        }
    }
}

fn decode<T: Described + DeserializeOwned>(text: &str, unknown: Unknown) -> Result<T, Error> {
    if text.len() > BYTES_MAX {
        let allowed = format!("at most {BYTES_MAX} bytes");
        return Err(Error::invalid("document", format!("{} bytes", text.len()), allowed));
    }
    let value = text::parse(text)?;
    let mut value = check::message(&check::Path::Root, value, T::MESSAGE, unknown)?;
    if unknown == Unknown::RefuseNotBuilt {
        ecs::flag_named_lists(T::MESSAGE, &mut value);
    }
    // The check was stricter than the derived decoder; what it still refuses is our own mistake.
    serde_json::from_value(value)
        .map_err(|error| Error::invalid(T::MESSAGE.name, error.to_string(), "its ECS JSON form"))
}

/// Any JSON document, by the same rules: each name once, bounded nesting.
pub(crate) fn any(text: &str) -> Result<Value, Error> {
    text::parse(text)
}

/// A message as ECS clients see it. Absent values are left out, except the lists that real clients
/// index without asking.
pub fn to_value<T: Described + Serialize>(message: &T) -> Value {
    // Only maps with keys that are not strings can fail, and no message has one.
    serde_json::to_value(message).unwrap_or_default()
}

/// `google.protobuf.Timestamp` as seconds since 1970, to the millisecond.
pub mod timestamp {
    use prost_types::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    const NANOS: f64 = 1e9;

    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        let seconds = time.as_ref().map(|t| {
            let millis = i64::from(t.nanos) / 1_000_000;
            t.seconds as f64 + millis as f64 / 1e3
        });
        seconds.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let seconds = Option::<f64>::deserialize(from)?;
        Ok(seconds.map(|s| Timestamp {
            // A cast from a float saturates.
            seconds: s.floor() as i64,
            nanos: (((s - s.floor()) * NANOS) as i32).clamp(0, 999_999_999),
        }))
    }
}

/// Bytes that are text (lines of a log), invalid UTF-8 replaced.
pub mod text_bytes {
    use prost::bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        String::from_utf8_lossy(bytes).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        Ok(Bytes::from(String::deserialize(from)?))
    }
}
