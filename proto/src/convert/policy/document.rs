//! IAM's policy language, the part of it that has a meaning here.
//!
//! What is not understood is refused with its path when a policy is put, never skipped: a deny that
//! is skipped allows. Invariant: no text panics, and what `document` read once it reads again.

use super::condition::{self, Condition};
use super::pattern::{ArnPattern, Pattern};
use crate::convert::At;
use crate::{json, target};
use muster_model::Error;
use muster_model::limits::POLICY_CHARS_MAX;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A document has at most 6,144 characters; these bound what a careless one costs per request.
const STATEMENTS_MAX: usize = 50;
/// Actions, resources or values of one list.
const LIST_MAX: usize = 100;
/// One action, resource or value: longer than any ARN of ours (two names of 255 characters).
const PATTERN_CHARS_MAX: usize = 1024;
const SID_CHARS_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub effect: Effect,
    pub actions: Listed<Pattern>,
    pub resources: Listed<Resource>,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// `Action` and `Resource`, or all but what `NotAction` and `NotResource` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    pub all_but: bool,
    pub items: Vec<T>,
}

impl<T> Listed<T> {
    pub fn has(&self, fits: impl Fn(&T) -> bool) -> bool {
        self.items.iter().any(fits) != self.all_but
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `*`: also what acts on nothing that has an ARN.
    Every,
    Arn(ArnPattern),
}

impl Resource {
    pub fn matches(&self, arn: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Arn(pattern) => pattern.matches(arn),
        }
    }
}

/// Reads a policy document.
///
/// # Errors
/// `Invalid`, with the path of the value, for what IAM refuses and what has no meaning here.
pub fn document(text: &str) -> Result<Document, Error> {
    let at = At::Field("document");
    let chars = text.chars().count();
    if chars > POLICY_CHARS_MAX {
        let allowed = format!("at most {POLICY_CHARS_MAX} characters");
        return Err(at.invalid(format!("{chars} characters"), allowed));
    }
    if text.trim().is_empty() {
        return Err(at.invalid("", "an IAM policy in JSON"));
    }
    let value = json::any(text)?;
    let mut statements = None;
    for (name, value) in object(&at, &value)? {
        let at = At::Field(name);
        match name.as_str() {
            "Version" => version(&at, value)?,
            "Id" => drop(string(&at, value)?),
            "Statement" => statements = Some(read_statements(&at, value)?),
            other => return Err(at.invalid(other, "Version, Id and Statement")),
        }
    }
    let statements = statements.ok_or_else(|| At::Field("Statement").invalid("", "a statement"))?;
    Ok(Document { statements })
}

fn version(at: &At<'_>, value: &Value) -> Result<(), Error> {
    match string(at, value)? {
        "2012-10-17" | "2008-10-17" => Ok(()),
        other => Err(at.invalid(other, "2012-10-17 or 2008-10-17")),
    }
}

fn read_statements(at: &At<'_>, value: &Value) -> Result<Vec<Statement>, Error> {
    let Value::Array(list) = value else { return Ok(vec![statement(at, value)?.1]) };
    if list.is_empty() || list.len() > STATEMENTS_MAX {
        return Err(at.invalid(list.len(), format!("1 to {STATEMENTS_MAX} statements")));
    }
    let (mut statements, mut sids) = (Vec::new(), BTreeSet::new());
    for (index, value) in list.iter().enumerate() {
        let at = at.index(index);
        let (sid, statement) = statement(&at, value)?;
        if let Some(sid) = sid
            && !sids.insert(sid)
        {
            return Err(at.field("Sid").invalid(sid, "each Sid once"));
        }
        statements.push(statement);
    }
    Ok(statements)
}

