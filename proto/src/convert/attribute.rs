//! Attributes that users put on container instances.

use super::{At, at_most};
use crate::{arn, pb};
use muster_model::command::InstanceAttribute;
use muster_model::limits::ATTRIBUTES_PER_CALL_MAX;
use muster_model::{Cluster, Command, Error, InstanceId, Kind, State};

/// ECS: characters of a name and of a value.
const CHARS_MAX: usize = 128;
/// What ECS and its agents say of an instance; nobody else may.
const RESERVED: [&str; 2] = ["ecs.", "com.amazonaws."];
const TARGET_TYPE: &str = "container-instance";

/// PutAttributes: all of them or none.
pub fn put(state: &State, wire: &pb::PutAttributesRequest) -> Result<Command, Error> {
    let cluster = arn::cluster(state, &wire.cluster)?;
    let set = each(&wire.attributes, |at, wire| {
        let value = &at.field("value");
        wire.value.as_ref().map_or(Ok(()), |text| check_value(value, text))?;
        Ok(InstanceAttribute {
            instance: target(state, cluster, at, wire)?,
            name: named(at, wire)?,
            value: wire.value.clone(),
        })
    })?;
    Ok(Command::ChangeAttributes { set, remove: Vec::new() })
}

/// DeleteAttributes: by name; one that is not there is no error.
pub fn delete(state: &State, wire: &pb::DeleteAttributesRequest) -> Result<Command, Error> {
    let cluster = arn::cluster(state, &wire.cluster)?;
    let remove = each(&wire.attributes, |at, wire| {
        Ok((target(state, cluster, at, wire)?, named(at, wire)?))
    })?;
    Ok(Command::ChangeAttributes { set: Vec::new(), remove })
}

fn each<T>(
    wire: &[pb::Attribute],
    one: impl Fn(&At<'_>, &pb::Attribute) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let list = At::Field("attributes");
    if wire.is_empty() {
        return Err(list.invalid("none", format!("1 to {ATTRIBUTES_PER_CALL_MAX} attributes")));
    }
    at_most(&list, wire.len(), ATTRIBUTES_PER_CALL_MAX, "attributes")?;
    wire.iter().enumerate().map(|(index, wire)| one(&list.index(index), wire)).collect()
}

/// ListAttributes: the type of target must be named; ECS has one.
pub fn check_target_type(text: &str) -> Result<(), Error> {
    target_type(&At::Field("targetType"), text)
}

fn target_type(at: &At<'_>, text: &str) -> Result<(), Error> {
    match text {
        TARGET_TYPE => Ok(()),
        other => Err(at.invalid(other, TARGET_TYPE)),
    }
}

/// ECS: an ARN says what it is of; an id needs the type beside it.
fn target(
    state: &State,
    cluster: &Cluster,
    at: &At<'_>,
    wire: &pb::Attribute,
) -> Result<InstanceId, Error> {
    if !wire.target_type.is_empty() || !wire.target_id.starts_with("arn:") {
        target_type(&at.field("targetType"), &wire.target_type)?;
    }
    if wire.target_id.is_empty() {
        return Err(at.field("targetId").invalid("", "the ARN or id of a container instance"));
    }
    match arn::instance(state, cluster, &wire.target_id) {
        Ok(row) => Ok(row.id),
        Err(Error::NotFound { name, .. }) => Err(Error::not_found(Kind::Target, name)),
        Err(error) => Err(error),
    }
}

fn named(at: &At<'_>, wire: &pb::Attribute) -> Result<String, Error> {
    let (at, name) = (at.field("name"), &wire.name);
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_./\\".contains(&b);
    if name.is_empty() || name.len() > CHARS_MAX || !name.bytes().all(charset) {
        let allowed = format!("1 to {CHARS_MAX} letters, digits and - _ . / \\");
        return Err(at.invalid(name, allowed));
    }
    if RESERVED.iter().any(|start| name.starts_with(start)) {
        return Err(at.invalid(name, "a name that does not begin with ecs. or com.amazonaws."));
    }
    Ok(name.clone())
}

fn check_value(at: &At<'_>, text: &str) -> Result<(), Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_.@/\\: ".contains(&b);
    let fits = text.len() <= CHARS_MAX && text.bytes().all(charset) && text.trim() == text;
    let allowed = || {
        format!(
            "up to {CHARS_MAX} letters, digits and - _ . @ / \\ : and blanks, none at either end"
        )
    };
    if fits { Ok(()) } else { Err(at.invalid(text, allowed())) }
}
