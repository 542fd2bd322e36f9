//! A service keeps a number of tasks of one definition running; its deployments are its memory of
//! how it gets from one definition to the next.

use crate::alarm::DeploymentAlarms;
use crate::breaker::CircuitBreaker;
use crate::ids::{ClusterId, DefinitionId, DeploymentId, ServiceId};
use crate::limits;
use crate::placement::{Placement, PlacementChange, PlacementStrategy, SpreadField};
use crate::spec::Tags;
use crate::strategy::DeploymentStrategy;
use crate::tags::PropagateTags;
use crate::task_set::DeploymentController;
use crate::time::{Millis, Time};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceStatus {
    #[default]
    Active,
    /// Deleted; its tasks are stopping. The name is free again when it is `Inactive`.
    Draining,
    Inactive,
}

/// ECS `deploymentConfiguration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentConfiguration {
    /// Percent of the desired count, rounded up, that stays running during a deployment.
    pub minimum_healthy_percent: u32,
    /// Percent of the desired count, rounded down, that may exist during a deployment.
    pub maximum_percent: u32,
}

impl DeploymentConfiguration {
    /// ECS's defaults for DAEMON services; their maximum is never anything else.
    pub const DAEMON: Self = Self { minimum_healthy_percent: 0, maximum_percent: 100 };
    /// A strict singleton's: the old task has ended before the new one starts.
    pub const STRICT: Self = Self { minimum_healthy_percent: 0, maximum_percent: 100 };
}

impl Default for DeploymentConfiguration {
    /// ECS's defaults for REPLICA services.
    fn default() -> Self {
        Self { minimum_healthy_percent: 100, maximum_percent: 200 }
    }
}

impl DeploymentConfiguration {
    /// Fewest running tasks, rounded up as ECS does.
    pub fn floor(&self, desired: u32) -> u32 {
        percent(desired, self.minimum_healthy_percent).div_ceil(100) as u32
    }

    /// Most tasks, rounded down as ECS does.
    pub fn ceiling(&self, desired: u32) -> u32 {
        (percent(desired, self.maximum_percent) / 100) as u32
    }
}

fn percent(desired: u32, percent: u32) -> u64 {
    // Counts are at most 10,000 and percents at most 1,000 (checked at the edge): no overflow.
    u64::from(desired) * u64::from(percent)
}

/// ECS `schedulingStrategy`: what decides how many tasks a service should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchedulingStrategy {
    /// As many as its user says.
    #[default]
    Replica,
    /// One on each instance that accepts tasks and satisfies its constraints
    /// (`State::desired_count`).
    Daemon,
}

impl SchedulingStrategy {
    fn is_replica(&self) -> bool {
        *self == Self::Replica
    }
}

/// What users write; stored by name because it keeps gaining fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    pub name: String,
    /// What the user said; 0 for DAEMON. What counts is `State::desired_count`.
    pub desired_count: u32,
    #[serde(skip_serializing_if = "SchedulingStrategy::is_replica")]
    pub scheduling: SchedulingStrategy,
    pub deployment: DeploymentConfiguration,
    pub placement: Placement,
    #[serde(rename = "propagate_service_tags")]
    pub propagate_tags: PropagateTags,
    /// ECS `healthCheckGracePeriodSeconds`: for so long after its start no task is given up because
    /// its health checks fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_grace_secs: Option<u32>,
    /// ECS `enableExecuteCommand`: kept and shown; commands can be run in any task.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_execute_command: bool,
    /// ECS `availabilityZoneRebalancing`; services from before it are DISABLED, as in ECS.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub az_rebalancing: bool,
    /// ECS `deploymentConfiguration.deploymentCircuitBreaker`.
    #[serde(skip_serializing_if = "CircuitBreaker::is_default")]
    pub circuit_breaker: CircuitBreaker,
    /// ECS `deploymentConfiguration.alarms`.
    #[serde(skip_serializing_if = "DeploymentAlarms::is_default")]
    pub alarms: DeploymentAlarms,
    /// ECS `deploymentConfiguration.strategy`, with its bake time and hooks.
    #[serde(skip_serializing_if = "DeploymentStrategy::is_default")]
    pub strategy: DeploymentStrategy,
    /// Muster's own, fixed at creation: no two tasks of it ever run at the same time, also while
    /// the instance of one is out of reach (`strict.rs`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// ECS `enableECSManagedTags`, for tasks that are made from now on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub managed_tags: bool,
    #[serde(skip_serializing_if = "DeploymentController::is_ecs")]
    pub controller: DeploymentController,
}

impl ServiceSpec {
    /// Its revisions are task sets.
    pub fn is_external(&self) -> bool {
        self.controller == DeploymentController::External
    }

    pub fn is_daemon(&self) -> bool {
        self.scheduling == SchedulingStrategy::Daemon
    }

    /// ECS: a REPLICA service that spreads over zones before all else, and may have a task more
    /// than it should while one moves. Task sets are their owner's to move.
    pub fn can_rebalance(&self) -> bool {
        let over_zones = |first: &PlacementStrategy| match first {
            PlacementStrategy::Spread { field, .. } => *field == SpreadField::zone(),
            _ => false,
        };
        self.scheduling == SchedulingStrategy::Replica
            && !self.is_external()
            && self.deployment.maximum_percent > 100
            && self.placement.strategies.first().is_none_or(over_zones)
    }

    /// Its tasks move when zones have unequally many of them.
    pub fn rebalances_zones(&self) -> bool {
        self.az_rebalancing && self.can_rebalance()
    }
}

