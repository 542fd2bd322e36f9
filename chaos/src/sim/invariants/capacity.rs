//! No instance is ever given more than it has, and no host port twice, on paper or in truth.
//! Without it tasks kill each other for memory, and a request reaches the wrong container.

use crate::sim::machine::{Hold, Machine};
use crate::sim::world::short;
use muster_model::spec::Protocol;
use muster_model::{Changes, InstanceId, Resources, State, Task};
use std::collections::BTreeSet;

/// Counted from the tasks themselves; the state's own index must say the same, or machines stay
/// empty that users paid for.
pub(super) fn check(state: &State, changes: &Changes) -> Result<(), String> {
    let rows = changes.tasks.iter().filter_map(|c| c.after.as_ref());
    let touched: BTreeSet<InstanceId> = rows.filter_map(|task| task.instance).collect();
    for instance in touched {
        let Some(row) = state.instance(instance) else { continue };
        let held = || state.tasks().filter(|t| t.instance == Some(instance) && holds(t));
        let sum = |sum: Resources, task: &std::sync::Arc<Task>| sum.plus(state.reservation(task));
        let used = held().fold(Resources::default(), sum);
        if !used.fits_in(row.spec.total) {
            let total = row.spec.total;
            return Err(format!("{} reserves {used:?} of {total:?}", short(instance)));
        }
        let index = state.reserved(instance).resources;
        if index != used {
            return Err(format!("{} reserves {used:?}, indexed {index:?}", short(instance)));
        }
        let mut ports = BTreeSet::new();
        for task in held() {
            let Some(spec) = state.spec_of(task) else { continue };
            let wanted = spec.port_mappings().count();
            if wanted != task.ports.len() {
                return Err(format!("{} has {:?} for {wanted} ports", short(task.id), task.ports));
            }
            for ((_, mapping), port) in spec.port_mappings().zip(&task.ports) {
                let system = row.spec.reserved_ports.contains(port);
                if system || !ports.insert((*port, mapping.protocol)) {
                    return Err(format!("port {port} twice on {}", short(instance)));
                }
            }
        }
    }
    Ok(())
}

/// Said again here, so that the state's own idea of it is judged too: placed, not stopped, and not
/// given up.
fn holds(task: &Task) -> bool {
    task.observed.phase < muster_model::Phase::Stopped
        && !matches!(task.desired, muster_model::Desired::Abandoned { .. })
}

/// What really runs.
pub(super) fn check_machine(machine: &Machine) -> Result<(), String> {
    let alive = || machine.tasks.values().filter(|hold| hold.alive());
    let sum = |sum: Resources, hold: &Hold| sum.plus(hold.assignment.spec.reservation());
    let used = alive().fold(Resources::default(), sum);
    if !used.fits_in(machine.total) {
        return Err(format!("containers take {used:?} of {:?}", machine.total));
    }
    let mut ports: BTreeSet<(u16, Protocol)> = BTreeSet::new();
    for hold in alive() {
        let mappings = hold.assignment.spec.port_mappings().zip(&hold.assignment.ports);
        for ((_, mapping), port) in mappings {
            if !ports.insert((*port, mapping.protocol)) {
                return Err(format!("containers of two tasks listen on port {port}"));
            }
        }
    }
    Ok(())
}
