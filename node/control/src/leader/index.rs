//! The scheduler's view of a state, laid out for choosing: the fleet of instances, waiting tasks by
//! signature, the tasks of each owner by instance, finished tasks by owner.
//!
//! Kept by diff against the state it last saw; made from nothing at takeover by the same code.
//! It decides nothing. Invariant: it equals an index made from nothing of the same state, up to
//! the positions instances have in the fleet.

use super::fleet::{At, Fleet};
use muster_model::diff::Change;
use muster_model::placement::Placement;
use muster_model::spec::Named;
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
    /// Tasks that are run, not kept running.
    pub fn is_group(&self) -> bool {
        matches!(self, Self::Group(..))
    }

    pub fn of(task: &Task) -> Self {
        match &task.owner {
            Owner::Service { service, .. } => Self::Service(*service),
            Owner::Run { group, .. } | Owner::Job { group, .. } => {
                Self::Group(task.cluster, group.clone())
            }
        }
    }

    /// Whether it is a service that runs one task on each instance.
    pub fn is_daemon(&self, state: &State) -> bool {
        match self {
            Self::Service(id) => state.service(*id).is_some_and(|row| row.spec.is_daemon()),
            Self::Group(..) => false,
        }
    }

    /// Whether the task is one of its own.
    pub fn has(&self, task: &Task) -> bool {
        match (self, &task.owner) {
            (Self::Service(own), Owner::Service { service, .. }) => own == service,
            (Self::Group(cluster, own), Owner::Run { group, .. } | Owner::Job { group, .. }) => {
                own == group && *cluster == task.cluster
            }
            _ => false,
        }
    }
}

/// Ended tasks that share a bound: an owner's that were placed, or those that never were.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct History {
    owner: OwnerKey,
    placed: bool,
}

impl History {
    fn of(owner: OwnerKey, task: &Task) -> Self {
        Self { owner, placed: task.instance.is_some() }
    }

    /// A service's tasks are replaced for as long as they fail; those of a run end once each, and
    /// somebody waits for their exit codes.
    fn kept(&self) -> usize {
        match self.placed && self.owner.is_group() {
            true => limits::STOPPED_TASKS_PER_GROUP_MAX,
            false => limits::STOPPED_TASKS_PER_SERVICE_MAX,
        }
    }
}

/// What decides where a task can go: tasks of one signature are placed alike. What a run overrides
/// counts by the size, the resources and the placement it asks for; it changes no ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature {
    pub cluster: ClusterId,
    pub owner: OwnerKey,
    pub definition: DefinitionId,
    pub size: Resources,
    /// Named resources; most tasks want none.
    pub named: Named,
    /// Of a run or a job; a service's stands in its row.
    pub placement: Option<Arc<Placement>>,
}

impl Signature {
    pub fn of(state: &State, task: &Task) -> Self {
        let spec = state.spec_of(task).unwrap_or_default();
        Self {
            cluster: task.cluster,
            owner: OwnerKey::of(task),
            definition: task.definition,
            size: spec.reservation(),
            named: spec.named_reservation(),
            placement: task
                .overrides
                .as_ref()
                .filter(|run| !run.placement.is_default())
                .map(|run| Arc::new(run.placement.clone())),
        }
    }
}

/// Waiting tasks of one signature: the oldest first, then the lowest slot.
pub(super) type Queue = BTreeSet<Turn>;
pub(super) type Turn = (Time, Slot, TaskId);

/// What changed among tasks, for those who wait for more than room.
#[derive(Debug, Default)]
pub(super) struct Stir {
    pub positions: BTreeSet<At>,
    pub owners: BTreeSet<OwnerKey>,
    /// Clusters that an instance left.
    pub left: BTreeSet<ClusterId>,
}

/// Per zone.
type Kept = BTreeMap<String, Resources>;

#[derive(Debug, Default)]
pub(super) struct Index {
    base: State,
    pub fleet: Fleet,
    /// What clusters keep of their zones; only those that do.
    reserves: BTreeMap<ClusterId, Kept>,
    /// Wanted tasks of an owner per position.
    counts: BTreeMap<OwnerKey, BTreeMap<At, u32>>,
    waiting: BTreeMap<Signature, Queue>,
    /// Tasks of RunTask whose caller was told that they cannot be placed.
    refused: BTreeSet<(Time, TaskId)>,
    finished: BTreeMap<History, BTreeSet<(Time, TaskId)>>,
    /// Those with more of it than is kept.
    crowded: BTreeSet<History>,
    /// Positions that gained something since the last `take_gains`: room, a port, an open gate.
    gained: BTreeSet<At>,
    /// Positions where tasks came, went or got further, and owners whose tasks did, since the last
    /// `take_stir`.
    stir: Stir,
    /// Signatures that got a waiting task since the last `take_arrivals`.
    arrived: BTreeSet<Signature>,
}

