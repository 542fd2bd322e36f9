//! A task only moves forward: its phase, the lastStatus that callers see, what is wanted of it, and
//! where it is; and so does time. Without it a stopped task comes back to life, and a user who saw
//! RUNNING cannot rely on it.

use crate::sim::world::short;
use muster_model::{Changes, Command, Entry, State, Step, TaskId};
use std::collections::BTreeSet;

pub(super) fn check(
    forgotten: &mut BTreeSet<TaskId>,
    changes: &Changes,
    entry: &Entry,
) -> Result<(), String> {
    let given_up = given_up(entry);
    for change in &changes.tasks {
        let (before, after) = match (&change.before, &change.after) {
            (Some(before), Some(after)) => (before, after),
            (Some(before), None) => {
                forgotten.insert(before.id);
                let kept = before.wanted() || before.reserves();
                if kept && !given_up.contains(&before.id) {
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
        if after.last_status() < before.last_status() {
            let (was, is) = (before.last_status(), after.last_status());
            return Err(format!("{id} is shown {was:?} and then {is:?}"));
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

/// Whatever the clock of a proposer says.
pub(super) fn check_time(before: &State, after: &State) -> Result<(), String> {
    match after.now() < before.now() {
        true => Err(format!("time goes from {:?} back to {:?}", before.now(), after.now())),
        false => Ok(()),
    }
}

/// What this very plan gives up it may forget as well.
fn given_up(entry: &Entry) -> BTreeSet<TaskId> {
    let Command::Plan { steps, .. } = &entry.command else { return BTreeSet::new() };
    let given_up = steps.iter().filter_map(|step| match step {
        Step::Abandon { task } | Step::Stop { task, .. } => Some(*task),
        _ => None,
    });
    given_up.collect()
}
