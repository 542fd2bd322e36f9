//! A task runs only on instances of its own cluster. Without it one team's machines run another
//! team's containers.

use crate::sim::machine::Machine;
use crate::sim::world::short;
use muster_model::{Changes, State};

pub(super) fn check(state: &State, changes: &Changes) -> Result<(), String> {
    for task in changes.tasks.iter().filter_map(|c| c.after.as_ref()) {
        let Some(row) = task.instance.and_then(|id| state.instance(id)) else { continue };
        if row.cluster != task.cluster {
            return Err(format!("{} is placed in another cluster", short(task.id)));
        }
    }
    Ok(())
}

pub(super) fn check_machine(machine: &Machine, cluster: Option<&str>) -> Result<(), String> {
    let foreign = |name: &str| cluster.is_some_and(|mine| mine != name);
    match machine.tasks.values().find(|hold| foreign(&hold.assignment.cluster)) {
        Some(hold) => Err(format!("{} belongs to another cluster", short(hold.assignment.task))),
        None => Ok(()),
    }
}
