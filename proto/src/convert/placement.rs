//! Placement constraints and strategies, launch types: texts into values that cannot be wrong.

use super::{At, at_most, number, one_of};
use crate::{pb, spelled};
use muster_model::Error;
use muster_model::limits::{
    DESIRED_COUNT_MAX, PLACEMENT_CONSTRAINTS_MAX, PLACEMENT_STRATEGIES_MAX, TAG_KEY_CHARS_MAX,
};
use muster_model::placement::{
    BinpackField, Placement, PlacementConstraint, PlacementStrategy, SpreadField,
};
use muster_model::query::Query;

/// Beyond ECS: weights as Nomad has them for affinities.
const WEIGHT_MAX: i32 = 100;

pub fn placement(
    constraints: &[pb::PlacementConstraint],
    strategies: &[pb::PlacementStrategy],
) -> Result<Placement, Error> {
    let at = At::Field("placementConstraints");
    at_most(&at, constraints.len(), PLACEMENT_CONSTRAINTS_MAX, "constraints")?;
    let mut placement = Placement::default();
    for (index, wire) in constraints.iter().enumerate() {
        let constraint = constraint(&at.index(index), wire)?;
        if !placement.constraints.contains(&constraint) {
            placement.constraints.push(constraint);
        }
    }
    let at = At::Field("placementStrategy");
    at_most(&at, strategies.len(), PLACEMENT_STRATEGIES_MAX, "strategies")?;
    for (index, wire) in strategies.iter().enumerate() {
        placement.strategies.push(strategy(&at.index(index), wire)?);
    }
    Ok(placement)
}

fn constraint(at: &At<'_>, wire: &pb::PlacementConstraint) -> Result<PlacementConstraint, Error> {
    match wire.r#type.as_str() {
        "distinctInstance" if wire.expression.is_empty() => {
            Ok(PlacementConstraint::DistinctInstance)
        }
        "distinctInstance" => {
            Err(at.field("expression").invalid(&wire.expression, "none with distinctInstance"))
        }
        "memberOf" => {
            Ok(PlacementConstraint::MemberOf(query(&at.field("expression"), &wire.expression)?))
        }
        other => Err(at.field("type").invalid(other, one_of(spelled::PLACEMENT_CONSTRAINT_TYPE))),
    }
}

/// An expression of the cluster query language.
pub fn query(at: &At<'_>, text: &str) -> Result<Query, Error> {
    Query::parse(text).map_err(|why| at.invalid(text, format!("a query: {why}")))
}

/// A task definition takes only memberOf, as in ECS.
pub fn of_definition(wire: &[pb::PlacementConstraint]) -> Result<Vec<PlacementConstraint>, Error> {
    let at = At::Field("placementConstraints");
    at_most(&at, wire.len(), PLACEMENT_CONSTRAINTS_MAX, "constraints")?;
    let one = |(index, wire): (usize, &pb::PlacementConstraint)| {
        if wire.r#type != "memberOf" {
            return Err(at.index(index).field("type").invalid(
                &wire.r#type,
                "memberOf; distinctInstance is a constraint of the service or the run",
            ));
        }
        constraint(&at.index(index), wire)
    };
    wire.iter().enumerate().map(one).collect()
}

fn strategy(at: &At<'_>, wire: &pb::PlacementStrategy) -> Result<PlacementStrategy, Error> {
    if wire.max_skew.is_some() && wire.r#type != "spread" {
        return Err(at
            .field("maxSkew")
            .invalid(wire.max_skew.unwrap_or(0), "none but with spread"));
    }
    let prefers = wire.r#type == "prefer";
    if !prefers && (!wire.expression.is_empty() || wire.weight.is_some()) {
        return Err(at.field("expression").invalid(&wire.expression, "none but with prefer"));
    }
    match wire.r#type.as_str() {
        "spread" => spread(at, wire),
        "binpack" => match wire.field.to_ascii_lowercase().as_str() {
            "cpu" => Ok(PlacementStrategy::Binpack(BinpackField::Cpu)),
            "memory" => Ok(PlacementStrategy::Binpack(BinpackField::Memory)),
            _ => Err(at.field("field").invalid(&wire.field, "cpu or memory")),
        },
        "random" if wire.field.is_empty() => Ok(PlacementStrategy::Random),
        "random" => Err(at.field("field").invalid(&wire.field, "none with random")),
        "prefer" => prefer(at, wire),
        other => Err(at.field("type").invalid(other, one_of(spelled::PLACEMENT_STRATEGY_TYPE))),
    }
}

