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
    ordered: &BTreeSet<(usize, TaskId)>,
    agent: usize,
    task: TaskId,
    machine: &Machine,
) -> Result<(), String> {
    let ended = machine.tasks.get(&task).is_some_and(|hold| hold.ended_itself());
    if ordered.contains(&(agent, task)) || ended {
        return Ok(());
    }
    Err(format!("{} is signalled, and nobody asked for it", short(task)))
}
