//! A task set is there from its creation until its last task has ended, and only its owner changes
//! what it should have. Without it a deploy tool shifts traffic to tasks that are gone, or tasks
//! run on that no set accounts for.

use crate::sim::world::short;
use muster_model::diff::Change;
use muster_model::{
    Changes, Command, DeploymentId, Entry, Scale, Service, ServiceStatus, State, TaskSets,
};
use std::collections::BTreeSet;

/// How many sets were made, and how many are gone.
pub(super) fn count(changes: &Changes) -> (u64, u64) {
    let fewer = |than: &Option<_>, of: &Option<_>| ids(of).difference(&ids(than)).count() as u64;
    let sum = |each: &dyn Fn(&Change<TaskSets>) -> u64| changes.task_sets.iter().map(each).sum();
    (sum(&|c| fewer(&c.before, &c.after)), sum(&|c| fewer(&c.after, &c.before)))
}

fn ids(row: &Option<std::sync::Arc<TaskSets>>) -> BTreeSet<DeploymentId> {
    row.iter().flat_map(|row| row.sets.keys().copied()).collect()
}

pub(super) fn check_entry(after: &State, changes: &Changes, entry: &Entry) -> Result<(), String> {
    let services = changes.services.iter().filter_map(|change| change.after.as_ref());
    let active = |row: &&std::sync::Arc<Service>| row.status == ServiceStatus::Active;
    for row in services.filter(active).filter(|row| row.spec.is_external()) {
        let known = after.task_sets(row.id).cloned();
        let deployments = row.deployments.iter().map(|row| row.id).collect();
        if ids(&known) != deployments {
            return Err(format!("{} has sets {known:?}", short(row.id)));
        }
        let primary = known.as_ref().and_then(|row| row.primary);
        let drains =
            |id| known.as_ref().and_then(|row| row.sets.get(&id)).is_none_or(|s| s.draining);
        if primary.is_some_and(drains) {
            return Err(format!("{} has no primary set any more", short(row.id)));
        }
    }
    changes.task_sets.iter().try_for_each(|change| scaled(change, entry))?;
    changes.task_sets.iter().try_for_each(|change| gone(after, change))
}

/// Nobody but its owner scales a set, or revives one that drains.
fn scaled(change: &Change<TaskSets>, entry: &Entry) -> Result<(), String> {
    let (Some(was), Some(is)) = (&change.before, &change.after) else { return Ok(()) };
    for (id, old) in &was.sets {
        let Some(new) = is.sets.get(id) else { continue };
        let scale = |row: &muster_model::TaskSet| (row.scale, row.draining);
        let owner = matches!(entry.command, Command::TaskSet(_));
        if (scale(old) != scale(new) && !owner) || (old.draining && !new.draining) {
            return Err(format!("{} was {old:?} and is {new:?}", short(*id)));
        }
    }
    Ok(())
}

fn gone(after: &State, change: &Change<TaskSets>) -> Result<(), String> {
    let Some(service) = change.after.as_ref().map(|row| row.service) else { return Ok(()) };
    for id in ids(&change.before).difference(&ids(&change.after)) {
        let mut left = after.tasks_of(service).filter(|task| task.deployment() == Some(*id));
        if let Some(task) = left.find(|task| task.ended_at().is_none()) {
            return Err(format!("set {} is gone before {}", short(*id), short(task.id)));
        }
    }
    Ok(())
}

/// At rest every set has its share, rounded up, and what was deleted is gone.
pub(super) fn lacks(state: &State, service: &Service) -> Option<String> {
    let row = state.task_sets(service.id)?;
    for (id, set) in &row.sets {
        let desired = u64::from(service.spec.desired_count);
        let hundredths = (set.scale.percent() * 100.0).round() as u64;
        let share = (desired * hundredths).div_ceil(10_000);
        let own = state.tasks_of(service.id).filter(|task| task.deployment() == Some(*id));
        let running = own.filter(|task| task.running()).count() as u64;
        if set.draining {
            return Some(format!("set {} drains and is not gone", short(*id)));
        }
        if running != share || (set.scale == Scale::NONE && running > 0) {
            return Some(format!("set {} runs {running} of {share}", short(*id)));
        }
    }
    None
}
