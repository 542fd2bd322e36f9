//! Which tasks to give up: the mirror image of placing them.
//!
//! Protected tasks never go. Of the others, what serves least goes first; among equals the zone
//! with the most tasks of the service, in it the instance with the most, on it the youngest task.
//! Invariant: the same members give the same choice, in the same order.

use super::roster::Member;
use muster_model::{InstanceId, State, Task, TaskId, Time};
use std::collections::{BTreeMap, BTreeSet};

type Place = (Zone, Option<InstanceId>);
type Zone = Option<String>;

/// `number` of `members`; `present` are all tasks of the service that stay for now.
pub(super) fn choose(
    state: &State,
    members: &[Member],
    present: &[Member],
    number: usize,
) -> Vec<TaskId> {
    let mut chosen = Vec::with_capacity(number.min(members.len()));
    let mut crowd = Crowd::of(state, present);
    let members = || members.iter().filter(|m| !m.spared);
    let standings: BTreeSet<_> = members().map(|m| m.standing).collect();
    for standing in standings {
        let group = members().filter(|m| m.standing == standing);
        let mut tasks = crowd.by_place(state, group);
        while chosen.len() < number {
            let Some(task) = crowd.take_from_fullest(&mut tasks) else { break };
            chosen.push(task);
        }
    }
    chosen
}

/// Tasks of the service per zone and per instance.
struct Crowd {
    zones: BTreeMap<Zone, usize>,
    instances: BTreeMap<Place, usize>,
}

/// Candidates of a zone: their instances by crowd, and the tasks on each by age.
#[derive(Default)]
struct Candidates {
    by_crowd: BTreeSet<(usize, Option<InstanceId>)>,
    tasks: BTreeMap<Option<InstanceId>, BTreeSet<(Time, TaskId)>>,
}

impl Crowd {
    fn of(state: &State, members: &[Member]) -> Self {
        let mut crowd = Self { zones: BTreeMap::new(), instances: BTreeMap::new() };
        for member in members {
            let place = place(state, &member.task);
            *crowd.zones.entry(place.0.clone()).or_default() += 1;
            *crowd.instances.entry(place).or_default() += 1;
        }
        crowd
    }

    fn by_place<'a>(
        &self,
        state: &State,
        members: impl Iterator<Item = &'a Member>,
    ) -> BTreeMap<Zone, Candidates> {
        let mut zones: BTreeMap<Zone, Candidates> = BTreeMap::new();
        for member in members {
            let (zone, instance) = place(state, &member.task);
            let crowd = self.instances.get(&(zone.clone(), instance)).copied().unwrap_or(0);
            let candidates = zones.entry(zone).or_default();
            candidates.by_crowd.insert((crowd, instance));
            let tasks = candidates.tasks.entry(instance).or_default();
            tasks.insert((member.task.created_at, member.task.id));
        }
        zones
    }

    fn take_from_fullest(&mut self, zones: &mut BTreeMap<Zone, Candidates>) -> Option<TaskId> {
        zones.retain(|_, candidates| !candidates.by_crowd.is_empty());
        let crowd = |zone: &Zone| self.zones.get(zone).copied().unwrap_or(0);
        let zone = zones.keys().max_by_key(|zone| crowd(zone))?.clone();
        let candidates = zones.get_mut(&zone)?;
        let (crowd, instance) = candidates.by_crowd.pop_last()?;
        let tasks = candidates.tasks.get_mut(&instance)?;
        let (_, task) = tasks.pop_last()?;
        let left = crowd.saturating_sub(1);
        if !tasks.is_empty() {
            candidates.by_crowd.insert((left, instance));
        }
        if let Some(count) = self.zones.get_mut(&zone) {
            *count = count.saturating_sub(1);
        }
        self.instances.insert((zone, instance), left);
        Some(task)
    }
}

fn place(state: &State, task: &Task) -> Place {
    let instance = task.instance.and_then(|id| state.instance(id));
    (instance.map(|row| row.spec.zone.clone()), task.instance)
}
