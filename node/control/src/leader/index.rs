//! The scheduler's view of a state, laid out for scanning: instance facts as flat arrays, waiting
//! tasks by signature, finished tasks by owner.
//!
//! Kept by diff against the state it last saw; made from nothing at takeover by the same code.
//! It decides nothing. Invariant: it equals an index made from nothing of the same state, up to
//! the positions instances have in the arrays.

use muster_model::{
    ClusterId, DefinitionId, Instance, InstanceId, InstanceStatus, Owner, Resources, ServiceId,
    Slot, State, Task, TaskId, Time, limits,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whom a task is spread with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OwnerKey {
    Service(ServiceId),
    Group(ClusterId, Arc<str>),
}

impl OwnerKey {
    pub fn of(task: &Task) -> Self {
        match &task.owner {
            Owner::Service { service, .. } => Self::Service(*service),
            Owner::Run { group, .. } => Self::Group(task.cluster, group.clone()),
        }
    }
}

/// What decides where a task can go: tasks of one signature are placed alike. Overrides count only
/// by the size they give the task: they change neither ports nor constraints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature {
    pub cluster: ClusterId,
    pub owner: OwnerKey,
    pub definition: DefinitionId,
    pub size: Resources,
}

impl Signature {
    pub fn of(state: &State, task: &Task) -> Self {
        Self {
            cluster: task.cluster,
            owner: OwnerKey::of(task),
            definition: task.definition,
            size: state.reservation(task),
        }
    }
}

/// Whether an instance takes new tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    Open,
    /// The agent is not connected, or never was.
    Agent,
    Draining,
}

/// A position in the arrays.
pub(super) type At = u32;

/// Waiting tasks of one signature: the oldest first, then the lowest slot.
pub(super) type Queue = BTreeSet<(Time, Slot, TaskId)>;

#[derive(Debug, Default)]
pub(super) struct Index {
    base: State,
    // ---- one element per position ----
    pub ids: Vec<InstanceId>,
    pub gates: Vec<Gate>,
    pub free_cpu: Vec<u32>,
    pub free_memory: Vec<u32>,
    pub total_cpu: Vec<u32>,
    pub total_memory: Vec<u32>,
    /// Position in `zones`.
    pub zone_of: Vec<u32>,
    // ---- the rest ----
    /// Zone names ever seen, numbered: few, and never many.
    zones: Vec<String>,
    positions: BTreeMap<InstanceId, At>,
    vacant: Vec<At>,
    members: BTreeMap<ClusterId, BTreeSet<At>>,
    /// Wanted tasks of an owner per position.
    counts: BTreeMap<OwnerKey, BTreeMap<At, u32>>,
    waiting: BTreeMap<Signature, Queue>,
    /// Tasks of RunTask whose caller was told that they cannot be placed.
    refused: BTreeSet<(Time, TaskId)>,
    finished: BTreeMap<OwnerKey, BTreeSet<(Time, TaskId)>>,
    /// Owners with more history than is kept.
    crowded: BTreeSet<OwnerKey>,
    /// Positions that gained something since the last `take_gains`: room, a port, an open gate.
    gained: BTreeSet<At>,
    /// Signatures that got a new waiting task since the last `take_arrivals`.
    arrived: BTreeSet<Signature>,
}

impl Index {
    /// Brings the index to `state`. Cost: that of the difference.
    pub fn sync(&mut self, state: &State) {
        let changes = State::diff(&self.base, state);
        let before_all = std::mem::replace(&mut self.base, state.clone());
        for change in &changes.instances {
            match (&change.before, &change.after) {
                (_, Some(row)) if row.status != InstanceStatus::Inactive => self.enter(row),
                (Some(row), _) | (None, Some(row)) => self.leave(row.id),
                (None, None) => {}
            }
        }
        let mut touched = BTreeSet::new();
        for change in &changes.tasks {
            if let Some(task) = &change.before {
                self.remove(&before_all, task);
                touched.extend(task.instance);
            }
            if let Some(task) = &change.after {
                self.insert(state, task);
                touched.extend(task.instance);
            }
            let (before, after) = (change.before.as_deref(), change.after.as_deref());
            if before.is_some_and(counted) && !after.is_some_and(counted)
                || before.is_some_and(Task::reserves) && !after.is_some_and(Task::reserves)
            {
                let position = change.latest().and_then(|t| self.positions.get(&t.instance?));
                self.gained.extend(position);
            }
        }
        for instance in touched {
            self.refresh(instance);
        }
    }

    /// Reads the free room of an instance again.
    pub fn refresh(&mut self, instance: InstanceId) {
        let Some(row) = self.base.instance(instance) else { return };
        let free = self.base.free(row);
        self.set_free(instance, free);
    }

