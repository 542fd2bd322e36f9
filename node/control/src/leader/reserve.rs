//! What the reserves of zones leave to the tasks of one signature, while they are placed one after
//! another.
//!
//! The rule stands in the model (`state/reserve.rs`); here it closes classes: one lies in one zone
//! of one cluster. Read once per batch and counted along; a cluster without reserves has none to
//! look at. Invariant: what it leaves open, `apply` takes: suspected instances do not count as room
//! here and do there.

use super::fleet::ClassId;
use super::index::{Index, OwnerKey, Signature};
use muster_model::state::Room;
use muster_model::{Resources, State};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(super) struct Reserves {
    size: Resources,
    zones: Vec<Zone>,
    /// Classes in those zones.
    of: BTreeMap<ClassId, usize>,
    /// Tasks that take places which their service had: reserves are there for them.
    vacancies: u32,
}

#[derive(Clone, Debug)]
struct Zone {
    reserve: Resources,
    room: Room,
}

impl Reserves {
    pub fn of(state: &State, index: &Index, signature: &Signature) -> Self {
        let cluster = signature.cluster;
        let Some(kept) = index.reserves(cluster) else { return Self::default() };
        let mut reserves = Self { size: signature.size, ..Self::default() };
        if let OwnerKey::Service(id) = signature.owner {
            if signature.owner.is_daemon(state) {
                return Self::default();
            }
            reserves.vacancies = state.established(id).saturating_sub(state.seated(id));
        }
        for (zone, reserve) in kept {
            let classes = index.fleet.classes_of(cluster, zone);
            reserves.of.extend(classes.map(|class| (class, reserves.zones.len())));
            let room = index.fleet.room_in(cluster, zone);
            reserves.zones.push(Zone { reserve: *reserve, room });
        }
        reserves
    }

    /// What the zone of this class lacks for the next task; `None`: nothing.
    pub fn missing(&self, class: ClassId) -> Option<Resources> {
        if self.zones.is_empty() || self.vacancies > 0 {
            return None;
        }
        let zone = &self.zones[*self.of.get(&class)?];
        zone.room.missing(zone.reserve, self.size)
    }

    /// The next task went to an instance of this class.
    pub fn placed(&mut self, class: ClassId) {
        self.vacancies = self.vacancies.saturating_sub(1);
        if let Some(number) = self.of.get(&class) {
            let zone = &mut self.zones[*number];
            zone.room = zone.room.minus(self.size);
        }
    }
}
