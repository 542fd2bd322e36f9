//! How containers of a task wait for each other, are watched and are started again.
//!
//! Each value is judged by itself in `depends_on`, `health_check` and `restart_policy`; what they
//! say of each other, in `check`. Invariant: what passes `check` can be started in some order.

use super::container::words;
use crate::convert::{At, amount, at_most, number};
use crate::pb;
use muster_model::Error;
use muster_model::life::{Condition, Dependency, HealthCheck, RestartPolicy};
use muster_model::limits::{
    CONTAINERS_PER_DEFINITION_MAX, HEALTH_INTERVAL_SECS, HEALTH_RETRIES, HEALTH_START_PERIOD_SECS,
    HEALTH_TIMEOUT_SECS, IGNORED_EXIT_CODES_MAX, RESTART_PERIOD_SECS, START_TIMEOUT_SECS_MAX,
    START_TIMEOUT_SECS_MIN, STOP_TIMEOUT_SECS_MAX,
};
use muster_model::spec::ContainerDefinition;
use std::collections::BTreeSet;

/// What one process can end with.
const EXIT_CODES: std::ops::RangeInclusive<i32> = 0..=255;

pub fn depends_on(at: &At<'_>, wire: &[pb::ContainerDependency]) -> Result<Vec<Dependency>, Error> {
    let most = CONTAINERS_PER_DEFINITION_MAX * Condition::ALL.len();
    at_most(at, wire.len(), most, "dependencies")?;
    let mut all: Vec<Dependency> = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let at = at.index(index);
        let condition = Condition::ALL.into_iter().find(|c| c.name() == wire.condition);
        let condition = condition.ok_or_else(|| {
            let names = Condition::ALL.map(Condition::name).join(", ");
            at.field("condition").invalid(&wire.condition, names)
        })?;
        let dependency = Dependency { container: wire.container_name.clone(), condition };
        if all.contains(&dependency) {
            let allowed = format!("{} of each container once", condition.name());
            return Err(at.field("containerName").invalid(&wire.container_name, allowed));
        }
        all.push(dependency);
    }
    Ok(all)
}

pub fn start_timeout(at: &At<'_>, wire: Option<i32>) -> Result<Option<u32>, Error> {
    let range = START_TIMEOUT_SECS_MIN..=START_TIMEOUT_SECS_MAX;
    wire.map(|secs| amount(at, secs, range, "seconds")).transpose()
}

pub fn stop_timeout(at: &At<'_>, wire: Option<i32>) -> Result<Option<u32>, Error> {
    wire.map(|secs| amount(at, secs, 0..=STOP_TIMEOUT_SECS_MAX, "seconds")).transpose()
}

pub fn health_check(
    at: &At<'_>,
    wire: Option<&pb::HealthCheck>,
) -> Result<Option<HealthCheck>, Error> {
    let Some(wire) = wire else { return Ok(None) };
    let command = at.field("command");
    let kind = wire.command.first().map(String::as_str).unwrap_or_default();
    if !["CMD", "CMD-SHELL"].contains(&kind) || wire.command.len() < 2 {
        let allowed = "CMD and the words of a command, or CMD-SHELL and one line for a shell, as \
                       [\"CMD-SHELL\", \"curl -f http://localhost/ || exit 1\"]";
        return Err(command.invalid(format!("[{}]", wire.command.join(", ")), allowed));
    }
    let default = HealthCheck::default();
    let seconds = |field, wire: Option<i32>, range, otherwise| match wire {
        Some(secs) => amount(&at.field(field), secs, range, "seconds"),
        None => Ok(otherwise),
    };
    Ok(Some(HealthCheck {
        command: words(&command, &wire.command)?,
        interval_secs: seconds(
            "interval",
            wire.interval,
            HEALTH_INTERVAL_SECS,
            default.interval_secs,
        )?,
        timeout_secs: seconds("timeout", wire.timeout, HEALTH_TIMEOUT_SECS, default.timeout_secs)?,
        retries: match wire.retries {
            Some(retries) => number(&at.field("retries"), retries, HEALTH_RETRIES)?,
            None => default.retries,
        },
        start_period_secs: seconds("startPeriod", wire.start_period, HEALTH_START_PERIOD_SECS, 0)?,
    }))
}

