//! How the containers of one task wait for each other, how each is watched and when it is started
//! again: ECS's `dependsOn`, `healthCheck` and `restartPolicy`, and what a task's health is.
//!
//! It does not know when anything happens: an agent's brain does. Values are checked at the edge.

use crate::limits;
use crate::spec::TaskDefinition;
use crate::state::State;
use crate::task::{Desired, Phase, Task};
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// ECS `dependsOn[].condition`: what another container must have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// It was started.
    Start,
    /// It ended, with whatever code.
    Complete,
    /// It ended with 0.
    Success,
    /// Its health check passed; looked at only until the dependent has started.
    Healthy,
}

impl Condition {
    pub const ALL: [Condition; 4] = [Self::Start, Self::Complete, Self::Success, Self::Healthy];

    /// ECS's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Complete => "COMPLETE",
            Self::Success => "SUCCESS",
            Self::Healthy => "HEALTHY",
        }
    }
}

/// ECS `dependsOn[]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Another container of the same task, by name.
    pub container: String,
    pub condition: Condition,
}

/// ECS `healthCheck`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// `CMD` and the words of a command, or `CMD-SHELL` and one line for the container's shell.
    pub command: Vec<String>,
    pub interval_secs: u32,
    pub timeout_secs: u32,
    /// Failures in a row that make the container UNHEALTHY.
    pub retries: u32,
    /// Failures this soon after its start do not count; a success does.
    pub start_period_secs: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            interval_secs: limits::HEALTH_INTERVAL_SECS_DEFAULT,
            timeout_secs: limits::HEALTH_TIMEOUT_SECS_DEFAULT,
            retries: limits::HEALTH_RETRIES_DEFAULT,
            start_period_secs: 0,
        }
    }
}

impl HealthCheck {
    /// What is executed in the container.
    pub fn words(&self) -> Vec<String> {
        match self.command.split_first() {
            Some((kind, line)) if kind == "CMD-SHELL" => {
                ["/bin/sh", "-c"].map(str::to_owned).into_iter().chain(line.to_vec()).collect()
            }
            Some((_, words)) => words.to_vec(),
            None => Vec::new(),
        }
    }
}

/// ECS `restartPolicy`: the agent starts a container again in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    pub enabled: bool,
    pub ignored_exit_codes: Vec<i32>,
    /// It must have run this long since its last start.
    pub attempt_period_secs: u32,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            enabled: false,
            ignored_exit_codes: Vec::new(),
            attempt_period_secs: limits::RESTART_PERIOD_SECS_DEFAULT,
        }
    }
}

impl RestartPolicy {
    /// Whether a container that ended so, having run for so long, is started again.
    pub fn restarts(&self, exit_code: Option<i32>, ran: Millis) -> bool {
        self.enabled
            && ran >= Millis::from_secs(u64::from(self.attempt_period_secs))
            && exit_code.is_none_or(|code| !self.ignored_exit_codes.contains(&code))
    }
}

/// ECS `healthStatus`, of a container or a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HealthStatus {
    /// There is no check, or none has decided yet.
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    /// ECS's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        }
    }

    /// Of several together: one that is UNHEALTHY decides, then one that is UNKNOWN.
    fn of(all: impl Iterator<Item = HealthStatus>) -> Option<HealthStatus> {
        let worse = |one: HealthStatus| match one {
            Self::Healthy => 0,
            Self::Unknown => 1,
            Self::Unhealthy => 2,
        };
        all.max_by_key(|one| worse(*one))
    }
}

impl Task {
    /// What the health checks of its essential containers say together; `None` if none of them has
    /// one, so that time alone must tell. `spec` is the definition it runs by.
    pub fn checked_health(&self, spec: &TaskDefinition) -> Option<HealthStatus> {
        let checked = spec.containers.iter().filter(|c| c.essential && c.health_check.is_some());
        HealthStatus::of(checked.map(|c| self.health_of(&c.name)))
    }

    /// ECS `healthStatus`: of all essential containers, so that one without a check leaves the task
    /// UNKNOWN, as there.
    pub fn health_status(&self, spec: &TaskDefinition) -> HealthStatus {
        let essential = spec.containers.iter().filter(|c| c.essential);
        HealthStatus::of(essential.map(|c| self.health_of(&c.name))).unwrap_or_default()
    }

    /// A health check of an essential container fails while the task is wanted, also while it
    /// starts: others of its containers may wait for that one.
    pub fn is_unhealthy(&self, spec: &TaskDefinition) -> bool {
        let begun = matches!(self.observed.phase, Phase::Activating | Phase::Running);
        let wanted = begun && self.desired == Desired::Running;
        wanted && self.checked_health(spec) == Some(HealthStatus::Unhealthy)
    }

