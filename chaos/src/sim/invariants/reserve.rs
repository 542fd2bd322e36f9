//! What a cluster keeps of a zone is left by everything but tasks that take places which their
//! services had. Without it a zone is full of what could have waited when the one beside it burns.

use crate::sim::world::short;
use muster_model::cluster::zone_reserve;
use muster_model::{
    Changes, ClusterId, InstanceId, InstanceStatus, Resources, ServiceId, State, Task,
};
use std::collections::BTreeSet;

/// What an entry placed in a zone: `(of what may use the reserve, of growth)`.
#[derive(Default)]
struct Placed {
    spared: [u64; 2],
    growth: [u64; 2],
}

pub(super) fn check(before: &State, after: &State, changes: &Changes) -> Result<(), String> {
    for cluster in before.clusters() {
        for (name, value) in &cluster.settings {
            let zone = name.strip_prefix("zoneReserve:");
            let Some((zone, reserve)) = zone.zip(zone_reserve(value)) else { continue };
            let placed = placed(before, after, changes, (cluster.id, zone));
            let room = room(after, cluster.id, zone);
            let kept = amounts(reserve);
            for what in 0..2 {
                // What may use the reserve may have done so after the growth.
                let left = room[what] + placed.spared[what];
                if placed.growth[what] > 0 && left < kept[what] {
                    let of = ["cpu units", "MiB"][what];
                    return Err(format!("growth left {left} of {} {of} in {zone}", kept[what]));
                }
            }
        }
    }
    marks(after)
}

fn placed(before: &State, after: &State, changes: &Changes, here: (ClusterId, &str)) -> Placed {
    let mut placed = Placed::default();
    for change in &changes.tasks {
        let Some(task) = &change.after else { continue };
        let was = change.before.as_ref().and_then(|task| task.instance);
        let on = task.instance.filter(|_| was.is_none()).and_then(|id| after.instance(id));
        if on.is_none_or(|row| (row.cluster, row.spec.zone.as_str()) != here) {
            continue;
        }
        let kind = match is_spared(before, after, task) {
            true => &mut placed.spared,
            false => &mut placed.growth,
        };
        let size = amounts(after.reservation(task));
        kind[0] += size[0];
        kind[1] += size[1];
    }
    placed
}

/// Tasks of DAEMON services, and of those that lost places with this entry or before.
fn is_spared(before: &State, after: &State, task: &Task) -> bool {
    let Some(service) = task.service().and_then(|id| before.service(id)) else { return false };
    let (was, is) = (seated(before, service.id), seated(after, service.id));
    let stayed = was.intersection(&is).count();
    service.spec.is_daemon() || stayed < before.established(service.id) as usize
}

/// Said again here, so that the state's own idea of it is judged too.
fn seated(state: &State, service: ServiceId) -> BTreeSet<muster_model::TaskId> {
    let stays =
        |on: InstanceId| state.instance(on).is_some_and(|row| row.status == InstanceStatus::Active);
    let tasks = state.tasks_of(service).filter(|task| task.wanted() && !state.is_unhealthy(task));
    tasks.filter(|task| task.instance.is_some_and(stays)).map(|task| task.id).collect()
}

fn room(state: &State, cluster: ClusterId, zone: &str) -> [u64; 2] {
    let mut room = [0; 2];
    for row in state.instances().filter(|row| row.cluster == cluster && row.spec.zone == zone) {
        if row.accepts_tasks() {
            let free = amounts(state.free(row));
            room[0] += free[0];
            room[1] += free[1];
        }
    }
    room
}

fn amounts(of: Resources) -> [u64; 2] {
    [u64::from(of.cpu), u64::from(of.memory_mib)]
}

/// No service claims more places than it should have tasks, or where no reserve is kept.
fn marks(state: &State) -> Result<(), String> {
    for service in state.services() {
        let (places, id) = (state.established(service.id), short(service.id));
        let keeps = state.cluster(service.cluster).is_some_and(|row| row.keeps_reserves());
        if places > service.spec.desired_count || (places > 0 && !keeps) {
            return Err(format!("{id} claims {places} places"));
        }
    }
    Ok(())
}
