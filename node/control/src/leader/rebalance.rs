//! Availability-zone rebalancing, as ECS does it: of a service at rest whose tasks lie unevenly in
//! the zones, a few start in the poorest zones; once they are healthy, `rollout` lets as many go,
//! and `balance` takes them from the fullest zone.
//!
//! It starts a task only where it can place it at once, in a zone with at least two tasks fewer
//! than the one that will give one up. So each move makes the zones more even by the sum of the
//! squares of their tasks, which cannot go on for ever. What cannot move is parked until an
//! instance gains something that lets it.
//! Invariant: at most `batch` tasks beyond the desired count, within the service's maximum percent.

use super::balance::choose;
use super::draft::Draft;
use super::explain;
use super::replicas::free_slots;
use super::roster::{Member, Roster, Standing};
use super::view::View;
use muster_model::{
    ClusterId, Desired, Instance, InstanceId, Owner, Phase, Resources, RolloutState, Service,
    ServiceId, Side, State, Step, Task, TaskId, Time, limits,
};
use std::collections::{BTreeMap, BTreeSet};

/// Tasks of a service per zone.
pub(super) type Crowds = BTreeMap<String, usize>;

/// What is kept between rounds; a new leader looks at every service and comes to the same.
#[derive(Debug, Default)]
pub(super) struct Rebalancing {
    /// Zones with instances that accept tasks.
    zones: BTreeMap<ClusterId, BTreeSet<String>>,
    /// Uneven services that nothing could take a task of.
    parked: BTreeSet<ServiceId>,
}

/// Before `rollout`: services that a zone or an instance may help now are looked at.
pub(super) fn wake(draft: &Draft, view: &mut View, kept: &mut Rebalancing) {
    let state = draft.state();
    let rows = view.dirty.instances.iter().filter_map(|id| state.instance(*id));
    let clusters: BTreeSet<ClusterId> = match view.dirty.all {
        true => state.clusters().map(|row| row.id).collect(),
        false => rows.map(|row| row.cluster).collect(),
    };
    for cluster in clusters {
        let accepting = state.active_instances(cluster).filter(|row| row.accepts_tasks());
        let zones: BTreeSet<String> = accepting.map(|row| row.spec.zone.clone()).collect();
        let known = kept.zones.entry(cluster).or_default();
        if !zones.is_subset(known) {
            let services = state.services_in(cluster).filter(|row| row.spec.rebalances_zones());
            view.dirty.services.extend(services.map(|row| row.id));
        }
        *known = zones;
    }
    let gained: Vec<&Instance> = view
        .dirty
        .instances
        .union(&view.dirty.relieved)
        .filter_map(|id| state.instance(*id).map(|row| &**row))
        .filter(|row| row.accepts_tasks())
        .collect();
    if !gained.is_empty() {
        let helped = kept.parked.iter().filter(|id| gained.iter().any(|on| helps(state, **id, on)));
        view.dirty.services.extend(helped);
    }
}

/// Whether an instance may take a task of a parked service: a first look, the stage decides.
fn helps(state: &State, service: ServiceId, instance: &Instance) -> bool {
    let Some(row) = state.service(service).filter(|row| row.cluster == instance.cluster) else {
        return false;
    };
    // What it gains may be what its zone is to keep: then another one of the zone may take the
    // task.
    let cluster = state.cluster(row.cluster);
    let reserves = cluster
        .is_some_and(|cluster| cluster.zone_reserves().any(|(zone, _)| zone == instance.spec.zone));
    let room = size(state, row).is_some_and(|size| size.fits_in(state.free(instance)));
    (room || reserves) && {
        let crowds = crowds(state, row, None);
        let here = crowds.get(&instance.spec.zone).copied().unwrap_or(0);
        crowds.values().any(|crowd| *crowd > here + 1)
    }
}

/// After `place`: what waits has had its turn.
pub(super) fn stage(draft: &mut Draft, view: &mut View, kept: &mut Rebalancing) {
    let mut rooms = BTreeMap::new();
    for id in std::mem::take(&mut draft.settled) {
        kept.parked.remove(&id);
        let Some(service) = draft.state().service(id).cloned() else { continue };
        let moves = service.spec.rebalances_zones() && is_completed(&service);
        let Some(zones) = kept.zones.get(&service.cluster).filter(|_| moves) else { continue };
        let crowds = crowds(draft.state(), &service, Some(zones));
        if is_even(&crowds) {
            explain::balanced(draft, id, &crowds);
        } else if let Some(until) = paused_until(draft.state(), &service, view.now) {
            view.wakes.service_at(until, id);
        } else if draft.room() < batch(&service) * 2 + crowds.len() + 1 {
            view.dirty.defer(id);
        } else if !start(draft, view, &service, crowds, zones, &mut rooms) {
            kept.parked.insert(id);
        }
    }
}

