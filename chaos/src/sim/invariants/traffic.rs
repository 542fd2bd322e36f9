//! Traffic shifts only to a revision that is whole, never past a hook that waits, and back at once.
//! Without it users are sent to tasks that are not there, or to a revision that nobody has let in.
//!
//! All of it is judged on the state that an entry met, as it was at the entry's time.

use crate::sim::world::short;
use muster_model::diff::Change;
use muster_model::{Changes, Command, Entry, Pause, Shift, Stage, State, Step, Task, Turn, Weight};

pub(super) fn check_entry(
    before: &State,
    after: &State,
    changes: &Changes,
    entry: &Entry,
) -> Result<(), String> {
    for change in &changes.shifts {
        match (&change.before, &change.after) {
            (was, Some(is)) => {
                let was = was.as_deref().filter(|was| was.green == is.green);
                went_on(before, after, was, is)?;
            }
            (Some(was), None) => ended(before, after, was, entry)?,
            (None, None) => {}
        }
    }
    sums(after, changes)?;
    changes.pauses.iter().try_for_each(|change| paused(after, change))
}

/// How many deployments have begun to shift traffic in this entry, and how many have all of it.
pub(super) fn count(changes: &Changes) -> (u64, u64) {
    let entered = |stage: fn(Stage) -> bool| {
        let new = changes.shifts.iter().filter(|change| {
            let stage_of = |row: &Option<std::sync::Arc<Shift>>| row.as_ref().map(|row| row.stage);
            let is = stage_of(&change.after).is_some_and(stage);
            is && !stage_of(&change.before).is_some_and(stage)
        });
        new.count() as u64
    };
    let begun = entered(|stage| stage <= Stage::PreScaleUp);
    (begun, entered(|stage| stage == Stage::CleanUp))
}

fn went_on(before: &State, after: &State, was: Option<&Shift>, is: &Shift) -> Result<(), String> {
    let share = |of: fn(&Shift) -> Weight| (was.map_or(Weight::NONE, of), of(is));
    let (production, test) = (share(|row| row.production), share(|row| row.test));
    let name = short(is.green);
    if (production.1 > production.0 || test.1 > test.0) && !is_whole(before, after, is) {
        return Err(format!("traffic shifts to {name}, which is not whole"));
    }
    let Some(was) = was else {
        let none = is.production == Weight::NONE && is.test == Weight::NONE;
        let early = is.stage <= Stage::PreScaleUp;
        return match none && early {
            true => Ok(()),
            false => Err(format!("{name} begins with {is:?}")),
        };
    };
    let left = was.stage != is.stage;
    if left && was.hook.is_some_and(|hook| hook.expires_at > after.now()) {
        return Err(format!("{name} left {} although its hook waits", was.stage.shown()));
    }
    if left && before.pause(was.service).is_some() {
        return Err(format!("{name} left {} although it is paused", was.stage.shown()));
    }
    if is.stage == Stage::CleanUp && is.production != Weight::ALL {
        return Err(format!("{name} cleans up with {}%", is.production.percent()));
    }
    Ok(())
}

/// As many of its tasks are healthy as the service should have.
fn is_whole(before: &State, after: &State, shift: &Shift) -> bool {
    let Some(service) = before.service(shift.service) else { return false };
    let span = before.healthy_after(service.cluster);
    let healthy = |task: &Task| {
        let row = before.definition(task.definition);
        row.is_some_and(|row| task.is_healthy(&row.spec, span, after.now()))
    };
    let own = before.tasks_of(service.id).filter(|t| t.deployment() == Some(shift.green));
    own.filter(|task| healthy(task)).count() >= before.desired_count(service) as usize
}

/// Green has all of the traffic after its last stage, and none if it ends before.
fn ended(before: &State, after: &State, was: &Shift, entry: &Entry) -> Result<(), String> {
    let newest = after.service(was.service).and_then(|row| Some(row.primary()?.id));
    let took_over = newest == Some(was.green);
    let service = after.service(was.service);
    let active = service.is_some_and(|row| row.status == muster_model::ServiceStatus::Active);
    // With nothing to clean up the last stage is entered and left in one plan.
    let mut steps = match &entry.command {
        Command::Plan { steps, .. } => steps.iter(),
        _ => [].iter(),
    };
    let cleans_up = |step: &Step| match step {
        Step::Turn { deployment, turn: Turn::Enter { stage: Stage::CleanUp, .. }, .. } => {
            *deployment == was.green
        }
        _ => false,
    };
    if active && took_over && was.stage == Stage::BakeTime && steps.any(cleans_up) {
        let last = Shift { stage: Stage::CleanUp, ..was.clone() };
        return went_on(before, after, Some(was), &last);
    }
    if active && took_over && was.stage != Stage::CleanUp {
        let stage = was.stage.shown();
        return Err(format!("{} took all traffic over from {stage}", short(was.green)));
    }
    Ok(())
}

/// Every service that is told of here gives away all of its traffic, once; nothing while nobody has
/// said which of its task sets is to have it.
fn sums(after: &State, changes: &Changes) -> Result<(), String> {
    for row in changes.services.iter().filter_map(|change| change.after.as_ref()) {
        let of = |deployment| after.traffic(row, deployment);
        let each = || row.deployments.iter().map(|one| of(one.id));
        let production: u16 = each().map(|traffic| traffic.production.permille()).sum();
        let test: u16 = each().map(|traffic| traffic.test.permille()).sum();
        let all = Weight::ALL.permille();
        let whole = match after.newest(row) {
            Some(_) => all,
            None => 0,
        };
        if (production, test) != (whole, whole) {
            return Err(format!("{} gives away {production} and {test} of {whole}", short(row.id)));
        }
    }
    Ok(())
}

fn paused(after: &State, change: &Change<Pause>) -> Result<(), String> {
    let Some(pause) = &change.after else { return Ok(()) };
    let newest = after.service(pause.service).and_then(|row| Some(row.primary()?.id));
    match newest == Some(pause.deployment) {
        true => Ok(()),
        false => Err(format!("{} is paused and not the newest", short(pause.deployment))),
    }
}
