//! Schedules: created, changed, deleted, and fired when they are due.
//!
//! It reads no expression: what comes next is said by whoever proposes. Invariant: of a due time
//! something becomes once, because it must be the one that the row waits for.

use super::{find, job, task};
use crate::command::{Response, RunTask};
use crate::error::{Error, Kind};
use crate::ids::{DefinitionId, ScheduleId};
use crate::job::JobSpec;
use crate::limits;
use crate::schedule::{
    OverlapPolicy, RunOutcome, Schedule, ScheduleCommand, ScheduleRun, ScheduleSpec, ScheduleState,
};
use crate::state::State;
use crate::task::StopCode;
use crate::time::Time;
use std::sync::Arc;

pub(super) fn decide(state: &mut State, command: &ScheduleCommand) -> Result<Response, Error> {
    match command {
        ScheduleCommand::Create { id, cluster, spec, next_due } => {
            find::active_cluster(state, *cluster)?;
            if state.schedule(*id).is_some() || state.schedule_named(*cluster, &spec.name).is_some()
            {
                return Err(Error::Exists { kind: Kind::Schedule, name: spec.name.clone() });
            }
            find::at_most("schedules", state.schedules.len() + 1, limits::SCHEDULES_MAX)?;
            definition(state, spec)?;
            let now = state.now();
            state.put_schedule(Arc::new(Schedule {
                id: *id,
                cluster: *cluster,
                spec: spec.clone(),
                next_due: next_due.filter(|_| spec.state == ScheduleState::Enabled),
                runs: Vec::new(),
                created_at: now,
                updated_at: now,
                version: 1,
            }));
            Ok(Response::Schedule(*id))
        }
        ScheduleCommand::Update { id, expected_version, spec, next_due } => {
            update(state, *id, *expected_version, spec, *next_due)
        }
        ScheduleCommand::Delete { id } => {
            find_one(state, *id)?;
            state.remove_schedule(*id);
            Ok(Response::Schedule(*id))
        }
    }
}

/// EventBridge: every value is replaced. One whose times are the same goes on waiting for the same
/// time, whatever the proposer, who may not have seen the last run, thinks is next.
fn update(
    state: &mut State,
    id: ScheduleId,
    expected_version: Option<u64>,
    spec: &Arc<ScheduleSpec>,
    next_due: Option<Time>,
) -> Result<Response, Error> {
    let old = find_one(state, id)?;
    if let Some(expected) = expected_version.filter(|version| *version != old.version) {
        let (kind, name, found) = (Kind::Schedule, old.spec.name.clone(), old.version);
        return Err(Error::VersionMismatch { kind, name, found, expected });
    }
    if spec.name != old.spec.name {
        return Err(Error::invalid("name", &*spec.name, "the schedule's: it cannot be changed"));
    }
    if *spec == old.spec {
        return Ok(Response::Schedule(id));
    }
    definition(state, spec)?;
    let last = old.runs.last().map(|run| run.due);
    let next_due = match spec.state {
        ScheduleState::Disabled => None,
        ScheduleState::Enabled if old.spec.same_times(spec) => old.next_due,
        ScheduleState::Enabled if next_due <= last && next_due.is_some() => {
            let why = "it ran at the time that would come next; repeat the request";
            return Err(Error::Unavailable { why: why.into() });
        }
        ScheduleState::Enabled => next_due,
    };
    state.put_schedule(Arc::new(Schedule {
        spec: spec.clone(),
        next_due,
        updated_at: state.now(),
        version: old.version + 1,
        ..Schedule::clone(&old)
    }));
    Ok(Response::Schedule(id))
}

fn find_one(state: &State, id: ScheduleId) -> Result<Arc<Schedule>, Error> {
    let row = state.schedule(id).ok_or_else(|| Error::not_found(Kind::Schedule, id))?;
    Ok(row.clone())
}

/// What a run would start now.
fn definition(state: &State, spec: &ScheduleSpec) -> Result<DefinitionId, Error> {
    let run = &spec.run;
    let name = match run.revision {
        Some(revision) => format!("{}:{revision}", run.family),
        None => run.family.clone(),
    };
    let found = match run.revision {
        Some(revision) => state.revision(&run.family, revision),
        None => state.latest(&run.family),
    };
    let id = found.ok_or_else(|| Error::not_found(Kind::TaskDefinition, name))?.id;
    Ok(find::active_definition(state, id)?.id)
}