impl Index {
    /// Brings the index to `state`. Cost: that of the difference.
    pub fn sync(&mut self, state: &State) {
        if self.fleet.is_littered() {
            *self = Self::default();
        }
        let changes = State::diff(&self.base, state);
        let before_all = std::mem::replace(&mut self.base, state.clone());
        for row in changes.clusters.iter().filter_map(|change| change.latest()) {
            let kept = row.zone_reserves().map(|(zone, reserve)| (zone.to_owned(), reserve));
            let kept: Kept = kept.collect();
            match kept.is_empty() {
                true => self.reserves.remove(&row.id),
                false => self.reserves.insert(row.id, kept),
            };
        }
        for change in &changes.instances {
            self.stir_drained(state, change);
            match (&change.before, &change.after) {
                (_, Some(row)) if row.status != InstanceStatus::Inactive => {
                    let at = self.fleet.enter(row, state.free(row));
                    self.gained.insert(at);
                }
                (Some(row), _) | (None, Some(row)) => self.leave(row.id),
                (None, None) => {}
            }
        }
        let mut touched = BTreeSet::new();
        for change in &changes.tasks {
            if stays(change) {
                self.stir_stepped(change);
                continue;
            }
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
                let position = change.latest().and_then(|t| self.fleet.position(t.instance?));
                self.gained.extend(position);
            }
        }
        for instance in touched {
            self.stir.positions.extend(self.fleet.position(instance));
            self.refresh(instance);
        }
    }

    /// Tasks on an instance that begins or ends to drain keep their place no longer, or again.
    fn stir_drained(&mut self, state: &State, change: &Change<Instance>) {
        let status = |row: &Option<Arc<Instance>>| row.as_ref().map(|row| row.status);
        let row = change.after.as_ref().filter(|_| status(&change.before) != status(&change.after));
        let tasks = row.into_iter().flat_map(|row| state.tasks_on(row.id));
        self.stir.owners.extend(tasks.map(|task| OwnerKey::of(task)));
    }

    /// A task that is where it was may have got further.
    fn stir_stepped(&mut self, change: &Change<Task>) {
        let phase = |row: &Option<Arc<Task>>| row.as_ref().map(|row| row.observed.phase);
        let row = change.after.as_ref().filter(|_| phase(&change.before) != phase(&change.after));
        let Some(task) = row else { return };
        self.stir.owners.insert(OwnerKey::of(task));
        self.stir.positions.extend(task.instance.and_then(|id| self.fleet.position(id)));
    }

    /// Closes these instances to new tasks, and opens those that are no longer among them.
    pub fn suspect(&mut self, suspects: &BTreeSet<InstanceId>) {
        for instance in self.fleet.suspect(suspects.clone()) {
            let row = self.base.instance(instance).cloned();
            let Some(row) = row.filter(|_| self.fleet.position(instance).is_some()) else {
                continue;
            };
            let at = self.fleet.enter(&row, self.base.free(&row));
            self.gained.insert(at);
        }
    }

    /// Reads the free room of an instance again.
    fn refresh(&mut self, instance: InstanceId) {
        let at = self.fleet.position(instance);
        let Some((at, row)) = at.zip(self.base.instance(instance)) else { return };
        let free = self.base.free(row);
        self.fleet.set_free(at, free);
    }

    /// Notes that a waiting task was told why it waits, as `state` shows already: no arrival.
    pub fn explained(&mut self, state: &State, before: &Task, after: &Task) {
        let arrived = std::mem::take(&mut self.arrived);
        self.remove(state, before);
        self.insert(state, after);
        self.arrived = arrived;
    }

    /// Notes that these waiting tasks were placed, as `state` shows already. The room they took
    /// was noted with `Fleet::set_free`.
    pub fn settle(&mut self, signature: &Signature, placed: &[(Turn, At)]) {
        if let Some(queue) = self.waiting.get_mut(signature) {
            for (turn, _) in placed {
                queue.remove(turn);
            }
            if queue.is_empty() {
                self.waiting.remove(signature);
            }
        }
        if !placed.is_empty() {
            self.stir.owners.insert(signature.owner.clone());
            self.stir.positions.extend(placed.iter().map(|(_, at)| *at));
            let counts = self.counts.entry(signature.owner.clone()).or_default();
            for (_, at) in placed {
                *counts.entry(*at).or_default() += 1;
            }
        }
    }

    /// Everything up to this state was noted.
    pub fn noted(&mut self, state: &State) {
        self.base = state.clone();
    }

    fn leave(&mut self, instance: InstanceId) {
        let Some(at) = self.fleet.leave(instance) else { return };
        self.stir.left.insert(self.fleet.cluster_of(at));
        self.gained.remove(&at);
        // Its tasks are abandoned in a later round; until then they count nowhere.
        for counts in self.counts.values_mut() {
            counts.remove(&at);
        }
        self.counts.retain(|_, counts| !counts.is_empty());
    }

    fn insert(&mut self, state: &State, task: &Task) {
        let owner = OwnerKey::of(task);
        if is_waiting(task) {
            let signature = Signature::of(state, task);
            let queue = self.waiting.entry(signature.clone()).or_default();
            queue.insert(turn(task));
            self.arrived.insert(signature);
        }
        if is_refused(task) {
            self.refused.insert((task.created_at, task.id));
        }
        let placed = task.instance.filter(|_| counted(task));
        if let Some(at) = placed.and_then(|id| self.fleet.position(id)) {
            *self.counts.entry(owner.clone()).or_default().entry(at).or_default() += 1;
            self.stir.owners.insert(owner.clone());
        }
        if let Some(ended) = task.ended_at() {
            let history = History::of(owner, task);
            let finished = self.finished.entry(history.clone()).or_default();
            finished.insert((ended, task.id));
            if finished.len() > history.kept() {
                self.crowded.insert(history);
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
            let history = History::of(owner, task);
            let finished = self.finished.entry(history.clone()).or_default();
            finished.remove(&(ended, task.id));
            if finished.len() <= history.kept() {
                self.crowded.remove(&history);
            }
            if finished.is_empty() {
                self.finished.remove(&history);
            }
        }
    }

    fn uncount(&mut self, owner: &OwnerKey, instance: Option<InstanceId>) {
        let at = instance.and_then(|id| self.fleet.position(id));
        let Some((at, counts)) = at.zip(self.counts.get_mut(owner)) else { return };
        self.stir.owners.insert(owner.clone());
        if let Some(count) = counts.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&at);
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
        fresh.suspect(self.fleet.suspects());
        fresh.sync(&self.base);
        let (here, there) = (self.canonical(), fresh.canonical());
        if here == there { Ok(()) } else { Err(format!("kept: {here}\nmade: {there}")) }
    }

    /// Everything a decision reads, with ids in place of positions.
    fn canonical(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let rows = self.base.instances().filter_map(|row| self.fleet.position(row.id));
        for at in rows {
            let _ = writeln!(text, "{}", self.fleet.describe(at));
        }
        let _ = writeln!(text, "strays {}", self.fleet.strays());
        let _ = writeln!(text, "reserves {:?}", self.reserves);
        for (owner, counts) in &self.counts {
            let ids = counts.iter().map(|(at, count)| (self.fleet.ids[*at as usize], count));
            let ids: BTreeMap<_, _> = ids.collect();
            let _ = writeln!(text, "{owner:?}: {ids:?}");
        }
        let _ = writeln!(text, "waiting {:?}", self.waiting);
        let _ = writeln!(text, "refused {:?}", self.refused);
        let _ = writeln!(text, "finished {:?} {:?}", self.finished, self.crowded);
        text
    }

    // ---- reading ----

    /// What the cluster keeps of its zones; `None`: nothing.
    pub fn reserves(&self, cluster: ClusterId) -> Option<&Kept> {
        self.reserves.get(&cluster)
    }

    pub fn waiting(&self) -> &BTreeMap<Signature, Queue> {
        &self.waiting
    }

    pub fn refused(&self) -> &BTreeSet<(Time, TaskId)> {
        &self.refused
    }

    pub fn counts(&self, owner: &OwnerKey) -> impl Iterator<Item = (At, u32)> + '_ {
        self.counts.get(owner).into_iter().flatten().map(|(at, count)| (*at, *count))
    }

    /// History beyond what is kept; the oldest of each first.
    pub fn surplus(&self) -> impl Iterator<Item = TaskId> + '_ {
        let found = self.crowded.iter().filter_map(|history| self.finished.get_key_value(history));
        found.flat_map(|(history, finished)| {
            let surplus = finished.len().saturating_sub(history.kept());
            finished.iter().take(surplus).map(|(_, task)| *task)
        })
    }

    pub fn take_gains(&mut self) -> BTreeSet<At> {
        std::mem::take(&mut self.gained)
    }

    /// What has stirred this owner's tasks so far is taken into account.
    pub fn noticed(&mut self, owner: &OwnerKey) {
        self.stir.owners.remove(owner);
    }

    pub fn take_stir(&mut self) -> Stir {
        std::mem::take(&mut self.stir)
    }

    pub fn take_arrivals(&mut self) -> BTreeSet<Signature> {
        std::mem::take(&mut self.arrived)
    }
}

fn turn(task: &Task) -> Turn {
    (task.created_at, task.slot().unwrap_or_default(), task.id)
}

fn is_waiting(task: &Task) -> bool {
    task.wanted() && task.instance.is_none() && !is_refused(task)
}

fn is_refused(task: &Task) -> bool {
    task.wanted() && task.found_no_place()
}

/// It has its instance and counts there as before: so it is with all that a plan placed, once the
/// log says so too, and with most of what agents report.
fn stays(change: &Change<Task>) -> bool {
    let (Some(was), Some(is)) = (&change.before, &change.after) else { return false };
    counted(was) && counted(is) && was.instance == is.instance
}

/// Counts for spread: placed and wanted.
fn counted(task: &Task) -> bool {
    task.wanted() && task.instance.is_some()
}
