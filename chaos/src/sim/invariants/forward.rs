//! A task only moves forward: its phase, what is wanted of it, and where it is. Without it a stopped
//! task comes back to life, and a user who saw RUNNING cannot rely on it.

use crate::sim::world::short;
use muster_model::{Changes, TaskId};
use std::collections::BTreeSet;

pub(super) fn check(forgotten: &mut BTreeSet<TaskId>, changes: &Changes) -> Result<(), String> {
    for change in &changes.tasks {
        let (before, after) = match (&change.before, &change.after) {
            (Some(before), Some(after)) => (before, after),
            (Some(before), None) => {
                forgotten.insert(before.id);
                if before.wanted() || before.reserves() {
                    return Err(format!("{} was forgotten while wanted", short(before.id)));
                }
                continue;
            }
            (None, Some(after)) if forgotten.contains(&after.id) => {
                return Err(format!("{} comes back", short(after.id)));
            }
            _ => continue,
        };
        let id = short(after.id);
        if after.observed.phase < before.observed.phase {
            let (was, is) = (before.observed.phase, after.observed.phase);
            return Err(format!("{id} goes from {was:?} back to {is:?}"));
        }
        if after.desired.rank() < before.desired.rank() {
            return Err(format!("{id} was given up and is wanted again"));
        }
        if before.instance.is_some() && after.instance != before.instance {
            return Err(format!("{id} moves to another instance"));
        }
        if before.owner != after.owner || before.definition != after.definition {
            return Err(format!("{id} becomes another task"));
        }
    }
    Ok(())
}
