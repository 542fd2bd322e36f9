//! The fleet: what every instance is and what is free on it, laid out so that choosing one touches
//! few cache lines however many there are.
//!
//! ```text
//!  At        0      1      2      3     ...     a position; instances keep theirs while they live
//!  ids     [ i7 ] [ i2 ] [ i9 ] [ i4 ]
//!  gates   [open] [open] [open] [down]          does it take tasks at all
//!  free    [ .. ] [ .. ] [ .. ] [ .. ]          cpu and memory; `total` beside it
//!  class   [ 0  ] [ 1  ] [ 0  ] [ 1  ]
//!             \______\___  |      |
//!  classes   0: az-a, disk=ssd     1: az-b, disk=ssd     alike in attributes, GPUs ...
//!    shelf by load     i9(12) i7(40)      i2(3)          open ones, the best first
//!    shelf by free cpu i7(24) i9(96)      i2(120)        made when a signature first asks for it
//! ```
//!
//! Attributes decide for a whole class at once: an expression is evaluated once per class and kept.
//! Within a class only room tells instances apart, and the shelves keep them sorted by it: a
//! placement moves one entry. So one decision costs a look at the head of each class's shelf,
//! whether a class has ten members or ten thousand.
//!
//! It decides nothing. Invariant: each shelf holds exactly the open members of its class, under
//! the room they have in the columns.

use muster_model::placement::BinpackField;
use muster_model::query::{Query, Subject};
use muster_model::spec::Named;
use muster_model::state::Room;
use muster_model::{ClusterId, Instance, InstanceId, InstanceStatus, Resources, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// A position in the columns.
pub(super) type At = u32;
/// A position among the classes.
pub(super) type ClassId = u32;
/// An entry of a shelf: what it is sorted by, then the instance, so that ties are always broken
/// alike.
pub(super) type Entry = (u64, u64, InstanceId, At);

/// Expressions whose verdicts are kept; beyond it they are judged anew.
const JUDGED_MAX: usize = 4096;

/// Whether an instance takes new tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    Open,
    /// The agent is not connected, never was, or is suspected to be lost.
    Agent,
    Draining,
}

/// What a shelf is sorted by: room of the fields named, the least first; without any the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub packs: [Option<BinpackField>; 2],
}

impl Order {
    pub fn pack(field: BinpackField) -> Self {
        Self { packs: [Some(field), None] }
    }
}

/// What the members of a class have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    cluster: ClusterId,
    zone: Arc<str>,
    attributes: BTreeMap<String, Option<String>>,
    /// What each declares, given out or not: where there is no GPU nobody looks for one.
    resources: Named,
}

#[derive(Debug)]
pub(super) struct Class {
    kind: Kind,
    members: BTreeSet<At>,
    shelves: Vec<(Order, BTreeSet<Entry>)>,
    /// What is free on its open members, summed up.
    room: Room,
}

impl Class {
    pub fn zone(&self) -> &Arc<str> {
        &self.kind.zone
    }

    /// `None`: its members do not have the attribute.
    pub fn attribute(&self, name: &str) -> Option<Option<&str>> {
        if name == muster_model::instance::ZONE_ATTRIBUTE {
            return Some(Some(&self.kind.zone));
        }
        self.kind.attributes.get(name).map(Option::as_deref)
    }

    /// Whether its members have as much of named resources when nothing is given out.
    pub fn declares(&self, wanted: &Named) -> bool {
        let resources = &self.kind.resources;
        wanted.iter().all(|(name, units)| resources.get(name).is_some_and(|has| has >= units))
    }

    pub fn members(&self) -> impl Iterator<Item = At> + '_ {
        self.members.iter().copied()
    }

    fn shelf(&self, order: Order) -> Option<&BTreeSet<Entry>> {
        self.shelves.iter().find(|(of, _)| *of == order).map(|(_, shelf)| shelf)
    }
}

