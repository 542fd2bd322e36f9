//! The order among instances that a task can go to.
//!
//! Strategies compose from left to right as in ECS; by default the zone with the fewest tasks of
//! the owner, in it the instance with the fewest; then the least loaded; then the smallest id.
//! Candidates are kept in one heap per zone: a zone's count is the same for all of them, so the
//! head of each heap is the best of its zone whatever the order of the strategies.
//! Invariant: the same candidates give the same choice.

use super::index::{At, Index, OwnerKey};
use muster_model::InstanceId;
use muster_model::spec::{Placement, PlacementStrategy, SpreadField};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Tasks of the owner there (0 unless spread over instances), load, id, position.
type Candidate = Reverse<(u32, u64, InstanceId, At)>;

#[derive(Debug)]
pub(super) struct Ranking {
    fields: Vec<SpreadField>,
    by_instance: bool,
    heaps: Vec<BinaryHeap<Candidate>>,
    /// Tasks of the owner per zone.
    in_zone: Vec<u32>,
    /// Tasks of the owner per position.
    own: Vec<u32>,
}

impl Ranking {
    pub fn new(index: &Index, owner: &OwnerKey, placement: &Placement) -> Self {
        let mut fields: Vec<SpreadField> =
            placement.strategies.iter().map(|PlacementStrategy::Spread(f)| f.clone()).collect();
        if fields.is_empty() {
            fields = vec![SpreadField::AvailabilityZone, SpreadField::InstanceId];
        }
        let by_instance = fields.contains(&SpreadField::InstanceId);
        let mut own = vec![0; index.ids.len()];
        let mut in_zone = vec![0; index.zones()];
        for (at, count) in index.counts(owner) {
            own[at as usize] = count;
            in_zone[index.zone_of[at as usize] as usize] += count;
        }
        let heaps = (0..index.zones()).map(|_| BinaryHeap::new()).collect();
        Self { fields, by_instance, heaps, in_zone, own }
    }

    /// Tasks of the owner at a position.
    pub fn own(&self, at: At) -> u32 {
        self.own[at as usize]
    }

    pub fn enter_all(&mut self, index: &Index, candidates: impl Iterator<Item = At>) {
        let mut lists: Vec<Vec<Candidate>> = vec![Vec::new(); self.heaps.len()];
        for at in candidates {
            let candidate = self.candidate(index, at);
            lists[index.zone_of[at as usize] as usize].push(candidate);
        }
        self.heaps = lists.into_iter().map(BinaryHeap::from).collect();
    }

    pub fn enter(&mut self, index: &Index, at: At) {
        let candidate = self.candidate(index, at);
        self.heaps[index.zone_of[at as usize] as usize].push(candidate);
    }

    fn candidate(&self, index: &Index, at: At) -> Candidate {
        let own = if self.by_instance { self.own[at as usize] } else { 0 };
        Reverse((own, index.load(at), index.ids[at as usize], at))
    }

    /// Takes the best candidate out.
    pub fn pop(&mut self, index: &Index) -> Option<At> {
        let heads = self.heaps.iter().enumerate().filter_map(|(zone, heap)| {
            let Reverse((own, load, id, _)) = heap.peek()?;
            let key = self.fields.iter().map(|field| match field {
                SpreadField::AvailabilityZone => self.in_zone[zone],
                SpreadField::InstanceId => *own,
            });
            let key: [u32; 2] = two(key);
            Some(((key, *load, index.zone_name(zone as u32), *id), zone))
        });
        let (_, zone) = heads.min()?;
        self.heaps[zone].pop().map(|Reverse((_, _, _, at))| at)
    }

    /// A task of the owner goes there.
    pub fn placed(&mut self, index: &Index, at: At) {
        self.own[at as usize] += 1;
        self.in_zone[index.zone_of[at as usize] as usize] += 1;
    }
}

/// The first two keys: with two fields to spread over, a third can only repeat one of them.
fn two(mut keys: impl Iterator<Item = u32>) -> [u32; 2] {
    let first = keys.next().unwrap_or(0);
    let second = keys.find(|_| true).unwrap_or(0);
    [first, second]
}
