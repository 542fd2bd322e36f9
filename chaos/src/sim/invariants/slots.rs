//! A slot of a service holds at most one task that should run. Without it a service runs more tasks
//! than its user asked for, and a scale-down stops the wrong ones.

use crate::sim::world::short;
use muster_model::{Changes, ServiceId, State};
use std::collections::BTreeSet;

pub(super) fn check(state: &State, changes: &Changes) -> Result<(), String> {
    let rows = changes.tasks.iter().filter_map(|c| c.after.as_ref());
    let services: BTreeSet<ServiceId> = rows.filter_map(|task| task.service()).collect();
    for service in services {
        let mut slots = BTreeSet::new();
        let wanted = state.tasks().filter(|t| t.service() == Some(service) && t.wanted());
        for task in wanted {
            if !slots.insert(task.slot()) {
                return Err(format!("slot {:?} of {} twice", task.slot(), short(service)));
            }
        }
    }
    Ok(())
}
