//! Jobs: asked for, started in attempts, and ended by what became of those, by time or by a user.
//!
//! What an attempt came to is counted in the entry that says so, whoever leads. Invariants: an end
//! of a task counts once; a job ends once, and none of its tasks is wanted from then on.

use super::{definition, find, privilege, tags, task};
use crate::command::Response;
use crate::error::{Error, Kind};
use crate::ids::{ClusterId, DefinitionId, JobId, TaskId};
use crate::job::{Job, JobCommand, JobEnd, JobFailure, JobOutcome, JobSpec};
use crate::limits;
use crate::service::Backoff;
use crate::state::State;
use crate::task::{Owner, StopCode, Task, reason};
use std::sync::Arc;

/// What a user who gives no reason is said to have done.
const STOPPED_BY_USER: &str = "Job stopped by user";

pub(super) fn decide(state: &mut State, command: &JobCommand) -> Result<Response, Error> {
    match command {
        JobCommand::Run { id, cluster, definition, spec } => {
            run(state, *id, *cluster, *definition, spec)
        }
        JobCommand::Stop { id, reason: why } => {
            find_one(state, *id)?;
            stop(state, *id, if why.is_empty() { STOPPED_BY_USER } else { why });
            Ok(Response::Job(*id))
        }
        JobCommand::Delete { id } => {
            let row = find_one(state, *id)?;
            if row.end.is_none() {
                let (kind, name) = (Kind::Job, row.spec.name.clone());
                let what = format!("it is {}; stop it first", row.state().name());
                return Err(Error::InUse { kind, name, what });
            }
            state.remove_job(*id);
            Ok(Response::Job(*id))
        }
    }
}

/// Stopping one that has ended changes nothing, as with tasks.
pub(super) fn stop(state: &mut State, id: JobId, why: &str) {
    if let Some(row) = state.job(id).filter(|row| row.end.is_none()) {
        let row = Job::clone(row);
        end(state, row, JobOutcome::Stopped, why);
    }
}

/// Its tasks are the leader's to make: it goes on where another left off by the same rule.
///
/// # Errors
/// As RunJob's; the state is then as it was.
pub(super) fn run(
    state: &mut State,
    id: JobId,
    cluster: ClusterId,
    definition: DefinitionId,
    spec: &Arc<JobSpec>,
) -> Result<Response, Error> {
    let home = find::active_cluster(state, cluster)?;
    let found = find::active_definition(state, definition)?;
    privilege::admit(&home, &found)?;
    definition::takes_constraints(&found, &spec.overrides.placement)?;
    let namesake = state.job_named(cluster, &spec.name).filter(|row| row.end.is_none());
    if namesake.is_some() || state.job(id).is_some() || state.tasks_of_job(id).next().is_some() {
        return Err(Error::Exists { kind: Kind::Job, name: spec.name.clone() });
    }
    find::at_most("jobs", state.open_jobs() + 1, limits::JOBS_MAX)?;
    tags::at_most(&tags::of_run(&home, &found, &spec.overrides, &spec.tags))?;
    let fields = [
        ("completions", spec.completions, limits::JOB_COMPLETIONS_MAX),
        ("parallelism", spec.parallelism, limits::JOB_COMPLETIONS_MAX),
    ];
    for (field, value, most) in fields {
        if !(1..=most).contains(&value) {
            return Err(Error::invalid(field, value.to_string(), format!("1 to {most}")));
        }
    }
    state.put_job(Arc::new(Job {
        id,
        cluster,
        definition,
        spec: spec.clone(),
        attempts: 0,
        succeeded: 0,
        failed: 0,
        backoff: Backoff::default(),
        last_failure: None,
        created_at: state.now(),
        started_at: None,
        end: None,
        version: 1,
    }));
    Ok(Response::Job(id))
}

fn find_one(state: &State, id: JobId) -> Result<Arc<Job>, Error> {
    let row = state.job(id).ok_or_else(|| Error::not_found(Kind::Job, id))?;
    Ok(row.clone())
}

/// In words for the leader: its plan was overtaken.
fn open(state: &State, id: JobId) -> Result<Arc<Job>, Error> {
    let row = find_one(state, id)?;
    match row.end {
        None => Ok(row),
        Some(_) => {
            let (name, is) = (&row.spec.name, row.state().name());
            Err(Error::refused(format!("job {name} is {is}")))
        }
    }
}

