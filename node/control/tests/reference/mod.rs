//! The scheduler as one would write it on a blackboard: for every task, look at every instance.
//!
//! Slow on purpose and free of cleverness, so that a reader can check it against the rules: what
//! the leader decides must be what this decides, task by task.

use muster_model::instance::InstanceStatus;
use muster_model::placement::{BinpackField, PlacementStrategy, SpreadField};
use muster_model::state::Facing;
use muster_model::{
    Instance, InstanceId, Owner, Placement, Scratch, State, Step, Task, TaskId, Time,
};
use std::sync::Arc;

/// Every decision of a plan, in its turn: the instance chosen is the one chosen here, and a task
/// that was told why it waits has no place.
pub fn check(base: &State, now: Time, steps: &[Step]) {
    let mut scratch = Scratch::new(base, now);
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Place { task, instance, .. } => {
                let wanted = Decision::of(scratch.state(), *task);
                let chosen = wanted.rank(*instance);
                assert!(chosen.is_some(), "step {number}: {instance} cannot take {task}");
                assert_eq!(chosen, wanted.best(), "step {number}: {task} on {instance}");
            }
            Step::Explain { task, .. } => {
                let wanted = Decision::of(scratch.state(), *task);
                assert_eq!(wanted.best(), None, "step {number}: {task} has a place");
            }
            _ => {}
        }
        scratch.push(step).expect("a step is refused");
    }
}

/// At rest no task of a service waits that has a place: what can help a waiting one wakes it.
pub fn check_rest(state: &State) {
    for task in state.waiting().filter(|task| task.service().is_some()) {
        let best = Decision::of(state, task.id).best().cloned();
        assert_eq!(best, None, "{} waits in vain", task.id);
    }
}

/// What one task can get, from the best to the worst.
struct Decision {
    ranked: Vec<(Vec<i128>, InstanceId)>,
}

impl Decision {
    fn of(state: &State, task: TaskId) -> Self {
        let task = state.task(task).expect("no such task");
        let placement = placement(state, task);
        let all = || state.instances().filter(|row| row.cluster == task.cluster);
        let fits = all().filter(|row| state.fit(task, row).is_ok() && has_left(state, task, row));
        let fits = fits.filter(|row| !too_skewed(state, task, &placement, row));
        let fits = fits.filter(|row| replaces(state, task) || leaves_reserve(state, task, row));
        let ranked = fits.map(|row| (rank(state, task, &placement, row), row.id));
        Self { ranked: ranked.collect() }
    }

    fn best(&self) -> Option<&Vec<i128>> {
        self.ranked.iter().map(|(rank, _)| rank).min()
    }

    fn rank(&self, instance: InstanceId) -> Option<&Vec<i128>> {
        self.ranked.iter().find(|(_, id)| *id == instance).map(|(rank, _)| rank)
    }
}

/// Named resources, counted from the tasks that are there.
fn has_left(state: &State, task: &Task, row: &Instance) -> bool {
    let takes = |task: &Task| state.spec_of(task).expect("no such definition").named_reservation();
    takes(task).iter().all(|(name, wanted)| {
        let there = state.tasks().filter(|other| other.instance == Some(row.id));
        let held =
            there.filter(|other| other.reserves()).filter_map(|other| takes(other).remove(name));
        wanted + held.sum::<u32>() <= row.spec.resources.get(name).copied().unwrap_or(0)
    })
}

/// Whether it would be enough if nothing were given out.
fn declares(state: &State, task: &Task, row: &Instance) -> bool {
    let wanted = state.spec_of(task).expect("no such definition").named_reservation();
    wanted.iter().all(|(name, wanted)| row.spec.resources.get(name).is_some_and(|n| n >= wanted))
}

/// Whether fewer tasks of its service keep their place than did before, or nothing is asked of it.
fn replaces(state: &State, task: &Task) -> bool {
    let Some(service) = task.service().and_then(|id| state.service(id)) else { return false };
    let stays = |other: &&Arc<Task>| {
        let on = other.instance.and_then(|id| state.instance(id));
        other.service() == Some(service.id)
            && other.wanted()
            && on.is_some_and(|on| on.status == InstanceStatus::Active)
            && !state.is_unhealthy(other)
    };
    let seated = state.tasks().filter(stays).count();
    service.spec.is_daemon() || (seated as u32) < state.established(service.id)
}

