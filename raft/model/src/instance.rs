//! A container instance: a worker machine that belongs to exactly one cluster.

use crate::ids::{ClusterId, InstanceId};
use crate::spec::{Named, Resources, Tags};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Attribute of an instance that only pretends to run containers.
pub const SIMULATED_ATTRIBUTE: &str = "muster.simulated";

/// ECS's name of the resource that it knows beside cpu, memory and ports.
pub const GPU_RESOURCE: &str = "GPU";

/// ECS's name for the zone, where it is asked for as an attribute.
pub const ZONE_ATTRIBUTE: &str = "ecs.availability-zone";

/// What an operator wants of it (ECS `status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InstanceStatus {
    #[default]
    Active,
    /// No new tasks; service tasks are replaced elsewhere, then stopped here.
    Draining,
    /// Deregistered: its certificate is refused, the row is kept a while.
    Inactive,
}

/// What the leader last decided about its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Registered, the agent has not connected yet.
    Registered,
    /// Its lease is held (ECS `agentConnected`).
    Ready,
    /// Its lease ran out: its tasks are abandoned.
    Down { since: Time },
}

/// What the machine is, as its agent registered it; grows by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceSpec {
    pub hostname: String,
    /// `ecs.availability-zone`.
    pub zone: String,
    /// Address that other machines reach published ports at.
    pub address: String,
    /// What tasks may use: the machine less what the system keeps.
    pub total: Resources,
    /// What else it has, by name, in whole units: `GPU`, or whatever its operator declares. A
    /// count: which device a container gets is its image's or a hook's business.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub resources: Named,
    /// Host ports the system uses itself (tcp).
    pub reserved_ports: BTreeSet<u16>,
    /// Custom and built-in attributes without the zone; the value may be absent.
    pub attributes: BTreeMap<String, Option<String>>,
    pub agent_version: String,
    /// Names and versions that `describe` shows (`runc`, `kernel`).
    pub versions: BTreeMap<String, String>,
    /// What users put on it: not the agent's to say, so a new registration keeps it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, Option<String>>,
}

impl InstanceSpec {
    /// All attributes by name, without the zone; what a user put hides what the agent says. That
    /// it only pretends is between us and the agent.
    pub fn all_attributes(&self) -> BTreeMap<&str, Option<&str>> {
        let said = self.attributes.iter().filter(|(name, _)| *name != SIMULATED_ATTRIBUTE);
        said.chain(&self.custom).map(|(name, value)| (name.as_str(), value.as_deref())).collect()
    }

    /// One attribute, the zone included. `None`: there is none of this name; `Some(None)`: it has
    /// no value.
    pub fn attribute(&self, name: &str) -> Option<Option<&str>> {
        if name == ZONE_ATTRIBUTE {
            return Some(Some(&self.zone));
        }
        let said = || self.attributes.get(name).filter(|_| name != SIMULATED_ATTRIBUTE);
        self.custom.get(name).or_else(said).map(Option::as_deref)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    pub cluster: ClusterId,
    #[serde(with = "crate::stored::named")]
    pub spec: Arc<InstanceSpec>,
    pub status: InstanceStatus,
    pub health: Health,
    pub registered_at: Time,
    /// When it became `Inactive`.
    pub deregistered_at: Option<Time>,
    pub tags: Arc<Tags>,
    pub version: u64,
}

impl Instance {
    pub fn ready(&self) -> bool {
        self.health == Health::Ready
    }

    /// New tasks may be placed on it.
    pub fn accepts_tasks(&self) -> bool {
        self.ready() && self.status == InstanceStatus::Active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_it_pretends_is_no_attribute_that_anyone_sees() {
        let spec = InstanceSpec {
            attributes: [SIMULATED_ATTRIBUTE, "ecs.os-type"].map(|name| (name.into(), None)).into(),
            custom: [("disk".into(), Some("ssd".into()))].into(),
            ..InstanceSpec::default()
        };
        let seen: Vec<_> = spec.all_attributes().into_iter().collect();
        assert_eq!(seen, [("disk", Some("ssd")), ("ecs.os-type", None)]);
    }
}
