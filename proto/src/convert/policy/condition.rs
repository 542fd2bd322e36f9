//! `Condition` of a statement: operators, the keys there are, and when each holds.
//!
//! It does not know where a key's value comes from. An operator or a key that is not here is
//! refused when the policy is put: one that was skipped would allow what its author forbade.

use super::document::{object, one_or_more, pattern, plain, wrong};
use super::pattern::{ArnPattern, Pattern};
use crate::convert::At;
use muster_model::Error;
use muster_model::limits::TAG_KEY_CHARS_MAX;
use serde_json::Value;

/// What a condition asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// `ecs:cluster`: the ARN of the cluster.
    Cluster,
    /// `aws:username`.
    Username,
    /// `aws:ResourceTag/<key>`, also spelled `ecs:ResourceTag/<key>`: of what is there.
    ResourceTag(String),
    /// `aws:RequestTag/<key>`: of what the request makes or tags.
    RequestTag(String),
}

const KEYS: &str =
    "ecs:cluster, aws:username, aws:ResourceTag/<key>, ecs:ResourceTag/<key>, aws:RequestTag/<key>";
const OPERATORS: &str = "StringEquals, StringNotEquals, StringEqualsIgnoreCase, \
     StringNotEqualsIgnoreCase, StringLike, StringNotLike, ArnEquals, ArnNotEquals, ArnLike, \
     ArnNotLike, each also with IfExists; Null";

impl Key {
    /// Names of keys are the same in either case, as in IAM.
    fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "ecs:cluster" => return Some(Self::Cluster),
            "aws:username" => return Some(Self::Username),
            _ => {}
        }
        let (kind, tag) = text.split_once('/')?;
        if tag.is_empty() || tag.chars().count() > TAG_KEY_CHARS_MAX {
            return None;
        }
        match kind.to_ascii_lowercase().as_str() {
            "aws:resourcetag" | "ecs:resourcetag" => Some(Self::ResourceTag(tag.into())),
            "aws:requesttag" => Some(Self::RequestTag(tag.into())),
            _ => None,
        }
    }
}

/// One key, one operator, and the values it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub key: Key,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// The key must be absent (true) or there (false).
    Null(bool),
    /// One value must fit; `if_exists`: an absent key will do.
    Some { values: Vec<Wanted>, if_exists: bool },
    /// No value may fit; an absent key fits none.
    None(Vec<Wanted>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Exactly(String),
    InAnyCase(String),
    Like(Pattern),
    Arn(ArnPattern),
}

impl Wanted {
    fn fits(&self, found: &str) -> bool {
        match self {
            Self::Exactly(text) => text == found,
            // ASCII as everywhere here: what other letters fold to differs between locales.
            Self::InAnyCase(text) => text.eq_ignore_ascii_case(found),
            Self::Like(pattern) => pattern.matches(found),
            Self::Arn(pattern) => pattern.matches(found),
        }
    }
}

impl Condition {
    /// Whether it holds for a key that has this value, or none.
    pub fn holds(&self, found: Option<&str>) -> bool {
        match (&self.test, found) {
            (Test::Null(absent), found) => *absent == found.is_none(),
            (Test::Some { values, .. }, Some(found)) => values.iter().any(|v| v.fits(found)),
            (Test::Some { if_exists, .. }, None) => *if_exists,
            (Test::None(values), Some(found)) => !values.iter().any(|v| v.fits(found)),
            (Test::None(_), None) => true,
        }
    }
}

/// How a value is compared.
#[derive(Clone, Copy)]
enum Compare {
    Exactly,
    InAnyCase,
    Like,
    Arn,
}

#[derive(Clone, Copy)]
enum Operator {
    Null,
    Compare { how: Compare, negated: bool, if_exists: bool },
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        if text == "Null" {
            return Some(Self::Null);
        }
        let (name, if_exists) = match text.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let (how, negated) = match name {
            "StringEquals" => (Compare::Exactly, false),
            "StringNotEquals" => (Compare::Exactly, true),
            "StringEqualsIgnoreCase" => (Compare::InAnyCase, false),
            "StringNotEqualsIgnoreCase" => (Compare::InAnyCase, true),
            "StringLike" => (Compare::Like, false),
            "StringNotLike" => (Compare::Like, true),
            // IAM: the two mean the same.
            "ArnEquals" | "ArnLike" => (Compare::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Compare::Arn, true),
            _ => return None,
        };
        Some(Self::Compare { how, negated, if_exists })
    }
}

/// `{operator: {key: values}}`: all of them must hold.
pub(super) fn conditions(at: &At<'_>, value: &Value) -> Result<Vec<Condition>, Error> {
    let mut conditions = Vec::new();
    for (name, keys) in object(at, value)? {
        let at = at.field(name);
        let operator = Operator::parse(name).ok_or_else(|| at.invalid(name, OPERATORS))?;
        let keys = object(&at, keys)?;
        if keys.is_empty() {
            return Err(at.invalid("{}", format!("at least one of {KEYS}")));
        }
        for (name, values) in keys {
            let at = at.field(name);
            let key = Key::parse(name).ok_or_else(|| at.invalid(name, KEYS))?;
            conditions.push(condition(&at, operator, key, values)?);
        }
    }
    Ok(conditions)
}

fn condition(at: &At<'_>, operator: Operator, key: Key, value: &Value) -> Result<Condition, Error> {
    let Operator::Compare { how, negated, if_exists } = operator else {
        return Ok(Condition { key, test: Test::Null(truth(at, value)?) });
    };
    if matches!(how, Compare::Arn) && key != Key::Cluster {
        return Err(at.invalid("", "Arn operators compare ecs:cluster; take a String operator."));
    }
    let values = one_or_more(at, value, |at, text| wanted(at, how, text))?;
    let test = match negated {
        true => Test::None(values),
        false => Test::Some { values, if_exists },
    };
    Ok(Condition { key, test })
}

fn wanted(at: &At<'_>, how: Compare, text: &str) -> Result<Wanted, Error> {
    Ok(match how {
        Compare::Exactly => Wanted::Exactly(plain(at, text)?.to_owned()),
        Compare::InAnyCase => Wanted::InAnyCase(plain(at, text)?.to_owned()),
        Compare::Like => Wanted::Like(pattern(at, text)?),
        Compare::Arn => {
            plain(at, text)?;
            let allowed = "an ARN of six parts, such as arn:aws:ecs:*:*:cluster/blue";
            Wanted::Arn(ArnPattern::new(text).ok_or_else(|| at.invalid(text, allowed))?)
        }
    })
}

fn truth(at: &At<'_>, value: &Value) -> Result<bool, Error> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        other => Err(wrong(at, other, "\"true\" (the key must be absent) or \"false\"")),
    }
}
