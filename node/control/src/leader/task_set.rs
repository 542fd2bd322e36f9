//! Task sets: one that drains is forgotten when its last task has ended.
//!
//! How many tasks each should have is its service's side's business (`rollout.rs`). Invariant: it
//! changes nothing of a set that does not drain: its owner does.

use super::draft::Draft;
use super::explain;
use super::view::View;
use muster_model::{DeploymentId, Service, State, Step};

pub(super) fn look_at(draft: &mut Draft, view: &mut View, service: &Service, settled: bool) {
    let over: Vec<DeploymentId> = {
        let state = draft.state();
        let sets = state.task_sets(service.id);
        let draining = sets.iter().flat_map(|row| &row.sets).filter(|(_, set)| set.draining);
        draining.map(|(id, _)| *id).filter(|id| !has_tasks(state, service, *id)).collect()
    };
    for set in over {
        if draft.full() {
            view.dirty.defer(service.id);
            return;
        }
        draft.push(Step::RetireTaskSet { service: service.id, set });
    }
    if settled && !service.deployments.is_empty() && !draft.full() {
        explain::steady(draft, view.now, service.id);
    }
}

fn has_tasks(state: &State, service: &Service, set: DeploymentId) -> bool {
    let mut own = state.tasks_of(service.id).filter(|task| task.deployment() == Some(set));
    own.any(|task| task.ended_at().is_none())
}
