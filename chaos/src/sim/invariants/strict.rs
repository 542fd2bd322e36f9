//! No two tasks of a strict service run at the same time, wherever they are and whoever reaches
//! whom, and each has a greater fencing token than the one before. Without it two writers that both
//! believe to be the only one ruin what they share.

use crate::sim::machine::Machine;
use crate::sim::world::short;
use muster_model::dispatch::Assignment;
use muster_model::{ServiceId, State, TaskId};
use std::collections::BTreeMap;

/// The newest task of each strict service that was started, and its token.
pub(super) type Tokens = BTreeMap<ServiceId, (TaskId, u64)>;

/// Before a container of the task starts.
pub(super) fn check<'a>(
    tokens: &mut Tokens,
    state: &State,
    assignment: &Assignment,
    machines: impl Iterator<Item = &'a Machine>,
) -> Result<(), String> {
    let Some(token) = assignment.fencing_token else { return Ok(()) };
    let new = assignment.task;
    let service = |task: TaskId| state.task(task).and_then(|row| row.service());
    let Some(own) = service(new) else { return Ok(()) };
    let held = machines.flat_map(|machine| &machine.tasks);
    let mut running = held.filter(|(task, hold)| **task != new && hold.alive());
    if let Some((old, _)) = running.find(|(task, _)| service(**task) == Some(own)) {
        return Err(format!("{} starts while {} still runs", short(new), short(*old)));
    }
    match tokens.insert(own, (new, token)) {
        Some((old, before)) if old != new && before >= token => {
            Err(format!("{} has token {token}, {} had {before}", short(new), short(old)))
        }
        _ => Ok(()),
    }
}
