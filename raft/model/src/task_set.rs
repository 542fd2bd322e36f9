//! Task sets: the revisions of a service whose deployment controller is EXTERNAL. Somebody else
//! decides how such a service gets from one revision to the next; Muster keeps each set at its
//! share.
//!
//! A set is a deployment of its service (`Service::deployments`) whose tasks are a side of their
//! own (`State::sides`), so percentages, restart back-off, drains and image digests hold for each
//! set by itself. What a deployment does not have stands here, in one row per service. It does not
//! know what tasks there are, or who takes the traffic from one set to the other.
//! Invariants: an ACTIVE service with this controller has an entry here for each of its deployments
//! and no other; the primary one is among them; a set that drains stays until its tasks have ended.

use crate::ids::{ClusterId, DefinitionId, DeploymentId, ServiceId};
use crate::service::{Deployment, Service, ServiceSpec};
use crate::spec::Tags;
use crate::state::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// ECS `deploymentController.type`, fixed at creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeploymentController {
    /// Muster takes a service from one revision to the next.
    #[default]
    Ecs,
    /// The owner of the service does, with task sets.
    External,
}

impl DeploymentController {
    pub(crate) fn is_ecs(&self) -> bool {
        *self == Self::Ecs
    }
}

/// ECS `scale`: the share of its service's desired count that a set should have, in hundredths of a
/// percent; at most `Scale::WHOLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scale(u32);

impl Scale {
    pub const WHOLE: Self = Self(10_000);
    pub const NONE: Self = Self(0);

    /// `None` above the whole.
    pub fn hundredths(of_a_percent: u32) -> Option<Self> {
        let scale = Self(of_a_percent);
        (scale <= Self::WHOLE).then_some(scale)
    }

    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// ECS `computedDesiredCount`: rounded up.
    pub fn of(self, desired: u32) -> u32 {
        // At most `desired`: it fits.
        (u64::from(desired) * u64::from(self.0)).div_ceil(u64::from(Self::WHOLE.0)) as u32
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSets {
    pub service: ServiceId,
    /// The one that serves production traffic, by its owner's word.
    pub primary: Option<DeploymentId>,
    pub sets: BTreeMap<DeploymentId, TaskSet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSet {
    /// What the external system calls it.
    pub external_id: Option<Arc<str>>,
    pub scale: Scale,
    /// Deleted: its tasks are stopping.
    pub draining: bool,
    pub tags: Arc<Tags>,
}

/// What changes task sets. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskSetCommand {
    /// CreateService with the controller EXTERNAL: nothing runs before it has a set.
    CreateService {
        id: ServiceId,
        cluster: ClusterId,
        #[serde(with = "crate::stored::named")]
        spec: Arc<ServiceSpec>,
        tags: Tags,
    },
    Create(NewTaskSet),
    Scale {
        service: ServiceId,
        set: DeploymentId,
        scale: Scale,
    },
    SetPrimary {
        service: ServiceId,
        set: DeploymentId,
    },
    /// Without force only one that is scaled to nothing.
    Delete {
        service: ServiceId,
        set: DeploymentId,
        force: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTaskSet {
    pub service: ServiceId,
    pub id: DeploymentId,
    pub definition: DefinitionId,
    pub external_id: Option<Arc<str>>,
    pub scale: Scale,
    pub tags: Tags,
}

impl State {
    pub fn task_sets(&self, service: ServiceId) -> Option<&Arc<TaskSets>> {
        self.task_sets.get(&service)
    }

    pub fn task_set(&self, service: ServiceId, set: DeploymentId) -> Option<&TaskSet> {
        self.task_sets(service)?.sets.get(&set)
    }

    /// The deployment that stands for the service: the primary set's, where there are sets.
    pub fn newest<'a>(&self, service: &'a Service) -> Option<&'a Deployment> {
        if !service.spec.is_external() {
            return service.primary();
        }
        let primary = self.task_sets(service.id)?.primary?;
        service.deployments.iter().find(|row| row.id == primary)
    }

    pub(crate) fn put_task_sets(&mut self, row: Arc<TaskSets>) {
        self.task_sets.insert(row.service, row);
    }

    pub(crate) fn remove_task_sets(&mut self, service: ServiceId) {
        self.task_sets.remove(&service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_as_ecs_does() {
        let share = |hundredths, desired| Scale::hundredths(hundredths).map(|s| s.of(desired));
        assert_eq!(share(10_000, 7), Some(7));
        assert_eq!(share(5_000, 7), Some(4));
        assert_eq!(share(1, 10_000), Some(1));
        assert_eq!(share(0, 10_000), Some(0));
        assert_eq!(share(10_001, 1), None);
    }
}