    /// Notes room taken by a step that is not yet synced.
    pub fn set_free(&mut self, instance: InstanceId, free: Resources) {
        let Some(&at) = self.positions.get(&instance) else { return };
        self.free_cpu[at as usize] = free.cpu;
        self.free_memory[at as usize] = free.memory_mib;
    }

    fn enter(&mut self, row: &Instance) {
        let at = match self.positions.get(&row.id) {
            Some(at) => *at,
            None => self.vacant.pop().unwrap_or_else(|| self.grow()),
        };
        let slot = at as usize;
        self.positions.insert(row.id, at);
        self.members.entry(row.cluster).or_default().insert(at);
        self.ids[slot] = row.id;
        self.gates[slot] = gate(row);
        self.total_cpu[slot] = row.spec.total.cpu;
        self.total_memory[slot] = row.spec.total.memory_mib;
        self.zone_of[slot] = self.zone(&row.spec.zone);
        self.refresh(row.id);
        self.gained.insert(at);
    }

    fn grow(&mut self) -> At {
        let at = self.ids.len() as At;
        self.ids.push(InstanceId::from_bits(0));
        self.gates.push(Gate::Draining);
        for array in [
            &mut self.free_cpu,
            &mut self.free_memory,
            &mut self.total_cpu,
            &mut self.total_memory,
            &mut self.zone_of,
        ] {
            array.push(0);
        }
        at
    }

    fn leave(&mut self, instance: InstanceId) {
        let Some(at) = self.positions.remove(&instance) else { return };
        self.vacant.push(at);
        for members in self.members.values_mut() {
            members.remove(&at);
        }
        self.members.retain(|_, members| !members.is_empty());
        self.gained.remove(&at);
        // Its tasks are abandoned in a later round; until then they count nowhere.
        for counts in self.counts.values_mut() {
            counts.remove(&at);
        }
        self.counts.retain(|_, counts| !counts.is_empty());
    }

    fn zone(&mut self, name: &str) -> u32 {
        let known = self.zones.iter().position(|zone| zone == name);
        let at = known.unwrap_or_else(|| {
            self.zones.push(name.to_owned());
            self.zones.len() - 1
        });
        at as u32
    }

    fn insert(&mut self, state: &State, task: &Task) {
        let owner = OwnerKey::of(task);
        if is_waiting(task) {
            let signature = Signature::of(state, task);
            let queue = self.waiting.entry(signature.clone()).or_default();
            queue.insert(turn(task));
            if task.waiting.is_none() {
                self.arrived.insert(signature);
            }
        }
        if is_refused(task) {
            self.refused.insert((task.created_at, task.id));
        }
        let placed = task.instance.filter(|_| counted(task));
        if let Some(at) = placed.and_then(|id| self.positions.get(&id)) {
            *self.counts.entry(owner.clone()).or_default().entry(*at).or_default() += 1;
        }
        if let Some(ended) = task.ended_at() {
            let finished = self.finished.entry(owner.clone()).or_default();
            finished.insert((ended, task.id));
            if finished.len() > limits::STOPPED_TASKS_PER_OWNER_MAX {
                self.crowded.insert(owner);
            }
        }
    }

    fn remove(&mut self, state: &State, task: &Task) {
        let owner = OwnerKey::of(task);
        if is_waiting(task) {
            let signature = Signature::of(state, task);
            let queue = self.waiting.entry(signature.clone()).or_default();
            queue.remove(&turn(task));
            if queue.is_empty() {
                self.waiting.remove(&signature);
            }
        }
        if is_refused(task) {
            self.refused.remove(&(task.created_at, task.id));
        }
        if counted(task) {
            self.uncount(&owner, task.instance);
        }
        if let Some(ended) = task.ended_at() {
            let finished = self.finished.entry(owner.clone()).or_default();
            finished.remove(&(ended, task.id));
            if finished.len() <= limits::STOPPED_TASKS_PER_OWNER_MAX {
                self.crowded.remove(&owner);
            }
            if finished.is_empty() {
                self.finished.remove(&owner);
            }
        }
    }

    fn uncount(&mut self, owner: &OwnerKey, instance: Option<InstanceId>) {
        let at = instance.and_then(|id| self.positions.get(&id));
        let Some((at, counts)) = at.zip(self.counts.get_mut(owner)) else { return };
        if let Some(count) = counts.get_mut(at) {
            *count -= 1;
            if *count == 0 {
                counts.remove(at);
            }
        }
        if counts.is_empty() {
            self.counts.remove(owner);
        }
    }

    // ---- checking ----

