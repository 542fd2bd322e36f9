//! Which version of its images each deployment of a service runs: ECS's software version
//! consistency.
//!
//! A tag may mean other bits tomorrow. What it meant for the first task of a deployment that could
//! say so is settled for all tasks of that deployment which are ordered later, whoever leads: also
//! when the service is scaled, and when it is rolled back to that deployment. It does not know
//! registries. Invariants: what is settled stays; a service has pins of those deployments only that
//! it remembers.

use crate::ids::{DeploymentId, ServiceId};
use crate::service::Service;
use crate::spec::ContainerDefinition;
use crate::state::State;
use crate::task::{ContainerStatus, Task};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// ECS `versionConsistency` of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionConsistency {
    Enabled,
    /// Each instance asks anew what the tag means, whenever it pulls.
    Disabled,
}

/// The pins of a service: at most `limits::DEPLOYMENTS_PER_SERVICE_MAX` and as many past
/// deployments, with one for each container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    pub service: ServiceId,
    /// By deployment and container.
    pub deployments: BTreeMap<DeploymentId, BTreeMap<Arc<str>, Pin>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What the registry serves under the tag, an index or a manifest: `sha256:` and 64 digits.
    pub digest: Arc<str>,
    /// Tasks that are placed later are ordered to run it.
    pub at: Time,
}

impl Pin {
    /// The task has said that it runs other bits, and could not know of these when it was placed.
    fn is_missed_by(&self, task: &Task, container: &ContainerStatus) -> bool {
        let early = task.placed_at.is_some_and(|at| at <= self.at);
        early && container.image_digest.as_ref().is_some_and(|digest| *digest != self.digest)
    }
}

impl Pins {
    pub fn pin(&self, deployment: DeploymentId, container: &str) -> Option<&Pin> {
        self.deployments.get(&deployment)?.get(container)
    }
}

impl ContainerDefinition {
    /// The digest that stands in its image's name.
    pub fn named_digest(&self) -> Option<&str> {
        let digest = self.image.split_once('@').map(|(_, digest)| digest);
        digest.filter(|_| self.is_from_registry())
    }

    /// Whether a deployment settles what its image is: the name may come to mean something else,
    /// in a registry that has both.
    pub fn is_pinned(&self) -> bool {
        self.version_consistency != Some(VersionConsistency::Disabled)
            && self.is_from_registry()
            && self.named_digest().is_none()
    }

    /// Otherwise it is of a directory or a file, and every instance has its own.
    fn is_from_registry(&self) -> bool {
        !self.image.starts_with("oci-layout:") && !self.image.starts_with("oci-archive:")
    }
}

impl State {
    pub fn pins(&self, service: ServiceId) -> Option<&Arc<Pins>> {
        self.pins.get(&service)
    }

    /// The digests that a task is to run, by container. Tasks without a service have none: each of
    /// them asks its registries, as in ECS.
    pub fn digests_for(&self, task: &Task) -> BTreeMap<Arc<str>, Arc<str>> {
        let pins = task.service().and_then(|service| self.pins(service)).zip(task.deployment());
        let own = pins.and_then(|(pins, deployment)| pins.deployments.get(&deployment));
        let digest = |(container, pin): (&Arc<str>, &Pin)| (container.clone(), pin.digest.clone());
        own.into_iter().flatten().map(digest).collect()
    }

    /// Whether the task runs other bits than its deployment, and has to make room for one that runs
    /// the same. Tasks that were placed before the first of them could speak may; those of a
    /// deployment that has completed are left alone.
    pub fn is_stray(&self, service: &Service, task: &Task) -> bool {
        let Some(pins) = self.pins(service.id) else { return false };
        let row = |id| service.deployments.iter().find(|row| row.id == id);
        let Some(row) = task.deployment().and_then(row).filter(|row| !row.has_completed()) else {
            return false;
        };
        task.observed.containers.iter().any(|container| {
            pins.pin(row.id, &container.name).is_some_and(|pin| pin.is_missed_by(task, container))
        })
    }

    pub(crate) fn put_pins(&mut self, row: Arc<Pins>) {
        self.pins.insert(row.service, row);
    }

    pub(crate) fn remove_pins(&mut self, service: ServiceId) {
        self.pins.remove(&service);
    }
}
