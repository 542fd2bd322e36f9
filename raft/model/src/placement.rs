//! Where tasks may go and where they should: constraints and strategies, as users wrote them.
//!
//! ECS's own, and beside them, in the same style, a hard `maxSkew` on a spread and `prefer`.

use crate::instance::ZONE_ATTRIBUTE;
use crate::query::Query;
use serde::{Deserialize, Serialize};

/// ECS `placementConstraints`: all of them hold, those of the definition and those of the service
/// or the run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlacementConstraint {
    /// No two tasks of one group on an instance.
    DistinctInstance,
    /// Only instances for which this holds.
    MemberOf(Query),
}

/// ECS `placementStrategy`: left to right, each breaking ties of the one before. What all of them
/// leave tied goes to the least loaded instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlacementStrategy {
    /// Fewest tasks of the same group per value of the field. Beyond ECS: with `max_skew` a task
    /// waits rather than make one value exceed the poorest by more than that.
    Spread {
        field: SpreadField,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_skew: Option<u32>,
    },
    /// The instance with the least of it left.
    Binpack(BinpackField),
    /// Drawn from the task's id, so that the same log gives the same placement.
    Random,
    /// Beyond ECS: instances for which the expression holds, by weight (a negative one avoids
    /// them). Neighbours in the list are added up. The expression asks for attributes only.
    Prefer { expression: Query, weight: i32 },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SpreadField {
    InstanceId,
    /// Instances without the attribute count as one more value.
    Attribute(String),
}

impl SpreadField {
    pub fn zone() -> Self {
        Self::Attribute(ZONE_ATTRIBUTE.into())
    }
}

impl PlacementStrategy {
    /// Spread without a limit.
    pub fn spread(field: SpreadField) -> Self {
        Self::Spread { field, max_skew: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BinpackField {
    Cpu,
    Memory,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    pub constraints: Vec<PlacementConstraint>,
    /// Empty: zone, then instance, as ECS does by default.
    pub strategies: Vec<PlacementStrategy>,
}

/// The lists of a placement that an update replaces. One that is `None` stays as it is when the
/// update is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlacementChange {
    pub constraints: Option<Vec<PlacementConstraint>>,
    pub strategies: Option<Vec<PlacementStrategy>>,
}

impl Placement {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The strategies that count: those written, or ECS's own.
    pub fn effective(&self) -> Vec<PlacementStrategy> {
        if self.strategies.is_empty() {
            return [SpreadField::zone(), SpreadField::InstanceId]
                .map(PlacementStrategy::spread)
                .into();
        }
        self.strategies.clone()
    }
}
