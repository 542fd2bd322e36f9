//! Deployments of a service: how one begins, completes, fails and gives way to the last one that
//! completed, and what is remembered of it afterwards.
//!
//! It decides what the rows say then. It does not decide when: users and the leader do.
//! Invariants: the newest deployment stands first; only the newest can end, and it ends once; the
//! newest that ever completed stays among a service's deployments until a newer one has, so there
//! is something to roll back to.

use super::{find, pin, shift};
use crate::command::{Response, StopType};
use crate::error::{Error, Kind};
use crate::ids::{DefinitionId, DeploymentId, ServiceId};
use crate::limits;
use crate::service::{Backoff, Deployment, End, Halt, HaltCause, Outcome, RolloutState, Service};
use crate::shift::Stage;
use crate::state::State;
use crate::task::Task;
use crate::time::{Millis, Time};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn fresh(id: DeploymentId, definition: DefinitionId, now: Time) -> Deployment {
    Deployment {
        id,
        definition,
        created_at: now,
        updated_at: now,
        rollout: RolloutState::InProgress,
        failed_tasks: 0,
        failed_at: None,
        halt: None,
        end: None,
    }
}

/// A new deployment takes the place of the newest, whatever that was about to do.
pub(super) fn begin(service: &mut Service, id: DeploymentId, definition: DefinitionId, now: Time) {
    for row in service.deployments.iter_mut().filter(|row| row.has_completed()) {
        // It may have been on its way to complete once more.
        row.rollout = RolloutState::Completed;
    }
    for row in service.deployments.iter_mut().filter(|row| row.end.is_none()) {
        let outcome = match row.halt {
            Some(_) => Outcome::RollbackFailed,
            None => Outcome::Replaced,
        };
        row.end = Some(End { outcome, at: now });
    }
    service.deployments.insert(0, fresh(id, definition, now));
    // The oldest row goes; its tasks stay what they are: not of the PRIMARY deployment.
    while service.deployments.len() > limits::DEPLOYMENTS_PER_SERVICE_MAX {
        let kept = service.rollback_target();
        let Some(at) = service.deployments.iter().rposition(|row| Some(row.id) != kept) else {
            break;
        };
        let gone = service.deployments.remove(at);
        remember(service, [gone]);
    }
    service.backoff = Backoff::default();
}

/// The newest `limits::PAST_DEPLOYMENTS_MAX` of those that are over, the newest first.
fn remember(service: &mut Service, gone: impl IntoIterator<Item = Deployment>) {
    service.past.extend(gone);
    service.past.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
    service.past.truncate(limits::PAST_DEPLOYMENTS_MAX);
}

/// IN_PROGRESS ends as COMPLETED, once. It may be said again: each time it ends older deployments
/// that have no wanted task left, and clears the memory of failed starts.
pub(super) fn advance(
    state: &mut State,
    service: ServiceId,
    deployment: DeploymentId,
    rollout: RolloutState,
) -> Result<(), Error> {
    if rollout == RolloutState::Failed {
        return fail(state, service, deployment, None);
    }
    let old = find::service(state, service)?;
    let Some(at) = old.deployments.iter().position(|d| d.id == deployment) else {
        return Err(Error::not_found(Kind::Deployment, deployment));
    };
    let from = old.deployments[at].rollout;
    if from != RolloutState::InProgress && from != rollout {
        let why = format!("deployment {deployment} is {from:?} and cannot become {rollout:?}");
        return Err(Error::refused(why));
    }
    let completes = from != rollout && rollout == RolloutState::Completed;
    if completes && state.pause(service).is_some() {
        return Err(Error::refused(format!("deployment {deployment} is paused")));
    }
    if completes && state.is_watched(&old, &old.deployments[at]) {
        return Err(Error::refused(format!("deployment {deployment} is watched by its alarms")));
    }
    if let Some(shift) = state.shift(service).filter(|_| completes) {
        if shift.stage < Stage::CleanUp || shift.green != deployment {
            let (green, stage) = (shift.green, shift.stage.shown());
            return Err(Error::refused(format!("deployment {green} is in {stage}")));
        }
        shift::end(state, service);
    }
    let mut new = Service::clone(&old);
    if from != rollout {
        new.deployments[at].rollout = rollout;
        new.deployments[at].updated_at = state.now();
    }
    if rollout == RolloutState::Completed {
        complete(state, &mut new, at);
    }
    if new != *old {
        if new.deployments != old.deployments {
            new.version += 1;
        }
        pin::prune(state, &new);
        state.put_service(Arc::new(new));
    }
    Ok(())
}

fn complete(state: &State, service: &mut Service, at: usize) {
    let now = state.now();
    let row = &mut service.deployments[at];
    row.failed_tasks = 0;
    row.failed_at = None;
    row.end.get_or_insert(End { outcome: Outcome::Successful, at: now });
    let id = row.id;
    if at == 0 {
        service.backoff = Backoff::default();
    }
    let back = |row: &&mut Deployment| {
        row.end.is_none() && row.halt.is_some_and(|halt| halt.back_to == Some(id))
    };
    for row in service.deployments.iter_mut().filter(back) {
        row.end = Some(End { outcome: Outcome::RolledBack, at: now });
    }
    let wanted = state.tasks_of(service.id).filter(|task| task.wanted());
    let busy: BTreeSet<DeploymentId> = wanted.filter_map(|task| task.deployment()).collect();
    let older = service.deployments.split_off(at + 1);
    let (stay, gone): (Vec<_>, Vec<_>) = older.into_iter().partition(|row| busy.contains(&row.id));
    service.deployments.extend(stay);
    remember(service, gone);
}

