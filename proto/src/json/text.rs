//! Text to a JSON value, stricter than serde_json's own: a name given twice in one object is an
//! error, and nesting is bounded. It does not know any message.

use super::DEPTH_MAX;
use super::check::Path;
use muster_model::Error;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// Parses one document. Errors of syntax name line and column, others the path.
pub fn parse(text: &str) -> Result<Value, Error> {
    let found = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let root = Seed { path: &Path::Root, depth: 0, found: &found };
    let value = root.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| {
        let syntax = || {
            let at = format!("line {} column {}", error.line(), error.column());
            Error::invalid(at, error.to_string(), "a JSON document")
        };
        found.take().unwrap_or_else(syntax)
    })
}

/// One value to come, and where. serde carries only text in its errors, so ours goes to `found`.
struct Seed<'a> {
    path: &'a Path<'a>,
    depth: usize,
    found: &'a RefCell<Option<Error>>,
}

impl Seed<'_> {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        if self.depth < DEPTH_MAX {
            return Ok(self.depth + 1);
        }
        let allowed = format!("at most {DEPTH_MAX} levels");
        Err(self.refuse(Error::invalid(self.path.to_string(), "deeper nesting", allowed)))
    }

    fn refuse<E: de::Error>(&self, error: Error) -> E {
        let text = error.to_string();
        self.found.replace(Some(error));
        E::custom(text)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut values = Vec::new();
        loop {
            let path = Path::Index(self.path, values.len());
            let seed = Seed { path: &path, depth, found: self.found };
            match list.next_element_seed(seed)? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut values = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            let path = Path::Name(self.path, &name);
            if values.contains_key(&name) {
                let error = Error::invalid(path.to_string(), "given twice", "each name once");
                return Err(self.refuse(error));
            }
            let seed = Seed { path: &path, depth, found: self.found };
            let value = object.next_value_seed(seed)?;
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }
}
