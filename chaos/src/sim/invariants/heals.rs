//! After the faults every service comes to what its user asked for, as far as there is room;
//! deleted ones are gone; whatever waits says why, and truly cannot be placed. Without it an
//! operator has to repair by hand what broke last night.

use super::task_sets;
use crate::sim::world::short;
use muster_model::service::Backoff;
use muster_model::spec::NetworkMode;
use muster_model::task::{Blocker, Waiting};
use muster_model::{
    Desired, Health, Instance, InstanceId, InstanceStatus, Millis, RolloutState, Scratch, Service,
    ServiceStatus, Side, State, Task, Time, limits,
};
use std::collections::BTreeSet;

/// What is not as it should be.
pub(super) fn unrest(state: &State, hosts: &BTreeSet<InstanceId>, now: Time) -> Option<String> {
    let away = |row: &&std::sync::Arc<Instance>| {
        row.status != InstanceStatus::Inactive
            && hosts.contains(&row.id)
            && row.health != Health::Ready
    };
    if let Some(row) = state.instances().find(away) {
        return Some(format!("{} is {:?}", short(row.id), row.health));
    }
    if let Some(task) = state.tasks().find(|task| in_between(task)) {
        let phase = task.observed.phase;
        return Some(format!("{} is {:?} and {phase:?}", short(task.id), task.desired));
    }
    let young = |task: &&std::sync::Arc<Task>| {
        let proven = |at: Time| at + limits::HEALTHY_AFTER + Millis::from_secs(2) <= now;
        task.running() && !task.observed.started_at.is_some_and(proven)
    };
    if let Some(task) = state.tasks().find(young) {
        return Some(format!("{} has only just started", short(task.id)));
    }
    state
        .waiting()
        .find_map(|task| unexplained(state, task))
        .or_else(|| state.services().find_map(|service| incomplete(state, service, now)))
}

/// On its way to RUNNING or to its end; what waits to be placed is judged apart.
fn in_between(task: &Task) -> bool {
    let placed = task.instance.is_some();
    let stops = matches!(task.desired, Desired::Stopped { .. });
    match task.service() {
        Some(_) if task.wanted() => placed && !task.running(),
        // A task of RunTask ends by itself or runs for good; refused ones are stopped.
        None if task.wanted() => !placed || !task.running() || batch(task),
        _ => stops && !task.finished(),
    }
}

fn batch(task: &Task) -> bool {
    task.definition.0 == crate::sim::setting::FAMILIES.len() as u64
}

fn unexplained(state: &State, task: &Task) -> Option<String> {
    let id = short(task.id);
    let waiting = task.waiting.as_ref().filter(|waiting| !waiting.removed.is_empty());
    let members = || state.instances().filter(|i| i.cluster == task.cluster);
    if waiting.is_none() && members().any(|i| i.status != InstanceStatus::Inactive) {
        return Some(format!("{id} waits and nobody says why"));
    }
    // `apply` has no say in a hard skew: it is the scheduler's word.
    let skewed = |waiting: &Waiting| waiting.removed.iter().any(|(b, _)| *b == Blocker::Skew);
    if waiting.is_some_and(|waiting| skewed(waiting)) {
        return None;
    }
    let room = members().find(|instance| has_room(state, task, instance));
    room.map(|instance| format!("{id} waits although {} has room", short(instance.id)))
}

/// By `apply`'s own word, with free ports of our choice.
fn has_room(state: &State, task: &Task, instance: &Instance) -> bool {
    let Some(spec) = state.spec_of(task) else { return false };
    let taken = state.reserved(instance.id).ports;
    let mut dynamic = muster_model::limits::DYNAMIC_PORTS;
    let mut ports = Vec::new();
    for (_, mapping) in spec.port_mappings() {
        let free = |port: &u16| !taken.contains_key(&(*port, mapping.protocol));
        let Some(port) = spec.wanted_host_port(mapping).or_else(|| dynamic.find(free)) else {
            return false;
        };
        ports.push(port);
    }
    debug_assert!(spec.network_mode == NetworkMode::Bridge);
    state.check_place(task, instance, &ports).is_ok() && leaves_reserve(state, task, instance)
}

/// Growth has no room where only a zone's reserve is left.
fn leaves_reserve(state: &State, task: &Task, instance: &Instance) -> bool {
    let service = task.service().and_then(|id| state.service(id));
    let spared = service.is_some_and(|row| {
        row.spec.is_daemon() || state.seated(row.id) < state.established(row.id)
    });
    let (zone, size) = (&instance.spec.zone, state.reservation(task));
    spared || state.missing_for_growth(task.cluster, zone, size).is_none()
}