/// Of what the task takes, its zone has as much left as its cluster keeps there.
fn leaves_reserve(state: &State, task: &Task, row: &Instance) -> bool {
    let cluster = state.cluster(task.cluster).expect("no such cluster");
    let setting = cluster.settings.get(&format!("zoneReserve:{}", row.spec.zone));
    let Some(reserve) = setting.and_then(|text| muster_model::cluster::zone_reserve(text)) else {
        return true;
    };
    let zone = || {
        let all = state.instances().filter(|other| other.cluster == row.cluster);
        all.filter(|other| other.accepts_tasks() && other.spec.zone == row.spec.zone)
    };
    let size = state.reservation(task);
    let cpu: u64 = zone().map(|other| u64::from(state.free(other).cpu)).sum();
    let memory: u64 = zone().map(|other| u64::from(state.free(other).memory_mib)).sum();
    let leaves = |free: u64, keeps: u32, takes: u32| {
        takes == 0 || free >= u64::from(keeps) + u64::from(takes)
    };
    leaves(cpu, reserve.cpu, size.cpu) && leaves(memory, reserve.memory_mib, size.memory_mib)
}

fn placement(state: &State, task: &Task) -> Placement {
    match &task.owner {
        Owner::Service { service, .. } => {
            state.service(*service).expect("no such service").spec.placement.clone()
        }
        Owner::Run { .. } | Owner::Job { .. } => {
            task.overrides.as_ref().map(|run| run.placement.clone()).unwrap_or_default()
        }
    }
}

/// The smaller, the better. What stands behind `random` is left open: only the task's draw decides.
fn rank(state: &State, task: &Task, placement: &Placement, row: &Instance) -> Vec<i128> {
    let mut rank = Vec::new();
    // Neighbouring preferences are one key.
    let mut weight: Option<i128> = None;
    for strategy in placement.effective() {
        if let PlacementStrategy::Prefer { expression, weight: of } = strategy {
            let holds = expression.matches(&Facing { state, instance: row });
            let earned = if holds { i128::from(of) } else { 0 };
            weight = Some(weight.unwrap_or(0) + earned);
            continue;
        }
        rank.extend(weight.take().map(|weight| -weight));
        let left = state.free(row);
        rank.push(match strategy {
            PlacementStrategy::Random => return rank,
            PlacementStrategy::Binpack(BinpackField::Cpu) => i128::from(left.cpu),
            PlacementStrategy::Binpack(BinpackField::Memory) => i128::from(left.memory_mib),
            PlacementStrategy::Spread { field, .. } => i128::from(crowd(state, task, &field, row)),
            PlacementStrategy::Prefer { .. } => unreachable!("is a key with its neighbours"),
        });
    }
    rank.extend(weight.map(|weight| -weight));
    let (free, total) = (state.free(row), row.spec.total);
    rank.push(share(free.cpu, total.cpu) + share(free.memory_mib, total.memory_mib));
    rank.extend(row.spec.zone.bytes().map(i128::from));
    rank.push((row.id.bits() >> 64) as i128);
    rank.push(row.id.bits() as u64 as i128);
    rank
}

/// Share that is taken, in 1/65,536.
fn share(free: u32, total: u32) -> i128 {
    if total == 0 { 0 } else { (i128::from(total - free) << 16) / i128::from(total) }
}

/// Tasks of the same service or group on instances with the same value of the field.
fn crowd(state: &State, task: &Task, field: &SpreadField, row: &Instance) -> u32 {
    let same = |other: &Instance| match field {
        SpreadField::InstanceId => other.id == row.id,
        SpreadField::Attribute(name) => {
            other.cluster == row.cluster && other.spec.attribute(name) == row.spec.attribute(name)
        }
    };
    let counts = |other: &&Arc<Task>| {
        let on = other.instance.and_then(|id| state.instance(id));
        other.wanted()
            && together(task, other)
            && on.is_some_and(|on| on.status != InstanceStatus::Inactive && same(on))
    };
    u32::try_from(state.tasks().filter(counts).count()).expect("too many tasks")
}

fn together(a: &Task, b: &Task) -> bool {
    match (&a.owner, &b.owner) {
        (Owner::Service { service: a, .. }, Owner::Service { service: b, .. }) => a == b,
        (
            Owner::Run { group, .. } | Owner::Job { group, .. },
            Owner::Run { group: other, .. } | Owner::Job { group: other, .. },
        ) => group == other && a.cluster == b.cluster,
        _ => false,
    }
}

/// One more there would be more than `maxSkew` above the poorest value that is open to the task.
fn too_skewed(state: &State, task: &Task, placement: &Placement, row: &Instance) -> bool {
    placement.effective().iter().any(|strategy| {
        let PlacementStrategy::Spread { field, max_skew: Some(max) } = strategy else {
            return false;
        };
        let open = state.instances().filter(|other| {
            let facing = Facing { state, instance: other };
            other.cluster == task.cluster
                && other.accepts_tasks()
                && declares(state, task, other)
                && state
                    .members_of(task)
                    .filter(|query| query.is_attribute_only())
                    .all(|query| query.matches(&facing))
        });
        let poorest = open.map(|other| crowd(state, task, field, other)).min().unwrap_or(0);
        crowd(state, task, field, row) >= poorest + max
    })
}