/// New tasks, as many as there is room for, once the back-off is over.
pub(super) fn start(state: &mut State, id: JobId, tasks: &[TaskId]) -> Result<(), Error> {
    let row = open(state, id)?;
    let (name, now) = (&row.spec.name, state.now());
    if row.deadline().is_some_and(|deadline| deadline <= now) {
        return Err(Error::refused(format!("job {name} has taken too long")));
    }
    if row.backoff.until > now {
        return Err(Error::refused(format!("job {name} starts no task yet: the last ones failed")));
    }
    let room = row.room();
    let made = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
    if made > room {
        return Err(Error::refused(format!("job {name} has room for {room} more tasks")));
    }
    let definition = find::definition(state, row.definition)?;
    task::unused(state, tasks.iter().copied())?;
    let owner = Owner::Job {
        job: id,
        group: task::group(&row.spec.group, &definition),
        started_by: row.started_by(),
    };
    let overrides = task::overrides(Arc::new(row.spec.overrides.clone()));
    let home = find::cluster(state, row.cluster)?;
    let tags = tags::of_run(&home, &definition, &row.spec.overrides, &row.spec.tags);
    let tags = Arc::new(tags);
    for task in tasks {
        let new = Task::new(*task, row.cluster, owner.clone(), row.definition, now);
        let (overrides, tags) = (overrides.clone(), tags.clone());
        state.put_task(Arc::new(Task { overrides, tags, ..new }));
    }
    let mut new = Job::clone(&row);
    new.attempts = row.attempts.saturating_add(made);
    new.version += u64::from(made > 0);
    state.put_job(Arc::new(new));
    Ok(())
}

/// As it is now: whoever proposes it, the time must have passed.
pub(super) fn time_out(state: &mut State, id: JobId) -> Result<(), Error> {
    let row = open(state, id)?;
    let late = row.deadline().is_some_and(|deadline| deadline <= state.now());
    let Some(secs) = row.spec.timeout_secs.filter(|_| late) else {
        return Err(Error::refused(format!("job {} has not taken too long", row.spec.name)));
    };
    let why = format!("Job timed out: it took longer than {secs} s");
    end(state, Job::clone(&row), JobOutcome::Failed, &why);
    Ok(())
}

/// A task was changed from what `old` is: if it is a job's, that learns that it runs or has ended.
pub(super) fn heard(state: &mut State, old: &Task) {
    let Some((row, task)) = old.job().and_then(|id| state.job(id)).zip(state.task(old.id)) else {
        return;
    };
    if row.end.is_some() {
        return;
    }
    let (task, mut new) = (task.clone(), Job::clone(row));
    new.started_at = new.started_at.or(task.observed.started_at);
    if old.ended_at().is_none() && task.ended_at().is_some() {
        count(state, &mut new, &task);
    }
    if new == **row {
        return;
    }
    if new.succeeded >= new.spec.completions {
        end(state, new, JobOutcome::Succeeded, "");
    } else if new.failed > new.spec.retries {
        let why = too_many(&new);
        end(state, new, JobOutcome::Failed, &why);
    } else {
        new.version += 1;
        state.put_job(Arc::new(new));
    }
}

fn count(state: &State, job: &mut Job, task: &Task) {
    let spec = state.definition(task.definition).map(|row| row.spec.clone()).unwrap_or_default();
    if task.succeeded(&spec) {
        job.succeeded = job.succeeded.saturating_add(1);
        job.backoff = Backoff::default();
        return;
    }
    job.failed = job.failed.saturating_add(1);
    job.backoff = job.backoff.failed(task.created_at, state.now());
    job.last_failure = Some(JobFailure { task: task.id, reason: reason(&task.failure(&spec)) });
}

fn too_many(job: &Job) -> String {
    let (failed, retries) = (job.failed, job.spec.retries);
    match &job.last_failure {
        Some(JobFailure { task, reason }) => {
            format!("{failed} tasks failed, {retries} may; the last was task {task}: {reason}")
        }
        None => format!("{failed} tasks failed, {retries} may"),
    }
}

/// The end of `job`, whose row this becomes; its tasks are stopped with it.
fn end(state: &mut State, mut job: Job, outcome: JobOutcome, why: &str) {
    job.end = Some(JobEnd { outcome, at: state.now(), reason: reason(why) });
    job.version += 1;
    let (id, cluster, name) = (job.id, job.cluster, job.spec.name.clone());
    state.put_job(Arc::new(job));
    let wanted: Vec<Arc<Task>> =
        state.tasks_of_job(id).filter(|task| task.wanted()).cloned().collect();
    let (code, why) = match outcome {
        JobOutcome::Stopped => (StopCode::UserInitiated, format!("Job {name} was stopped")),
        _ => (StopCode::ServiceSchedulerInitiated, format!("Job {name} has ended")),
    };
    for task in wanted {
        task::stop(state, &task, code, why.as_str().into());
    }
    for old in state.surplus_jobs(cluster) {
        state.remove_job(old);
    }
}
