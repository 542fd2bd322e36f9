//! Requests about jobs.

use super::{At, number, schedule, task};
use crate::pb;
use muster_model::limits::{
    JOB_COMPLETIONS_MAX, JOB_RETRIES_DEFAULT, JOB_RETRIES_MAX, JOB_TIMEOUT_SECS_MAX,
};
use muster_model::spec::Overrides;
use muster_model::{
    Cluster, Command, Error, IdSource, Job, JobCommand, JobId, JobSpec, JobState, Kind, State,
};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The job of this cluster that a user means by a name or an id.
///
/// # Errors
/// `NotFound`.
pub fn named<'s>(state: &'s State, cluster: &Cluster, text: &str) -> Result<&'s Arc<Job>, Error> {
    let by_id = text.parse::<JobId>().ok().and_then(|id| state.job(id));
    let found = by_id.filter(|row| row.cluster == cluster.id);
    let found = found.or_else(|| state.job_named(cluster.id, text));
    found.ok_or_else(|| Error::not_found(Kind::Job, text))
}

/// RunJob.
///
/// # Errors
/// `Invalid` with the field, `NotFound` for what it names.
pub fn run(state: &State, id: JobId, wire: &pb::RunJobRequest) -> Result<Command, Error> {
    let Some(spec) = &wire.spec else {
        return Err(At::Field("spec").invalid("", "a job"));
    };
    let run = its_run(&wire.cluster, spec)?;
    // The tasks' ids are given to them when they start.
    let Command::RunTask(asked) = task::run(state, &mut IdSource::new(0), &run)? else {
        return Err(Error::refused("not a run"));
    };
    let spec = JobSpec {
        name: schedule::name(&spec.name)?,
        group: run.group.clone(),
        overrides: Overrides::clone(&asked.overrides),
        tags: asked.tags,
        ..counts(spec)?
    };
    let (cluster, definition, spec) = (asked.cluster, asked.definition, Arc::new(spec));
    Ok(Command::Job(JobCommand::Run { id, cluster, definition, spec }))
}

/// What each task is, of a job of this cluster.
pub(super) fn its_run(cluster: &str, wire: &pb::JobSpec) -> Result<pb::RunTaskRequest, Error> {
    let run = task::nested_run(cluster, wire.run_task.as_ref())?;
    let at = At::Field("runTask");
    if !(0..=1).contains(&run.count) {
        return Err(at.field("count").invalid(run.count, "none: completions says how many"));
    }
    if !run.started_by.is_empty() {
        let allowed = "none: it is job/ and the job's name";
        return Err(at.field("startedBy").invalid(&run.started_by, allowed));
    }
    Ok(run)
}

/// How many tasks a job is of, and how long it may take; nothing else of it.
pub(super) fn counts(spec: &pb::JobSpec) -> Result<JobSpec, Error> {
    let counted = 1..=JOB_COMPLETIONS_MAX;
    let timed = 1..=JOB_TIMEOUT_SECS_MAX;
    let retries = given("retries", spec.retries, 0..=JOB_RETRIES_MAX)?;
    Ok(JobSpec {
        completions: given("completions", spec.completions, counted.clone())?.unwrap_or(1),
        parallelism: given("parallelism", spec.parallelism, counted)?.unwrap_or(1),
        retries: retries.unwrap_or(JOB_RETRIES_DEFAULT),
        timeout_secs: given("timeoutSeconds", spec.timeout_seconds, timed.clone())?,
        attempt_timeout_secs: given("attemptTimeoutSeconds", spec.attempt_timeout_seconds, timed)?,
        ..JobSpec::default()
    })
}

fn given(
    field: &str,
    wire: Option<i32>,
    allowed: RangeInclusive<u32>,
) -> Result<Option<u32>, Error> {
    wire.map(|value| number(&At::Field(field), value, allowed)).transpose()
}

/// Of which jobs a list is; `None`: of all.
///
/// # Errors
/// `Invalid` for a word that is no status.
pub fn status(wire: &str) -> Result<Option<JobState>, Error> {
    if wire.is_empty() {
        return Ok(None);
    }
    let found = JobState::ALL.into_iter().find(|state| state.name() == wire);
    let words = || JobState::ALL.map(JobState::name).join(", ");
    found.map(Some).ok_or_else(|| At::Field("status").invalid(wire, words()))
}
