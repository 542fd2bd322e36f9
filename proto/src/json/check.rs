//! A JSON value against the shape of a message: names and types, each error with its path.
//!
//! It does not know ranges or references. Invariant: what passes here, serde decodes.

use super::{Field, Message, Shape, Unknown, ecs};
use muster_model::Error;
use serde_json::{Map, Value};
use std::fmt;

/// Where a value stands, for example `containerDefinitions[0].image`.
pub enum Path<'a> {
    Root,
    Name(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("document"),
            Self::Name(Path::Root, name) => f.write_str(name),
            Self::Name(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The object without nulls (to clients null and absent are the same) and, if so asked, without
/// unknown names.
pub fn message(
    path: &Path<'_>,
    value: Value,
    message: &Message,
    unknown: Unknown,
) -> Result<Value, Error> {
    let Value::Object(object) = value else {
        return Err(wrong(path, &value, format!("an object ({})", message.name)));
    };
    let mut checked = Map::new();
    for (name, value) in object {
        if value.is_null() {
            continue;
        }
        let path = Path::Name(path, &name);
        let Some(field) = message.fields.iter().find(|field| field.name == name) else {
            match unknown {
                Unknown::Refuse => ecs::refuse(&path, &name, &value, message)?,
                Unknown::RefuseNotBuilt => ecs::refuse_not_built(&path, &name, &value, message)?,
                Unknown::Ignore => {}
            }
            continue;
        };
        let value = check_field(&path, value, field, unknown)?;
        checked.insert(name, value);
    }
    Ok(Value::Object(checked))
}

fn check_field(
    path: &Path<'_>,
    value: Value,
    field: &Field,
    unknown: Unknown,
) -> Result<Value, Error> {
    if !field.repeated {
        return check_value(path, value, &field.shape, unknown);
    }
    let Value::Array(values) = value else {
        return Err(wrong(path, &value, format!("a list of {}", expected(&field.shape, true))));
    };
    let checked = values
        .into_iter()
        .enumerate()
        .map(|(index, value)| check_value(&Path::Index(path, index), value, &field.shape, unknown));
    checked.collect::<Result<_, _>>().map(Value::Array)
}

fn check_value(
    path: &Path<'_>,
    value: Value,
    shape: &Shape,
    unknown: Unknown,
) -> Result<Value, Error> {
    let fits = match (shape, &value) {
        (Shape::Message(inner), _) => return message(path, value, inner, unknown),
        (Shape::TextMap, Value::Object(object)) => {
            for (name, value) in object {
                if !value.is_string() {
                    return Err(wrong(&Path::Name(path, name), value, "a string".into()));
                }
            }
            true
        }
        (Shape::Text | Shape::OneOf(_), Value::String(_)) | (Shape::Bool, Value::Bool(_)) => true,
        (Shape::Int { low, high }, Value::Number(number)) => {
            number.as_i128().is_some_and(|n| (*low..=*high).contains(&n))
        }
        (Shape::Real | Shape::Seconds, Value::Number(_)) => true,
        _ => false,
    };
    if fits { Ok(value) } else { Err(wrong(path, &value, expected(shape, false))) }
}

fn expected(shape: &Shape, many: bool) -> String {
    match (shape, many) {
        (Shape::Text | Shape::OneOf(_), false) => "a string".into(),
        (Shape::Text | Shape::OneOf(_), true) => "strings".into(),
        (Shape::Bool, false) => "true or false".into(),
        (Shape::Bool, true) => "true and false".into(),
        (Shape::Int { low, high }, false) => format!("a whole number from {low} to {high}"),
        (Shape::Int { low, high }, true) => format!("whole numbers from {low} to {high}"),
        (Shape::Real, false) => "a number".into(),
        (Shape::Real, true) => "numbers".into(),
        (Shape::Seconds, false) => "a number of seconds since 1970".into(),
        (Shape::Seconds, true) => "numbers of seconds since 1970".into(),
        (Shape::TextMap, false) => "an object of strings".into(),
        (Shape::TextMap, true) => "objects of strings".into(),
        (Shape::Message(message), false) => format!("an object ({})", message.name),
        (Shape::Message(message), true) => format!("objects ({})", message.name),
    }
}

fn wrong(path: &Path<'_>, value: &Value, allowed: String) -> Error {
    let shown = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        other => other.to_string(),
    };
    Error::invalid(path.to_string(), shown, allowed)
}