/// Zones are not evened out soon after a task ended by itself.
fn hurt_lately(state: &State, service: &Service, now: Time) -> bool {
    let hurt = |task: &Task| {
        task.desired == Desired::Running
            && task.finished()
            && task
                .ended_at()
                .is_some_and(|at| at + limits::REBALANCE_PAUSE + Millis::from_secs(2) > now)
    };
    state.tasks_of(service.id).any(|task| hurt(task))
}

/// A deployment that shifts traffic has a turn to take, now or when some time is over, or starts
/// tasks yet.
fn shifting(state: &State, service: &Service, now: Time) -> Option<String> {
    let name = &service.spec.name;
    let stage = state.shift(service.id)?.stage.shown();
    // At rest no entry has told the state the time.
    let today = Scratch::new(state, now);
    let turn = today.state().next_turn(service);
    if turn.map_or_else(|wait| wait.until().is_some(), |_| true) {
        return Some(format!("{name} goes on from {stage}"));
    }
    let lacks = state.sides(service).iter().any(|side| lacks(state, service, *side));
    lacks.then(|| format!("{name} lacks tasks in {stage}"))
}

/// Whether a task of the side's own deployment may be started yet. Those of others that are still
/// there do not stand in for it: it takes their place when its back-off is over.
fn may_start(state: &State, service: &Service, side: Side) -> bool {
    let own = state.deployment_on(service, side);
    let wanted = state.tasks_of(service.id).filter(|task| task.wanted());
    let there = wanted.filter(|task| task.deployment() == own && state.in_place(service, task));
    there.count() < state.desired_on(service, side) as usize
}

fn lacks(state: &State, service: &Service, side: Side) -> bool {
    let own = |task: &Task| state.in_place(service, task) && state.side_of(service, task) == side;
    let wanted = state.tasks_of(service.id).filter(|task| task.wanted() && own(task));
    wanted.count() < state.desired_on(service, side) as usize
}

/// Until when nothing is started on a side. Blue's failures are its own, and each task set's.
pub(super) fn held_back(state: &State, service: &Service, side: Side) -> Time {
    let alone = matches!(side, Side::Blue | Side::Set(_));
    let own = state.deployment_on(service, side).filter(|_| alone);
    let row = service.deployments.iter().find(|row| Some(row.id) == own);
    let older = row.map(|row| Backoff::of_older(row, state.desired_on(service, side)));
    older.unwrap_or(service.backoff).until
}

fn incomplete(state: &State, service: &Service, now: Time) -> Option<String> {
    let name = &service.spec.name;
    if service.status == ServiceStatus::Draining {
        return Some(format!("{name} is deleted and not gone"));
    }
    if service.status != ServiceStatus::Active {
        return None;
    }
    let desired = state.desired_count(service);
    let tasks = || state.tasks_of(service.id).filter(|task| state.in_place(service, task));
    let waits = |side: &Side| {
        may_start(state, service, *side)
            && held_back(state, service, *side) + Millis::from_secs(1) > now
    };
    if state.sides(service).iter().any(waits) {
        return Some(format!("{name} waits for its back-off"));
    }
    // Its user has to continue it, whatever it has got to.
    if state.pause(service.id).is_some() {
        return None;
    }
    if let Some(why) = shifting(state, service, now) {
        return Some(why);
    }
    if state.waiting().any(|task| task.service() == Some(service.id)) {
        return None;
    }
    if service.spec.rebalances_zones() && hurt_lately(state, service, now) {
        return Some(format!("{name} does not look at its zones yet"));
    }
    if service.spec.is_external() {
        return task_sets::lacks(state, service);
    }
    let newest = service.primary()?;
    // Nothing takes the place of what failed without a rollback, until its user says what shall.
    if newest.rollout == RolloutState::Failed {
        return None;
    }
    let stays = |task: &Task| {
        let row = task.instance.and_then(|id| state.instance(id));
        task.deployment() == Some(newest.id)
            && row.is_some_and(|row| row.status == InstanceStatus::Active)
    };
    let percents = service.spec.deployment;
    let running = || tasks().filter(|task| task.running());
    // Percentages that allow no move leave tasks where they are.
    let movable = percents.ceiling(desired) > desired || percents.floor(desired) < desired;
    if !movable && running().any(|task| !stays(task)) {
        return None;
    }
    if running().count() != desired as usize {
        return Some(format!("{name} runs {} of {desired}", running().count()));
    }
    // What stays on a draining instance to the last keeps its deployment's row.
    let alone = service.deployments.len() == 1 || service.spec.is_daemon();
    let done = newest.rollout == RolloutState::Completed && alone;
    (!done).then(|| format!("{name} has not completed its deployment"))
}