/// What the leader says of a schedule that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fire {
    pub schedule: ScheduleId,
    pub due: Time,
    pub latest: Time,
    pub missed: u32,
    pub next: Option<Time>,
}

/// `due` must be what the row waits for: of several entries that say so, one is right.
pub(super) fn fire(state: &mut State, said: Fire) -> Result<(), Error> {
    let old = find_one(state, said.schedule)?;
    let now = state.now();
    if old.next_due != Some(said.due) {
        let name = &old.spec.name;
        return Err(Error::refused(format!("schedule {name} does not wait for this time")));
    }
    let in_order = said.due <= said.latest
        && said.latest <= now
        && said.next.is_none_or(|next| next > said.latest);
    if !in_order {
        return Err(Error::refused("a time that is not due yet, or comes after what follows it"));
    }
    let (due, missed) = (said.latest, said.missed);
    let outcome = run(state, &old, due);
    let mut new = Schedule::clone(&old);
    new.next_due = said.next;
    new.runs.push(ScheduleRun { due, at: now, missed, outcome });
    if new.runs.len() > limits::SCHEDULE_RUNS_KEPT
        && let Some(oldest) = new.runs.iter().position(|run| !run.goes_on(state))
    {
        new.runs.remove(oldest);
    }
    state.put_schedule(Arc::new(new));
    Ok(())
}

/// What becomes of the run that is due; its tasks or its job, if it starts, are made here.
fn run(state: &mut State, schedule: &Schedule, due: Time) -> RunOutcome {
    let spec = &schedule.spec;
    if state.now().since(due) > spec.missed.latest() {
        return RunOutcome::Missed;
    }
    let open: Vec<&ScheduleRun> = schedule.runs.iter().filter(|run| run.goes_on(state)).collect();
    let may_be = match spec.overlap {
        OverlapPolicy::Allow => limits::SCHEDULE_OPEN_RUNS_MAX,
        OverlapPolicy::Skip => 1,
        OverlapPolicy::Replace => usize::MAX,
    };
    if open.len() >= may_be {
        return RunOutcome::Skipped { open: u32::try_from(open.len()).unwrap_or(u32::MAX) };
    }
    let begun = match &spec.job {
        Some(job) => run_job(state, schedule, job, due),
        None => run_tasks(state, schedule, due),
    };
    let outcome = match begun {
        Ok(outcome) => outcome,
        Err(why) => return RunOutcome::Failed { why },
    };
    if spec.overlap == OverlapPolicy::Replace {
        let why = format!("Replaced by the next run of schedule {}", spec.name);
        open.into_iter().for_each(|run| stop(state, run, &why));
    }
    outcome
}

fn stop(state: &mut State, run: &ScheduleRun, why: &str) {
    if let RunOutcome::StartedJob { job } = &run.outcome {
        job::stop(state, *job, why);
    }
    let wanted: Vec<_> = run.open(state).filter(|task| task.wanted()).cloned().collect();
    for task in wanted {
        task::stop(state, &task, StopCode::UserInitiated, why.into());
    }
}

/// As RunTask would.
fn run_tasks(state: &mut State, schedule: &Schedule, due: Time) -> Result<RunOutcome, Error> {
    let run = &schedule.spec.run;
    let command = RunTask {
        cluster: schedule.cluster,
        definition: definition(state, &schedule.spec)?,
        tasks: schedule.task_ids(due),
        group: Arc::from(run.group.as_str()),
        started_by: Some(schedule.started_by()),
        overrides: Arc::new(run.overrides.clone()),
        tags: run.tags.clone(),
    };
    let tasks = task::drawn_up(state, &command, None)?;
    let ids = tasks.iter().map(|task| task.id).collect();
    tasks.into_iter().for_each(|task| state.put_task(Arc::new(task)));
    Ok(RunOutcome::Started { tasks: ids })
}

/// As RunJob would: refused for the same reasons, and its tasks are the leader's to make.
fn run_job(
    state: &mut State,
    schedule: &Schedule,
    job: &JobSpec,
    due: Time,
) -> Result<RunOutcome, Error> {
    let run = &schedule.spec.run;
    let definition = definition(state, &schedule.spec)?;
    let spec = JobSpec {
        name: schedule.job_name(due),
        group: run.group.clone(),
        overrides: run.overrides.clone(),
        tags: run.tags.clone(),
        ..job.clone()
    };
    let id = schedule.job_id(due);
    job::run(state, id, schedule.cluster, definition, &Arc::new(spec))?;
    Ok(RunOutcome::StartedJob { job: id })
}
