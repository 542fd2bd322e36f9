//! The tasks of a service, or of one side of it, as its reconciler sees them: what each still is
//! good for.
//!
//! Pure reading. Invariant: every wanted task is in exactly one of `good`, `failing`, `old`,
//! `draining`, `away`; but a DAEMON service's task that stays to the last on a draining instance is
//! in none. `away` has only such services' tasks, and does not count in their numbers.

use super::failing::{self, Verdict};
use super::view::View;
use muster_model::{
    Desired, InstanceId, InstanceStatus, Millis, Phase, Service, Side, State, Task, Time,
};
use std::sync::Arc;

/// How far a wanted task has come; what serves least is given up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Unplaced,
    /// Placed, not RUNNING.
    Starting,
    /// RUNNING, but not healthy yet (`Task::healthy_at`).
    Young,
    Healthy,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub task: Arc<Task>,
    pub standing: Standing,
    /// Protected from scale-in: neither that nor a deployment gives it up.
    pub spared: bool,
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Of the side's deployment, on instances that stay.
    pub good: Vec<Member>,
    /// Of others, and of its own those that run other bits (`State::is_stray`).
    pub old: Vec<Member>,
    /// Of any deployment: their health checks fail.
    pub failing: Vec<Member>,
    /// Of the side's deployment, on instances that are draining.
    pub draining: Vec<Member>,
    /// Of a DAEMON service, on instances that are to have none (any more).
    pub away: Vec<Member>,
    /// Told to stop, not stopped yet: they still run beside the others.
    pub ending: usize,
    /// When the next Young one becomes Healthy.
    pub next_healthy: Option<Time>,
    /// When the next grace period of one whose checks fail ends.
    pub next_failing: Option<Time>,
    /// When the next protection ends.
    pub next_unspared: Option<Time>,
}

impl Roster {
    pub fn of(state: &State, service: &Service, side: Side, view: &View) -> Self {
        let mut roster = Self::default();
        let newest = state.deployment_on(service, side);
        let after = state.healthy_after(service.cluster);
        // What holds for all of them is asked once: there may be tens of thousands.
        let undivided = side == Side::Whole && *state.sides(service) == [Side::Whole];
        let pinned = state.pins(service.id).is_some();
        let calm = state.all_active();
        let here = |task: &&Arc<Task>| undivided || state.side_of(service, task) == side;
        for task in state.tasks_of(service.id).filter(here) {
            let counts = state.in_place(service, task);
            if !task.wanted() {
                roster.ending += usize::from(counts && is_ending(task));
                continue;
            }
            let standing = roster.standing(task, view, state.now(), after);
            let standing = failing::standing(state, task, standing);
            let verdict = failing::verdict(state, service, task);
            if let Verdict::Spared(until) = verdict {
                roster.next_failing = roster.next_failing.into_iter().chain([until]).min();
            }
            let until = state.spared_until(task);
            roster.next_unspared = roster.next_unspared.into_iter().chain(until).min();
            let member = Member { task: task.clone(), standing, spared: until.is_some() };
            if !counts {
                // On a draining instance it stays until the other tasks have left.
                if draining(state, task).is_none_or(|on| state.only_daemons_on(on)) {
                    roster.away.push(member);
                }
            } else if verdict == Verdict::Failing {
                roster.failing.push(member);
            } else if task.deployment() != newest || pinned && state.is_stray(service, task) {
                roster.old.push(member);
            } else if !calm && draining(state, task).is_some() {
                roster.draining.push(member);
            } else {
                roster.good.push(member);
            }
        }
        roster
    }

    fn standing(&mut self, task: &Task, view: &View, now: Time, after: Millis) -> Standing {
        if task.instance.is_none() {
            return Standing::Unplaced;
        }
        let seen = task.observed.phase;
        let arriving = view.arriving.get(&task.id).copied().unwrap_or(seen);
        if seen.max(arriving) != Phase::Running {
            return Standing::Starting;
        }
        // `apply` has brought the agent's time between placement and now: the state's now, which
        // an earlier leader's clock may have carried ahead of ours. `apply` judges by it as well.
        let healthy_at = match task.running() {
            true => task.healthy_at(after),
            // The report of its start is on its way into the log.
            false => Some(now + after),
        };
        if healthy_at.is_some_and(|at| at <= now && task.running()) {
            return Standing::Healthy;
        }
        self.next_healthy = self.next_healthy.into_iter().chain(healthy_at).min();
        Standing::Young
    }

    /// Everything that exists, for the ceiling: also what is still stopping.
    pub fn all(&self) -> usize {
        self.good.len() + self.outgoing() + self.ending
    }

    pub fn outgoing(&self) -> usize {
        self.failing.len() + self.old.len() + self.draining.len()
    }

    pub fn healthy(&self) -> usize {
        [&self.good, &self.old, &self.draining].map(|m| count(m, Standing::Healthy)).iter().sum()
    }
}

pub(super) fn count(members: &[Member], standing: Standing) -> usize {
    members.iter().filter(|m| m.standing == standing).count()
}

/// Those of them that may be given up.
pub(super) fn count_unspared(members: &[Member], standing: Standing) -> usize {
    members.iter().filter(|m| m.standing == standing && !m.spared).count()
}

fn is_ending(task: &Task) -> bool {
    !task.finished() && matches!(task.desired, Desired::Stopped { .. })
}

/// The draining instance that the task is on.
pub(super) fn draining(state: &State, task: &Task) -> Option<InstanceId> {
    let row = task.instance.and_then(|id| state.instance(id))?;
    (row.status == InstanceStatus::Draining).then_some(row.id)
}
