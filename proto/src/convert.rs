//! Requests to commands: checking what users wrote, each thing once, into types that cannot be
//! wrong. Every error names the field by its ECS path, the value, and what is allowed.
//!
//! Names and ARNs are resolved against the state they are given; what only the log's order can
//! decide (a name just taken, a limit just reached) is `apply`'s. Invariant: no input panics.

pub mod account;
pub mod alarm;
pub mod attribute;
pub mod capacity;
pub mod cluster;
pub mod definition;
pub mod deployment;
pub mod dispatch;
pub mod hook;
pub mod instance;
pub mod job;
pub mod operator;
mod placement;
pub mod policy;
pub mod schedule;
pub mod secret;
pub mod service;
mod strategy;
pub mod task;
pub mod task_set;

pub(crate) use placement::EC2;
pub use placement::{has_launch_type, launch_type};

use crate::{arn, pb};
use muster_model::limits::{
    MEMORY_MIB_MAX, MEMORY_MIB_MIN, NAME_CHARS_MAX, TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX,
    TAGS_MAX,
};
use muster_model::spec::Tags;
use muster_model::tags::{RESERVED_PREFIX, is_reserved};
use muster_model::{Error, RequestId};
use std::fmt;
use std::ops::RangeInclusive;

/// ECS: characters of a client token, with room for two UUIDs.
pub const CLIENT_TOKEN_CHARS_MAX: usize = 64;

/// Names as a sentence lists what is allowed.
pub fn one_of(names: &[&str]) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// How many entries a page has whose caller names no number, and the most that it may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSizes {
    pub default: u32,
    pub max: u32,
}

impl PageSizes {
    /// ECS: most lists.
    pub const MOST: Self = Self { default: 100, max: 100 };
    /// ECS: ListServices and ListServicesByNamespace.
    pub const SERVICES: Self = Self { default: 10, max: 100 };
    /// ECS: ListServiceDeployments.
    pub const DEPLOYMENTS: Self = Self { default: 20, max: 100 };
    /// ECS: ListAccountSettings and DescribeCapacityProviders.
    pub const SHORT: Self = Self { default: 10, max: 10 };
}

