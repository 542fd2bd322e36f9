//! Who gets the next task of a signature: the strategies, composed from left to right as in ECS.
//!
//! Each class of instances the constraints admit runs in a lane of its own. Attributes are equal
//! within a class, so what a strategy asks of them ranks whole lanes; room and own tasks rank the
//! instances within one, and there the best stand at the head: untouched ones in the order of the
//! class's shelf, those that hold tasks of the owner in a small heap beside it. A decision compares
//! the heads of the lanes. Only `random` looks at every instance.
//! What the strategies leave tied goes to the least loaded, then to the first zone by name, then to
//! the smallest id. Invariant: it chooses what a scan over all instances would choose.

use super::filter::Wish;
use super::fleet::{At, ClassId, Entry, Fleet, Order};
use super::index::{Index, OwnerKey, Signature};
use super::keys::{Key, Keys, draw};
use super::reserve::Reserves;
use muster_model::foresight::PREFER_ZERO;
use muster_model::limits::PLACEMENT_STRATEGIES_MAX;
use muster_model::placement::BinpackField;
use muster_model::query::Query;
use muster_model::{InstanceId, Resources, State, TaskId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;
use std::sync::Arc;

/// One key per strategy, and the load.
const KEYS: usize = PLACEMENT_STRATEGIES_MAX + 1;
/// A rank of candidates: the smaller, the better.
type Rank = [u64; KEYS];
/// Makes a sum of weights a key of which the smaller is the better.
const WEIGHTLESS: i64 = PREFER_ZERO as i64;

/// A spread over an attribute.
#[derive(Debug)]
struct Spread {
    max_skew: Option<u32>,
    /// Tasks of the owner per value.
    counts: Vec<u32>,
    /// Values that an open instance of a lane has: the ones a skew is measured between.
    live: Vec<bool>,
}

#[derive(Debug)]
struct Lane {
    class: ClassId,
    zone: Arc<str>,
    /// The class's value of each spread, numbered.
    values: Vec<usize>,
    points: Vec<u64>,
    /// Where on the shelf the untouched ones go on; `None`: none is left.
    from: Option<Bound<Entry>>,
    fresh: Option<(Rank, InstanceId, At)>,
    used: BinaryHeap<Reverse<(Rank, InstanceId, At)>>,
}

#[derive(Debug)]
pub(super) struct Contest {
    keys: Keys,
    order: Order,
    /// Tasks of the owner per instance.
    own: BTreeMap<At, u32>,
    /// Instances that are not found on the shelf but in `used`, or are out.
    touched: BTreeSet<At>,
    out: BTreeSet<At>,
    spreads: Vec<Spread>,
    reserves: Reserves,
    lanes: Vec<Lane>,
}

impl Contest {
    pub fn new(index: &mut Index, signature: &Signature, wish: &Wish) -> Self {
        let keys = Keys::of(&wish.placement);
        let mut contest = Self {
            order: Order { packs: keys.packs() },
            keys,
            own: index.counts(&signature.owner).collect(),
            touched: BTreeSet::new(),
            out: BTreeSet::new(),
            spreads: Vec::new(),
            reserves: wish.reserves.clone(),
            lanes: Vec::new(),
        };
        let all = index.fleet.classes_in(signature.cluster).to_vec();
        for class in all.iter().copied().filter(|class| wish.admits(&index.fleet, *class)) {
            contest.lanes.push(Lane::new(class, index.fleet.class_at(class).zone().clone()));
        }
        contest.know_lanes(&mut index.fleet, &all);
        contest.open(index, wish);
        contest
    }

    /// What the keys ask of the lanes.
    fn know_lanes(&mut self, fleet: &mut Fleet, all: &[ClassId]) {
        let keys = std::mem::take(&mut self.keys);
        for over in &keys.spreads {
            self.spread(fleet, all, &over.name, over.max_skew);
        }
        for group in &keys.prefers {
            self.prefer(fleet, group);
        }
        self.keys = keys;
    }

    fn spread(&mut self, fleet: &Fleet, all: &[ClassId], name: &str, max_skew: Option<u32>) {
        let mut values: Vec<Option<Option<&str>>> = Vec::new();
        let mut number = |class: ClassId| {
            let value = fleet.class_at(class).attribute(name);
            values.iter().position(|known| *known == value).unwrap_or_else(|| {
                values.push(value);
                values.len() - 1
            })
        };
        for lane in &mut self.lanes {
            lane.values.push(number(lane.class));
        }
        // Tasks count wherever they are, also where no more can go.
        let of_class: BTreeMap<ClassId, usize> =
            all.iter().map(|class| (*class, number(*class))).collect();
        let mut counts = vec![0; values.len()];
        for (at, own) in &self.own {
            if let Some(value) = of_class.get(&fleet.class_of(*at)) {
                counts[*value] += own;
            }
        }
        let mut live = vec![false; values.len()];
        for lane in &self.lanes {
            let open = fleet.shelf(lane.class, Order::default(), Bound::Unbounded).next();
            live[lane.values[self.spreads.len()]] |= open.is_some();
        }
        self.spreads.push(Spread { max_skew, counts, live });
    }

    fn prefer(&mut self, fleet: &mut Fleet, group: &[(Query, i32)]) {
        let holds: Vec<_> = group.iter().map(|(query, _)| fleet.judge(query)).collect();
        for lane in &mut self.lanes {
            let holds = holds.iter().map(|holds| holds[lane.class as usize]);
            let weights = group.iter().map(|(_, weight)| i64::from(*weight));
            let earned: i64 = holds.zip(weights).filter(|(holds, _)| *holds).map(|(_, w)| w).sum();
            lane.points.push((WEIGHTLESS - earned) as u64);
        }
    }

    /// Brings the first candidates to the heads.
    fn open(&mut self, index: &mut Index, wish: &Wish) {
        let start = match self.order.packs[0] {
            None => Bound::Unbounded,
            Some(field) => {
                let wanted = match field {
                    BinpackField::Cpu => wish.size.cpu,
                    BinpackField::Memory => wish.size.memory_mib,
                };
                let shift = if self.order.packs[1].is_some() { 32 } else { 0 };
                Bound::Included((u64::from(wanted) << shift, 0, InstanceId::from_bits(0), 0))
            }
        };
        for number in 0..self.lanes.len() {
            let class = self.lanes[number].class;
            index.fleet.want_shelf(class, self.order);
            let may = index.fleet.may_have(class, wish.size);
            self.lanes[number].from = may.then_some(start);
        }
        if self.keys.has(Key::Own) {
            let holders: Vec<At> = self.own.keys().copied().collect();
            for at in holders {
                self.touched.insert(at);
                self.stay(index, wish, at);
            }
        }
        for number in 0..self.lanes.len() {
            self.refill(index, wish, number);
        }
    }

    /// An instance that holds tasks of the owner may take another, unless something forbids it.
    fn stay(&mut self, index: &Index, wish: &Wish, at: At) {
        let class = index.fleet.class_of(at);
        let open = index.fleet.gates[at as usize] == super::fleet::Gate::Open;
        if !open || wish.distinct || !wish.fits(index, at) {
            return;
        }
        let Some(number) = self.lane_of(class) else { return };
        let rank = self.within(&index.fleet, at);
        let id = index.fleet.ids[at as usize];
        self.lanes[number].used.push(Reverse((rank, id, at)));
    }

    /// The next untouched instance of a lane that has room.
    fn refill(&mut self, index: &Index, wish: &Wish, number: usize) {
        let Some(from) = self.lanes[number].from else { return };
        let class = self.lanes[number].class;
        let shelf = index.fleet.shelf(class, self.order, from);
        let mut fits = shelf.filter(|(.., at)| !self.touched.contains(at) && wish.fits(index, *at));
        let found = fits.next().copied();
        let fresh = found.map(|(_, _, id, at)| (self.within(&index.fleet, at), id, at));
        let lane = &mut self.lanes[number];
        lane.fresh = fresh;
        lane.from = found.map(Bound::Excluded);
    }

    /// What ranks an instance within its lane: the keys that lanes are ranked by are left out.
    fn within(&self, fleet: &Fleet, at: At) -> Rank {
        let mut rank = [0; KEYS];
        for (place, key) in self.keys.order.iter().enumerate() {
            rank[place] = match key {
                Key::Own => u64::from(self.own.get(&at).copied().unwrap_or(0)),
                Key::Left(field) => fleet.left(*field, at),
                Key::Value(_) | Key::Points(_) | Key::Draw => 0,
            };
        }
        rank[KEYS - 1] = fleet.load(at);
        rank
    }

    /// The same with the lane's keys filled in.
    fn across(&self, lane: &Lane, mut rank: Rank) -> Rank {
        for (place, key) in self.keys.order.iter().enumerate() {
            match key {
                Key::Value(spread) => {
                    rank[place] = u64::from(self.spreads[*spread].counts[lane.values[*spread]]);
                }
                Key::Points(number) => rank[place] = lane.points[*number],
                Key::Own | Key::Left(_) | Key::Draw => {}
            }
        }
        rank
    }

    /// The best instance for this task that passes the fine filters too, and the host ports it
    /// gets there; the others are out for this batch.
    pub fn best(
        &mut self,
        state: &State,
        index: &Index,
        owner: &OwnerKey,
        wish: &Wish,
        task: TaskId,
    ) -> Option<(At, Vec<u16>)> {
        let draws = self.keys.has(Key::Draw);
        loop {
            let at = match draws {
                true => self.drawn(index, wish, task)?,
                false => self.head()?,
            };
            match wish.fine(state, owner, index.fleet.ids[at as usize], task.bits()) {
                Ok(ports) => {
                    self.pass(index, wish, at);
                    return Some((at, ports));
                }
                Err(_) => {
                    self.out.insert(at);
                    self.pass(index, wish, at);
                }
            }
        }
    }

    fn head(&self) -> Option<At> {
        let heads = self.lanes.iter().filter(|lane| self.takes(lane)).filter_map(|lane| {
            let (rank, id, at) = lane.head()?;
            Some((self.across(lane, rank), &*lane.zone, id, at))
        });
        heads.min().map(|(.., at)| at)
    }

    /// With `random` every candidate is ranked: the draw is the task's and the instance's alone.
    fn drawn(&self, index: &Index, wish: &Wish, task: TaskId) -> Option<At> {
        let mut best: Option<(Rank, &str, InstanceId, At)> = None;
        for lane in self.lanes.iter().filter(|lane| self.takes(lane)) {
            for (_, _, id, at) in index.fleet.shelf(lane.class, self.order, Bound::Unbounded) {
                let barred = wish.distinct && self.own.get(at).is_some_and(|own| *own > 0);
                if barred || self.out.contains(at) || !wish.fits(index, *at) {
                    continue;
                }
                let rank = self.ranked(&index.fleet, lane, *at, task);
                let candidate = (rank, &*lane.zone, *id, *at);
                if best.as_ref().is_none_or(|best| candidate < *best) {
                    best = Some(candidate);
                }
            }
        }
        best.map(|(.., at)| at)
    }

    /// The rank in full.
    fn ranked(&self, fleet: &Fleet, lane: &Lane, at: At, task: TaskId) -> Rank {
        let mut rank = self.across(lane, self.within(fleet, at));
        for (place, key) in self.keys.order.iter().enumerate() {
            if *key == Key::Draw {
                rank[place] = draw(task, fleet.ids[at as usize]);
            }
        }
        rank
    }

    /// What the instance is ranked by for this task: one number per strategy (neighbouring `prefer`
    /// are one), then the load. `None`: it is not in the running.
    pub fn numbers(&self, fleet: &Fleet, at: At, task: TaskId) -> Option<Vec<u64>> {
        let lane = &self.lanes[self.lane_of(fleet.class_of(at))?];
        let rank = self.ranked(fleet, lane, at, task);
        Some(rank[..self.keys.order.len()].iter().chain(&rank[KEYS - 1..]).copied().collect())
    }

    /// Takes it from the head of its lane.
    fn pass(&mut self, index: &Index, wish: &Wish, at: At) {
        let class = index.fleet.class_of(at);
        let Some(number) = self.lane_of(class) else { return };
        self.touched.insert(at);
        let lane = &mut self.lanes[number];
        if lane.fresh.is_some_and(|(_, _, fresh)| fresh == at) {
            lane.fresh = None;
            self.refill(index, wish, number);
        } else if lane.used.peek().is_some_and(|Reverse((_, _, used))| *used == at) {
            lane.used.pop();
        }
    }

    /// A task of the owner goes there: `index` shows the room that is left.
    pub fn placed(&mut self, index: &Index, wish: &Wish, at: At) {
        *self.own.entry(at).or_default() += 1;
        let class = index.fleet.class_of(at);
        self.reserves.placed(class);
        if let Some(lane) = self.lane_of(class).map(|number| &self.lanes[number]) {
            for (spread, value) in self.spreads.iter_mut().zip(&lane.values) {
                spread.counts[*value] += 1;
            }
        }
        self.stay(index, wish, at);
    }

    /// Whether a hard skew keeps tasks from any class now.
    pub fn is_skewed(&self) -> bool {
        self.lanes.iter().any(|lane| self.skewed(lane))
    }

    /// Whether a hard skew keeps tasks from this class now.
    pub fn holds_back(&self, class: ClassId) -> bool {
        self.lane_of(class).is_some_and(|number| self.skewed(&self.lanes[number]))
    }

    /// What the zone of this class lacks beyond its reserve for the next task.
    pub fn missing(&self, class: ClassId) -> Option<Resources> {
        self.reserves.missing(class)
    }

    /// Whether the reserve of a zone keeps the next task from a class that has room.
    pub fn is_kept_back(&self) -> bool {
        let kept = |lane: &Lane| self.missing(lane.class).is_some();
        self.lanes.iter().any(|lane| kept(lane) && lane.head().is_some())
    }

    /// Whether what tasks elsewhere do lets the next one go to this class.
    fn takes(&self, lane: &Lane) -> bool {
        !self.skewed(lane) && self.missing(lane.class).is_none()
    }

    /// Lanes stand in the order of their classes.
    fn lane_of(&self, class: ClassId) -> Option<usize> {
        self.lanes.binary_search_by_key(&class, |lane| lane.class).ok()
    }

    fn skewed(&self, lane: &Lane) -> bool {
        self.spreads.iter().zip(&lane.values).any(|(spread, value)| {
            spread.max_skew.is_some_and(|max| spread.counts[*value] >= spread.poorest() + max)
        })
    }
}

impl Spread {
    fn poorest(&self) -> u32 {
        let live = self.counts.iter().zip(&self.live).filter(|(_, live)| **live);
        live.map(|(count, _)| *count).min().unwrap_or(0)
    }
}

impl Lane {
    fn new(class: ClassId, zone: Arc<str>) -> Self {
        Self {
            class,
            zone,
            values: Vec::new(),
            points: Vec::new(),
            from: None,
            fresh: None,
            used: BinaryHeap::new(),
        }
    }

    fn head(&self) -> Option<(Rank, InstanceId, At)> {
        let used = self.used.peek().map(|Reverse(head)| *head);
        self.fresh.into_iter().chain(used).min()
    }
}
