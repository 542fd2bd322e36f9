//! What the leader does itself never takes a service below its minimum healthy tasks or above its
//! maximum. Without it a deployment or a drain is an outage, or floods machines and databases.
//!
//! Both are judged on the state that the plan met, not on the one that it was made on, whatever
//! overtook it: a user who scaled or stopped tasks, a crash that was reported.

use crate::sim::world::short;
use muster_model::{
    Command, Desired, Entry, Service, ServiceId, ServiceStatus, State, Step, TaskId, Time, limits,
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
            ceiling(before, after, *service)?;
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

fn ceiling(before: &State, after: &State, service: ServiceId) -> Result<(), String> {
    let Some(row) = after.service(service) else { return Ok(()) };
    let (was, is) = (existing(before, row), existing(after, row));
    let most = row.spec.deployment.ceiling(after.desired_count(row)) as usize;
    if is > was && is > most {
        return Err(format!("{} has {is} tasks, at most {most}", short(service)));
    }
    Ok(())
}

/// All that may run where it should: also what is still stopping.
fn existing(state: &State, service: &Service) -> usize {
    let counts = |t: &&std::sync::Arc<muster_model::Task>| {
        t.service() == Some(service.id)
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
        let (was, is) = (healthy(before, service, now), healthy(after, service, now));
        let lost = was.difference(&is).any(|task| stopped.contains(task));
        let desired = after.desired_count(service);
        let least = service.spec.deployment.floor(desired).min(desired) as usize;
        if lost && is.len() < least {
            let healthy = is.len();
            let name = short(service.id);
            return Err(format!("{name} is left with {healthy} healthy tasks, at least {least}"));
        }
    }
    Ok(())
}

fn healthy(state: &State, service: &Service, now: Time) -> BTreeSet<TaskId> {
    let long = |at: Option<Time>| at.is_some_and(|at| at + limits::HEALTHY_AFTER <= now);
    let running = state.tasks_of(service.id).filter(|t| t.running() && long(t.observed.started_at));
    running.filter(|t| state.in_place(service, t)).map(|t| t.id).collect()
}