/// A class as an expression that asks for attributes only sees it; of the rest it knows nothing.
impl Subject for Class {
    fn attribute(&self, name: &str) -> Option<Option<&str>> {
        Class::attribute(self, name)
    }
    fn agent_connected(&self) -> bool {
        false
    }
    fn agent_version(&self) -> &str {
        ""
    }
    fn ec2_instance_id(&self) -> &str {
        ""
    }
    fn registered_at(&self) -> Time {
        Time(0)
    }
    fn running_tasks(&self) -> u32 {
        0
    }
    fn has_group(&self, _: &str) -> bool {
        false
    }
}

#[derive(Debug, Default)]
pub(super) struct Fleet {
    // ---- one element per position ----
    pub ids: Vec<InstanceId>,
    pub gates: Vec<Gate>,
    pub free: Vec<Resources>,
    pub total: Vec<Resources>,
    class_of: Vec<ClassId>,
    // ---- the rest ----
    positions: BTreeMap<InstanceId, At>,
    vacant: Vec<At>,
    /// Who may be about to be judged lost.
    suspects: BTreeSet<InstanceId>,
    classes: Vec<Class>,
    known: BTreeMap<Kind, ClassId>,
    of_cluster: BTreeMap<ClusterId, Vec<ClassId>>,
    /// Which classes an expression holds for, as far as they were known when it was last asked.
    judged: BTreeMap<Query, Arc<Vec<bool>>>,
}

impl Fleet {
    /// Takes an instance in, or what is new of one it has.
    pub fn enter(&mut self, row: &Instance, free: Resources) -> At {
        let at = match self.positions.get(&row.id) {
            Some(at) => *at,
            None => self.vacant.pop().unwrap_or_else(|| self.grow()),
        };
        self.unshelve(at);
        let slot = at as usize;
        let class = self.class(row);
        if self.positions.insert(row.id, at).is_some() && self.class_of[slot] != class {
            self.classes[self.class_of[slot] as usize].members.remove(&at);
        }
        self.classes[class as usize].members.insert(at);
        self.ids[slot] = row.id;
        self.class_of[slot] = class;
        self.gates[slot] = self.gate(row);
        self.total[slot] = row.spec.total;
        self.free[slot] = free;
        self.shelve(at);
        at
    }

    pub fn leave(&mut self, instance: InstanceId) -> Option<At> {
        let at = self.positions.remove(&instance)?;
        self.unshelve(at);
        self.gates[at as usize] = Gate::Draining;
        self.classes[self.class_of[at as usize] as usize].members.remove(&at);
        self.vacant.push(at);
        Some(at)
    }

    /// Notes what is free there now.
    pub fn set_free(&mut self, at: At, free: Resources) {
        if self.free[at as usize] != free {
            self.unshelve(at);
            self.free[at as usize] = free;
            self.shelve(at);
        }
    }

    /// Notes whom not to trust; names those for whom that is new, or over.
    pub fn suspect(&mut self, suspects: BTreeSet<InstanceId>) -> BTreeSet<InstanceId> {
        let before = std::mem::replace(&mut self.suspects, suspects);
        before.symmetric_difference(&self.suspects).copied().collect()
    }

    pub fn suspects(&self) -> &BTreeSet<InstanceId> {
        &self.suspects
    }

    fn gate(&self, row: &Instance) -> Gate {
        let heard = row.ready() && !self.suspects.contains(&row.id);
        match row.status {
            InstanceStatus::Active if heard => Gate::Open,
            InstanceStatus::Active => Gate::Agent,
            InstanceStatus::Draining | InstanceStatus::Inactive => Gate::Draining,
        }
    }

    fn grow(&mut self) -> At {
        let at = self.ids.len() as At;
        self.ids.push(InstanceId::from_bits(0));
        self.gates.push(Gate::Draining);
        self.free.push(Resources::default());
        self.total.push(Resources::default());
        self.class_of.push(0);
        at
    }

