//! A deployment that failed ends as FAILED, starts nothing more, and its service returns to the
//! last revision that completed, whoever leads then. Without it a bad revision takes a service down
//! while a good one is known, or comes back by itself.

use crate::sim::world::short;
use muster_model::diff::Change;
use muster_model::service::{Halt, HaltCause, Outcome};
use muster_model::{
    Alarm, AlarmState, Changes, Deployment, DeploymentId, Desired, RolloutState, Service,
    ServiceStatus, State, Task,
};

/// How many deployments failed or were stopped by this entry.
pub(super) fn count_halted(changes: &Changes) -> u64 {
    let halted = |row: Option<&std::sync::Arc<Service>>| {
        row.map_or(0, |row| row.all_deployments().filter(|one| one.halt.is_some()).count())
    };
    let both = changes.services.iter().filter(|change| change.after.is_some());
    let more = both.map(|c| halted(c.after.as_ref()).saturating_sub(halted(c.before.as_ref())));
    more.sum::<usize>() as u64
}

/// Tasks of services that stop while their health checks fail.
pub(super) fn count_unhealthy(before: &State, changes: &Changes) -> u64 {
    let stops = |task: &Task| matches!(task.desired, Desired::Stopped { .. });
    let given_up = changes.tasks.iter().filter(|change| {
        let (Some(was), Some(is)) = (&change.before, &change.after) else { return false };
        was.service().is_some() && before.is_unhealthy(was) && !stops(was) && stops(is)
    });
    given_up.count() as u64
}

pub(super) fn check_entry(before: &State, after: &State, changes: &Changes) -> Result<(), String> {
    for change in &changes.services {
        check_service([before, after], change)?;
    }
    let created = changes.tasks.iter().filter(|change| change.before.is_none());
    for task in created.filter_map(|change| change.after.as_ref()) {
        let service = task.service().and_then(|id| after.service(id));
        let of = |row: &&Deployment| Some(row.id) == task.deployment();
        let deployment = service.and_then(|row| row.all_deployments().find(of));
        if deployment.is_some_and(|row| row.halt.is_some()) {
            return Err(format!("{} is started for a deployment that failed", short(task.id)));
        }
    }
    Ok(())
}

fn check_service(states: [&State; 2], change: &Change<Service>) -> Result<(), String> {
    let (Some(was), Some(is)) = (&change.before, &change.after) else { return Ok(()) };
    if is.status != ServiceStatus::Active {
        return Ok(());
    }
    for old in was.all_deployments() {
        let Some(new) = is.all_deployments().find(|new| new.id == old.id) else { continue };
        match (old.halt, new.halt) {
            (Some(_), halt) if halt != old.halt || new.rollout != RolloutState::Failed => {
                return Err(format!("{} goes on although it failed", short(new.id)));
            }
            (None, Some(halt)) => failed(states, [was, is], new, halt)?,
            _ => {}
        }
    }
    Ok(())
}

/// What fails by the breaker's verdict has earned it, and gives way to what should take its place.
/// The same plan may have lost instances before it: with tasks that were starting there, which are
/// failures, and with places that a DAEMON service had.
fn failed(
    states: [&State; 2],
    [was, is]: [&Service; 2],
    row: &Deployment,
    halt: Halt,
) -> Result<(), String> {
    let breaker = was.spec.circuit_breaker;
    let desired = states.map(|state| state.desired_count(was)).into_iter().min();
    let least = breaker.threshold.failures(desired.unwrap_or_default());
    let by_breaker = halt.cause == HaltCause::TasksFailed;
    if by_breaker && !(breaker.enable && row.failed_tasks >= least) {
        let failures = row.failed_tasks;
        return Err(format!("{} failed after {failures} of {least}", short(row.id)));
    }
    let by_alarm = halt.cause == HaltCause::Alarm;
    if by_alarm && !states.iter().any(|state| rings(state, was, row)) {
        return Err(format!("{} failed without an alarm", short(row.id)));
    }
    let good = last_completed(was, row.id);
    let rolls_back = by_breaker && breaker.rollback || by_alarm && was.spec.alarms.rollback;
    if rolls_back && halt.back_to != good {
        return Err(format!("{} does not give way to what completed", short(row.id)));
    }
    let newest = is.primary().map(|newest| newest.id);
    if halt.back_to.is_some() && newest != good {
        return Err(format!("{} did not return to what completed", short(is.id)));
    }
    Ok(())
}

/// Whether an alarm that the service names went off after the deployment began.
fn rings(state: &State, service: &Service, row: &Deployment) -> bool {
    let alarms = &service.spec.alarms;
    let went_off = |alarm: &Alarm| {
        alarms.names.iter().any(|name| **name == *alarm.name)
            && alarm.state == AlarmState::Alarm
            && alarm.since >= row.created_at
    };
    alarms.enable && state.alarms().any(|alarm| went_off(alarm))
}

/// Told by its end alone, not by where it stands: the newest of those that ended well.
fn last_completed(service: &Service, but: DeploymentId) -> Option<DeploymentId> {
    let well = |row: &&Deployment| {
        row.id != but && row.end.is_some_and(|end| end.outcome == Outcome::Successful)
    };
    let rows = service.deployments.iter().filter(well);
    rows.max_by_key(|row| (row.end.map(|end| end.at), row.created_at)).map(|row| row.id)
}

/// When everything is at rest, what failed has come to its end.
pub(super) fn check_end(state: &State) -> Result<(), String> {
    for service in state.services().filter(|row| row.status == ServiceStatus::Active) {
        let open = |row: &&Deployment| row.halt.is_some() && row.end.is_none();
        let Some(row) = service.all_deployments().find(open) else { continue };
        let newest = service.primary().map(|newest| newest.rollout);
        if newest == Some(RolloutState::Completed) {
            return Err(format!("{} is still being rolled back", short(row.id)));
        }
    }
    Ok(())
}
