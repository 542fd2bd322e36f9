//! Which container of a task may start now, and which must wait to be stopped: ECS's `dependsOn`
//! and `links`.
//!
//! It reads lives and healths and changes nothing. What has no dependency waits for none; that
//! containers otherwise start in the order of the definition is `task`'s. Invariant: no container
//! is stopped before all that depend on it have ended.

use super::container::{Container, Life};
use muster_model::life::Condition;
use muster_model::spec::TaskDefinition;
use muster_model::{HealthStatus, Millis, Time};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// Not before something happens; at the latest when a start timeout ends.
    Later(Option<Time>),
    /// What it waits for cannot come true any more.
    Never(String),
}

/// Whether the container at `index` may start. `containers` are those of `spec`, in its order.
pub(super) fn turn(
    now: Time,
    spec: &TaskDefinition,
    containers: &[Container],
    index: usize,
) -> Turn {
    let mut turn = Turn::Now;
    let Some(definition) = spec.containers.get(index) else { return turn };
    for (name, condition) in definition.dependencies() {
        let named = spec.containers.iter().zip(containers);
        let mut named = named.filter(|(d, _)| d.name == name);
        // The edge refused any other name.
        let Some((on, container)) = named.next() else { continue };
        if met(condition, container) {
            continue;
        }
        let why = hopeless(condition, container);
        let limit = on.start_timeout_secs.map(|secs| Millis::from_secs(u64::from(secs)));
        let deadline = container.started_at.zip(limit).map(|(started, limit)| started + limit);
        let late = || {
            let secs = on.start_timeout_secs.unwrap_or_default();
            format!("it was not within its startTimeout of {secs} seconds")
        };
        let why = why.or_else(|| deadline.filter(|at| *at <= now).map(|_| late()));
        if let Some(why) = why {
            let (name, on, condition) = (&definition.name, &on.name, condition.name());
            return Turn::Never(format!(
                "TaskDependencyError: container {name} waits for {on} to be {condition}: {why}"
            ));
        }
        turn = Turn::Later(match turn {
            Turn::Later(at) => at.into_iter().chain(deadline).min(),
            _ => deadline,
        });
    }
    turn
}

fn met(condition: Condition, container: &Container) -> bool {
    let ended = container.life == Life::Ended && container.was_started();
    match condition {
        Condition::Start => ended || container.life == Life::Running,
        Condition::Complete => ended,
        Condition::Success => ended && container.status.exit_code == Some(0),
        Condition::Healthy => container.status.health == HealthStatus::Healthy,
    }
}

/// Why a condition that is not met will never be. What is UNHEALTHY may recover.
fn hopeless(condition: Condition, container: &Container) -> Option<String> {
    if container.life != Life::Ended {
        return None;
    }
    Some(match (condition, container.was_started(), container.status.exit_code) {
        (_, false, _) => match &container.status.reason {
            Some(reason) => format!("it never started: {reason}"),
            None => "it never started".to_owned(),
        },
        (_, true, Some(code)) => format!("it ended with code {code}"),
        (_, true, None) => "it ended and its exit code was lost".to_owned(),
    })
}

/// Whether a container that depends on the one at `index` has not ended yet.
pub(super) fn is_held(spec: &TaskDefinition, containers: &[Container], index: usize) -> bool {
    let Some(definition) = spec.containers.get(index) else { return false };
    let mut others = spec.containers.iter().zip(containers);
    others.any(|(other, container)| {
        container.life != Life::Ended
            && other.dependencies().any(|(name, _)| name == definition.name)
    })
}
