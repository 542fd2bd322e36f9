//! Which instances a task can go to, and for each that it cannot: why.
//!
//! Filters in ECS's order: status, agent, cpu, memory, ports, constraints; an instance is counted
//! under the first that removes it. Invariant: what passes here is what `apply` accepts.

use super::index::{At, Gate, Index, OwnerKey, Signature};
use muster_model::spec::PlacementConstraint;
use muster_model::task::{Blocker, Shortfall, Waiting};
use muster_model::{InstanceId, Resources, State, Task, TaskDefinition};
use std::sync::Arc;

/// What a signature asks of an instance, read once per batch.
#[derive(Debug)]
pub(super) struct Wish {
    pub size: Resources,
    pub definition: Arc<TaskDefinition>,
    pub distinct: bool,
    has_ports: bool,
}

impl Wish {
    /// `None`: the definition is gone, nothing can be placed.
    pub fn of(state: &State, signature: &Signature) -> Option<Self> {
        let definition = state.definition(signature.definition)?.spec.clone();
        let mut constraints = definition.placement_constraints.clone();
        let mut daemon = false;
        if let OwnerKey::Service(service) = &signature.owner {
            let service = state.service(*service)?;
            constraints.extend(service.spec.placement.constraints.iter().cloned());
            daemon = service.spec.is_daemon();
        }
        let has_ports = definition.port_mappings().next().is_some();
        let distinct = daemon || constraints.contains(&PlacementConstraint::DistinctInstance);
        Some(Self { size: signature.size, definition, distinct, has_ports })
    }

    /// The filters that need no look at the instance's ports.
    pub fn coarse(&self, index: &Index, at: At, own: u32) -> Option<Blocker> {
        let slot = at as usize;
        match index.gates[slot] {
            Gate::Open => {}
            Gate::Draining => return Some(Blocker::Inactive),
            Gate::Agent => return Some(Blocker::Agent),
        }
        if self.size.cpu > index.free_cpu[slot] {
            return Some(Blocker::Cpu);
        }
        if self.size.memory_mib > index.free_memory[slot] {
            return Some(Blocker::Memory);
        }
        (self.distinct && own > 0).then_some(Blocker::Constraint)
    }

    /// The filters that look at what is on the instance: the host ports a task would get there, or
    /// what removes it, and the port if it is one.
    pub fn fine(
        &self,
        state: &State,
        owner: &OwnerKey,
        on: InstanceId,
        start: u128,
    ) -> Result<Vec<u16>, (Blocker, u16)> {
        let ports = self.ports(state, on, start).map_err(|port| (Blocker::Ports, port))?;
        // One that is still stopping counts as well: two would run beside each other.
        let companion =
            |task: &std::sync::Arc<Task>| task.reserves() && OwnerKey::of(task) == *owner;
        if self.distinct && state.tasks_on(on).any(companion) {
            return Err((Blocker::Constraint, 0));
        }
        Ok(ports)
    }

    /// Host ports in the order of the mappings; the first that is not free otherwise.
    fn ports(&self, state: &State, on: InstanceId, start: u128) -> Result<Vec<u16>, u16> {
        if !self.has_ports {
            return Ok(Vec::new());
        }
        state.choose_ports(&self.definition, on, start)
    }

    /// Whether something that an instance gained lets this signature in.
    pub fn passes(&self, index: &Index, state: &State, owner: &OwnerKey, at: At) -> bool {
        self.coarse(index, at, index.count(owner, at)).is_none()
            && self.fine(state, owner, index.ids[at as usize], 0).is_ok()
    }
}

/// Counts why instances were removed, and remembers the closest one.
#[derive(Debug, Default)]
pub(super) struct Tally {
    instances: u32,
    removed: Vec<(Blocker, u32)>,
    closest: Option<(Blocker, u64, InstanceId, Option<Shortfall>)>,
}

impl Tally {
    pub fn seen(&mut self) {
        self.instances += 1;
    }

    pub fn remove(&mut self, index: &Index, at: At, wish: &Wish, blocker: Blocker, port: u16) {
        match self.removed.iter_mut().find(|(b, _)| *b == blocker) {
            Some((_, count)) => *count += 1,
            None => self.removed.push((blocker, 1)),
        }
        let slot = at as usize;
        let (distance, shortfall) = match blocker {
            Blocker::Cpu => cpu(wish.size.cpu, index.free_cpu[slot]),
            Blocker::Memory => memory(wish.size.memory_mib, index.free_memory[slot]),
            Blocker::Ports => (0, Some(Shortfall::Port { port })),
            Blocker::Inactive | Blocker::Agent | Blocker::Constraint => (0, None),
        };
        let id = index.ids[slot];
        // The later the filter, the closer; then the smaller shortfall, then the smaller id.
        let closer = self.closest.as_ref().is_none_or(|(b, d, i, _)| {
            (blocker, std::cmp::Reverse((distance, id))) > (*b, std::cmp::Reverse((*d, *i)))
        });
        if closer {
            self.closest = Some((blocker, distance, id, shortfall));
        }
    }

    pub fn closest(&self) -> Option<(InstanceId, Blocker)> {
        self.closest.as_ref().map(|(blocker, _, id, _)| (*id, *blocker))
    }

    /// The counted reasons as they are stored.
    pub fn waiting(mut self) -> Waiting {
        self.removed.sort_by_key(|(blocker, count)| (std::cmp::Reverse(*count), *blocker));
        let nearest = self.closest.and_then(|(_, _, id, shortfall)| Some((id, shortfall?)));
        Waiting { instances: self.instances, removed: self.removed, nearest }
    }
}

fn cpu(wanted: u32, free: u32) -> (u64, Option<Shortfall>) {
    (share(wanted, free), Some(Shortfall::Cpu { wanted, free }))
}

fn memory(wanted: u32, free: u32) -> (u64, Option<Shortfall>) {
    (share(wanted, free), Some(Shortfall::MemoryMib { wanted, free }))
}

/// What is missing, as a share of what is wanted, in 1/65,536.
fn share(wanted: u32, free: u32) -> u64 {
    (u64::from(wanted.saturating_sub(free)) << 16) / u64::from(wanted.max(1))
}
