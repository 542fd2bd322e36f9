//! A zone's reserve: room that a cluster keeps free of growth, so that what was there before finds
//! a place again when machines, or a whole zone, are lost. Beyond ECS.
//!
//! The room of a zone is what is free on its instances that accept tasks, summed up. Only a task
//! that takes a place which its service had and lost may leave less of it than the reserve.
//! Everything else is growth: what RunTask and StartTask ask for, a larger desired count, a
//! deployment's surge, a move to another zone. A DAEMON service's tasks come with their instances
//! and are not judged.
//! How many places a service has had is a mark beside it (`Established`), kept while its cluster
//! keeps a reserve. Invariant: it is at most the service's desired count, and never 0.

use super::State;
use crate::cluster::Cluster;
use crate::ids::{ClusterId, ServiceId};
use crate::instance::InstanceStatus;
use crate::mark::Established;
use crate::spec::Resources;
use crate::task::Task;
use std::sync::Arc;

/// Cpu units and MiB over many instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub cpu: u64,
    pub memory_mib: u64,
}

impl Room {
    pub fn plus(self, free: Resources) -> Self {
        // At most `limits::INSTANCES_MAX` times what 32 bits hold.
        let cpu = self.cpu + u64::from(free.cpu);
        Self { cpu, memory_mib: self.memory_mib + u64::from(free.memory_mib) }
    }

    pub fn and(self, other: Room) -> Self {
        Self { cpu: self.cpu + other.cpu, memory_mib: self.memory_mib + other.memory_mib }
    }

    /// Saturating: what comes and goes between two looks is not summed up here.
    pub fn minus(self, taken: Resources) -> Self {
        let cpu = self.cpu.saturating_sub(u64::from(taken.cpu));
        Self { cpu, memory_mib: self.memory_mib.saturating_sub(u64::from(taken.memory_mib)) }
    }

    /// What is missing for a task of this size that must leave the reserve as it is. Of what it
    /// does not take nothing can be missing.
    pub fn missing(self, reserve: Resources, size: Resources) -> Option<Resources> {
        let short = |room: u64, reserve: u32, size: u32| match size {
            0 => 0,
            _ => (u64::from(reserve) + u64::from(size)).saturating_sub(room),
        };
        let fit = |short: u64| u32::try_from(short).unwrap_or(u32::MAX);
        let missing = Resources {
            cpu: fit(short(self.cpu, reserve.cpu, size.cpu)),
            memory_mib: fit(short(self.memory_mib, reserve.memory_mib, size.memory_mib)),
        };
        (missing != Resources::default()).then_some(missing)
    }
}

impl State {
    /// What is free in a zone.
    pub fn room_in(&self, cluster: ClusterId, zone: &str) -> Room {
        let accepting = self.active_instances(cluster).filter(|row| row.accepts_tasks());
        let here = accepting.filter(|row| row.spec.zone == zone);
        here.fold(Room::default(), |room, row| room.plus(self.free(row)))
    }

    /// What is missing in a zone for one more task that is growth; `None`: nothing.
    pub fn missing_for_growth(
        &self,
        cluster: ClusterId,
        zone: &str,
        size: Resources,
    ) -> Option<Resources> {
        let row = self.cluster(cluster)?;
        let (_, reserve) = row.zone_reserves().find(|(of, _)| *of == zone)?;
        self.room_in(cluster, zone).missing(reserve, size)
    }

    /// How many of its tasks keep their place: not those on draining instances, nor those whose
    /// health checks fail, since both are to be replaced.
    pub fn seated(&self, service: ServiceId) -> u32 {
        let keeps = |task: &Task| {
            let on = task.instance.and_then(|id| self.instance(id));
            task.wanted()
                && on.is_some_and(|row| row.status == InstanceStatus::Active)
                && !self.is_unhealthy(task)
        };
        // At most `limits::TASKS_MAX`.
        self.tasks_of(service).filter(|task| keeps(task)).count() as u32
    }

    /// How many places it has had at once, of those it should have; 0 where no reserve is kept.
    pub fn established(&self, service: ServiceId) -> u32 {
        self.established.get(&service).map_or(0, |row| row.places)
    }

    pub(crate) fn put_established(&mut self, row: Arc<Established>) {
        self.established.insert(row.service, row);
    }

    pub(crate) fn remove_established(&mut self, service: ServiceId) {
        self.established.remove(&service);
    }
}

impl Cluster {
    /// Whether room is kept in any of its zones.
    pub fn keeps_reserves(&self) -> bool {
        self.zone_reserves().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(cpu: u32, memory_mib: u32) -> Resources {
        Resources { cpu, memory_mib }
    }

    #[test]
    fn growth_leaves_the_reserve_of_what_it_takes() {
        let room = Room::default().plus(size(1024, 512)).plus(size(1024, 512));
        let missing = |reserve, wanted| room.missing(reserve, wanted);
        assert_eq!(missing(size(1024, 0), size(1024, 1024)), None);
        assert_eq!(missing(size(1024, 0), size(1025, 1024)), Some(size(1, 0)));
        assert_eq!(missing(size(0, 1000), size(1, 100)), Some(size(0, 76)));
        // The reserve is short already: what takes nothing of it is no worse.
        assert_eq!(missing(size(4096, 0), size(0, 1024)), None);
        assert_eq!(missing(size(u32::MAX, 0), size(u32::MAX, 1)), Some(size(u32::MAX, 0)));
    }
}