    /// Whether it equals an index made from nothing of the same state.
    pub fn audit(&self) -> Result<(), String> {
        let mut fresh = Self::default();
        fresh.sync(&self.base);
        let (here, there) = (self.canonical(), fresh.canonical());
        if here == there { Ok(()) } else { Err(format!("kept: {here}\nmade: {there}")) }
    }

    /// Everything a decision reads, with ids in place of positions.
    fn canonical(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        for (cluster, members) in &self.members {
            let mut rows: Vec<String> = members.iter().map(|at| self.canonical_row(*at)).collect();
            rows.sort();
            let _ = writeln!(text, "{cluster}: {}", rows.join(" "));
        }
        for (owner, counts) in &self.counts {
            let ids = counts.iter().map(|(at, count)| (self.ids[*at as usize], count));
            let ids: BTreeMap<_, _> = ids.collect();
            let _ = writeln!(text, "{owner:?}: {ids:?}");
        }
        let _ = writeln!(text, "waiting {:?}", self.waiting);
        let _ = writeln!(text, "refused {:?}", self.refused);
        let _ = writeln!(text, "finished {:?} {:?}", self.finished, self.crowded);
        text
    }

    fn canonical_row(&self, at: At) -> String {
        let slot = at as usize;
        let (cpu, memory) = (self.free_cpu[slot], self.free_memory[slot]);
        let (total_cpu, total_memory) = (self.total_cpu[slot], self.total_memory[slot]);
        let (gate, zone) = (self.gates[slot], self.zone_name(self.zone_of[slot]));
        let id = self.ids[slot];
        format!("{id} {gate:?} {zone} {cpu}/{total_cpu} {memory}/{total_memory}")
    }

    // ---- reading ----

    pub fn waiting(&self) -> &BTreeMap<Signature, Queue> {
        &self.waiting
    }

    pub fn refused(&self) -> &BTreeSet<(Time, TaskId)> {
        &self.refused
    }

    /// Positions of a cluster's instances.
    pub fn members(&self, cluster: ClusterId) -> impl Iterator<Item = At> + '_ {
        self.members.get(&cluster).into_iter().flatten().copied()
    }

    pub fn is_member(&self, cluster: ClusterId, at: At) -> bool {
        self.members.get(&cluster).is_some_and(|members| members.contains(&at))
    }

    pub fn counts(&self, owner: &OwnerKey) -> impl Iterator<Item = (At, u32)> + '_ {
        self.counts.get(owner).into_iter().flatten().map(|(at, count)| (*at, *count))
    }

    pub fn count(&self, owner: &OwnerKey, at: At) -> u32 {
        self.counts.get(owner).and_then(|counts| counts.get(&at)).copied().unwrap_or(0)
    }

    pub fn zones(&self) -> usize {
        self.zones.len()
    }

    pub fn zone_name(&self, zone: u32) -> &str {
        self.zones.get(zone as usize).map_or("", String::as_str)
    }

    /// Share of cpu plus share of memory that is taken, in 1/65,536.
    pub fn load(&self, at: At) -> u64 {
        let slot = at as usize;
        let share = |free: u32, total: u32| match total {
            0 => 0,
            _ => (u64::from(total.saturating_sub(free)) << 16) / u64::from(total),
        };
        share(self.free_cpu[slot], self.total_cpu[slot])
            + share(self.free_memory[slot], self.total_memory[slot])
    }

    /// History beyond what is kept, of owners that have too much of it; the oldest first.
    pub fn surplus(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.crowded.iter().filter_map(|owner| self.finished.get(owner)).flat_map(|finished| {
            let surplus = finished.len().saturating_sub(limits::STOPPED_TASKS_PER_OWNER_MAX);
            finished.iter().take(surplus).map(|(_, task)| *task)
        })
    }

    pub fn take_gains(&mut self) -> BTreeSet<At> {
        std::mem::take(&mut self.gained)
    }

    pub fn take_arrivals(&mut self) -> BTreeSet<Signature> {
        std::mem::take(&mut self.arrived)
    }
}

fn gate(row: &Instance) -> Gate {
    match (row.status, row.ready()) {
        (InstanceStatus::Active, true) => Gate::Open,
        (InstanceStatus::Active, false) => Gate::Agent,
        (InstanceStatus::Draining | InstanceStatus::Inactive, _) => Gate::Draining,
    }
}

fn turn(task: &Task) -> (Time, Slot, TaskId) {
    (task.created_at, task.slot().unwrap_or_default(), task.id)
}

fn is_waiting(task: &Task) -> bool {
    task.wanted() && task.instance.is_none() && !is_refused(task)
}

fn is_refused(task: &Task) -> bool {
    task.wanted() && task.service().is_none() && task.waiting.is_some()
}

/// Counts for spread: placed and wanted.
fn counted(task: &Task) -> bool {
    task.wanted() && task.instance.is_some()
}
