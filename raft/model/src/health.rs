//! When a task of a service counts as healthy: the one place that says it, for `apply`, which
//! guards the minimum healthy percent, for the leader, which plans within it, and for the circuit
//! breaker.
//!
//! It knows no clock: a time is compared with the state's. Invariant: a task that is not RUNNING,
//! or not wanted any more, is not healthy.

use crate::cluster::HEALTHY_AFTER_SETTING;
use crate::ids::ClusterId;
use crate::life::HealthStatus;
use crate::limits;
use crate::spec::TaskDefinition;
use crate::state::State;
use crate::task::Task;
use crate::time::{Millis, Time};

impl Task {
    /// When it counts as healthy, if nothing happens to it until then; `None` as long as that is
    /// up to its agent. A task without any check counts once it has been RUNNING for `after`.
    pub fn healthy_at(&self, after: Millis) -> Option<Time> {
        self.observed.started_at.filter(|_| self.running()).map(|at| at + after)
    }

    /// Serves: RUNNING, wanted, and its health checks pass or, without any, RUNNING for long enough
    /// that it will not fall over at once. What a service's percentages count. `spec` is the
    /// definition it runs by.
    pub fn is_healthy(&self, spec: &TaskDefinition, after: Millis, now: Time) -> bool {
        let Some(at) = self.healthy_at(after) else { return false };
        match self.checked_health(spec) {
            Some(health) => health == HealthStatus::Healthy,
            None => at <= now,
        }
    }
}

impl State {
    /// How long a task without any check runs in this cluster before it counts as healthy.
    pub fn healthy_after(&self, cluster: ClusterId) -> Millis {
        let setting = self.cluster(cluster).and_then(|row| row.settings.get(HEALTHY_AFTER_SETTING));
        let seconds = setting.and_then(|text| text.parse::<u64>().ok());
        // The edge allows no more; a row from elsewhere must not hold deployments up for ever.
        let bounded = seconds.map(|seconds| seconds.min(limits::HEALTHY_AFTER_SECS_MAX));
        bounded.map_or(limits::HEALTHY_AFTER, Millis::from_secs)
    }

    pub fn is_healthy(&self, task: &Task) -> bool {
        let after = self.healthy_after(task.cluster);
        let row = self.definition(task.definition);
        row.is_some_and(|row| task.is_healthy(&row.spec, after, self.now()))
    }
}
