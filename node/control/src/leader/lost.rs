//! Tasks whose instance is lost or gone: they are given up, so that their slots and their room on
//! paper are free. What the agent last said of them stays.
//!
//! Invariants: only tasks of instances that are Down or deregistered are abandoned; a strict one
//! not before it has stopped by itself, nor in the plan that first says that its instance is Down:
//! until that one is applied its agent's next heartbeat would be confirmed.

use super::contacts::Contacts;
use super::draft::Draft;
use super::explain;
use super::view::View;
use muster_model::{Desired, Health, Instance, InstanceId, InstanceStatus, State, Step, Task};
use std::sync::Arc;

/// `base`: what is applied already, by which heartbeats are confirmed while the plan is in flight.
pub(super) fn stage(draft: &mut Draft, view: &mut View, base: &State, contacts: &Contacts) {
    let lost: Vec<InstanceId> = match view.dirty.all {
        true => draft.state().instances().filter(|i| is_lost(i)).map(|i| i.id).collect(),
        false => {
            let state = draft.state();
            let rows = view.dirty.instances.iter().filter_map(|id| state.instance(*id));
            rows.filter(|i| is_lost(i)).map(|i| i.id).collect()
        }
    };
    for instance in lost {
        let confirmed = base.instance(instance).is_some_and(|row| row.ready());
        abandon_tasks_of(draft, view, contacts, instance, confirmed);
    }
}

fn is_lost(instance: &Instance) -> bool {
    matches!(instance.health, Health::Down { .. }) || instance.status == InstanceStatus::Inactive
}

/// `confirmed`: the instance's heartbeats still are.
fn abandon_tasks_of(
    draft: &mut Draft,
    view: &mut View,
    contacts: &Contacts,
    instance: InstanceId,
    confirmed: bool,
) {
    let kept = |desired: &Desired| !matches!(desired, Desired::Abandoned { .. });
    let tasks: Vec<Arc<Task>> =
        draft.state().tasks_on(instance).filter(|t| kept(&t.desired)).cloned().collect();
    for task in tasks {
        if draft.full() {
            view.dirty.defer_instance(instance);
            return;
        }
        let given_up_at = contacts.given_up_at(draft.state(), &task);
        if let Some(at) = given_up_at.filter(|at| *at > view.now) {
            explain::out_of_reach(draft, view.now, &task, at);
            view.wakes.instance_at(at, instance);
            continue;
        }
        if given_up_at.is_some() && confirmed {
            continue;
        }
        let step = Step::Abandon { task: task.id };
        view.dirty.mark_step(&step, draft.state());
        draft.push(step);
    }
}
