//! The service reconciler: fills slots and gives up tasks, as many as `rollout` allows.
//!
//! Slots: `apply` holds at most one wanted task per slot. A new task takes the lowest slot, from 0,
//! that no wanted task holds. A replacement for a dead task therefore takes its slot over; one that
//! is started beside a living task (a roll, a drain) takes a higher one, and the slot of the task
//! it replaces is free for the task after. A slot is a place, not a name: nothing else depends on
//! it. It does not know the percentages. Invariant: it pushes at most what the targets say.

use super::balance::choose;
use super::draft::{Draft, Targets};
use super::explain;
use super::failing;
use super::roster::{Member, Roster, Standing, draining};
use super::turns;
use super::view::View;
use muster_model::task::StopCode;
use muster_model::{
    DeploymentId, Phase, Service, ServiceId, ServiceStatus, Side, Slot, State, Step, TaskId,
};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn stage(draft: &mut Draft, view: &mut View) {
    for id in turns::little_first(draft.room_to_make(), wanted(draft, view)) {
        let Some(service) = draft.state().service(id).cloned() else { continue };
        match service.status {
            ServiceStatus::Active => {
                for side in draft.state().sides(&service).iter() {
                    reconcile(draft, view, &service, *side);
                }
            }
            ServiceStatus::Draining => wind_down(draft, view, &service),
            ServiceStatus::Inactive => {}
        }
    }
}

/// Each service with the tasks it is to start.
fn wanted(draft: &Draft, view: &View) -> Vec<(ServiceId, usize)> {
    let start = |id| {
        let last = Side::Set(DeploymentId::from_bits(u128::MAX));
        let sides = (id, Side::Whole)..=(id, last);
        draft.targets.range(sides).map(|(_, targets)| targets.start).sum()
    };
    view.dirty.services.iter().map(|id| (*id, start(*id))).collect()
}

fn reconcile(draft: &mut Draft, view: &mut View, service: &Service, side: Side) {
    let Some(targets) = draft.targets.remove(&(service.id, side)) else { return };
    let roster = Roster::of(draft.state(), service, side, view);
    if targets.start > 0 {
        create(draft, view, service, side, targets.start);
    }
    let mut stopped = stop_away(draft, view, service, &roster);
    stopped.extend(failing::give_up(draft, view, service, &roster, targets.failing));
    stopped.extend(stop_chosen(draft, view, service, side, &roster, targets));
    explain::stopped(draft, service.id, &stopped);
}

fn create(draft: &mut Draft, view: &mut View, service: &Service, side: Side, wanted: usize) {
    let Some(deployment) = draft.state().deployment_on(service, side) else { return };
    let number = wanted.min(draft.room_to_make());
    if number < wanted {
        view.dirty.defer(service.id);
    }
    if number == 0 {
        return;
    }
    let slots = free_slots(draft.state(), service.id).take(number);
    let tasks = slots.map(|slot| (slot, view.ids.task(view.now))).collect();
    let service = service.id;
    draft.push(Step::CreateTasks { service, deployment, tasks });
    view.dirty.waiting = true;
}

pub(super) fn free_slots(state: &State, service: ServiceId) -> impl Iterator<Item = Slot> + use<> {
    let wanted = state.tasks_of(service).filter(|task| task.wanted());
    let taken: BTreeSet<Slot> = wanted.filter_map(|task| task.slot()).collect();
    (0..=u32::MAX).map(Slot).filter(move |slot| !taken.contains(slot))
}

/// Tasks of a DAEMON service where none should be: all of them.
fn stop_away(
    draft: &mut Draft,
    view: &mut View,
    service: &Service,
    roster: &Roster,
) -> Vec<TaskId> {
    let mut stopped = Vec::new();
    for member in roster.away.iter().filter(|m| !m.spared) {
        let reason = match draining(draft.state(), &member.task) {
            Some(_) => explain::DRAINED,
            None => explain::MISPLACED,
        };
        if !stop(draft, view, service.id, member.task.id, &Arc::from(reason)) {
            break;
        }
        stopped.extend((member.standing >= Standing::Young).then_some(member.task.id));
    }
    stopped
}

fn stop_chosen(
    draft: &mut Draft,
    view: &mut View,
    service: &Service,
    side: Side,
    roster: &Roster,
    targets: Targets,
) -> Vec<TaskId> {
    let scaling = match side {
        Side::Set(set) => explain::scaling_set(set),
        _ => explain::scaling(service.primary().map(|newest| newest.id)),
    };
    let groups = [
        (&roster.good, targets.excess, scaling.clone()),
        (&roster.old, targets.old, scaling),
        (&roster.draining, targets.draining, Arc::from(explain::DRAINING)),
    ];
    // Each choice sees the balance that the ones before leave behind.
    let mut present: Vec<Member> =
        groups.iter().flat_map(|(members, ..)| members.iter().cloned()).collect();
    let ran: BTreeSet<TaskId> =
        present.iter().filter(|m| m.standing >= Standing::Young).map(|m| m.task.id).collect();
    let mut stopped = Vec::new();
    for (members, number, reason) in groups {
        let chosen = choose(draft.state(), &service.spec.placement, members, &present, number);
        // What is about to be reported as ended needs no order, and to `apply` it still serves.
        let ends = |id: &&TaskId| view.arriving.get(id).is_some_and(|p| *p > Phase::Running);
        let orders: Vec<TaskId> = chosen.iter().filter(|id| !ends(id)).copied().collect();
        for task in &orders {
            let row = draft.state().task(*task);
            let reason = match row.is_some_and(|row| draft.state().is_stray(service, row)) {
                true => Arc::from(explain::STRAY),
                false => reason.clone(),
            };
            if !stop(draft, view, service.id, *task, &reason) {
                return stopped;
            }
            stopped.extend(ran.get(task));
        }
        let gone: BTreeSet<TaskId> = chosen.into_iter().collect();
        present.retain(|m| !gone.contains(&m.task.id));
    }
    stopped
}

pub(super) fn stop(
    draft: &mut Draft,
    view: &mut View,
    service: ServiceId,
    task: TaskId,
    reason: &Arc<str>,
) -> bool {
    if draft.full() {
        view.dirty.defer(service);
        return false;
    }
    let code = StopCode::ServiceSchedulerInitiated;
    let step = Step::Stop { task, code, reason: reason.clone() };
    view.dirty.waiting = true;
    draft.push(step);
    true
}

/// A deleted service: everything stops; once all of them are STOPPING it is INACTIVE, as in ECS.
fn wind_down(draft: &mut Draft, view: &mut View, service: &Service) {
    let reason = explain::scaling(service.primary().map(|d| d.id));
    let wanted: Vec<TaskId> =
        draft.state().tasks_of(service.id).filter(|t| t.wanted()).map(|t| t.id).collect();
    for task in wanted {
        if !stop(draft, view, service.id, task, &reason) {
            return;
        }
    }
    let left = draft.state().tasks_of(service.id).any(|t| t.last_status() < Phase::Stopping);
    if left {
        return;
    }
    match draft.full() {
        true => view.dirty.defer(service.id),
        false => {
            draft.push(Step::Retire { service: service.id });
        }
    }
}
