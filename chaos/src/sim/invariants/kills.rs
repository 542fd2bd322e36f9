//! No container is signalled without an order about its task, or the end of its own task. Without
//! it an agent that lost its managers, or misread silence, takes down what users rely on.

use crate::sim::machine::Machine;
use crate::sim::world::short;
use muster_model::TaskId;
use muster_model::dispatch::{Assignments, Order};
use std::collections::BTreeSet;

pub(super) fn remember(
    ordered: &mut BTreeSet<(usize, TaskId)>,
    agent: usize,
    orders: &Assignments,
) {
    for order in &orders.orders {
        if let Order::Stop(task) | Order::Forget(task) = order {
            ordered.insert((agent, *task));
        }
    }
}

pub(super) fn check(
    ordered: &mut BTreeSet<(usize, TaskId)>,
    (agent, slack): (usize, bool),
    task: TaskId,
    machine: &Machine,
) -> Result<(), String> {
    let hold = machine.tasks.get(&task);
    let ended = hold.is_some_and(|hold| hold.ended_itself());
    // A strict task stops itself when there is no contact; that goes on should it come back.
    let let_go = slack && hold.is_some_and(|hold| hold.assignment.fencing_token.is_some());
    if let_go {
        ordered.insert((agent, task));
    }
    if ordered.contains(&(agent, task)) || ended {
        return Ok(());
    }
    Err(format!("{} is signalled, and nobody asked for it", short(task)))
}
