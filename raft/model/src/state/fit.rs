//! Whether a task may be placed: the rules every `Place` is held to, whoever planned it.
//!
//! The scheduler chooses by its own index of the same facts; here is the last word. An instance
//! is never given more than it has, nor a task of another cluster.

use super::State;
use crate::error::Error;
use crate::instance::Instance;
use crate::limits;
use crate::spec::{PlacementConstraint, Protocol, TaskDefinition};
use crate::task::{Owner, Task};
use std::collections::BTreeSet;

impl State {
    /// Refused unless the task waits, the instance accepts tasks of its cluster, cpu, memory and
    /// host ports are free, and placement constraints hold. `ports` are the host ports, one per
    /// `TaskDefinition::port_mappings`, in that order.
    pub fn check_place(
        &self,
        task: &Task,
        instance: &Instance,
        ports: &[u16],
    ) -> Result<(), Error> {
        if !task.wanted() || task.instance.is_some() {
            return Err(Error::refused(format!("task {} does not wait for an instance", task.id)));
        }
        if !instance.accepts_tasks() {
            let why = format!("container instance {} does not accept tasks", instance.id);
            return Err(Error::refused(why));
        }
        if task.cluster != instance.cluster {
            return Err(Error::refused(format!(
                "task {} and container instance {} are in different clusters",
                task.id, instance.id
            )));
        }
        let Some(spec) = self.spec_of(task) else {
            return Err(Error::refused(format!("task {} has no definition", task.id)));
        };
        let (wanted, free) = (spec.reservation(), self.free(instance));
        if !wanted.fits_in(free) {
            return Err(Error::refused(format!(
                "container instance {} has {} cpu units and {} MiB free; task {} needs {} and {}",
                instance.id, free.cpu, free.memory_mib, task.id, wanted.cpu, wanted.memory_mib
            )));
        }
        self.check_ports(&spec, instance, ports)?;
        if self.wants_distinct(task)
            && let Some(other) = self.companion(task, instance)
        {
            return Err(Error::refused(format!(
                "distinctInstance: task {} of the same group is on container instance {}",
                other.id, instance.id
            )));
        }
        Ok(())
    }

    fn check_ports(
        &self,
        spec: &TaskDefinition,
        instance: &Instance,
        ports: &[u16],
    ) -> Result<(), Error> {
        let wanted = spec.port_mappings().count();
        if ports.len() != wanted {
            let why = format!("{} host ports given, {wanted} port mappings", ports.len());
            return Err(Error::refused(why));
        }
        let held = self.index.reserved.get(&instance.id);
        let mut chosen = BTreeSet::new();
        for (port, (_, mapping)) in ports.iter().zip(spec.port_mappings()) {
            let allowed = match spec.wanted_host_port(mapping) {
                Some(wanted) => *port == wanted,
                None => limits::DYNAMIC_PORTS.contains(port),
            };
            if !allowed {
                return Err(Error::refused(format!("host port {port} is not what was asked for")));
            }
            let key = (*port, mapping.protocol);
            let by_system = key.1 == Protocol::Tcp && instance.spec.reserved_ports.contains(port);
            if by_system || held.is_some_and(|held| held.ports.contains_key(&key)) {
                return Err(Error::refused(format!(
                    "host port {port} is taken on container instance {}",
                    instance.id
                )));
            }
            if !chosen.insert(key) {
                return Err(Error::refused(format!("host port {port} is given twice")));
            }
        }
        Ok(())
    }

    /// `distinctInstance`, from the definition or from the service.
    pub fn wants_distinct(&self, task: &Task) -> bool {
        let distinct = |constraints: &[PlacementConstraint]| {
            constraints.contains(&PlacementConstraint::DistinctInstance)
        };
        let service = task.service().and_then(|id| self.service(id));
        service.is_some_and(|row| distinct(&row.spec.placement.constraints))
            || self
                .definition(task.definition)
                .is_some_and(|row| distinct(&row.spec.placement_constraints))
    }

    /// A task of the same group that holds room on this instance.
    fn companion(&self, task: &Task, instance: &Instance) -> Option<&Task> {
        self.tasks_on(instance.id)
            .map(|other| &**other)
            .find(|other| other.reserves() && same_group(other, task))
    }
}

fn same_group(a: &Task, b: &Task) -> bool {
    match (&a.owner, &b.owner) {
        (Owner::Service { service: a, .. }, Owner::Service { service: b, .. }) => a == b,
        (Owner::Run { group: a, .. }, Owner::Run { group: b, .. }) => a == b,
        _ => false,
    }
}
