//! All tasks of a deployment run the same bits, whatever their tag means when they start. Without
//! it a service runs two versions of itself as soon as somebody pushes under a tag, and nobody sees
//! it.

use crate::sim::world::short;
use muster_model::{Changes, Desired, Pin, Pins, RolloutState, Service, State, Task};
use std::sync::Arc;

/// How many tags were settled by this entry.
pub(super) fn count(changes: &Changes) -> u64 {
    let pins = |row: &Option<Arc<Pins>>| {
        let all = row.iter().flat_map(|row| row.deployments.values());
        all.map(|pins| pins.len() as u64).sum::<u64>()
    };
    changes.pins.iter().map(|c| pins(&c.after).saturating_sub(pins(&c.before))).sum()
}

/// How many tasks were told to make room for the same bits as the others'.
pub(super) fn count_strays(before: &State, changes: &Changes) -> u64 {
    let stops = |task: &Task| matches!(task.desired, Desired::Stopped { .. });
    let told = changes.tasks.iter().filter(|change| {
        let (Some(was), Some(is)) = (&change.before, &change.after) else { return false };
        let service = was.service().and_then(|id| before.service(id));
        let stray = service.is_some_and(|service| before.is_stray(service, was));
        stray && !stops(was) && stops(is)
    });
    told.count() as u64
}

pub(super) fn check_entry(after: &State, changes: &Changes) -> Result<(), String> {
    for change in &changes.pins {
        let now = |id| change.after.as_ref().and_then(|row| row.deployments.get(id));
        for (id, was) in change.before.iter().flat_map(|row| &row.deployments) {
            let Some(is) = now(id) else { continue };
            if was.iter().any(|(container, pin)| is.get(container) != Some(pin)) {
                return Err(format!("{} has other pins: {was:?} became {is:?}", short(*id)));
            }
        }
    }
    changes.tasks.iter().filter_map(|change| change.after.as_ref()).try_for_each(|task| {
        // What both entries of one millisecond say comes in an order that their times do not tell.
        let obeys = |digest: &str, pin: &muster_model::Pin| {
            task.placed_at.is_none_or(|at| at <= pin.at) || digest == &*pin.digest
        };
        said(after, task, obeys)
    })?;
    let completed = changes.services.iter().filter_map(|change| change.after.as_ref());
    completed.filter(|row| is_newly_completed(row, changes)).try_for_each(|row| {
        let newest = row.primary().map(|newest| newest.id);
        let own = |task: &&Arc<Task>| {
            task.deployment() == newest && task.wanted() && after.in_place(row, task)
        };
        let mut own = after.tasks_of(row.id).filter(own);
        own.try_for_each(|task| said(after, task, |digest, pin| digest == &*pin.digest))
    })
}

/// A task set never is: it replaces what runs other bits whenever that is seen.
fn is_newly_completed(row: &Service, changes: &Changes) -> bool {
    let Some(newest) = row.primary().filter(|_| !row.spec.is_external()) else { return false };
    let was = changes.services.iter().filter_map(|change| change.before.as_ref());
    let mut was = was.filter(|was| was.id == row.id).flat_map(|was| &was.deployments);
    newest.rollout == RolloutState::Completed
        && was.any(|old| old.id == newest.id && old.end.is_none())
}

/// What the task says of its images, beside what its deployment has settled.
fn said(state: &State, task: &Task, fits: impl Fn(&str, &Pin) -> bool) -> Result<(), String> {
    let Some((service, deployment)) = task.service().zip(task.deployment()) else { return Ok(()) };
    let Some(pins) = state.pins(service) else { return Ok(()) };
    for container in &task.observed.containers {
        let Some(digest) = &container.image_digest else { continue };
        let Some(pin) = pins.pin(deployment, &container.name) else { continue };
        if !fits(digest, pin) {
            let (task, of) = (short(task.id), &container.name);
            return Err(format!("{task} runs {of} at {digest}, its deployment {pin:?}"));
        }
    }
    Ok(())
}
