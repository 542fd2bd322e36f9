//! How containers of a task wait for each other here, and what that forbids.

use super::{Machine, Real};
use muster_control::io::{ContainerEvent, WorkerInput};
use muster_model::TaskId;
use muster_model::life::{Condition, Dependency, HealthCheck, RestartPolicy};
use muster_model::spec::ContainerDefinition;
use std::sync::Arc;

/// How they wait for each other follows from the size: not at all, for the start of another, for
/// its health check; the largest have a container that is always started again.
pub(super) fn live(containers: &mut [ContainerDefinition], cpu: u8) {
    let wait = |name: &str, condition| Dependency { container: name.into(), condition };
    match (cpu, containers) {
        (2, [_, second, ..]) => second.depends_on.push(wait("c0", Condition::Start)),
        (3, [first, second, ..]) => {
            first.health_check = Some(HealthCheck { retries: 1, ..HealthCheck::default() });
            second.depends_on.push(wait("c0", Condition::Healthy));
        }
        (4, [first, _, third]) => {
            first.depends_on.push(wait("c2", Condition::Start));
            let (enabled, attempt_period_secs) = (true, 0);
            third.restart_policy =
                Some(RestartPolicy { enabled, attempt_period_secs, ..RestartPolicy::default() });
        }
        _ => {}
    }
}

impl Machine {
    /// What it depends on is as it must be.
    pub(super) fn may_start(&self, task: TaskId, container: &str) {
        let containers = &self.assignments[&task].spec.containers;
        let own = containers.iter().find(|c| c.name == *container).unwrap();
        for dependency in &own.depends_on {
            let key = (task, Arc::from(dependency.container.as_str()));
            let met = match dependency.condition {
                Condition::Healthy => self.passed.contains(&key),
                _ => matches!(self.real.get(&key), Some(Real::Running | Real::Exited)),
            };
            assert!(met, "{container} starts before {dependency:?}");
        }
    }

    /// What waits for it waits in vain: the whole task is taken down.
    pub(super) fn never_started(&mut self, task: TaskId, container: Arc<str>) -> ContainerEvent {
        let containers = &self.assignments[&task].spec.containers;
        let waits = |c: &ContainerDefinition| {
            c.depends_on.iter().any(|dependency| dependency.container == *container)
        };
        if containers.iter().any(waits) {
            self.may_signal.insert(task);
            self.sealed.insert(task);
        }
        self.failed(task, container)
    }

    /// Nothing that depends on it runs.
    pub(super) fn may_stop(&self, task: TaskId, container: &str) {
        let containers = &self.assignments[&task].spec.containers;
        for other in containers {
            let key = (task, Arc::from(other.name.as_str()));
            let runs = self.real.get(&key) == Some(&Real::Running);
            let depends = other.depends_on.iter().any(|d| d.container == *container);
            assert!(!(runs && depends), "{container} is stopped before {}", other.name);
        }
    }

    pub(super) fn restart_one(&mut self, task: TaskId, container: Arc<str>, badly: bool) {
        let key = (task, container.clone());
        assert_eq!(self.real.get(&key), Some(&Real::Exited), "{key:?}");
        let event = match badly {
            true => self.failed(task, container),
            false => {
                self.real.insert(key, Real::Running);
                ContainerEvent::Restarted { container, pid: None, at: self.now }
            }
        };
        self.tell(WorkerInput::Container { task, event });
    }

    pub(super) fn check_one(
        &mut self,
        task: TaskId,
        container: Arc<str>,
        number: u32,
        badly: bool,
    ) {
        let outcome = match badly {
            true => Err(Arc::from("no")),
            false => Ok(()),
        };
        if !badly {
            self.passed.insert((task, container.clone()));
        }
        let event = ContainerEvent::Checked { container, number, outcome };
        self.tell(WorkerInput::Container { task, event });
    }
}