    fn class(&mut self, row: &Instance) -> ClassId {
        let all = row.spec.all_attributes().into_iter();
        let kind = Kind {
            cluster: row.cluster,
            zone: Arc::from(row.spec.zone.as_str()),
            attributes: all.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).collect(),
            resources: row.spec.resources.clone(),
        };
        if let Some(id) = self.known.get(&kind) {
            return *id;
        }
        let id = self.classes.len() as ClassId;
        self.known.insert(kind.clone(), id);
        self.of_cluster.entry(kind.cluster).or_default().push(id);
        let shelves = vec![(Order::default(), BTreeSet::new())];
        let (members, room) = (BTreeSet::new(), Room::default());
        self.classes.push(Class { kind, members, shelves, room });
        id
    }

    // ---- shelves ----

    fn shelve(&mut self, at: At) {
        self.on_shelves(at, Room::plus, |shelf, entry| {
            shelf.insert(entry);
        });
    }

    fn unshelve(&mut self, at: At) {
        self.on_shelves(at, Room::minus, |shelf, entry| {
            shelf.remove(&entry);
        });
    }

    fn on_shelves(
        &mut self,
        at: At,
        count: impl Fn(Room, Resources) -> Room,
        change: impl Fn(&mut BTreeSet<Entry>, Entry),
    ) {
        let slot = at as usize;
        if self.gates[slot] != Gate::Open {
            return;
        }
        let class = self.class_of[slot] as usize;
        self.classes[class].room = count(self.classes[class].room, self.free[slot]);
        for number in 0..self.classes[class].shelves.len() {
            let entry = self.entry(self.classes[class].shelves[number].0, at);
            change(&mut self.classes[class].shelves[number].1, entry);
        }
    }

    fn entry(&self, order: Order, at: At) -> Entry {
        let (first, second) = match order.packs {
            [None, _] => (self.load(at), 0),
            [Some(field), None] => (self.left(field, at), self.load(at)),
            [Some(one), Some(two)] => {
                (self.left(one, at) << 32 | self.left(two, at), self.load(at))
            }
        };
        (first, second, self.ids[at as usize], at)
    }

    /// Makes sure that the class has a shelf in this order.
    pub fn want_shelf(&mut self, class: ClassId, order: Order) {
        if self.classes[class as usize].shelf(order).is_some() {
            return;
        }
        let open = |at: &At| self.gates[*at as usize] == Gate::Open;
        let members = self.classes[class as usize].members.iter().copied().filter(open);
        let shelf = members.map(|at| self.entry(order, at)).collect();
        self.classes[class as usize].shelves.push((order, shelf));
    }

    /// The entries of a shelf from a bound on, in its order.
    pub fn shelf(
        &self,
        class: ClassId,
        order: Order,
        from: Bound<Entry>,
    ) -> impl Iterator<Item = &Entry> {
        let shelf = self.classes[class as usize].shelf(order);
        shelf.into_iter().flat_map(move |shelf| shelf.range((from, Bound::Unbounded)))
    }

    /// Whether some open member may have this much: `false` is certain.
    pub fn may_have(&self, class: ClassId, size: Resources) -> bool {
        let most = |field| {
            let shelf = self.classes[class as usize].shelf(Order::pack(field))?;
            Some(shelf.last().map_or(0, |(left, ..)| *left))
        };
        most(BinpackField::Cpu).is_none_or(|cpu| cpu >= u64::from(size.cpu))
            && most(BinpackField::Memory).is_none_or(|mib| mib >= u64::from(size.memory_mib))
    }

    // ---- reading ----

    /// Whether it is a position at all.
    pub fn has(&self, at: At) -> bool {
        (at as usize) < self.ids.len()
    }

    pub fn position(&self, instance: InstanceId) -> Option<At> {
        self.positions.get(&instance).copied()
    }

    pub fn class_of(&self, at: At) -> ClassId {
        self.class_of[at as usize]
    }

    pub fn class_at(&self, class: ClassId) -> &Class {
        &self.classes[class as usize]
    }

    pub fn classes_in(&self, cluster: ClusterId) -> &[ClassId] {
        self.of_cluster.get(&cluster).map_or(&[], Vec::as_slice)
    }

    /// The classes of a zone.
    pub fn classes_of<'a>(
        &'a self,
        cluster: ClusterId,
        zone: &'a str,
    ) -> impl Iterator<Item = ClassId> + 'a {
        let all = self.classes_in(cluster).iter().copied();
        all.filter(move |class| **self.class_at(*class).zone() == *zone)
    }

    /// What is free in a zone, on open instances.
    pub fn room_in(&self, cluster: ClusterId, zone: &str) -> Room {
        let classes = self.classes_of(cluster, zone).map(|class| self.class_at(class).room);
        classes.fold(Room::default(), Room::and)
    }

    pub fn cluster_of(&self, at: At) -> ClusterId {
        self.class_at(self.class_of(at)).kind.cluster
    }

    /// Classes nobody is in any more: with attributes that come and go they add up.
    pub fn is_littered(&self) -> bool {
        self.classes.len() > 256 + 4 * self.positions.len()
    }

    /// For each class, whether the expression, which asks for attributes only, holds for it.
    pub fn judge(&mut self, query: &Query) -> Arc<Vec<bool>> {
        if let Some(known) = self.judged.get(query).filter(|k| k.len() == self.classes.len()) {
            return known.clone();
        }
        if self.judged.len() >= JUDGED_MAX {
            self.judged.clear();
        }
        let holds = |class: &Class| query.matches(class);
        let verdicts: Arc<Vec<bool>> = Arc::new(self.classes.iter().map(holds).collect());
        self.judged.insert(query.clone(), verdicts.clone());
        verdicts
    }

    /// What is left of a field there.
    pub fn left(&self, field: BinpackField, at: At) -> u64 {
        let free = self.free[at as usize];
        u64::from(match field {
            BinpackField::Cpu => free.cpu,
            BinpackField::Memory => free.memory_mib,
        })
    }

    /// Share of cpu plus share of memory that is taken, in 1/65,536.
    pub fn load(&self, at: At) -> u64 {
        let (free, total) = (self.free[at as usize], self.total[at as usize]);
        let share = |free: u32, total: u32| match total {
            0 => 0,
            _ => (u64::from(total.saturating_sub(free)) << 16) / u64::from(total),
        };
        share(free.cpu, total.cpu) + share(free.memory_mib, total.memory_mib)
    }

    // ---- checking ----

    /// Everything a decision reads of a position, with names in place of numbers.
    pub fn describe(&self, at: At) -> String {
        let slot = at as usize;
        let class = self.class_at(self.class_of(at));
        let shelved = class.shelves.iter().all(|(order, shelf)| {
            shelf.contains(&self.entry(*order, at)) == (self.gates[slot] == Gate::Open)
        });
        format!(
            "{} {:?} {:?} {:?}/{:?}{}",
            self.ids[slot],
            self.gates[slot],
            class.kind,
            self.free[slot],
            self.total[slot],
            if shelved { "" } else { " misplaced on a shelf" }
        )
    }

    /// Entries on shelves that no member accounts for, and rooms that are not what members have.
    pub fn strays(&self) -> usize {
        let open = |at: &&At| self.gates[**at as usize] == Gate::Open;
        let strays = |class: &Class| {
            let open: Vec<At> = class.members.iter().filter(open).copied().collect();
            let free = open.iter().map(|at| self.free[*at as usize]);
            let wrong = usize::from(class.room != free.fold(Room::default(), Room::plus));
            let shelves = class.shelves.iter().map(|(_, shelf)| shelf.len().abs_diff(open.len()));
            shelves.sum::<usize>() + wrong
        };
        self.classes.iter().map(strays).sum()
    }
}
