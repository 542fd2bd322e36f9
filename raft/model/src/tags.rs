//! Tags that tasks have beside those that were asked for by name: ECS's own (`aws:...`), and those
//! of the service or definition that they come from.
//!
//! Invariant: users write no key that begins with `aws:` (the edge refuses it), so that whoever
//! reads such a tag knows who wrote it; these tags count for no limit, as in ECS.

use crate::spec::Tags;
use serde::{Deserialize, Serialize};

/// Keys of this form are ECS's own, however they are written.
pub const RESERVED_PREFIX: &str = "aws:";
/// ECS's managed tags: where a task runs, and for which service.
const CLUSTER_NAME: &str = "aws:ecs:clusterName";
const SERVICE_NAME: &str = "aws:ecs:serviceName";

/// ECS `propagateTags`: whose tags a task gets as well, as they are when it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub enum PropagateTags {
    #[default]
    None,
    Service,
    TaskDefinition,
}

impl PropagateTags {
    pub const ALL: [Self; 3] = [Self::None, Self::Service, Self::TaskDefinition];

    /// ECS's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Service => "SERVICE",
            Self::TaskDefinition => "TASK_DEFINITION",
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// As rows have it: the first two are from when a service's tags were the only ones.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    OfService(bool),
    OfDefinition(OfDefinition),
}

#[derive(Serialize, Deserialize)]
enum OfDefinition {
    TaskDefinition,
}

impl From<Kept> for PropagateTags {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::OfService(false) => Self::None,
            Kept::OfService(true) => Self::Service,
            Kept::OfDefinition(OfDefinition::TaskDefinition) => Self::TaskDefinition,
        }
    }
}

impl From<PropagateTags> for Kept {
    fn from(tags: PropagateTags) -> Self {
        match tags {
            PropagateTags::None => Self::OfService(false),
            PropagateTags::Service => Self::OfService(true),
            PropagateTags::TaskDefinition => Self::OfDefinition(OfDefinition::TaskDefinition),
        }
    }
}

/// Whether a key is ECS's own.
pub fn is_reserved(key: &str) -> bool {
    let start = key.get(..RESERVED_PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX))
}

/// How many of them users wrote.
pub(crate) fn written(tags: &Tags) -> usize {
    tags.keys().filter(|key| !is_reserved(key)).count()
}

/// ECS's managed tags (`enableECSManagedTags`) of a task in this cluster and of this service.
pub(crate) fn managed(cluster: &str, service: Option<&str>) -> Tags {
    let service = service.map(|name| (SERVICE_NAME, name));
    let all = [(CLUSTER_NAME, cluster)].into_iter().chain(service);
    all.map(|(key, name)| (key.to_owned(), name.to_owned())).collect()
}
