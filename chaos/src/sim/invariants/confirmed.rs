//! An agent starts only what a manager told it since it came up. Without it a machine that returns
//! after an hour starts what was replaced elsewhere long ago, and a singleton runs twice.

use crate::sim::world::short;
use muster_model::TaskId;
use muster_model::dispatch::{Assignments, Order};
use std::collections::BTreeMap;

/// In which life of its agent each task was last ordered to run.
pub(super) type Told = BTreeMap<(usize, TaskId), u64>;

pub(super) fn remember(told: &mut Told, agent: usize, life: u64, orders: &Assignments) {
    for order in &orders.orders {
        if let Order::Run(assignment) = order {
            told.insert((agent, assignment.task), life);
        }
    }
}

pub(super) fn check(told: &Told, agent: usize, life: u64, task: TaskId) -> Result<(), String> {
    match told.get(&(agent, task)) {
        Some(then) if *then == life => Ok(()),
        _ => Err(format!("{} is started, and nobody asked since the agent came up", short(task))),
    }
}
