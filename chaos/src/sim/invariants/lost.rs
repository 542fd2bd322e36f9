//! What ran on a machine that the cluster has given up is given up with it, in the very next plan;
//! but a strict task when it has stopped by itself (`strict`, and `heals` for that it happens).
//! Without it a service stays short of tasks for as long as a dead machine stays dead.

use crate::sim::world::short;
use muster_model::{Command, Desired, Entry, Health, Index, InstanceStatus, State, Task, apply};

/// `known`: the state that the plan was made on.
pub(super) fn check(known: &State, entry: &Entry) -> Result<(), String> {
    let Command::Plan { epoch, steps } = &entry.command else { return Ok(()) };
    let down = |row: &&std::sync::Arc<muster_model::Instance>| {
        matches!(row.health, Health::Down { .. }) && row.status != InstanceStatus::Inactive
    };
    // An empty plan only waits for one whose fate is unknown.
    if steps.is_empty() || *epoch != known.meta().epoch || !known.instances().any(|i| down(&i)) {
        return Ok(());
    }
    let mut planned = known.clone();
    let _ = apply(&mut planned, Index(known.applied().0 + 1), entry);
    let kept = |task: &&std::sync::Arc<Task>| {
        !matches!(task.desired, Desired::Abandoned { .. }) && !known.is_strict(task)
    };
    let still = |row: &&std::sync::Arc<muster_model::Instance>| {
        down(row) && known.instance(row.id).is_some_and(|known| down(&known))
    };
    for instance in planned.instances().filter(still) {
        if let Some(task) = planned.tasks_on(instance.id).find(kept) {
            let (task, machine) = (short(task.id), short(instance.id));
            return Err(format!("{task} is kept on {machine}, which is lost"));
        }
    }
    Ok(())
}
