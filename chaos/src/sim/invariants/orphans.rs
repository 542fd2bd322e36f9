//! Once everybody talks again no container runs that the cluster does not own, and none is missing
//! that it counts on. Without it forgotten containers eat machines, and ghosts look healthy.

use crate::sim::machine::Machine;
use crate::sim::world::short;
use muster_model::{InstanceId, InstanceStatus, State, TaskId};

/// Runs here, and the cluster knows nothing of it or has given it up.
pub(super) fn check<'a>(
    state: &State,
    machines: impl Iterator<Item = (InstanceId, &'a Machine)>,
) -> Result<(), String> {
    for (instance, machine) in machines.filter(|(id, _)| has_contact(state, *id)) {
        for (task, _) in machine.tasks.iter().filter(|(_, hold)| hold.alive()) {
            let row = state.task(*task);
            if !row.is_some_and(|row| row.reserves() && row.instance == Some(instance)) {
                return Err(format!("{} runs on {} unowned", short(task), short(instance)));
            }
        }
    }
    Ok(())
}

/// Who was deregistered has none: its machine is to be switched off, as with ECS.
fn has_contact(state: &State, instance: InstanceId) -> bool {
    state.instance(instance).is_some_and(|row| row.status != InstanceStatus::Inactive)
}

pub(super) fn unrest<'a>(
    state: &State,
    machines: impl Iterator<Item = (InstanceId, &'a Machine)>,
) -> Option<String> {
    let mut running: Vec<(InstanceId, TaskId)> = Vec::new();
    for (instance, machine) in machines.filter(|(id, _)| has_contact(state, *id)) {
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
    let ghost = state
        .tasks()
        .filter(|task| task.running())
        .find(|task| task.instance.is_none_or(|instance| !running.contains(&(instance, task.id))));
    ghost.map(|task| format!("{} is RUNNING and does not run", short(task.id)))
}
