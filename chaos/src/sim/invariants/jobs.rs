//! A job starts as many tasks as it may and no more, succeeds only if enough of them did, and is
//! over once. Without it a payment is made twice as often as asked, or a job that lost its data is
//! called a success.

use crate::sim::world::short;
use muster_model::diff::Change;
use muster_model::{
    Changes, Command, Desired, Entry, Job, JobId, JobOutcome, Millis, Phase, State, Step, Task,
    TaskId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Managers' clocks differ by less than this.
const CLOCKS_APART: Millis = Millis(500);

/// What became of a job's tasks, counted from their rows alone.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    made: BTreeSet<TaskId>,
    /// Those that ended while the job had not: whether with 0.
    ended: BTreeMap<TaskId, bool>,
}

pub(super) type Ledgers = BTreeMap<JobId, Ledger>;

/// Ledgers are kept, and those of the jobs that changed are compared with what their rows say.
pub(super) fn check_entry(
    ledgers: &mut Ledgers,
    before: &State,
    after: &State,
    changes: &Changes,
) -> Result<(), String> {
    let mut touched: BTreeSet<JobId> =
        changes.jobs.iter().filter_map(|change| change.latest()).map(|row| row.id).collect();
    for change in &changes.tasks {
        let Some(job) = change.latest().and_then(|task| task.job()) else { continue };
        let open = before.job(job).is_some_and(|row| row.end.is_none());
        note(ledgers.entry(job).or_default(), change, after, open);
        touched.insert(job);
    }
    for id in touched {
        let Some(row) = after.job(id) else {
            ledgers.remove(&id);
            continue;
        };
        agrees(ledgers.entry(id).or_default(), before.job(id), row, after)?;
    }
    Ok(())
}

fn note(ledger: &mut Ledger, change: &Change<Task>, after: &State, open: bool) {
    let Some(task) = &change.after else { return };
    if change.before.is_none() {
        ledger.made.insert(task.id);
    }
    let over = |task: &Task| task.ended_at().is_some();
    if open && over(task) && !change.before.as_deref().is_some_and(over) {
        ledger.ended.insert(task.id, is_good(after, task));
    }
}

/// Nobody asked it to stop, and every essential container ended with 0.
fn is_good(state: &State, task: &Task) -> bool {
    let Some(spec) = state.spec_of(task) else { return false };
    let ended = |name: &str| {
        let mut seen = task.observed.containers.iter();
        seen.any(|c| *c.name == *name && c.phase == Phase::Stopped && c.exit_code == Some(0))
    };
    task.desired == Desired::Running
        && spec.containers.iter().all(|c| !c.essential || ended(&c.name))
}

fn agrees(
    ledger: &Ledger,
    was: Option<&Arc<Job>>,
    is: &Arc<Job>,
    state: &State,
) -> Result<(), String> {
    let (name, spec) = (short(is.id), &is.spec);
    let good = ledger.ended.values().filter(|good| **good).count();
    let (made, bad) = (ledger.made.len(), ledger.ended.len() - good);
    let most = spec.completions as usize + spec.retries as usize;
    if made > most {
        return Err(format!("{name} started {made} tasks, {most} may be"));
    }
    let wanted = state.tasks_of_job(is.id).filter(|task| task.wanted()).count();
    let may_be = if is.end.is_none() { spec.parallelism as usize } else { 0 };
    if wanted > may_be {
        return Err(format!("{name} wants {wanted} tasks at once, {may_be} may be"));
    }
    let (said, seen) = ([is.attempts, is.succeeded, is.failed], [made, good, bad]);
    let said = said.map(|count| count as usize);
    // What came after the end in the same entry, or was stopped by it, is not counted any more.
    let over = is.end.is_some() && said[1] <= good && said[2] <= bad;
    if said[0] != made || said != seen && !over {
        let state = is.state().name();
        return Err(format!("{name} is {state} and says {said:?} of its tasks, seen are {seen:?}"));
    }
    if was.is_some_and(|was| was.end.is_some() && was != is) {
        return Err(format!("{name} had ended and is another now"));
    }
    let late = is.deadline().is_some_and(|deadline| deadline <= state.now());
    match is.end.as_ref().map(|end| end.outcome) {
        None if good >= spec.completions as usize || bad > spec.retries as usize => {
            Err(format!("{name} goes on after {good} successes and {bad} failures"))
        }
        Some(JobOutcome::Succeeded) if is.succeeded < spec.completions => {
            Err(format!("{name} succeeded with {} of {}", is.succeeded, spec.completions))
        }
        Some(JobOutcome::Failed) if is.failed <= spec.retries && !late => {
            Err(format!("{name} failed in time after {} failures", is.failed))
        }
        _ => Ok(()),
    }
}

/// What fails again and again is started ever more slowly, whoever leads. `known`: the state that a
/// plan was made on.
pub(super) fn check_plan(known: &State, entry: &Entry) -> Result<(), String> {
    let Command::Plan { epoch, steps } = &entry.command else { return Ok(()) };
    if *epoch != known.meta().epoch {
        return Ok(());
    }
    for step in steps {
        let Step::StartAttempts { job, .. } = step else { continue };
        let until = known.job(*job).map(|row| row.backoff.until).unwrap_or_default();
        if entry.at + CLOCKS_APART < until {
            return Err(format!("{} starts {} too early", short(*job), until.since(entry.at)));
        }
    }
    Ok(())
}

/// How many jobs have succeeded in this entry, and how many ended otherwise.
pub(super) fn count(changes: &Changes) -> (u64, u64) {
    let ends = changes.jobs.iter().filter_map(|change| {
        let was = change.before.as_ref().and_then(|row| row.end.as_ref());
        let is = change.after.as_ref().and_then(|row| row.end.as_ref());
        is.filter(|_| was.is_none())
    });
    ends.fold((0, 0), |(well, ill), end| match end.outcome {
        JobOutcome::Succeeded => (well + 1, ill),
        JobOutcome::Failed | JobOutcome::Stopped => (well, ill + 1),
    })
}

/// Every job has a time by which it is over.
pub(super) fn unrest(state: &State) -> Option<String> {
    let open = state.jobs().find(|row| row.end.is_none())?;
    Some(format!("job {} is {}", short(open.id), open.state().name()))
}
