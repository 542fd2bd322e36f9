//! Requests about schedules: everything but the expression, which is read where it is evaluated
//! (`muster-calendar`).

use super::{At, job, number, task};
use crate::{arn, pb};
use muster_model::limits::{
    SCHEDULE_NAME_CHARS_MAX, SCHEDULE_WITHIN_SECS_MAX, SCHEDULE_WITHIN_SECS_MIN,
};
use muster_model::schedule::ScheduledRun;
use muster_model::{
    Cluster, Command, Error, IdSource, JobSpec, Kind, MissedRunPolicy, OverlapPolicy, Schedule,
    ScheduleSpec, ScheduleState, State, Time,
};
use std::sync::Arc;

/// The schedule of this cluster that has the name.
pub fn named<'s>(
    state: &'s State,
    cluster: &Cluster,
    name: &str,
) -> Result<&'s Arc<Schedule>, Error> {
    let found = state.schedule_named(cluster.id, name);
    found.ok_or_else(|| Error::not_found(Kind::Schedule, name))
}

/// What a user writes of a schedule.
pub fn spec(
    state: &State,
    cluster: &str,
    wire: Option<&pb::ScheduleSpec>,
) -> Result<ScheduleSpec, Error> {
    let Some(wire) = wire else {
        return Err(At::Field("spec").invalid("", "a schedule"));
    };
    let start = date("startDate", wire.start_date.as_ref())?;
    let end = date("endDate", wire.end_date.as_ref())?;
    if start.zip(end).is_some_and(|(start, end)| start >= end) {
        let end = wire.end_date.map(|end| end.to_string()).unwrap_or_default();
        return Err(At::Field("endDate").invalid(end, "a time after startDate"));
    }
    let (asked, job) = what(cluster, wire)?;
    Ok(ScheduleSpec {
        name: match job {
            Some(_) => name_of_jobs(&wire.name)?,
            None => name(&wire.name)?,
        },
        expression: wire.schedule_expression.clone(),
        timezone: wire.schedule_expression_timezone.clone(),
        state: enabled(&wire.state)?,
        start,
        end,
        overlap: overlap(&wire.overlap_policy)?,
        missed: missed(&wire.missed_run_policy, wire.starting_deadline_seconds)?,
        run: run(state, &asked)?,
        job,
    })
}

/// What each task is, and the job that it is one of.
fn what(
    cluster: &str,
    wire: &pb::ScheduleSpec,
) -> Result<(pb::RunTaskRequest, Option<JobSpec>), Error> {
    let Some(wanted) = &wire.run_job else {
        return Ok((task::nested_run(cluster, wire.run_task.as_ref())?, None));
    };
    if wire.run_task.is_some() {
        return Err(At::Field("runTask").invalid("", "none beside runJob, which has its own."));
    }
    if !wanted.name.is_empty() {
        let allowed = "none: it is the schedule's name and when it was due";
        return Err(At::Field("runJob").field("name").invalid(&wanted.name, allowed));
    }
    Ok((job::its_run(cluster, wanted)?, Some(job::counts(wanted)?)))
}

/// With a hyphen and ten digits behind it, it is a job's name.
fn name_of_jobs(text: &str) -> Result<String, Error> {
    const CHARS_MAX: usize = SCHEDULE_NAME_CHARS_MAX - "-1767225600".len();
    if text.len() > CHARS_MAX {
        let allowed = format!("1 to {CHARS_MAX} characters of a schedule that runs jobs");
        return Err(At::Field("name").invalid(text, allowed));
    }
    name(text)
}

/// EventBridge's characters of a schedule's name; a job's is no other.
pub(super) fn name(text: &str) -> Result<String, Error> {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !text.is_empty() && text.len() <= SCHEDULE_NAME_CHARS_MAX && text.bytes().all(charset) {
        return Ok(text.into());
    }
    let allowed = format!("1 to {SCHEDULE_NAME_CHARS_MAX} letters, digits and .-_");
    Err(At::Field("name").invalid(text, allowed))
}

fn enabled(text: &str) -> Result<ScheduleState, Error> {
    match text {
        "" | "ENABLED" => Ok(ScheduleState::Enabled),
        "DISABLED" => Ok(ScheduleState::Disabled),
        other => Err(At::Field("state").invalid(other, "ENABLED or DISABLED")),
    }
}

fn overlap(text: &str) -> Result<OverlapPolicy, Error> {
    match text {
        "" | "ALLOW" => Ok(OverlapPolicy::Allow),
        "SKIP" => Ok(OverlapPolicy::Skip),
        "REPLACE" => Ok(OverlapPolicy::Replace),
        other => Err(At::Field("overlapPolicy").invalid(other, "ALLOW, SKIP or REPLACE")),
    }
}

fn missed(text: &str, seconds: i32) -> Result<MissedRunPolicy, Error> {
    let deadline = At::Field("startingDeadlineSeconds");
    match (text, seconds) {
        ("" | "RUN_ONCE", 0) => Ok(MissedRunPolicy::default()),
        ("" | "RUN_ONCE", seconds) => {
            let allowed = SCHEDULE_WITHIN_SECS_MIN..=SCHEDULE_WITHIN_SECS_MAX;
            let within_secs = number(&deadline, seconds, allowed)?;
            Ok(MissedRunPolicy::RunOnce { within_secs })
        }
        ("SKIP", 0) => Ok(MissedRunPolicy::Skip),
        ("SKIP", seconds) => Err(deadline.invalid(seconds, "none with missedRunPolicy SKIP")),
        (other, _) => Err(At::Field("missedRunPolicy").invalid(other, "RUN_ONCE or SKIP")),
    }
}

fn date(field: &str, wire: Option<&prost_types::Timestamp>) -> Result<Option<Time>, Error> {
    let Some(wire) = wire else { return Ok(None) };
    // The year 9999: what text can say.
    let seconds = u64::try_from(wire.seconds).ok().filter(|seconds| *seconds < 253_402_300_800);
    let millis = u64::try_from(wire.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match seconds.zip(millis) {
        Some((seconds, nanos)) => Ok(Some(Time(seconds * 1000 + nanos / 1_000_000))),
        None => Err(At::Field(field).invalid(wire.seconds, "a time from 1970 to 9999")),
    }
}

fn run(state: &State, wire: &pb::RunTaskRequest) -> Result<ScheduledRun, Error> {
    // The tasks' ids are each run's own.
    let Command::RunTask(asked) = task::run(state, &mut IdSource::new(0), wire)? else {
        return Err(Error::refused("not a run"));
    };
    let (family, revision) = arn::family(state, &wire.task_definition)?;
    Ok(ScheduledRun {
        family: family.into(),
        revision,
        count: u32::try_from(asked.tasks.len()).unwrap_or(u32::MAX),
        group: wire.group.clone(),
        started_by: asked.started_by.map(|text| text.to_string()),
        overrides: muster_model::spec::Overrides::clone(&asked.overrides),
        tags: asked.tags,
    })
}