/// Most free cpu and memory of any instance, per zone: most of what cannot move is told by it.
type Rooms = BTreeMap<(ClusterId, String), Resources>;

/// `false`: no task was started, and none can be until something is gained.
fn start(
    draft: &mut Draft,
    view: &mut View,
    service: &Service,
    mut crowds: Crowds,
    zones: &BTreeSet<String>,
    rooms: &mut Rooms,
) -> bool {
    let before = crowds.clone();
    let roster = Roster::of(draft.state(), service, Side::Whole, view);
    let ceiling = service.spec.deployment.ceiling(service.spec.desired_count) as usize;
    let number = batch(service).min(ceiling.saturating_sub(roster.all()));
    let mut slots = free_slots(draft.state(), service.id);
    let mut started: BTreeMap<String, Vec<TaskId>> = BTreeMap::new();
    for leaver in choose(draft.state(), &service.spec.placement, &roster.good, &roster.good, number)
    {
        let Some(from) = zone(draft.state(), leaver) else { break };
        let Some((task, slot)) = hypothetical(view, service, &mut slots) else { break };
        let most = crowds.get(&from).copied().unwrap_or(0);
        let poor = poorest(&crowds, zones, most);
        let found = find(draft.state(), &task, &poor, rooms);
        let first = started.is_empty();
        let Some((to, instance, ports)) = found else {
            if let Some(zone) = poor.first().filter(|_| first) {
                explain::no_room(draft, view.now, service.id, zone);
            }
            break;
        };
        if first {
            explain::unbalanced(draft, service.id, &before);
        }
        let (service, id) = (service.id, task.id);
        let Some(deployment) = task.deployment() else { break };
        draft.push(Step::CreateTasks { service, deployment, tasks: vec![(slot, id)] });
        draft.push(Step::Place { task: id, instance, ports });
        crowds.entry(from).and_modify(|crowd| *crowd -= 1);
        *crowds.entry(to.clone()).or_default() += 1;
        started.entry(to).or_default().push(id);
    }
    for (zone, tasks) in &started {
        explain::started_in(draft, service.id, zone, tasks);
    }
    !started.is_empty()
}

/// Zones that a task helps by leaving one with `most`, the poorest first.
fn poorest(crowds: &Crowds, zones: &BTreeSet<String>, most: usize) -> Vec<String> {
    let mut poor: Vec<(usize, &String)> = crowds
        .iter()
        .filter(|(zone, crowd)| zones.contains(*zone) && **crowd + 1 < most)
        .map(|(zone, crowd)| (*crowd, zone))
        .collect();
    poor.sort();
    poor.into_iter().map(|(_, zone)| zone.clone()).collect()
}

/// The first of the zones with room, and the instance there that the task fits best: the one with
/// the fewest tasks of the service, then the most free memory, then the smallest id.
fn find(
    state: &State,
    task: &Task,
    zones: &[String],
    rooms: &mut Rooms,
) -> Option<(String, InstanceId, Vec<u16>)> {
    let size = state.reservation(task);
    zones.iter().find_map(|zone| {
        let instances = || {
            let all = state.active_instances(task.cluster);
            all.filter(|row| row.accepts_tasks() && row.spec.zone == *zone)
        };
        let room = rooms.entry((task.cluster, zone.clone())).or_insert_with(|| {
            instances().map(|row| state.free(row)).fold(Resources::default(), |most, free| {
                let memory_mib = most.memory_mib.max(free.memory_mib);
                Resources { cpu: most.cpu.max(free.cpu), memory_mib }
            })
        });
        // A move is growth: what it leaves comes free later.
        let missing = || state.missing_for_growth(task.cluster, zone, size);
        if !size.fits_in(*room) || missing().is_some() {
            return None;
        }
        let own = |row: &Instance| {
            let ours = |other: &&std::sync::Arc<Task>| other.service() == task.service();
            state.tasks_on(row.id).filter(ours).filter(|other| other.wanted()).count()
        };
        let mut fitting: Vec<_> = instances()
            .map(|row| (row, state.free(row)))
            .filter(|(_, free)| size.fits_in(*free))
            .map(|(row, free)| (own(row), std::cmp::Reverse(free.memory_mib), row.id))
            .collect();
        fitting.sort();
        fitting.into_iter().find_map(|(_, _, id)| {
            let ports = state.fit(task, state.instance(id)?).ok()?;
            Some((zone.clone(), id, ports))
        })
    })
}

