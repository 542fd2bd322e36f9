//! Tasks whose instance is lost or gone: they are given up, so that their slots and their room on
//! paper are free. What the agent last said of them stays.
//!
//! Invariant: only tasks of instances that are Down or deregistered are abandoned.

use super::draft::Draft;
use super::view::View;
use muster_model::{Desired, Health, Instance, InstanceId, InstanceStatus, Step};

pub(super) fn stage(draft: &mut Draft, view: &mut View) {
    let lost: Vec<InstanceId> = match view.dirty.all {
        true => draft.state().instances().filter(|i| is_lost(i)).map(|i| i.id).collect(),
        false => {
            let state = draft.state();
            let rows = view.dirty.instances.iter().filter_map(|id| state.instance(*id));
            rows.filter(|i| is_lost(i)).map(|i| i.id).collect()
        }
    };
    for instance in lost {
        abandon_tasks_of(draft, view, instance);
    }
}

fn is_lost(instance: &Instance) -> bool {
    matches!(instance.health, Health::Down { .. }) || instance.status == InstanceStatus::Inactive
}

fn abandon_tasks_of(draft: &mut Draft, view: &mut View, instance: InstanceId) {
    let kept = |desired: &Desired| !matches!(desired, Desired::Abandoned { .. });
    let tasks: Vec<_> =
        draft.state().tasks_on(instance).filter(|t| kept(&t.desired)).map(|t| t.id).collect();
    for task in tasks {
        if draft.full() {
            view.dirty.defer_instance(instance);
            return;
        }
        let step = Step::Abandon { task };
        view.dirty.mark_step(&step, draft.state());
        draft.push(step);
    }
}
