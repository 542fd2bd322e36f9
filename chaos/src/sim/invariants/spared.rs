//! A task that its user protects is stopped neither by scaling in nor by a deployment. Without it
//! work of hours is lost because somebody deployed meanwhile.

use crate::sim::world::short;
use muster_model::{Changes, Desired, InstanceStatus, ServiceStatus, State, StopCode, Task};

/// How many tasks were protected by this entry.
pub(super) fn count(changes: &Changes) -> u64 {
    changes.protections.iter().filter(|change| change.after.is_some()).count() as u64
}

pub(super) fn check_entry(before: &State, after: &State, changes: &Changes) -> Result<(), String> {
    let now = after.now();
    for change in &changes.tasks {
        let (Some(was), Some(is)) = (&change.before, &change.after) else { continue };
        let protected = before.protected_until(was.id).is_some_and(|until| until > now);
        if protected && was.wanted() && given_up(is) && !may_go(before, after, was) {
            return Err(format!("{} is given up although it is protected", short(was.id)));
        }
    }
    Ok(())
}

fn given_up(task: &Task) -> bool {
    matches!(task.desired, Desired::Stopped { code: StopCode::ServiceSchedulerInitiated, .. })
}

/// What drains is emptied, what is sick is replaced, and a service that goes takes all with it.
fn may_go(before: &State, after: &State, task: &Task) -> bool {
    let on = task.instance.and_then(|id| after.instance(id));
    let service = task.service().and_then(|id| after.service(id));
    on.is_some_and(|on| on.status == InstanceStatus::Draining)
        || before.is_unhealthy(task)
        || service.is_none_or(|row| row.status != ServiceStatus::Active)
}
