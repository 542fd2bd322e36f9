//! Placement constraints and strategies, launch types: what is built, and by name what is not.

use super::{At, at_most};
use crate::pb;
use muster_model::Error;
use muster_model::limits::{PLACEMENT_CONSTRAINTS_MAX, PLACEMENT_STRATEGIES_MAX};
use muster_model::spec::{Placement, PlacementConstraint, PlacementStrategy, SpreadField};

/// The attribute under which ECS knows an instance's zone.
pub(crate) const ZONE_ATTRIBUTE: &str = "ecs.availability-zone";

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
        "memberOf" => Err(member_of(at)),
        other => Err(at.field("type").invalid(other, "distinctInstance")),
    }
}

/// A task definition takes only memberOf, as in ECS; the query language is not built yet.
pub fn of_definition(wire: &[pb::PlacementConstraint]) -> Result<Vec<PlacementConstraint>, Error> {
    let at = At::Field("placementConstraints");
    match wire.first() {
        None => Ok(Vec::new()),
        Some(first) if first.r#type == "memberOf" => Err(member_of(&at.index(0))),
        Some(first) => Err(at.index(0).field("type").invalid(
            &first.r#type,
            "none in a task definition; distinctInstance is a constraint of the service",
        )),
    }
}

fn member_of(at: &At<'_>) -> Error {
    at.unsupported("memberOf", "use clusters to keep kinds of instances apart")
}

fn strategy(at: &At<'_>, wire: &pb::PlacementStrategy) -> Result<PlacementStrategy, Error> {
    let instead = || {
        format!(
            "use spread over attribute:{ZONE_ATTRIBUTE} or instanceId, or leave it out for both"
        )
    };
    match (wire.r#type.as_str(), wire.field.as_str()) {
        ("spread", "instanceId" | "host") => Ok(PlacementStrategy::Spread(SpreadField::InstanceId)),
        ("spread", field) if field.strip_prefix("attribute:") == Some(ZONE_ATTRIBUTE) => {
            Ok(PlacementStrategy::Spread(SpreadField::AvailabilityZone))
        }
        ("spread", field) if field.starts_with("attribute:") => {
            Err(at.unsupported(&format!("spread over {field}"), instead()))
        }
        ("spread", field) => {
            let allowed = format!("instanceId, host or attribute:{ZONE_ATTRIBUTE}");
            Err(at.field("field").invalid(field, allowed))
        }
        ("binpack" | "random", _) => Err(at.unsupported(&wire.r#type, instead())),
        (other, _) => Err(at.field("type").invalid(other, "spread")),
    }
}

/// ECS's launch types, which are also what a task definition may be compatible with.
pub(crate) const LAUNCH_TYPES: [&str; 4] = [EC2, "EXTERNAL", "FARGATE", "MANAGED_INSTANCES"];
/// The one that there is: on the cluster's own instances.
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
        known if LAUNCH_TYPES.contains(&known) => Ok(false),
        other => Err(unknown(&At::Field("launchType"), other)),
    }
}

/// ECS's sentence.
fn unknown(at: &At<'_>, text: &str) -> Error {
    let allowed = "launch type should be one of [EC2,FARGATE,EXTERNAL,MANAGED_INSTANCES] (Leave \
                   it out, or write EC2.)";
    at.invalid(text, allowed)
}
