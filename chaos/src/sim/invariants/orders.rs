//! Orders say what the log says at their revision: run what is wanted here, stop only what is not.
//! Without it a container is killed that its owner still wants, or runs where it was never placed.

use crate::sim::log::Log;
use crate::sim::world::short;
use muster_model::dispatch::{Assignments, Order};
use muster_model::{InstanceId, Phase, State, TaskId};

pub(super) fn check(log: &Log, instance: InstanceId, orders: &Assignments) -> Result<(), String> {
    let Some(state) = log.state_at(orders.revision) else {
        return Err(format!("orders of revision {} ahead of the log", orders.revision));
    };
    // An epoch is the index of its own takeover.
    if orders.revision.0 < orders.epoch.0 {
        let (revision, epoch) = (orders.revision, orders.epoch);
        return Err(format!("epoch {epoch} gives orders of revision {revision}, before it began"));
    }
    for order in &orders.orders {
        one(state, instance, order).map_err(|what| {
            format!("order of epoch {}, revision {}: {what}", orders.epoch, orders.revision)
        })?;
    }
    Ok(())
}

fn one(state: &State, instance: InstanceId, order: &Order) -> Result<(), String> {
    let wanted = |task: TaskId| {
        state.task(task).is_some_and(|row| row.wanted() && row.instance == Some(instance))
    };
    let lives = |task: TaskId| {
        let here = |row: &&std::sync::Arc<muster_model::Task>| {
            row.instance == Some(instance) && row.observed.phase < Phase::Stopped
        };
        state.task(task).filter(here).is_some()
    };
    match order {
        Order::Run(assignment) if !wanted(assignment.task) => {
            Err(format!("run {}, which is not wanted here", short(assignment.task)))
        }
        Order::Run(assignment) => {
            let row = state.task(assignment.task);
            let same = row.is_some_and(|row| {
                *row.ports == *assignment.ports
                    && state.spec_of(row) == Some(assignment.spec.clone())
            });
            let text = || format!("run {} otherwise than placed", short(assignment.task));
            if same { Ok(()) } else { Err(text()) }
        }
        Order::Stop(task) if wanted(*task) => Err(format!("stop {}, which is wanted", short(task))),
        Order::Forget(task) if lives(*task) => {
            Err(format!("forget {}, whose end is not recorded", short(task)))
        }
        Order::Stop(_) | Order::Forget(_) => Ok(()),
    }
}
