//! Of each due time of a schedule something becomes, once, and no later than its policy allows.
//! Without it a nightly backup is made twice, or not at all, and nobody is told.

use crate::sim::client::RATES;
use crate::sim::world::short;
use muster_model::diff::Change;
use muster_model::schedule::{RunOutcome, ScheduleRun};
use muster_model::{Changes, Job, Millis, OverlapPolicy, Schedule, State, Time};

/// From the leader's decision to its entry, by clocks that differ a little.
const WRITTEN: Millis = Millis::from_secs(2);

pub(super) fn check_entry(before: &State, after: &State, changes: &Changes) -> Result<(), String> {
    changes.schedules.iter().try_for_each(|change| {
        let (Some(is), was) = (&change.after, &change.before) else { return Ok(()) };
        let last = was.as_ref().and_then(|row| row.runs.last()).map(|run| run.due);
        let mut new = is.runs.iter().filter(|run| Some(run.due) > last);
        let (Some(run), None) = (new.next(), new.next()) else {
            return unfired(change);
        };
        let Some(was) = was.as_ref().filter(|was| was.version == is.version) else {
            return Err(format!("{} ran as it was changed", short(is.id)));
        };
        accounted(was, is, run)?;
        overlapping([before, after], was, run)?;
        started(after, is, run, changes)
    })
}

/// How many runs have started in this entry, and how many due times came to nothing.
pub(super) fn count(changes: &Changes) -> (u64, u64) {
    let (mut started, mut idle) = (0, 0);
    for change in &changes.schedules {
        let last = change.before.as_ref().and_then(|row| row.runs.last()).map(|run| run.due);
        let rows = change.after.iter().flat_map(|row| &row.runs);
        for run in rows.filter(|run| Some(run.due) > last) {
            match run.outcome {
                RunOutcome::Started { .. } | RunOutcome::StartedJob { .. } => started += 1,
                _ => idle += 1,
            }
        }
    }
    (started, idle)
}

/// Without a run nothing is passed over, unless a user says so.
fn unfired(change: &Change<Schedule>) -> Result<(), String> {
    let (Some(was), Some(is)) = (&change.before, &change.after) else { return Ok(()) };
    match was.version == is.version {
        true => Err(format!("{} changed, and nobody changed it", short(is.id))),
        false => Ok(()),
    }
}

/// The run, and those that it says were missed, are all times from the one that was waited for to
/// the one that comes next.
fn accounted(was: &Schedule, is: &Schedule, run: &ScheduleRun) -> Result<(), String> {
    let name = short(is.id);
    let Some(due) = was.next_due else {
        return Err(format!("{name} ran and was not due"));
    };
    let rate = RATES.iter().find(|(text, _)| *text == was.spec.expression);
    let period = rate.map_or(Millis(0), |(_, period)| *period);
    if run.due != Time(due.0 + u64::from(run.missed) * period.0) {
        let missed = run.missed;
        return Err(format!("{name} waited for {}, ran for {} after {missed}", due.0, run.due.0));
    }
    let next = Some(run.due + period).filter(|next| Some(*next) <= is.spec.end);
    if is.next_due != next {
        return Err(format!("{name} ran for {}, and waits for {:?}", run.due.0, is.next_due));
    }
    let late = run.at.since(run.due);
    let over = next.is_some_and(|next| next + WRITTEN <= run.at);
    if run.at < run.due || over {
        return Err(format!("{name} ran for {} at {}", run.due.0, run.at.0));
    }
    let allowed = was.spec.missed.latest();
    match (&run.outcome, late > allowed) {
        (RunOutcome::Missed, false) => Err(format!("{name} was given up after {late}")),
        (RunOutcome::Started { .. } | RunOutcome::StartedJob { .. }, true) => {
            Err(format!("{name} ran {late} late"))
        }
        _ => Ok(()),
    }
}

/// Of an earlier run that still goes on the policy decides: beside it, not at all, or in its place.
fn overlapping(states: [&State; 2], was: &Schedule, run: &ScheduleRun) -> Result<(), String> {
    let wanted = |state: &State| was.runs.iter().any(|earlier| is_wanted(state, earlier));
    let (before, after) = (wanted(states[0]), wanted(states[1]));
    let starts = matches!(run.outcome, RunOutcome::Started { .. } | RunOutcome::StartedJob { .. });
    let skipped = matches!(run.outcome, RunOutcome::Skipped { .. });
    let broken = match was.spec.overlap {
        OverlapPolicy::Allow => false,
        OverlapPolicy::Skip => starts && before,
        OverlapPolicy::Replace => skipped || (starts && after),
    };
    match broken {
        true => Err(format!("{} met its own run: {:?}", short(was.id), run.outcome)),
        false => Ok(()),
    }
}

/// Something of the run is to go on.
fn is_wanted(state: &State, run: &ScheduleRun) -> bool {
    match &run.outcome {
        RunOutcome::Started { tasks } => {
            tasks.iter().any(|id| state.task(*id).is_some_and(|task| task.wanted()))
        }
        RunOutcome::StartedJob { job } => state.job(*job).is_some_and(|job| job.end.is_none()),
        _ => false,
    }
}

/// Its tasks or its job are made with it, and nobody else's.
fn started(
    after: &State,
    is: &Schedule,
    run: &ScheduleRun,
    changes: &Changes,
) -> Result<(), String> {
    let made = match (&run.outcome, &is.spec.job) {
        (RunOutcome::Started { tasks }, None) => {
            let new = |id| changes.tasks.iter().any(|c| is_new(c, |row| row.id == id));
            let all = tasks.len() == is.spec.run.count as usize;
            all && tasks.iter().all(|id| new(*id) && after.task(*id).is_some())
        }
        (RunOutcome::StartedJob { job }, Some(wanted)) => {
            let like = |row: &Job| row.id == *job && row.spec.completions == wanted.completions;
            changes.jobs.iter().any(|c| is_new(c, like))
        }
        (RunOutcome::Started { .. } | RunOutcome::StartedJob { .. }, _) => false,
        _ => true,
    };
    match made {
        true => Ok(()),
        false => Err(format!("{} ran, and what it runs was not made", short(is.id))),
    }
}

fn is_new<T>(change: &Change<T>, like: impl Fn(&T) -> bool) -> bool {
    change.before.is_none() && change.after.as_deref().is_some_and(like)
}

/// What is due, now or later, has not been looked at.
pub(super) fn unrest(state: &State) -> Option<String> {
    let (due, row) = state.due_schedules().next()?;
    Some(format!("schedule {} is due at {}", short(row.id), due.0))
}
