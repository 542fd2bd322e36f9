//! Jobs.

use super::schedule::overridden;
use super::{int, timestamp};
use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::{Job, JobSpec, State};

/// With its tasks that have not ended.
pub fn job(state: &State, row: &Job) -> pb::Job {
    let (arns, cluster) = (Arns::of(state), name_of(state, row.cluster));
    let tasks = state.tasks_of_job(row.id).filter(|task| task.ended_at().is_none());
    let definition = state.definition(row.definition);
    let arn = definition.map(|found| arns.definition(&found.family, found.revision));
    let waits = row.end.is_none() && row.backoff.until > state.now();
    let failure = row.last_failure.as_ref().map(|failure| pb::JobFailure {
        task_arn: arns.task(&cluster, failure.task),
        reason: failure.reason.to_string(),
    });
    pb::Job {
        id: row.id.to_string(),
        cluster_arn: arns.cluster(&cluster),
        spec: Some(spec(state, row)),
        task_definition_arn: arn.unwrap_or_default(),
        status: row.state().name().into(),
        reason: row.end.as_ref().map(|end| end.reason.to_string()).unwrap_or_default(),
        attempts: int(row.attempts),
        succeeded: int(row.succeeded),
        failed: int(row.failed),
        created_at: Some(timestamp(row.created_at)),
        started_at: row.started_at.map(timestamp),
        ended_at: row.end.as_ref().map(|end| timestamp(end.at)),
        next_attempt_at: waits.then(|| timestamp(row.backoff.until)),
        task_arns: tasks.map(|task| arns.task(&cluster, task.id)).collect(),
        last_failure: failure,
        version: i64::try_from(row.version).unwrap_or(i64::MAX),
    }
}

/// As RunJob takes it: what was left out is said, and the revision that was taken.
fn spec(state: &State, row: &Job) -> pb::JobSpec {
    let spec = &row.spec;
    let definition = state.definition(row.definition);
    let name = definition.map(|found| format!("{}:{}", found.family, found.revision));
    let run_task = pb::RunTaskRequest {
        task_definition: name.unwrap_or_default(),
        group: spec.group.clone(),
        ..overridden(&spec.overrides, &spec.tags)
    };
    pb::JobSpec { name: spec.name.clone(), run_task: Some(run_task), ..job_counts(spec) }
}

/// How many tasks it is of, and how long it may take.
pub(super) fn job_counts(spec: &JobSpec) -> pb::JobSpec {
    pb::JobSpec {
        completions: Some(int(spec.completions)),
        parallelism: Some(int(spec.parallelism)),
        retries: Some(int(spec.retries)),
        timeout_seconds: spec.timeout_secs.map(int),
        attempt_timeout_seconds: spec.attempt_timeout_secs.map(int),
        ..pb::JobSpec::default()
    }
}
