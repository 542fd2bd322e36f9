//! History: how long what has ended is remembered.
//!
//! Ended tasks go after `limits::STOPPED_TASK_KEPT`, the oldest of an owner, or of all, sooner if
//! there are too many; deleted services and deregistered instances after their own spans; deleted
//! task definitions when nothing refers to them. What still runs on a machine that nobody
//! remembers is answered by id when its agent lists it.
//! Invariant: nothing is forgotten that has not ended.

use super::draft::Draft;
use super::index::Index;
use super::view::View;
use muster_model::{
    DefinitionId, InstanceId, InstanceStatus, ServiceId, ServiceStatus, State, Step, TaskId, Time,
    limits,
};
use std::collections::BTreeSet;

/// Ids in one step: 16 KiB.
const FORGET_MAX: usize = 1000;

pub(super) fn stage(draft: &mut Draft, view: &mut View, index: &mut Index) {
    if view.dirty.history || view.dirty.all {
        index.sync(draft.state());
        forget(draft, view, index);
    }
    if view.dirty.all {
        purge(draft, view.now);
        remove_definitions(draft);
    }
}

fn forget(draft: &mut Draft, view: &mut View, index: &Index) {
    let mut tasks: BTreeSet<TaskId> = index.surplus().collect();
    let too_many = draft.state().finished_count().saturating_sub(limits::STOPPED_TASKS_MAX);
    for (number, task) in draft.state().finished().enumerate() {
        let until = task.ended_at().unwrap_or_default() + limits::STOPPED_TASK_KEPT;
        if until > view.now && number >= too_many {
            view.wakes.history_at(until);
            break;
        }
        tasks.insert(task.id);
    }
    let tasks: Vec<TaskId> = tasks.into_iter().collect();
    for chunk in tasks.chunks(FORGET_MAX) {
        if draft.full() {
            view.dirty.defer_all();
            return;
        }
        draft.push(Step::Forget { tasks: chunk.to_vec() });
    }
}

fn purge(draft: &mut Draft, now: Time) {
    let services = old_services(draft.state(), now);
    let instances = old_instances(draft.state(), now);
    let nothing = services.is_empty() && instances.is_empty();
    if !nothing && !draft.full() {
        draft.push(Step::Purge { services, instances });
    }
}

/// The newest of a family stays: the next revision is counted from it.
fn remove_definitions(draft: &mut Draft) {
    let state = draft.state();
    let deleted = state.deleted_definitions().filter(|id| !state.is_newest(*id));
    let mut unused: BTreeSet<DefinitionId> = deleted.collect();
    if unused.is_empty() {
        return;
    }
    for deployment in state.services().flat_map(|service| &service.deployments) {
        unused.remove(&deployment.definition);
    }
    for task in state.tasks() {
        unused.remove(&task.definition);
    }
    for job in state.jobs() {
        unused.remove(&job.definition);
    }
    let definitions: Vec<DefinitionId> = unused.into_iter().take(FORGET_MAX).collect();
    if !definitions.is_empty() && !draft.full() {
        draft.push(Step::RemoveDefinitions { definitions });
    }
}

fn old_services(state: &State, now: Time) -> Vec<ServiceId> {
    let old = |at: Option<Time>| at.is_some_and(|at| at + limits::INACTIVE_SERVICE_KEPT <= now);
    let inactive = state.services().filter(|s| s.status == ServiceStatus::Inactive);
    let empty = inactive.filter(|s| old(s.deleted_at) && state.tasks_of(s.id).next().is_none());
    empty.map(|s| s.id).take(FORGET_MAX).collect()
}

fn old_instances(state: &State, now: Time) -> Vec<InstanceId> {
    let old = |at: Option<Time>| at.is_some_and(|at| at + limits::INACTIVE_INSTANCE_KEPT <= now);
    let inactive = state.instances().filter(|i| i.status == InstanceStatus::Inactive);
    let empty =
        inactive.filter(|i| old(i.deregistered_at) && state.tasks_on(i.id).next().is_none());
    empty.map(|i| i.id).take(FORGET_MAX).collect()
}
