//! Whether a task may be placed: the rules every `Place` is held to, whoever planned it.
//!
//! The scheduler chooses by its own index of the same facts; here is the last word. An instance
//! is never given more than it has, nor a task of another cluster.

use super::{Facing, State};
use crate::error::Error;
use crate::ids::InstanceId;
use crate::instance::{Instance, InstanceStatus};
use crate::limits;
use crate::placement::PlacementConstraint;
use crate::query::Query;
use crate::service::Service;
use crate::spec::{Named, Protocol, TaskDefinition};
use crate::task::{Blocker, Owner, Task};
use std::collections::BTreeSet;

impl State {
    /// Refused unless the task waits, the instance accepts tasks of its cluster, cpu, memory, named
    /// resources and host ports are free, and placement constraints hold. `ports` are the host
    /// ports, one per `TaskDefinition::port_mappings`, in that order.
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
        let named = spec.named_reservation();
        if let Some((name, wanted, free)) = self.short(&named, instance).map(|(.., short)| short) {
            return Err(Error::refused(format!(
                "container instance {} has {free} {name} free; task {} needs {wanted}",
                instance.id, task.id
            )));
        }
        if let Some((_, unmet)) = self.unmet(task, instance) {
            return Err(Error::refused(format!(
                "memberOf: {unmet} does not hold for container instance {}",
                instance.id
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

    /// The host ports that a task would get on an instance that somebody named for it, or the
    /// first rule against it.
    pub fn fit(&self, task: &Task, instance: &Instance) -> Result<Vec<u16>, Blocker> {
        if task.cluster != instance.cluster || instance.status != InstanceStatus::Active {
            return Err(Blocker::Inactive);
        }
        if !instance.ready() {
            return Err(Blocker::Agent);
        }
        let Some(spec) = self.spec_of(task) else { return Err(Blocker::Inactive) };
        let (wanted, free) = (spec.reservation(), self.free(instance));
        if wanted.cpu > free.cpu {
            return Err(Blocker::Cpu);
        }
        if wanted.memory_mib > free.memory_mib {
            return Err(Blocker::Memory);
        }
        if let Some((number, _)) = self.short(&spec.named_reservation(), instance) {
            return Err(Blocker::Resource(number));
        }
        if let Some((number, _)) = self.unmet(task, instance) {
            return Err(Blocker::MemberOf(number));
        }
        let ports = self.choose_ports(&spec, instance.id, task.id.bits());
        let ports = ports.map_err(|_| Blocker::Ports)?;
        match self.check_place(task, instance, &ports) {
            Ok(()) => Ok(ports),
            Err(_) => Err(Blocker::Constraint),
        }
    }

    /// The first named resource of which less is free there than wanted: its number, then its
    /// name, what is wanted and what is free.
    pub fn short<'a>(
        &self,
        wanted: &'a Named,
        instance: &Instance,
    ) -> Option<(u8, (&'a str, u32, u32))> {
        (0..).zip(wanted).find_map(|(number, (name, wanted))| {
            let free = self.free_named(instance, name);
            (*wanted > free).then_some((number, (name.as_str(), *wanted, free)))
        })
    }

    /// ECS's reason code for what keeps a task from an instance (`failures[].reason`).
    pub fn code(&self, task: &Task, blocker: Blocker) -> String {
        let spec = self.spec_of(task);
        blocker.code_for(&spec.map(|spec| spec.named_reservation()).unwrap_or_default())
    }

    /// Host ports in the order of the mappings; the first that is not free otherwise. Dynamic ones
    /// are searched from `start`, which differs from task to task, so that a port just freed is not
    /// at once another's.
    pub fn choose_ports(
        &self,
        spec: &TaskDefinition,
        on: InstanceId,
        start: u128,
    ) -> Result<Vec<u16>, u16> {
        let held = self.held(on);
        let system = self.instance(on).map(|row| &row.spec.reserved_ports);
        let mut chosen: Vec<(u16, Protocol)> = Vec::new();
        let mappings = || spec.port_mappings().map(|(_, mapping)| mapping);
        let free = |chosen: &[(u16, Protocol)], key: (u16, Protocol)| {
            let reserved = key.1 == Protocol::Tcp && system.is_some_and(|s| s.contains(&key.0));
            let taken = held.is_some_and(|held| held.ports.contains_key(&key));
            !reserved && !taken && !chosen.contains(&key)
        };
        // Fixed ports first: a dynamic one must not take what a later mapping names.
        for mapping in mappings() {
            if let Some(port) = spec.wanted_host_port(mapping) {
                if !free(&chosen, (port, mapping.protocol)) {
                    return Err(port);
                }
                chosen.push((port, mapping.protocol));
            }
        }
        let mut fixed = chosen.clone().into_iter();
        let mut ports = Vec::new();
        for mapping in mappings() {
            let port = match spec.wanted_host_port(mapping) {
                Some(_) => fixed.next().map(|(port, _)| port),
                None => dynamic(start).find(|port| free(&chosen, (*port, mapping.protocol))),
            };
            let Some(port) = port else { return Err(0) };
            chosen.push((port, mapping.protocol));
            ports.push(port);
        }
        Ok(ports)
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
        let held = self.held(instance.id);
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

    /// Whether the constraints of a service and of its newest definition let its tasks run on an
    /// instance, by what the instance is: what asks for the tasks there is judged when one is
    /// placed.
    pub fn admits(&self, service: &Service, instance: &Instance) -> bool {
        let newest = service.primary().and_then(|newest| self.definition(newest.definition));
        let Some(definition) = newest else { return false };
        let ours = service.spec.placement.constraints.iter();
        let mut all = ours.chain(definition.spec.constraints());
        let facing = Facing { state: self, instance };
        instance.cluster == service.cluster
            && all.all(|constraint| match constraint {
                PlacementConstraint::DistinctInstance => true,
                PlacementConstraint::MemberOf(query) => {
                    query.depends().tasks || query.matches(&facing)
                }
            })
    }

    /// All constraints of a task: its definition's, then its service's or its run's.
    fn constraints_of<'a>(
        &'a self,
        task: &'a Task,
    ) -> impl Iterator<Item = &'a PlacementConstraint> {
        let definition = self.definitions.get(&task.definition);
        let service = task.service().and_then(|id| self.services.get(&id));
        let definition = definition.into_iter().flat_map(|row| row.spec.constraints());
        let service = service.into_iter().flat_map(|row| &row.spec.placement.constraints);
        let run = task.overrides.iter().flat_map(|run| &run.placement.constraints);
        definition.chain(service).chain(run)
    }

    /// `distinctInstance`, from wherever it comes; DAEMON by its nature.
    pub fn wants_distinct(&self, task: &Task) -> bool {
        let distinct = |c: &PlacementConstraint| *c == PlacementConstraint::DistinctInstance;
        let service = task.service().and_then(|id| self.service(id));
        service.is_some_and(|row| row.spec.is_daemon()) || self.constraints_of(task).any(distinct)
    }

    /// The `memberOf` constraints of a task, in the order in which `Blocker::MemberOf` counts them.
    pub fn members_of<'a>(&'a self, task: &'a Task) -> impl Iterator<Item = &'a Query> {
        self.constraints_of(task).filter_map(|c| match c {
            PlacementConstraint::MemberOf(query) => Some(query),
            PlacementConstraint::DistinctInstance => None,
        })
    }

    /// The first `memberOf` constraint that does not hold for the instance.
    fn unmet<'a>(&'a self, task: &'a Task, instance: &Instance) -> Option<(u8, &'a Query)> {
        let facing = Facing { state: self, instance };
        (0..).zip(self.members_of(task)).find(|(_, query)| !query.matches(&facing))
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
        (
            Owner::Run { group: a, .. } | Owner::Job { group: a, .. },
            Owner::Run { group: b, .. } | Owner::Job { group: b, .. },
        ) => a == b,
        _ => false,
    }
}

/// All dynamic ports, from one that depends on `start`, around.
fn dynamic(start: u128) -> impl Iterator<Item = u16> {
    let range = limits::DYNAMIC_PORTS;
    let (first, number) = (*range.start(), range.len() as u128);
    // The whole id counts: ids of one batch may share their lower or their upper half.
    let offset = ((start ^ (start >> 64)) % number) as u16;
    let number = number as u16;
    (0..number).map(move |step| {
        let turned = (u32::from(offset) + u32::from(step)) % u32::from(number);
        first + turned as u16
    })
}
