//! Which instances a task can go to, and for each that it cannot: why.
//!
//! Filters in ECS's order: status, agent, cpu, memory, named resources, ports, then placement
//! constraints; an instance is counted under the first that removes it. What tasks elsewhere decide
//! as well, a hard skew and the reserves of zones, comes after them (`contest.rs`). Invariant: what
//! passes here is what `apply` accepts, as far as the instance goes.

use super::fleet::{At, ClassId, Fleet, Gate};
use super::index::{Index, OwnerKey, Signature};
use super::reserve::Reserves;
use muster_model::placement::{Placement, PlacementConstraint};
use muster_model::query::Query;
use muster_model::spec::Named;
use muster_model::state::Facing;
use muster_model::task::Blocker;
use muster_model::{ClusterId, Instance, InstanceId, Resources, State, TaskDefinition};
use std::sync::Arc;

/// What a signature asks of an instance, read once per batch.
#[derive(Debug)]
pub(super) struct Wish {
    pub size: Resources,
    pub named: Named,
    definition: Arc<TaskDefinition>,
    /// Of the service or the run: its strategies.
    pub placement: Arc<Placement>,
    pub distinct: bool,
    /// What it may take of the zones, before anything is placed.
    pub reserves: Reserves,
    has_ports: bool,
    members: Vec<Member>,
}

/// What decides which filter removes an instance, if only its columns and its class do.
pub(super) type Shape = (ClusterId, Resources, Vec<Query>);

/// A `memberOf` constraint, by its place among them: those of the definition come first.
#[derive(Debug)]
struct Member {
    number: u8,
    /// For each class whether it holds there; `None`: it asks for more than attributes.
    classes: Option<Arc<Vec<bool>>>,
    query: Query,
}

impl Wish {
    /// `None`: the definition is gone, nothing can be placed.
    pub fn of(state: &State, index: &mut Index, signature: &Signature) -> Option<Self> {
        let definition = state.definition(signature.definition)?.spec.clone();
        let placement = match &signature.owner {
            OwnerKey::Service(service) => Arc::new(state.service(*service)?.spec.placement.clone()),
            OwnerKey::Group(..) => signature.placement.clone().unwrap_or_default(),
        };
        let daemon = signature.owner.is_daemon(state);
        let mut wish = Self {
            size: signature.size,
            named: signature.named.clone(),
            has_ports: definition.port_mappings().next().is_some(),
            distinct: daemon,
            reserves: Reserves::of(state, index, signature),
            members: Vec::new(),
            placement: placement.clone(),
            definition: definition.clone(),
        };
        let constraints = definition.constraints();
        let constraints = constraints.chain(&placement.constraints);
        for constraint in constraints {
            match constraint {
                PlacementConstraint::DistinctInstance => wish.distinct = true,
                PlacementConstraint::MemberOf(query) => {
                    let number = wish.members.len() as u8;
                    let classes = query.is_attribute_only().then(|| index.fleet.judge(query));
                    wish.members.push(Member { number, classes, query: query.clone() });
                }
            }
        }
        Some(wish)
    }

    /// Whether a constraint asks for the tasks on an instance.
    pub fn asks_for_tasks(&self) -> bool {
        self.members.iter().any(|member| member.query.depends().tasks)
    }

    /// `None`: what is on the instances decides as well.
    pub fn shape(&self, signature: &Signature) -> Option<Shape> {
        let attributes = self.members.iter().all(|member| member.classes.is_some());
        let plain = attributes && !self.has_ports && !self.distinct && self.named.is_empty();
        let queries = || self.members.iter().map(|member| member.query.clone()).collect();
        plain.then(|| (signature.cluster, self.size, queries()))
    }

    /// Whether its constraints hold for the class, as far as they ask for attributes, and its
    /// members have the resources it asks for, free or not.
    pub fn admits(&self, fleet: &Fleet, class: ClassId) -> bool {
        let admits = |m: &Member| m.classes.as_ref().is_none_or(|holds| holds[class as usize]);
        self.members.iter().all(admits) && fleet.class_at(class).declares(&self.named)
    }

    /// Room, as the columns tell it.
    pub fn fits(&self, index: &Index, at: At) -> bool {
        self.size.fits_in(index.fleet.free[at as usize])
    }

    /// What needs a look at what is on the instance: the host ports a task would get there, or
    /// what removes it, and the port if it is one. `start` differs from task to task.
    pub fn fine(
        &self,
        state: &State,
        owner: &OwnerKey,
        on: InstanceId,
        start: u128,
    ) -> Result<Vec<u16>, (Blocker, u16)> {
        self.named(state, on)?;
        let ports = match self.has_ports {
            true => state.choose_ports(&self.definition, on, start),
            false => Ok(Vec::new()),
        };
        let ports = ports.map_err(|port| (Blocker::Ports, port))?;
        for member in self.members.iter().filter(|m| m.classes.is_none()) {
            let row = state.instance(on).ok_or((Blocker::Inactive, 0))?;
            if !member.query.matches(&Facing { state, instance: row }) {
                return Err((Blocker::MemberOf(member.number), 0));
            }
        }
        // One that is still stopping counts as well: two would run beside each other.
        let companion = |task: &Arc<_>| muster_model::Task::reserves(task) && owner.has(task);
        if self.distinct && state.tasks_on(on).any(companion) {
            return Err((Blocker::Constraint, 0));
        }
        Ok(ports)
    }

    /// Named resources: few tasks want any, so their room has no column.
    fn named(&self, state: &State, on: InstanceId) -> Result<(), (Blocker, u16)> {
        let row = match self.named.is_empty() {
            true => return Ok(()),
            false => state.instance(on).ok_or((Blocker::Inactive, 0))?,
        };
        let short = self.short(state, row).map(|(number, _)| number);
        short.map_or(Ok(()), |number| Err((Blocker::Resource(number), 0)))
    }

    /// The first named resource that is short there: its number, name, what is wanted and free.
    pub fn short(&self, state: &State, row: &Instance) -> Option<(u8, (&str, u32, u32))> {
        state.short(&self.named, row)
    }

    /// All filters, in order.
    pub fn judge(
        &self,
        index: &Index,
        state: &State,
        owner: &OwnerKey,
        at: At,
    ) -> Result<(), (Blocker, u16)> {
        let slot = at as usize;
        match index.fleet.gates[slot] {
            Gate::Open => {}
            Gate::Draining => return Err((Blocker::Inactive, 0)),
            Gate::Agent => return Err((Blocker::Agent, 0)),
        }
        let free = index.fleet.free[slot];
        if self.size.cpu > free.cpu {
            return Err((Blocker::Cpu, 0));
        }
        if self.size.memory_mib > free.memory_mib {
            return Err((Blocker::Memory, 0));
        }
        self.named(state, index.fleet.ids[slot])?;
        let class = index.fleet.class_of(at) as usize;
        let fails = |m: &&Member| m.classes.as_ref().is_some_and(|holds| !holds[class]);
        if let Some(member) = self.members.iter().find(fails) {
            return Err((Blocker::MemberOf(member.number), 0));
        }
        self.fine(state, owner, index.fleet.ids[slot], 0).map(|_| ())
    }
}
