//! Tasks whose health checks fail: which are to be replaced for that, and how many may go now.
//!
//! As ECS has it: their replacements start first where the maximum percent leaves room, and they go
//! once those are healthy; without room they go first. They serve nobody, so the minimum is not
//! theirs to keep. It does not know what a check is. Invariant: nothing goes within the service's
//! health check grace period.

use super::draft::Draft;
use super::explain;
use super::replicas::stop;
use super::roster::{Roster, Standing, count};
use super::view::View;
use muster_model::{HealthStatus, Millis, Service, State, Task, TaskId, Time};
use std::sync::Arc;

/// ECS `stoppedReason`.
const FAILED_CHECKS: &str = "Task failed container health checks";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Well,
    /// Its checks fail, and the grace period ends then.
    Spared(Time),
    Failing,
}

/// The service's grace counts from the start of the task, or from its place while it starts.
pub(super) fn verdict(state: &State, service: &Service, task: &Task) -> Verdict {
    if !state.is_unhealthy(task) {
        return Verdict::Well;
    }
    let began = task.observed.started_at.or(task.placed_at).unwrap_or(task.created_at);
    let secs = service.spec.health_check_grace_secs.unwrap_or_default();
    let until = began + Millis::from_secs(u64::from(secs));
    if state.now() < until { Verdict::Spared(until) } else { Verdict::Failing }
}

/// What its checks say, where it has any: time alone tells nothing then.
pub(super) fn standing(state: &State, task: &Task, by_time: Standing) -> Standing {
    match (by_time, state.checked_health(task)) {
        (Standing::Young | Standing::Healthy, Some(HealthStatus::Healthy)) => Standing::Healthy,
        (Standing::Young | Standing::Healthy, Some(_)) => Standing::Young,
        _ => by_time,
    }
}

/// How many go now: those that are replaced, and those whose replacement has no room to `start`.
pub(super) fn may_go(desired: usize, start: usize, roster: &Roster) -> usize {
    let failing = roster.failing.len();
    let replaced = (count(&roster.good, Standing::Healthy) + failing).saturating_sub(desired);
    let without_room = desired.saturating_sub(roster.good.len() + start);
    failing.min(replaced.max(without_room))
}

/// Stops so many, the oldest first.
pub(super) fn give_up(
    draft: &mut Draft,
    view: &mut View,
    service: &Service,
    roster: &Roster,
    number: usize,
) -> Vec<TaskId> {
    let reason = Arc::from(FAILED_CHECKS);
    let mut stopped = Vec::new();
    for member in roster.failing.iter().take(number) {
        if !stop(draft, view, service.id, member.task.id, &reason) {
            break;
        }
        stopped.push(member.task.id);
    }
    explain::failed_checks(draft, service.id, &stopped);
    stopped
}