/// The optional part of an update, stored by name like the spec it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceChange {
    pub desired_count: Option<u32>,
    pub minimum_healthy_percent: Option<u32>,
    pub maximum_percent: Option<u32>,
    pub placement: Option<PlacementChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_grace_secs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_execute_command: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub az_rebalancing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarms: Option<DeploymentAlarms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<DeploymentStrategy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagate_tags: Option<PropagateTags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_tags: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutState {
    #[default]
    InProgress,
    Completed,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    pub definition: DefinitionId,
    pub created_at: Time,
    pub updated_at: Time,
    pub rollout: RolloutState,
    /// Tasks that failed in a row; 0 again once one runs (ECS `failedTasks`).
    pub failed_tasks: u32,
    /// When the last of them was counted.
    pub failed_at: Option<Time>,
    /// Why it goes no further.
    pub halt: Option<Halt>,
    /// How it ended; one that is rolled back to has ended before, well.
    pub end: Option<End>,
}

impl Deployment {
    /// It goes on, and for the first time: neither over, nor being rolled back, nor rolled back to.
    pub fn is_open(&self) -> bool {
        self.rollout == RolloutState::InProgress && self.end.is_none() && self.halt.is_none()
    }

    pub fn has_completed(&self) -> bool {
        self.end.is_some_and(|end| end.outcome == Outcome::Successful)
    }
}

/// A deployment that failed or was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    pub cause: HaltCause,
    pub at: Time,
    /// The one that is newest again in its place.
    pub back_to: Option<DeploymentId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HaltCause {
    /// The circuit breaker's threshold was reached.
    TasksFailed,
    /// StopServiceDeployment.
    User,
    /// A lifecycle hook was not released in time.
    HookTimedOut,
    /// A lifecycle hook's endpoint answered so, or what no hook may.
    HookFailed,
    /// One of its alarms went into ALARM.
    Alarm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub outcome: Outcome,
    pub at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Successful,
    /// It failed or was stopped, and nothing took its place.
    Stopped,
    /// A newer one took its place.
    Replaced,
    /// It failed or was stopped, and the one before it has completed again.
    RolledBack,
    /// A newer one took the place of the one that it was rolled back to.
    RollbackFailed,
}

impl Outcome {
    /// ECS's `status` of a service deployment.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Successful => "SUCCESSFUL",
            Self::Stopped | Self::Replaced => "STOPPED",
            Self::RolledBack => "ROLLBACK_SUCCESSFUL",
            Self::RollbackFailed => "ROLLBACK_FAILED",
        }
    }
}

/// Restart back-off, a row so that a failover does not forget it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Rounds of failed starts in a row.
    pub failures: u32,
    /// No task is started before this.
    pub until: Time,
}

impl Backoff {
    /// The next state after a task created at `created` failed at `now`: the delays are 0, then
    /// 1 s, 2 s, 4 s ... up to the bound.
    /// The first failure is free: a task that ran and crashed is replaced at once, as in ECS.
    /// Rounds are counted, not tasks: ten replicas of a broken image that were created together
    /// are one failure. A streak that paused for longer than `BACKOFF_FORGET` starts over.
    pub fn failed(self, created: Time, now: Time) -> Self {
        let counted_at = self.until - self.delay();
        if self.failures > 0 && created < counted_at {
            return self;
        }
        let over = now.since(self.until) > limits::BACKOFF_FORGET;
        let failures = if over { 1 } else { self.failures.saturating_add(1) };
        let next = Self { failures, until: now };
        Self { until: now + next.delay(), ..next }
    }

    /// What a deployment that is not the newest waits for, by its own counters: all of the
    /// service's tasks at once count as one round.
    pub fn of_older(deployment: &Deployment, desired: u32) -> Self {
        let failures = deployment.failed_tasks.div_ceil(desired.max(1));
        let last = Self { failures, until: deployment.failed_at.unwrap_or_default() };
        Self { until: last.until + last.delay(), ..last }
    }

    /// How long after the last counted failure nothing is started.
    fn delay(self) -> Millis {
        match self.failures {
            0 | 1 => Millis(0),
            failures => {
                let doublings = failures.saturating_sub(2).min(16);
                Millis((limits::BACKOFF_BASE.0 << doublings).min(limits::BACKOFF_MAX.0))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub cluster: ClusterId,
    #[serde(with = "crate::stored::named")]
    pub spec: Arc<ServiceSpec>,
    pub status: ServiceStatus,
    /// Newest (PRIMARY) first; older ones (ACTIVE) stay while they have tasks. With the EXTERNAL
    /// controller its task sets, the newest first.
    pub deployments: Vec<Deployment>,
    pub backoff: Backoff,
    pub tags: Arc<Tags>,
    pub created_at: Time,
    pub created_by: Arc<str>,
    /// When it became `Inactive`.
    pub deleted_at: Option<Time>,
    /// Number the next event gets; the newest `limits::EVENTS_PER_SERVICE_MAX` are kept.
    pub next_event: u64,
    pub version: u64,
    /// Deployments that are over and have no tasks left, the newest first.
    pub past: Vec<Deployment>,
}

impl Service {
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.first()
    }

    /// Also those that are over, as far as they are remembered.
    pub fn all_deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments.iter().chain(&self.past)
    }

    /// Where the newest deployment would be rolled back to: the last one before it that completed.
    pub fn rollback_target(&self) -> Option<DeploymentId> {
        self.deployments.iter().skip(1).find(|row| row.has_completed()).map(|row| row.id)
    }

    /// The deployment that failed or was stopped and is being rolled back to this one.
    pub fn rolled_back_to(&self, target: DeploymentId) -> Option<&Deployment> {
        self.deployments.iter().find(|row| {
            row.end.is_none() && row.halt.is_some_and(|halt| halt.back_to == Some(target))
        })
    }
}

/// A line of a service's history, in ECS's wording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at: Time,
    pub text: Arc<str>,
}