pub fn restart_policy(
    at: &At<'_>,
    wire: Option<&pb::ContainerRestartPolicy>,
) -> Result<Option<RestartPolicy>, Error> {
    let Some(wire) = wire else { return Ok(None) };
    let codes = at.field("ignoredExitCodes");
    at_most(&codes, wire.ignored_exit_codes.len(), IGNORED_EXIT_CODES_MAX, "exit codes")?;
    for (index, code) in wire.ignored_exit_codes.iter().enumerate() {
        if !EXIT_CODES.contains(code) {
            return Err(codes.index(index).invalid(code, "0 to 255"));
        }
    }
    let period = at.field("restartAttemptPeriod");
    Ok(Some(RestartPolicy {
        enabled: wire.enabled,
        ignored_exit_codes: wire.ignored_exit_codes.clone(),
        attempt_period_secs: match wire.restart_attempt_period {
            Some(secs) => amount(&period, secs, RESTART_PERIOD_SECS, "seconds")?,
            None => RestartPolicy::default().attempt_period_secs,
        },
    }))
}

/// Every dependency can come true, and none waits for itself, whichever way around.
pub fn check(list: &At<'_>, containers: &[ContainerDefinition]) -> Result<(), Error> {
    for (index, container) in containers.iter().enumerate() {
        let at = list.index(index);
        let at = at.field("dependsOn");
        for (number, dependency) in container.depends_on.iter().enumerate() {
            let at = at.index(number);
            satisfiable(&at, container, dependency, containers)?;
        }
    }
    match cycle(containers) {
        None => Ok(()),
        Some(names) => {
            let index = containers.iter().position(|c| names.first() == Some(&c.name.as_str()));
            let at = list.index(index.unwrap_or_default());
            let allowed = "an order in which the containers can start, without a cycle";
            Err(at.field("dependsOn").invalid(names.join(" -> "), allowed))
        }
    }
}

fn satisfiable(
    at: &At<'_>,
    container: &ContainerDefinition,
    dependency: &Dependency,
    containers: &[ContainerDefinition],
) -> Result<(), Error> {
    let name = &dependency.container;
    let others = containers.iter().filter(|c| c.name != container.name);
    let Some(other) = others.clone().find(|c| c.name == *name) else {
        let known: Vec<&str> = others.map(|c| c.name.as_str()).collect();
        let allowed = match known.as_slice() {
            [] => "the name of another container of the task, which has none".to_owned(),
            known => format!("the name of another container of the task: {}", known.join(", ")),
        };
        return Err(at.field("containerName").invalid(name, allowed));
    };
    let condition = at.field("condition");
    let value = dependency.condition.name();
    match dependency.condition {
        Condition::Complete | Condition::Success if other.essential => {
            let why = format!(
                "A dependency container with SUCCESS or COMPLETE condition cannot be an essential \
                 container (Wait for START or HEALTHY, or set essential of {name} to false.)"
            );
            Err(condition.invalid(value, why))
        }
        Condition::Healthy if other.health_check.is_none() => {
            let allowed = format!("a healthCheck in container {name}, or another condition");
            Err(condition.invalid(value, allowed))
        }
        _ => Ok(()),
    }
}

/// Containers that wait for each other in a ring, the first of them again at the end.
fn cycle(containers: &[ContainerDefinition]) -> Option<Vec<&str>> {
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    loop {
        let waits = |c: &&ContainerDefinition| !settled.contains(c.name.as_str());
        let ready =
            |c: &&ContainerDefinition| c.dependencies().all(|(name, _)| settled.contains(name));
        if let Some(next) = containers.iter().filter(waits).find(ready) {
            settled.insert(&next.name);
            continue;
        }
        // All that are left wait for one another: following any of them leads into a ring.
        let mut path = vec![containers.iter().find(waits)?.name.as_str()];
        loop {
            let last = containers.iter().find(|c| path.last() == Some(&c.name.as_str()))?;
            let (next, _) = last.dependencies().find(|(name, _)| !settled.contains(name))?;
            if let Some(start) = path.iter().position(|name| *name == next) {
                path.push(next);
                return Some(path.split_off(start));
            }
            path.push(next);
        }
    }
}
