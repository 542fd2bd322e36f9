//! What the leader does itself never takes a service below its minimum healthy tasks or above its
//! maximum. Without it a deployment or a drain is an outage, or floods machines and databases.
//!
//! Both are judged on the state that the plan met, not on the one that it was made on, whatever
//! overtook it: a user who scaled or stopped tasks, a crash that was reported. While traffic
//! shifts, blue and green each keep them; each task set always does.

use crate::sim::world::short;
use muster_model::{
    Command, Desired, Entry, HealthStatus, Service, ServiceId, ServiceStatus, Side, State, Step,
    Task, TaskId, Time, limits,
};
use std::collections::BTreeSet;

pub(super) fn check(
    before: &State,
    after: &State,
    entry: &Entry,
    alive: &BTreeSet<TaskId>,
) -> Result<(), String> {
    let Command::Plan { epoch, steps } = &entry.command else { return Ok(()) };
    if *epoch != before.meta().epoch {
        return Ok(());
    }
    for step in steps {
        if let Step::CreateTasks { service, .. } = step {
            let row = after.service(*service);
            for side in row.iter().flat_map(|row| after.sides(row).into_owned()) {
                ceiling(before, after, *service, side)?;
            }
        }
    }
    let stopped: BTreeSet<TaskId> = steps
        .iter()
        .filter_map(|step| match step {
            // What has ended in truth serves nobody, and its report may be on the way.
            Step::Stop { task, .. } => alive.get(task).copied(),
            _ => None,
        })
        .collect();
    floors(before, after, &stopped)
}

fn ceiling(before: &State, after: &State, service: ServiceId, side: Side) -> Result<(), String> {
    let Some(row) = after.service(service) else { return Ok(()) };
    let on_side = |task: &Task| after.side_of(row, task) == side;
    let (was, is) = (existing(before, row, on_side), existing(after, row, on_side));
    let most = row.spec.deployment.ceiling(after.desired_on(row, side)) as usize;
    if is > was && is > most {
        return Err(format!("{} has {is} tasks, at most {most}", short(service)));
    }
    Ok(())
}

/// All that may run where it should: also what is still stopping.
fn existing(state: &State, service: &Service, on_side: impl Fn(&Task) -> bool) -> usize {
    let counts = |t: &&std::sync::Arc<muster_model::Task>| {
        t.service() == Some(service.id)
            && on_side(t)
            && state.in_place(service, t)
            && !t.finished()
            && !matches!(t.desired, Desired::Abandoned { .. })
    };
    state.tasks().filter(counts).count()
}

fn floors(before: &State, after: &State, stopped: &BTreeSet<TaskId>) -> Result<(), String> {
    if stopped.is_empty() {
        return Ok(());
    }
    let now = after.now();
    for service in after.services().filter(|s| s.status == ServiceStatus::Active) {
        for side in after.sides(service).iter() {
            let on_side = |task: &Task| after.side_of(service, task) == *side;
            let (was, is) =
                (healthy(before, service, now, on_side), healthy(after, service, now, on_side));
            let lost = was.difference(&is).any(|task| stopped.contains(task));
            let desired = after.desired_on(service, *side);
            let least = service.spec.deployment.floor(desired).min(desired) as usize;
            if lost && is.len() < least {
                let (name, left) = (short(service.id), is.len());
                return Err(format!("{name} is left with {left} healthy tasks, at least {least}"));
            }
        }
    }
    Ok(())
}

fn healthy(
    state: &State,
    service: &Service,
    now: Time,
    on_side: impl Fn(&Task) -> bool,
) -> BTreeSet<TaskId> {
    let long = |at: Option<Time>| at.is_some_and(|at| at + limits::HEALTHY_AFTER <= now);
    // One with health checks is healthy when all of them say so, and not before.
    let proven = |task: &Task| match checks(state, task).as_deref() {
        None | Some([]) => long(task.observed.started_at),
        Some(checks) => checks.iter().all(|health| *health == HealthStatus::Healthy),
    };
    let running = state.tasks_of(service.id).filter(|t| t.running() && proven(t));
    running.filter(|t| on_side(t) && state.in_place(service, t)).map(|t| t.id).collect()
}

/// What was last decided of each container that has a health check.
fn checks(state: &State, task: &Task) -> Option<Vec<HealthStatus>> {
    let spec = state.spec_of(task)?;
    let checked = spec.containers.iter().filter(|container| container.health_check.is_some());
    let seen = |name: &str| task.observed.containers.iter().find(|seen| &*seen.name == name);
    Some(checked.map(|c| seen(&c.name).map(|seen| seen.health).unwrap_or_default()).collect())
}