fn spread(at: &At<'_>, wire: &pb::PlacementStrategy) -> Result<PlacementStrategy, Error> {
    let field = match wire.field.as_str() {
        "instanceId" | "host" => SpreadField::InstanceId,
        // ECS lets the prefix be left out for its own.
        "instancetype" => SpreadField::Attribute("ecs.instance-type".into()),
        field => match field.strip_prefix("attribute:").filter(|name| is_attribute(name)) {
            Some(name) => SpreadField::Attribute(name.into()),
            None => {
                let allowed = "instanceId, host or attribute:NAME";
                return Err(at.field("field").invalid(field, allowed));
            }
        },
    };
    let skew = at.field("maxSkew");
    let max_skew = wire.max_skew.map(|most| number(&skew, most, 1..=DESIRED_COUNT_MAX));
    if max_skew.is_some() && field == SpreadField::InstanceId {
        return Err(skew.invalid(wire.max_skew.unwrap_or(0), "one of a spread over an attribute"));
    }
    Ok(PlacementStrategy::Spread { field, max_skew: max_skew.transpose()? })
}

fn is_attribute(name: &str) -> bool {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_./\\".contains(&b);
    (1..=TAG_KEY_CHARS_MAX).contains(&name.len()) && name.bytes().all(charset)
}

fn prefer(at: &At<'_>, wire: &pb::PlacementStrategy) -> Result<PlacementStrategy, Error> {
    let field = at.field("expression");
    let expression = query(&field, &wire.expression)?;
    if !expression.is_attribute_only() {
        return Err(field.invalid(&wire.expression, "a query about attributes only"));
    }
    let weight = wire.weight.unwrap_or(1);
    if weight == 0 || weight.abs() > WEIGHT_MAX {
        let allowed = format!("-{WEIGHT_MAX} to {WEIGHT_MAX}, not 0");
        return Err(at.field("weight").invalid(weight, allowed));
    }
    Ok(PlacementStrategy::Prefer { expression, weight })
}

/// The one launch type that there is: on the cluster's own instances.
pub(crate) const EC2: &str = "EC2";

pub fn launch_type(text: &str) -> Result<(), Error> {
    let at = At::Field("launchType");
    let instead = match text {
        "" | EC2 => return Ok(()),
        "FARGATE" => "capacity without instances (Fargate) is not built",
        "EXTERNAL" => "ECS Anywhere is AWS's; every machine that joins is a container instance",
        "MANAGED_INSTANCES" => "instances that are started on demand are not built",
        other => return Err(unknown(&at, other)),
    };
    let instead = format!("{instead}; leave it out or use EC2: the cluster's container instances");
    Err(at.unsupported(text, instead))
}

/// A list's filter: whether it lets through what runs here, which is all EC2.
pub fn has_launch_type(text: &str) -> Result<bool, Error> {
    match text {
        "" | EC2 => Ok(true),
        known if spelled::LAUNCH_TYPE.contains(&known) => Ok(false),
        other => Err(unknown(&At::Field("launchType"), other)),
    }
}

/// ECS's sentence.
fn unknown(at: &At<'_>, text: &str) -> Error {
    let all = spelled::LAUNCH_TYPE.join(",");
    let allowed = format!("launch type should be one of [{all}] (Leave it out, or write EC2.)");
    at.invalid(text, allowed)
}