/// Where a value stands in a request, written as in ECS: `containerDefinitions[0].cpu`.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Field(&'a str),
    Inner(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    pub(crate) fn field(&'a self, name: &'a str) -> At<'a> {
        At::Inner(self, name)
    }
    pub(crate) fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }
    pub(crate) fn invalid(&self, value: impl fmt::Display, allowed: impl Into<String>) -> Error {
        Error::invalid(self.to_string(), value.to_string(), allowed)
    }
    /// For the wording that ECS gives: what is asked for, not what is allowed.
    pub(crate) fn unsupported(&self, value: &str, instead: impl Into<String>) -> Error {
        Error::Unsupported { feature: format!("{self} {value}"), instead: instead.into() }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Inner(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The id that makes a repeat of a request harmless. 32 hexadecimal digits are taken as they are,
/// other tokens are hashed; `None` for an empty token: the caller makes a fresh id.
pub fn request_id(client_token: &str) -> Result<Option<RequestId>, Error> {
    if client_token.is_empty() {
        return Ok(None);
    }
    if let Ok(id) = client_token.parse() {
        return Ok(Some(id));
    }
    let printable = client_token.bytes().all(|b| b.is_ascii_graphic());
    if client_token.len() > CLIENT_TOKEN_CHARS_MAX || !printable {
        let allowed = format!("up to {CLIENT_TOKEN_CHARS_MAX} printable ASCII characters");
        return Err(Error::invalid("clientToken", client_token, allowed));
    }
    let bits = arn::fnv128(&[b"clientToken:", client_token.as_bytes()]);
    Ok(Some(RequestId::from_bits(bits)))
}

/// Muster's own: what the version of a row must be for it to be changed.
///
/// # Errors
/// `Invalid` for a negative one.
pub fn expected_version(version: Option<i64>) -> Result<Option<u64>, Error> {
    let wrong = |version| At::Field("expectedVersion").invalid(version, "0 or more");
    version.map(|version| u64::try_from(version).map_err(|_| wrong(version))).transpose()
}

/// The size of a page; 0 is what absent is in proto3.
pub fn page_size(max_results: i32, sizes: PageSizes) -> Result<usize, Error> {
    let PageSizes { default, max } = sizes;
    match u32::try_from(max_results) {
        Ok(0) => Ok(default as usize),
        Ok(n) if n <= max => Ok(n as usize),
        _ => {
            let allowed = format!("1 to {max}, or none for {default}");
            Err(Error::invalid("maxResults", max_results.to_string(), allowed))
        }
    }
}

/// At least one and at most `limit` names in a describe call.
pub fn some_names(field: &str, names: &[String], limit: usize) -> Result<(), Error> {
    if names.is_empty() {
        return Err(empty(field));
    }
    if names.len() > limit {
        let allowed = format!("1 to {limit} names or ARNs");
        return Err(Error::invalid(field, format!("{} of them", names.len()), allowed));
    }
    Ok(())
}

/// ECS has a sentence for each, and a class of its own for instances.
fn empty(field: &str) -> Error {
    match field {
        "containerInstances" => Error::refused("Container Instances cannot be empty."),
        "tasks" => Error::invalid(field, "", "Tasks cannot be empty."),
        "services" => Error::invalid(field, "", "Services cannot be empty."),
        _ => Error::invalid(field, "", "at least one name or ARN"),
    }
}

/// A name as ECS wants it: letters, digits, hyphens and underscores.
pub(crate) fn name(at: &At<'_>, text: &str) -> Result<(), Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let fits = !text.is_empty() && text.len() <= NAME_CHARS_MAX && text.bytes().all(charset);
    let allowed = || format!("1 to {NAME_CHARS_MAX} letters, digits, hyphens and underscores");
    if fits { Ok(()) } else { Err(at.invalid(text, allowed())) }
}

/// Text without control characters, within `chars`.
pub(crate) fn text(at: &At<'_>, text: &str, chars: RangeInclusive<usize>) -> Result<(), Error> {
    let count = text.chars().count();
    if !chars.contains(&count) {
        let (low, high) = (chars.start(), chars.end());
        return Err(at.invalid(text, format!("{low} to {high} characters, it has {count}")));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(_) => Err(at.invalid(text.escape_default(), "no control characters")),
        None => Ok(()),
    }
}

/// A number within a range, as an unsigned one.
pub(crate) fn number(
    at: &At<'_>,
    value: impl Into<i64>,
    allowed: RangeInclusive<u32>,
) -> Result<u32, Error> {
    amount(at, value, allowed, "")
}

/// As `number`, of something that has a unit.
pub(crate) fn amount(
    at: &At<'_>,
    value: impl Into<i64>,
    allowed: RangeInclusive<u32>,
    unit: &str,
) -> Result<u32, Error> {
    let value = value.into();
    match u32::try_from(value) {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => {
            let allowed = format!("{} to {} {unit}", allowed.start(), allowed.end());
            Err(at.invalid(value, allowed.trim_end()))
        }
    }
}

/// Memory of a container.
pub(crate) fn mib(at: &At<'_>, value: i32) -> Result<u32, Error> {
    amount(at, value, MEMORY_MIB_MIN..=MEMORY_MIB_MAX, "MiB")
}

pub(crate) fn at_most(at: &At<'_>, count: usize, limit: usize, what: &str) -> Result<(), Error> {
    if count <= limit {
        return Ok(());
    }
    Err(at.invalid(format!("{count} {what}"), format!("at most {limit} {what}")))
}

/// `None` for an empty text: in proto3 absent and empty are the same.
pub(crate) fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(crate) fn tags(at: &At<'_>, wire: &[pb::Tag]) -> Result<Tags, Error> {
    at_most(at, wire.len(), TAGS_MAX, "tags")?;
    let mut tags = Tags::new();
    for (index, tag) in wire.iter().enumerate() {
        let at = at.index(index);
        let key = at.field("key");
        text(&key, &tag.key, 1..=TAG_KEY_CHARS_MAX)?;
        tag_of_users(&key, &tag.key)?;
        text(&at.field("value"), &tag.value, 0..=TAG_VALUE_CHARS_MAX)?;
        if tags.insert(tag.key.clone(), tag.value.clone()).is_some() {
            return Err(key.invalid(&tag.key, "each key once"));
        }
    }
    Ok(tags)
}

/// ECS: neither set nor removed by users.
pub(crate) fn tag_of_users(at: &At<'_>, key: &str) -> Result<(), Error> {
    match is_reserved(key) {
        true => Err(at.invalid(key, format!("a key that does not begin with {RESERVED_PREFIX}"))),
        false => Ok(()),
    }
}
