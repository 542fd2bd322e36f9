//! Schedules and their runs.

use super::definition::{constraints, tag_list};
use super::job::job_counts;
use super::service::placement_strategy;
use super::task::{container_override, task_size};
use super::{int, timestamp};
use crate::arn::{Arns, name_of};
use crate::{error, pb};
use muster_model::schedule::{RunOutcome, ScheduleRun, ScheduledRun};
use muster_model::spec::{Overrides, Tags};
use muster_model::{
    MissedRunPolicy, OverlapPolicy, PropagateTags, Schedule, ScheduleSpec, ScheduleState, State,
};

/// With its runs, newest first.
pub fn schedule(state: &State, row: &Schedule) -> pb::Schedule {
    let cluster = name_of(state, row.cluster);
    let shown = |shown: &ScheduleRun| run(state, &cluster, shown);
    pb::Schedule {
        cluster_arn: Arns::of(state).cluster(&cluster),
        spec: Some(spec(&row.spec)),
        next_due_at: row.next_due.map(timestamp),
        runs: row.runs.iter().rev().map(shown).collect(),
        created_at: Some(timestamp(row.created_at)),
        updated_at: Some(timestamp(row.updated_at)),
        version: i64::try_from(row.version).unwrap_or(i64::MAX),
    }
}

/// As UpdateSchedule takes it: what was left empty is said.
fn spec(row: &ScheduleSpec) -> pb::ScheduleSpec {
    let (missed, seconds) = match row.missed {
        MissedRunPolicy::Skip => ("SKIP", 0),
        MissedRunPolicy::RunOnce { within_secs } => ("RUN_ONCE", within_secs),
    };
    let overlap = match row.overlap {
        OverlapPolicy::Allow => "ALLOW",
        OverlapPolicy::Skip => "SKIP",
        OverlapPolicy::Replace => "REPLACE",
    };
    let state = match row.state {
        ScheduleState::Enabled => "ENABLED",
        ScheduleState::Disabled => "DISABLED",
    };
    pb::ScheduleSpec {
        name: row.name.clone(),
        schedule_expression: row.expression.clone(),
        schedule_expression_timezone: row.timezone.clone(),
        state: state.into(),
        start_date: row.start.map(timestamp),
        end_date: row.end.map(timestamp),
        overlap_policy: overlap.into(),
        missed_run_policy: missed.into(),
        starting_deadline_seconds: int(seconds),
        run_task: row.job.is_none().then(|| run_task(&row.run)),
        run_job: row.job.as_ref().map(|counts| pb::JobSpec {
            run_task: Some(pb::RunTaskRequest { count: 0, ..run_task(&row.run) }),
            ..job_counts(counts)
        }),
    }
}

fn run_task(row: &ScheduledRun) -> pb::RunTaskRequest {
    let task_definition = match row.revision {
        Some(revision) => format!("{}:{revision}", row.family),
        None => row.family.clone(),
    };
    pb::RunTaskRequest {
        task_definition,
        count: int(row.count),
        group: row.group.clone(),
        started_by: row.started_by.clone().unwrap_or_default(),
        ..overridden(&row.overrides, &row.tags)
    }
}

/// What a RunTask request says of overrides and tags.
pub(super) fn overridden(over: &Overrides, tags: &Tags) -> pb::RunTaskRequest {
    let overrides = pb::TaskOverride {
        container_overrides: over.containers.iter().map(container_override).collect(),
        cpu: task_size(over.cpu),
        memory: task_size(over.memory_mib),
        inference_accelerator_overrides: Vec::new(),
        task_role_arn: over.task_role_arn.clone().unwrap_or_default(),
        execution_role_arn: over.execution_role_arn.clone().unwrap_or_default(),
    };
    pb::RunTaskRequest {
        overrides: (overrides != pb::TaskOverride::default()).then_some(overrides),
        placement_constraints: constraints(&over.placement.constraints),
        placement_strategy: over.placement.strategies.iter().map(placement_strategy).collect(),
        tags: tag_list(tags),
        enable_execute_command: over.enable_execute_command,
        propagate_tags: match over.propagate_tags {
            PropagateTags::None => String::new(),
            tags => tags.name().into(),
        },
        enable_ecs_managed_tags: over.managed_tags,
        ..pb::RunTaskRequest::default()
    }
}

fn run(state: &State, cluster: &str, row: &ScheduleRun) -> pb::ScheduleRun {
    let (arns, mut task_arns, mut job_id) = (Arns::of(state), Vec::new(), String::new());
    let reason = match &row.outcome {
        RunOutcome::Started { tasks } => {
            task_arns.extend(tasks.iter().map(|id| arns.task(cluster, *id)));
            String::new()
        }
        RunOutcome::StartedJob { job } => {
            job_id = job.to_string();
            String::new()
        }
        RunOutcome::Skipped { open } => format!("earlier runs went on: {open}"),
        RunOutcome::Missed => "no manager led until it was too late".into(),
        RunOutcome::Failed { why } => error::message(why),
    };
    pb::ScheduleRun {
        due_at: Some(timestamp(row.due)),
        decided_at: Some(timestamp(row.at)),
        outcome: row.outcome.name().into(),
        reason,
        task_arns,
        missed_count: int(row.missed),
        job_id,
    }
}
