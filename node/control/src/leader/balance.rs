//! Which tasks to give up: the mirror image of placing them.
//!
//! Protected tasks never go. Of the others, what serves least goes first; among equals the
//! service's strategies decide, each the other way round: from the value of a spread with the most
//! tasks, from the instance that binpack would leave the most on, from the one preferred least;
//! and what they leave tied from the last zone and instance, the youngest task.
//! Invariant: the same members give the same choice, in the same order.

use super::keys::{Key, Keys, draw};
use super::roster::Member;
use muster_model::limits::PLACEMENT_STRATEGIES_MAX;
use muster_model::placement::{BinpackField, Placement};
use muster_model::state::Facing;
use muster_model::{Instance, InstanceId, Resources, State, Task, TaskId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One key per strategy; the larger, the sooner it goes.
type Rank = [i64; PLACEMENT_STRATEGIES_MAX];
/// What the instances of a lane have in common: their values of each spread, what each group of
/// preferences comes to, and their zone. Tasks that are not placed have a lane of their own.
type Traits = (Vec<Option<Option<String>>>, Vec<i64>, Option<String>);

/// `number` of `members`; `present` are all tasks of the service that stay for now.
pub(super) fn choose(
    state: &State,
    placement: &Placement,
    members: &[Member],
    present: &[Member],
    number: usize,
) -> Vec<TaskId> {
    let mut chosen = Vec::with_capacity(number.min(members.len()));
    if number == 0 {
        return chosen;
    }
    let mut crowd = Crowd::of(state, Keys::of(placement), present);
    let members = || members.iter().filter(|m| !m.spared);
    let standings: BTreeSet<_> = members().map(|m| m.standing).collect();
    for standing in standings {
        let group = members().filter(|m| m.standing == standing);
        let mut lanes = crowd.lanes(state, group);
        while chosen.len() < number {
            let Some(task) = crowd.take(&mut lanes) else { break };
            chosen.push(task);
        }
    }
    chosen
}

/// The tasks of the service that are there, by everything its strategies look at.
struct Crowd {
    keys: Keys,
    /// Per spread and value.
    values: BTreeMap<(usize, Option<Option<String>>), i64>,
    instances: BTreeMap<Option<InstanceId>, Occupied>,
}

#[derive(Default)]
struct Occupied {
    own: i64,
    left: Resources,
}

/// Candidates of a lane: their instances by rank, and the tasks on each by draw and age.
#[derive(Default)]
struct Lane {
    ranked: BTreeSet<(Rank, Option<InstanceId>)>,
    tasks: BTreeMap<Option<InstanceId>, BTreeSet<(u64, Time, TaskId)>>,
    /// What each takes, for what it leaves.
    sizes: BTreeMap<TaskId, Resources>,
}

impl Crowd {
    fn of(state: &State, keys: Keys, present: &[Member]) -> Self {
        let mut crowd = Self { keys, values: BTreeMap::new(), instances: BTreeMap::new() };
        for member in present {
            let row = instance(state, &member.task);
            for (number, value) in crowd.traits(state, row).0.into_iter().enumerate() {
                *crowd.values.entry((number, value)).or_default() += 1;
            }
            let occupied = crowd.instances.entry(row.map(|row| row.id)).or_default();
            occupied.own += 1;
            occupied.left = row.map(|row| state.free(row)).unwrap_or_default();
        }
        crowd
    }

    fn traits(&self, state: &State, row: Option<&Arc<Instance>>) -> Traits {
        let value = |name: &str| row.and_then(|row| row.spec.attribute(name));
        let values = self.keys.spreads.iter().map(|over| value(&over.name));
        let points = |group: &Vec<(_, i32)>| {
            let facing = row.map(|row| Facing { state, instance: row });
            let holds = |query: &muster_model::Query| facing.is_some_and(|f| query.matches(&f));
            group.iter().filter(|(query, _)| holds(query)).map(|(_, w)| -i64::from(*w)).sum()
        };
        (
            values.map(|value| value.map(|v| v.map(str::to_owned))).collect(),
            self.keys.prefers.iter().map(points).collect(),
            row.map(|row| row.spec.zone.clone()),
        )
    }

    fn lanes<'a>(
        &self,
        state: &State,
        members: impl Iterator<Item = &'a Member>,
    ) -> BTreeMap<Traits, Lane> {
        let mut lanes: BTreeMap<Traits, Lane> = BTreeMap::new();
        let draws = self.keys.has(Key::Draw);
        for member in members {
            let (task, row) = (&member.task, instance(state, &member.task));
            let on = row.map(|row| row.id);
            let lane = lanes.entry(self.traits(state, row)).or_default();
            let lot = on.filter(|_| draws).map_or(0, |on| draw(task.id, on));
            lane.sizes.insert(task.id, state.reservation(task));
            lane.tasks.entry(on).or_default().insert((lot, task.created_at, task.id));
        }
        for lane in lanes.values_mut() {
            let ranked = lane.tasks.iter().map(|(on, tasks)| (self.within(*on, tasks), *on));
            lane.ranked = ranked.collect();
        }
        lanes
    }

    /// What ranks an instance within its lane.
    fn within(&self, on: Option<InstanceId>, tasks: &BTreeSet<(u64, Time, TaskId)>) -> Rank {
        let none = Occupied::default();
        let occupied = self.instances.get(&on).unwrap_or(&none);
        let mut rank = [0; PLACEMENT_STRATEGIES_MAX];
        for (place, key) in rank.iter_mut().zip(&self.keys.order) {
            *place = match key {
                Key::Own => occupied.own,
                Key::Left(BinpackField::Cpu) => i64::from(occupied.left.cpu),
                Key::Left(BinpackField::Memory) => i64::from(occupied.left.memory_mib),
                Key::Draw => tasks.last().map_or(0, |(lot, ..)| (*lot >> 1) as i64),
                Key::Value(_) | Key::Points(_) => 0,
            };
        }
        rank
    }

    /// The same with what ranks the lane filled in.
    fn across(&self, traits: &Traits, mut rank: Rank) -> Rank {
        for (place, key) in rank.iter_mut().zip(&self.keys.order) {
            match key {
                Key::Value(number) => {
                    let value = (*number, traits.0[*number].clone());
                    *place = self.values.get(&value).copied().unwrap_or(0);
                }
                Key::Points(number) => *place = traits.1[*number],
                Key::Own | Key::Left(_) | Key::Draw => {}
            }
        }
        rank
    }

    /// The next to go.
    fn take(&mut self, lanes: &mut BTreeMap<Traits, Lane>) -> Option<TaskId> {
        let heads = lanes.iter().filter_map(|(traits, lane)| {
            let (rank, on) = lane.ranked.last()?;
            Some((self.across(traits, *rank), &traits.2, *on, traits))
        });
        let traits = heads.max().map(|(.., traits)| traits.clone())?;
        let lane = lanes.get_mut(&traits)?;
        let (_, on) = lane.ranked.pop_last()?;
        let tasks = lane.tasks.get_mut(&on)?;
        let (_, _, task) = tasks.pop_last()?;
        for (number, value) in traits.0.into_iter().enumerate() {
            if let Some(count) = self.values.get_mut(&(number, value)) {
                *count -= 1;
            }
        }
        if let Some(occupied) = self.instances.get_mut(&on) {
            occupied.own -= 1;
            let size = lane.sizes.get(&task).copied().unwrap_or_default();
            occupied.left = occupied.left.plus(size);
        }
        if !tasks.is_empty() {
            let rank = self.within(on, tasks);
            lane.ranked.insert((rank, on));
        }
        Some(task)
    }
}

fn instance<'a>(state: &'a State, task: &Task) -> Option<&'a Arc<Instance>> {
    task.instance.and_then(|id| state.instance(id))
}