fn statement<'v>(at: &At<'_>, value: &'v Value) -> Result<(Option<&'v str>, Statement), Error> {
    let mut sid = None;
    let mut effect = None;
    let mut actions: Option<Listed<Pattern>> = None;
    let mut resources: Option<Listed<Resource>> = None;
    let mut conditions = Vec::new();
    for (name, value) in object(at, value)? {
        let inner = at.field(name);
        match name.as_str() {
            "Sid" => sid = Some(read_sid(&inner, value)?),
            "Effect" => effect = Some(read_effect(&inner, value)?),
            "Action" | "NotAction" => {
                let items = one_or_more(&inner, value, action)?;
                let listed = Listed { all_but: name == "NotAction", items };
                only(at, "Action and NotAction", actions.replace(listed).is_none())?;
            }
            "Resource" | "NotResource" => {
                let items = one_or_more(&inner, value, resource)?;
                let listed = Listed { all_but: name == "NotResource", items };
                only(at, "Resource and NotResource", resources.replace(listed).is_none())?;
            }
            "Condition" => conditions = condition::conditions(&inner, value)?,
            "Principal" | "NotPrincipal" => {
                let allowed = "it is who the policy is attached to: leave it out.";
                return Err(inner.invalid(name, allowed));
            }
            other => {
                let allowed = "Sid, Effect, Action, NotAction, Resource, NotResource and Condition";
                return Err(inner.invalid(other, allowed));
            }
        }
    }
    let effect = effect.ok_or_else(|| at.field("Effect").invalid("", "Allow or Deny"))?;
    let actions = actions.ok_or_else(|| at.field("Action").invalid("", "an action or several"))?;
    let resources =
        resources.ok_or_else(|| at.field("Resource").invalid("", "an ARN, several, or *"))?;
    Ok((sid, Statement { effect, actions, resources, conditions }))
}

fn only(at: &At<'_>, both: &str, alone: bool) -> Result<(), Error> {
    match alone {
        true => Ok(()),
        false => Err(at.invalid(both, "one of the two")),
    }
}

fn read_sid<'v>(at: &At<'_>, value: &'v Value) -> Result<&'v str, Error> {
    let text = string(at, value)?;
    let fits = text.len() <= SID_CHARS_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric());
    match fits && !text.is_empty() {
        true => Ok(text),
        false => Err(at.invalid(text, format!("1 to {SID_CHARS_MAX} letters and digits"))),
    }
}

fn read_effect(at: &At<'_>, value: &Value) -> Result<Effect, Error> {
    match string(at, value)? {
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        other => Err(at.invalid(other, "Allow or Deny")),
    }
}

/// `*`, or a service and an action that there is: a misspelt one would forbid nothing.
fn action(at: &At<'_>, text: &str) -> Result<Pattern, Error> {
    let pattern = pattern(at, text)?;
    let service = text.split_once(':').map(|(service, _)| service.to_ascii_lowercase());
    let ours = matches!(service.as_deref(), Some("ecs" | "muster"));
    if text == "*" || ours && target::actions().any(|name| pattern.matches_in_any_case(&name)) {
        return Ok(pattern);
    }
    let allowed =
        "*, or actions of ECS and Muster, such as ecs:RunTask, ecs:Describe*, muster:Logs";
    Err(at.invalid(text, allowed))
}

fn resource(at: &At<'_>, text: &str) -> Result<Resource, Error> {
    plain(at, text)?;
    if text == "*" {
        return Ok(Resource::Every);
    }
    let allowed = "* or an ARN of six parts, such as arn:aws:ecs:*:*:service/blue/*";
    ArnPattern::new(text).map(Resource::Arn).ok_or_else(|| at.invalid(text, allowed))
}

pub(super) fn pattern(at: &At<'_>, text: &str) -> Result<Pattern, Error> {
    plain(at, text).map(Pattern::new)
}

/// A text of bounded length without policy variables, which would be taken literally.
pub(super) fn plain<'t>(at: &At<'_>, text: &'t str) -> Result<&'t str, Error> {
    let chars = text.chars().count();
    if chars > PATTERN_CHARS_MAX {
        let allowed = format!("at most {PATTERN_CHARS_MAX} characters");
        return Err(at.invalid(format!("{chars} characters"), allowed));
    }
    match text.contains("${") {
        true => Err(at.invalid(text, "no policy variables: write the value, or * and ?")),
        false => Ok(text),
    }
}

/// One string or a list of them.
pub(super) fn one_or_more<T>(
    at: &At<'_>,
    value: &Value,
    read: impl Fn(&At<'_>, &str) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let Value::Array(list) = value else { return Ok(vec![read(at, string(at, value)?)?]) };
    if list.is_empty() || list.len() > LIST_MAX {
        return Err(at.invalid(list.len(), format!("1 to {LIST_MAX} strings")));
    }
    let each = list.iter().enumerate().map(|(index, value)| {
        let at = at.index(index);
        read(&at, string(&at, value)?)
    });
    each.collect()
}

pub(super) fn object<'v>(at: &At<'_>, value: &'v Value) -> Result<&'v Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| wrong(at, value, "an object"))
}

fn string<'v>(at: &At<'_>, value: &'v Value) -> Result<&'v str, Error> {
    value.as_str().ok_or_else(|| wrong(at, value, "a string"))
}

pub(super) fn wrong(at: &At<'_>, value: &Value, allowed: &str) -> Error {
    let shown = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    };
    at.invalid(shown, allowed)
}
