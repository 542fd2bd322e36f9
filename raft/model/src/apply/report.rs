//! What agents said: `observed` moves forward, ends are recorded, and a service learns from them.
//!
//! What counts as a failed start, precisely. A service's task that nobody asked to stop and that
//! stopped has *failed to start* if it never was RUNNING or ended, by its agent's clock, before it
//! counted as healthy (`State::is_healthy`) or less than `QUICK_EXIT` after it started. So has one
//! that the scheduler stops while its health checks fail. A failed start adds one to its
//! deployment's `failed_tasks` and, if that deployment is PRIMARY, one to the service's back-off. A
//! task that ended later than that ran: it sets both to zero and is replaced at once. So do a new
//! deployment and one that completes (`apply/deployment`). ECS resets at RUNNING already, which
//! would never slow down a container that starts well and crashes after two seconds.
//!
//! The agents' clocks are not trusted: a reported time is brought between placement and now, and
//! a time once recorded stays.

use super::{deployment as rows, job, pin};
use crate::command::{Response, TaskReport};
use crate::error::{Error, Kind};
use crate::ids::{DeploymentId, Principal, ServiceId};
use crate::life::HealthStatus;
use crate::limits;
use crate::service::{Backoff, Service, ServiceStatus};
use crate::state::State;
use crate::task::{ContainerStatus, Desired, Observed, Owner, Phase, Task, reason};
use crate::time::{Millis, Time};
use std::sync::Arc;

/// Each report is judged alone; those refused are listed, the rest stand.
pub(super) fn all(state: &mut State, reports: &[TaskReport]) -> Response {
    let mut refused = Vec::new();
    for (position, report) in (0u32..).zip(reports) {
        if let Err(why) = one(state, report) {
            refused.push((position, why));
        }
    }
    Response::Reports { refused }
}

fn one(state: &mut State, report: &TaskReport) -> Result<(), Error> {
    let task = state.task(report.task).ok_or_else(|| Error::not_found(Kind::Task, report.task))?;
    if task.instance != Some(report.instance) {
        let principal = Principal::Instance(report.instance).to_string();
        return Err(Error::Denied { principal, action: format!("report task {}", report.task) });
    }
    let old = task.clone();
    let observed = merged(&old, &report.observed, state.now());
    if observed == old.observed {
        return Ok(());
    }
    let ended = observed.phase == Phase::Stopped;
    let mut new = Task::clone(&old);
    new.observed = observed;
    new.version += 1;
    let new = Arc::new(new);
    state.put_task(new.clone());
    pin::heard(state, &old, &new);
    job::heard(state, &old);
    if ended
        && old.desired == Desired::Running
        && let Owner::Service { service, deployment, .. } = old.owner
    {
        let after = state.healthy_after(old.cluster).max(limits::QUICK_EXIT);
        let unproved = state.checked_health(&old).is_some_and(|h| h != HealthStatus::Healthy);
        let failed = unproved || failed_to_start(&old, &report.observed, state.now(), after);
        count(state, service, deployment, failed.then_some(old.created_at));
    }
    Ok(())
}

/// The agent's word on top of what it said before: a lower phase is an old message, and after
/// STOPPED nothing is added.
fn merged(task: &Task, said: &Observed, now: Time) -> Observed {
    let old = &task.observed;
    if old.phase == Phase::Stopped || said.phase < old.phase {
        return old.clone();
    }
    let earliest = task.placed_at.unwrap_or(task.created_at);
    let bounded = |time: Time| time.max(earliest).min(now);
    let first = |old: Option<Time>, said: Option<Time>| old.or(said.map(bounded));
    let at_phase = |phase: Phase| (said.phase == phase).then_some(now);
    Observed {
        phase: said.phase,
        containers: match said.containers.is_empty() {
            true => old.containers.clone(),
            false => said.containers.iter().map(|c| heard(old, c)).collect(),
        },
        pull_started_at: first(old.pull_started_at, said.pull_started_at),
        pull_stopped_at: first(old.pull_stopped_at, said.pull_stopped_at),
        started_at: first(old.started_at, said.started_at.or(at_phase(Phase::Running))),
        stopping_at: first(old.stopping_at, said.stopping_at.or(at_phase(Phase::Stopping))),
        stopped_at: first(old.stopped_at, said.stopped_at.or(at_phase(Phase::Stopped))),
        stop_code: said.stop_code.or(old.stop_code),
        reason: said.reason.as_deref().map(reason).or_else(|| old.reason.clone()),
    }
}

/// An agent that has just started has not checked anything yet: until it has, what it decided
/// before stands, or each restart of an agent would make its tasks unhealthy. A container that was
/// itself started anew has no past.
fn heard(old: &Observed, said: &ContainerStatus) -> ContainerStatus {
    let mut heard = said.clone();
    let same = |c: &&ContainerStatus| {
        c.name == said.name && c.phase == said.phase && c.restarts == said.restarts
    };
    if heard.health == HealthStatus::Unknown
        && let Some(before) = old.containers.iter().find(same)
    {
        heard.health = before.health;
    }
    heard
}

fn failed_to_start(task: &Task, said: &Observed, now: Time, after: Millis) -> bool {
    match said.started_at.or(task.observed.started_at) {
        None => true,
        Some(started) => said.stopped_at.unwrap_or(now).since(started) < after,
    }
}

/// A task whose health checks fail was told to stop: whatever for, its deployment has one that
/// failed.
pub(super) fn gave_up(state: &mut State, task: &Task) {
    if let Owner::Service { service, deployment, .. } = task.owner {
        count(state, service, deployment, Some(task.created_at));
    }
}

/// Counts one ended task of a service: when it was created if it failed.
fn count(state: &mut State, service: ServiceId, deployment: DeploymentId, failed: Option<Time>) {
    let Some(old) = state.service(service).cloned() else { return };
    if old.status == ServiceStatus::Inactive {
        return;
    }
    let mut new = Service::clone(&old);
    if let Some(row) = new.deployments.iter_mut().find(|row| row.id == deployment) {
        rows::count(state, &old, row, failed.is_some());
    }
    if new.primary().is_some_and(|primary| primary.id == deployment) {
        new.backoff = match failed {
            Some(created) => old.backoff.failed(created, state.now()),
            None => Backoff::default(),
        };
    }
    if new == *old {
        return;
    }
    // The back-off is the leader's own memory; only `failedTasks` is shown.
    if new.deployments != old.deployments {
        new.version += 1;
    }
    state.put_service(Arc::new(new));
}