fn hypothetical(
    view: &mut View,
    service: &Service,
    slots: &mut impl Iterator<Item = muster_model::Slot>,
) -> Option<(Task, muster_model::Slot)> {
    let newest = service.primary()?;
    let slot = slots.next()?;
    let owner = Owner::Service { service: service.id, slot, deployment: newest.id };
    let task =
        Task::new(view.ids.task(view.now), service.cluster, owner, newest.definition, view.now);
    Some((task, slot))
}

/// Tasks beyond the desired count that are to stay until they are healthy: given up now, as what
/// serves least goes first, they would leave the zones less even than they can be soon.
pub(super) fn is_moving(state: &State, service: &Service, roster: &Roster, excess: usize) -> bool {
    let few = (1..=batch(service)).contains(&excess);
    if !few || !service.spec.rebalances_zones() || !is_completed(service) {
        return false;
    }
    let healthy = |member: &Member| Member { standing: Standing::Healthy, ..member.clone() };
    let soon: Vec<Member> = roster.good.iter().map(healthy).collect();
    let now = choose(state, &service.spec.placement, &roster.good, &roster.good, excess);
    let soon = choose(state, &service.spec.placement, &soon, &soon, excess);
    unevenness(state, roster, &soon) < unevenness(state, roster, &now)
}

/// The sum of the squares of the tasks per zone, without those that go. What is not placed is a
/// zone of its own, which no move comes from.
fn unevenness(state: &State, roster: &Roster, gone: &[TaskId]) -> usize {
    let gone: BTreeSet<&TaskId> = gone.iter().collect();
    let mut crowds: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for member in roster.good.iter().filter(|m| !gone.contains(&m.task.id)) {
        *crowds.entry(zone(state, member.task.id)).or_default() += 1;
    }
    crowds.values().map(|crowd| crowd * crowd).sum()
}

fn is_completed(service: &Service) -> bool {
    service.primary().is_some_and(|newest| newest.rollout == RolloutState::Completed)
}

/// Replacements on their way at once: a tenth of the service, at least one.
fn batch(service: &Service) -> usize {
    (service.spec.desired_count as usize / 10).clamp(1, limits::REBALANCE_TASKS_MAX)
}

/// A service that failed a moment ago is not at rest: what could not run in a zone is not started
/// there again and again.
fn paused_until(state: &State, service: &Service, now: Time) -> Option<Time> {
    let failed = |t: &Task| t.desired == Desired::Running && t.observed.phase == Phase::Stopped;
    let tasks = state.tasks_of(service.id).filter(|task| failed(task));
    let last = tasks.filter_map(|task| task.ended_at()).max()?;
    Some(last + limits::REBALANCE_PAUSE).filter(|until| *until > now)
}

/// Where the service's tasks are; zones that have none of them stand there too, if given.
fn crowds(state: &State, service: &Service, zones: Option<&BTreeSet<String>>) -> Crowds {
    let mut crowds: Crowds = zones.into_iter().flatten().map(|zone| (zone.clone(), 0)).collect();
    for task in state.tasks_of(service.id).filter(|task| task.wanted()) {
        let Some(row) = task.instance.and_then(|id| state.instance(id)) else { continue };
        match crowds.get_mut(&row.spec.zone) {
            Some(crowd) => *crowd += 1,
            None => {
                crowds.insert(row.spec.zone.clone(), 1);
            }
        }
    }
    crowds
}

fn is_even(crowds: &Crowds) -> bool {
    let (least, most) = (crowds.values().min(), crowds.values().max());
    least.zip(most).is_none_or(|(least, most)| most - least <= 1)
}

fn zone(state: &State, task: TaskId) -> Option<String> {
    let on = state.task(task).and_then(|task| task.instance)?;
    Some(state.instance(on)?.spec.zone.clone())
}

fn size(state: &State, service: &Service) -> Option<Resources> {
    let newest = service.primary()?;
    Some(state.definition(newest.definition)?.spec.reservation())
}