    fn health_of(&self, container: &str) -> HealthStatus {
        let mut containers = self.observed.containers.iter();
        let seen = containers.find(|c| &*c.name == container && c.phase == Phase::Running);
        seen.map(|c| c.health).unwrap_or_default()
    }
}

/// The same by a task's row alone: overrides of a run leave its health checks as they are.
impl State {
    pub fn checked_health(&self, task: &Task) -> Option<HealthStatus> {
        self.definition(task.definition).and_then(|row| task.checked_health(&row.spec))
    }

    pub fn is_unhealthy(&self, task: &Task) -> bool {
        self.definition(task.definition).is_some_and(|row| task.is_unhealthy(&row.spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterId, DefinitionId, TaskId};
    use crate::spec::ContainerDefinition;
    use crate::task::{ContainerStatus, Observed, Owner};
    use crate::time::Time;

    const STARTED: Time = Time(1000);

    fn container(name: &str, essential: bool, checked: bool) -> ContainerDefinition {
        let health_check = checked.then(HealthCheck::default);
        ContainerDefinition { name: name.into(), essential, health_check, ..Default::default() }
    }

    fn spec(containers: &[(&str, bool, bool)]) -> TaskDefinition {
        let containers = containers.iter().map(|(n, e, c)| container(n, *e, *c)).collect();
        TaskDefinition { containers, ..Default::default() }
    }

    fn task(healths: &[(&str, HealthStatus)]) -> Task {
        let (id, cluster) = (TaskId::from_bits(1), ClusterId::from_bits(1));
        let owner = Owner::Run { group: "g".into(), started_by: None };
        let containers = healths.iter().map(|(name, health)| ContainerStatus {
            name: (*name).into(),
            phase: Phase::Running,
            health: *health,
            ..Default::default()
        });
        let observed = Observed {
            phase: Phase::Running,
            containers: containers.collect(),
            started_at: Some(STARTED),
            ..Default::default()
        };
        Task { observed, ..Task::new(id, cluster, owner, DefinitionId(1), Time(0)) }
    }

    #[test]
    fn the_worst_essential_container_is_the_tasks_health() {
        use HealthStatus::{Healthy, Unhealthy, Unknown};
        let both = spec(&[("a", true, true), ("b", true, true), ("side", false, true)]);
        for (a, b, whole) in [
            (Healthy, Healthy, Healthy),
            (Healthy, Unknown, Unknown),
            (Unknown, Unhealthy, Unhealthy),
        ] {
            let task = task(&[("a", a), ("b", b), ("side", Unhealthy)]);
            assert_eq!(task.health_status(&both), whole, "{a:?} {b:?}");
            assert_eq!(task.checked_health(&both), Some(whole));
        }
        let half = spec(&[("a", true, true), ("b", true, false)]);
        let task = task(&[("a", Healthy), ("b", Unknown)]);
        assert_eq!(task.health_status(&half), Unknown);
        assert_eq!(task.checked_health(&half), Some(Healthy));
    }

    #[test]
    fn a_check_decides_what_is_healthy_and_time_where_there_is_none() {
        let soon = STARTED + Millis(1);
        let later = STARTED + limits::HEALTHY_AFTER;
        let checked = spec(&[("a", true, true)]);
        let task = |health| task(&[("a", health)]);
        assert!(task(HealthStatus::Healthy).is_healthy(&checked, limits::HEALTHY_AFTER, soon));
        assert!(!task(HealthStatus::Unknown).is_healthy(&checked, limits::HEALTHY_AFTER, later));
        assert!(task(HealthStatus::Unhealthy).is_unhealthy(&checked));
        let unchecked = spec(&[("a", true, false), ("side", false, true)]);
        assert!(!task(HealthStatus::Unknown).is_healthy(&unchecked, limits::HEALTHY_AFTER, soon));
        assert!(task(HealthStatus::Unknown).is_healthy(&unchecked, limits::HEALTHY_AFTER, later));
    }

    #[test]
    fn what_ended_is_not_what_its_check_last_said() {
        let mut task = task(&[("a", HealthStatus::Unhealthy)]);
        task.observed.containers[0].phase = Phase::Stopped;
        assert_eq!(task.health_status(&spec(&[("a", true, true)])), HealthStatus::Unknown);
    }

    #[test]
    fn a_restart_needs_its_period_and_a_code_that_is_not_ignored() {
        let policy = RestartPolicy {
            enabled: true,
            ignored_exit_codes: vec![0, 3],
            attempt_period_secs: 60,
        };
        let minute = Millis::from_secs(60);
        assert!(policy.restarts(Some(1), minute) && policy.restarts(None, minute));
        assert!(!policy.restarts(Some(3), minute));
        assert!(!policy.restarts(Some(1), Millis(59_999)));
        assert!(!RestartPolicy { enabled: false, ..policy }.restarts(Some(1), minute));
    }
}
