//! Whether a placement may take of what its cluster keeps of a zone, by what is free there and by
//! the places its service has, as they are when the plan is applied.
//!
//! The rule stands in `state/reserve.rs`; here it is counted along a plan. It does not choose an
//! instance, and a cluster that keeps no reserve costs it one look. Invariant: a count in here is
//! what counting the state anew would give.

use crate::cluster::Cluster;
use crate::error::Error;
use crate::ids::{ClusterId, ServiceId};
use crate::instance::Instance;
use crate::mark::Established;
use crate::service::Service;
use crate::spec::Resources;
use crate::state::{Room, State};
use crate::task::Task;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a plan's placements have come to so far.
#[derive(Debug, Default)]
pub(super) struct Reserves {
    /// Zones that a cluster keeps something of: how much, and what is free there.
    zones: BTreeMap<ClusterId, BTreeMap<String, (Resources, Room)>>,
    /// Tasks of a service that keep their place (`State::seated`).
    seated: BTreeMap<ServiceId, u32>,
}

impl Reserves {
    /// Counts a placement that every other rule allows and that the caller is about to make.
    pub fn take(
        &mut self,
        state: &mut State,
        task: &Task,
        instance: &Instance,
    ) -> Result<(), Error> {
        let zones = self.zones.entry(task.cluster).or_insert_with(|| zones(state, task.cluster));
        if zones.is_empty() {
            return Ok(());
        }
        let service = task.service().and_then(|id| state.service(id)).cloned();
        let seated = service
            .as_ref()
            .map(|row| *self.seated.entry(row.id).or_insert_with(|| state.seated(row.id)));
        let daemon = service.as_ref().is_some_and(|row| row.spec.is_daemon());
        let had = service.as_ref().map_or(0, |row| state.established(row.id));
        let size = state.reservation(task);
        if let Some((reserve, room)) = zones.get_mut(&instance.spec.zone) {
            let grows = !daemon && seated.is_none_or(|seated| seated >= had);
            if let Some(missing) = room.missing(*reserve, size).filter(|_| grows) {
                return Err(refused(task, &instance.spec.zone, *reserve, missing));
            }
            *room = room.minus(size);
        }
        if let Some((row, seated)) = service.zip(seated) {
            self.seated.insert(row.id, seated + 1);
            let places = row.spec.desired_count.min(seated + 1);
            if places > had {
                state.put_established(Arc::new(Established { service: row.id, places }));
            }
        }
        Ok(())
    }

    /// The task lost its place, or is about to.
    pub fn leave(&mut self, task: &Task) {
        self.zones.remove(&task.cluster);
        if let Some(service) = task.service() {
            self.seated.remove(&service);
        }
    }

    /// An instance of the cluster accepts tasks from now on, or no longer does.
    pub fn change(&mut self, cluster: ClusterId) {
        self.zones.remove(&cluster);
    }
}

fn zones(state: &State, cluster: ClusterId) -> BTreeMap<String, (Resources, Room)> {
    let reserves = state.cluster(cluster).into_iter().flat_map(|row| row.zone_reserves());
    let zone =
        |(zone, reserve): (&str, _)| (zone.to_owned(), (reserve, state.room_in(cluster, zone)));
    reserves.map(zone).collect()
}

fn refused(task: &Task, zone: &str, reserve: Resources, missing: Resources) -> Error {
    Error::refused(format!(
        "zone {zone} keeps {} cpu units and {} MiB free of growth; task {} lacks {} cpu units and \
         {} MiB beyond them",
        reserve.cpu, reserve.memory_mib, task.id, missing.cpu, missing.memory_mib
    ))
}

/// The cluster's settings are others. When it begins to keep reserves, the places that services
/// have now are those they had: one look at all tasks of the cluster.
pub(super) fn set(state: &mut State, before: &Cluster, after: &Cluster) {
    let services = || state.services_in(after.id).cloned().collect::<Vec<_>>();
    match (before.keeps_reserves(), after.keeps_reserves()) {
        (false, true) => {
            for row in services() {
                let places = state.seated(row.id).min(row.spec.desired_count);
                if places > 0 {
                    state.put_established(Arc::new(Established { service: row.id, places }));
                }
            }
        }
        (true, false) => services().iter().for_each(|row| state.remove_established(row.id)),
        _ => {}
    }
}

/// A service that should have fewer tasks has fewer places to get back.
pub(super) fn shrink(state: &mut State, row: &Service) {
    let places = row.spec.desired_count;
    match places {
        _ if state.established(row.id) <= places => {}
        0 => state.remove_established(row.id),
        _ => state.put_established(Arc::new(Established { service: row.id, places })),
    }
}
