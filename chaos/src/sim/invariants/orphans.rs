//! Once everybody talks again no container runs that the cluster does not own, and none is missing
//! that it counts on. Without it forgotten containers eat machines, and ghosts look healthy.

use crate::sim::machine::Machine;
use crate::sim::world::short;
use muster_model::{InstanceId, InstanceStatus, State, TaskId};

pub(super) fn unrest<'a>(
    state: &State,
    machines: impl Iterator<Item = (InstanceId, &'a Machine)>,
) -> Option<String> {
    let mut running: Vec<(InstanceId, TaskId)> = Vec::new();
    for (instance, machine) in machines {
        // Who was deregistered has no contact: its machine is to be switched off, as with ECS.
        let member = |row: &std::sync::Arc<muster_model::Instance>| {
            row.status != InstanceStatus::Inactive
        };
        if !state.instance(instance).is_some_and(member) {
            continue;
        }
        for (task, hold) in &machine.tasks {
            let row = state.task(*task);
            let owned = row.is_some_and(|row| row.wanted() && row.instance == Some(instance));
            if !owned {
                let what = if hold.alive() { "runs" } else { "is left" };
                return Some(format!("{} {what} on {} unowned", short(task), short(instance)));
            }
            if hold.alive() {
                running.push((instance, *task));
            }
        }
    }
    let ghost = state.tasks().filter(|task| task.running()).find(|task| {
        task.instance.is_none_or(|instance| !running.contains(&(instance, task.id)))
    });
    ghost.map(|task| format!("{} is RUNNING and does not run", short(task.id)))
}
