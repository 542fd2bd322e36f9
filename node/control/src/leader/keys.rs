//! The strategies of a placement as keys: what each compares, in their order.
//!
//! Placing takes the smallest, giving up takes the largest of the very same keys; a preference
//! counts the other way round. It knows neither instances nor tasks.

use muster_model::limits::PLACEMENT_STRATEGIES_MAX;
use muster_model::placement::{BinpackField, Placement, PlacementStrategy, SpreadField};
use muster_model::query::Query;
use muster_model::{InstanceId, TaskId};

/// What one strategy compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Tasks of the owner at the value of this spread.
    Value(usize),
    /// Tasks of the owner on the instance.
    Own,
    Left(BinpackField),
    /// What this group of preferences comes to.
    Points(usize),
    Draw,
}

/// A spread over an attribute.
#[derive(Clone, Debug)]
pub(super) struct Over {
    pub name: String,
    pub max_skew: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub order: Vec<Key>,
    pub spreads: Vec<Over>,
    /// Neighbouring preferences are added up: one group each.
    pub prefers: Vec<Vec<(Query, i32)>>,
}

impl Keys {
    pub fn of(placement: &Placement) -> Self {
        let mut keys = Self::default();
        // Checked at the edge; a row that says more is read as far as a rank goes.
        for strategy in placement.effective().into_iter().take(PLACEMENT_STRATEGIES_MAX) {
            let key = match strategy {
                PlacementStrategy::Spread { field: SpreadField::InstanceId, .. } => Key::Own,
                PlacementStrategy::Spread { field: SpreadField::Attribute(name), max_skew } => {
                    keys.spreads.push(Over { name, max_skew });
                    Key::Value(keys.spreads.len() - 1)
                }
                PlacementStrategy::Binpack(field) => Key::Left(field),
                PlacementStrategy::Random => Key::Draw,
                PlacementStrategy::Prefer { expression, weight } => {
                    let group = keys.group();
                    keys.prefers[group].push((expression, weight));
                    Key::Points(group)
                }
            };
            if !matches!(key, Key::Points(_)) || keys.order.last() != Some(&key) {
                keys.order.push(key);
            }
        }
        keys
    }

    /// The group that the next preference belongs to: the last one, if nothing stands between.
    fn group(&mut self) -> usize {
        if !matches!(self.order.last(), Some(Key::Points(_))) {
            self.prefers.push(Vec::new());
        }
        self.prefers.len() - 1
    }

    pub fn has(&self, key: Key) -> bool {
        self.order.contains(&key)
    }

    /// Fields to pack by, each once.
    pub fn packs(&self) -> [Option<BinpackField>; 2] {
        let mut packs = [None, None];
        for key in &self.order {
            let Key::Left(field) = key else { continue };
            match packs {
                [None, _] => packs[0] = Some(*field),
                [Some(first), None] if first != *field => packs[1] = Some(*field),
                _ => {}
            }
        }
        packs
    }
}

/// A number that depends on both ids and on nothing else (the finaliser of SplitMix64).
pub(super) fn draw(task: TaskId, instance: InstanceId) -> u64 {
    let fold = |bits: u128| bits as u64 ^ (bits >> 64) as u64;
    let mut mixed = fold(task.bits()).wrapping_add(fold(instance.bits()).rotate_left(32));
    for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 31)
}