/// The verdict, as the service is now: a task that has proved itself since, a user who scaled, or
/// an alarm that is over may have overtaken it.
pub(super) fn fail(
    state: &mut State,
    service: ServiceId,
    deployment: DeploymentId,
    back_to: Option<DeploymentId>,
) -> Result<(), Error> {
    let row = find::active_service(state, service)?;
    let Some(verdict) = state.verdict(&row).filter(|of| of.deployment == deployment) else {
        return Err(Error::refused(format!("deployment {deployment} has not failed")));
    };
    halt(state, service, deployment, verdict.cause, back_to)
}

/// The newest deployment goes no further: it starts no more tasks, and has no traffic. `back_to` is
/// made the newest again, with the tasks that it still has.
pub(super) fn halt(
    state: &mut State,
    id: ServiceId,
    deployment: DeploymentId,
    cause: HaltCause,
    back_to: Option<DeploymentId>,
) -> Result<(), Error> {
    let old = find::active_service(state, id)?;
    let now = state.now();
    let mut new = Service::clone(&old);
    let Some(row) = new.deployments.first_mut().filter(|row| row.id == deployment) else {
        return Err(Error::refused(format!("deployment {deployment} is not the newest")));
    };
    if !row.is_open() {
        let why = format!("deployment {deployment} is {:?} and goes on", row.rollout);
        return Err(Error::refused(why));
    }
    if back_to.is_none() && state.shift(id).is_some() {
        let why = format!("deployment {deployment} shifts traffic: it can only be rolled back");
        return Err(Error::refused(why));
    }
    row.rollout = RolloutState::Failed;
    row.updated_at = now;
    row.halt = Some(Halt { cause, at: now, back_to });
    match back_to {
        None => row.end = Some(End { outcome: Outcome::Stopped, at: now }),
        Some(_) if back_to != old.rollback_target() => {
            let why = format!("deployment {deployment} cannot be rolled back to that one");
            return Err(Error::refused(why));
        }
        Some(target) => {
            let found = new.deployments.iter().position(|row| row.id == target);
            let mut target = new.deployments.remove(found.unwrap_or_default());
            target.rollout = RolloutState::InProgress;
            target.updated_at = now;
            target.failed_tasks = 0;
            target.failed_at = None;
            new.deployments.insert(0, target);
        }
    }
    new.backoff = Backoff::default();
    new.version += 1;
    state.put_service(Arc::new(new));
    shift::end(state, id);
    Ok(())
}

/// StopServiceDeployment, in errors that a user reads.
pub(super) fn stop(
    state: &mut State,
    service: ServiceId,
    deployment: DeploymentId,
    stop: StopType,
) -> Result<Response, Error> {
    let row = find::active_service(state, service)?;
    let known = row.all_deployments().filter(|_| !row.spec.is_external());
    let Some(found) = known.into_iter().find(|d| d.id == deployment) else {
        return Err(Error::not_found(Kind::Deployment, deployment.shown()));
    };
    let newest = row.primary().is_some_and(|newest| newest.id == deployment);
    if !newest || !found.is_open() {
        let is = match found.end {
            Some(end) => end.outcome.shown(),
            None => "ROLLBACK_IN_PROGRESS",
        };
        let name = format!("{} of {}, which is {is}", deployment.shown(), row.spec.name);
        return Err(Error::NotActive { kind: Kind::Deployment, name });
    }
    let back_to = match stop {
        StopType::Abort if state.shift(service).is_some() => {
            let allowed = "ROLLBACK: the deployment shifts traffic, and would leave it divided";
            return Err(Error::invalid("stopType", "ABORT", allowed));
        }
        StopType::Abort => None,
        StopType::Rollback => Some(row.rollback_target().ok_or_else(|| {
            let allowed = "ABORT: no earlier deployment of the service has completed, so there is \
                           nothing to roll back to";
            Error::invalid("stopType", "ROLLBACK", allowed)
        })?),
    };
    halt(state, service, deployment, HaltCause::User, back_to)?;
    Ok(Response::Service(service))
}

/// A task of the deployment ended by itself: it failed, or it had been healthy.
pub(super) fn count(state: &State, service: &Service, row: &mut Deployment, failed: bool) {
    let forgives = service.spec.circuit_breaker.reset_on_healthy_task || !row.is_open();
    match failed {
        true if forgives && has_proved(state, service, row) => row.failed_tasks = 1,
        true => row.failed_tasks = row.failed_tasks.saturating_add(1),
        false if forgives => row.failed_tasks = 0,
        false => return,
    }
    row.failed_at = failed.then_some(state.now());
}

/// A task of the deployment has become healthy since the last one failed. Those of one entry failed
/// together: whoever became healthy did so before all of them.
fn has_proved(state: &State, service: &Service, row: &Deployment) -> bool {
    let now = state.now();
    let Some(since) = row.failed_at.filter(|since| *since < now) else { return false };
    let after = state.healthy_after(service.cluster);
    // When a check first passed is not kept: one that began after the failure tells as much.
    let proved = |task: &Arc<Task>| match state.checked_health(task) {
        Some(_) => {
            task.healthy_at(Millis(0)).is_some_and(|at| at > since) && state.is_healthy(task)
        }
        None => task.healthy_at(after).is_some_and(|at| at > since && at <= now),
    };
    state.tasks_of(service.id).any(|task| task.deployment() == Some(row.id) && proved(task))
}
