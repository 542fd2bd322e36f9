//! Signatures that nothing could take: each waits for an event that can help it, and for no other.
//!
//! What helps is an instance of its cluster that gained something (room, a port, an open gate,
//! another class) and now takes it. One whose constraints ask for the tasks on an instance is
//! helped by what they do as well, one that a hard skew holds back by its owner's tasks, or by
//! instances that come and go, wherever they are; one that a zone's reserve holds back by its
//! owner's tasks, or by any gain in a zone that now has room for it beyond its reserve.
//! The parked ones stand by the size they ask for, and among equals by age. An event wakes the
//! oldest ones that fit, as many as its room is for, and more of them only if those went elsewhere:
//! ten thousand that wait for the same room are not all tried because one task ended.
//! Invariant: a signature that waits is either ready or parked.

use super::contest::Contest;
use super::draft::Draft;
use super::filter::Wish;
use super::fleet::{At, Gate};
use super::index::{Index, Queue, Signature, Stir};
use super::turns;
use muster_model::state::Room;
use muster_model::{ClusterId, Resources, Slot, State, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What it is found by: its cluster, the cpu and the memory it asks for.
type Need = (ClusterId, u32, u32);
/// Of the task in it that waits longest.
type Age = Option<(Time, Slot)>;
/// Signatures by what they ask for, the oldest first.
type Lot = BTreeMap<Need, BTreeSet<(Age, Arc<Signature>)>>;

#[derive(Debug, Default)]
pub(super) struct Parking {
    ready: BTreeSet<Arc<Signature>>,
    parked: Lot,
    ages: BTreeMap<Arc<Signature>, Age>,
    /// Positions whose gain is not used up.
    gains: BTreeSet<At>,
    /// Of the parked: those whose constraints ask for the tasks on an instance ...
    nosy: BTreeSet<Arc<Signature>>,
    /// ... those that a hard skew holds back ...
    skewed: BTreeSet<Arc<Signature>>,
    /// ... and those that a zone's reserve does.
    kept_back: Lot,
    /// Woken for one of these gains already.
    tried: BTreeSet<Arc<Signature>>,
    /// How many were woken by gains, ever.
    woken: u64,
}

impl Parking {
    /// What is new since the last time; `all`: everything is ready.
    pub fn learn(&mut self, index: &mut Index, all: bool) {
        let (gains, stir) = (index.take_gains(), index.take_stir());
        // An index that was made anew knows other positions, and gains all of them.
        self.gains.retain(|at| index.fleet.has(*at));
        self.unskew(index, &gains, &stir);
        self.let_go(&stir);
        self.gains.extend(gains);
        if !self.nosy.is_empty() {
            self.gains.extend(stir.positions);
        }
        for signature in index.take_arrivals() {
            self.ready(Arc::new(signature));
        }
        if all {
            self.parked.clear();
            self.ages.clear();
            self.nosy.clear();
            self.skewed.clear();
            self.kept_back.clear();
            self.gains.clear();
            self.ready = index.waiting().keys().cloned().map(Arc::new).collect();
        }
    }

    /// Signatures to place, the one with the longest waiting task first; those of DAEMON services
    /// before all others, so that what every instance needs finds room there, and those that want
    /// little before those that fill a plan. If none is ready, those that the gains are for.
    pub fn order(&mut self, draft: &mut Draft, index: &mut Index) -> Vec<Arc<Signature>> {
        let state = draft.state();
        self.ready.retain(|signature| index.waiting().contains_key(&**signature));
        if self.ready.is_empty() {
            self.help(state, index);
        }
        let turn = |signature: &Arc<Signature>| {
            (!signature.owner.is_daemon(state), age(index, signature), signature.clone())
        };
        let mut order: Vec<_> = self.ready.iter().map(turn).collect();
        order.sort();
        let (others, daemons): (Vec<_>, Vec<_>) = order.into_iter().partition(|(other, ..)| *other);
        let waiting = |(.., signature): (bool, Age, Arc<Signature>)| {
            let tasks = index.waiting().get(&*signature).map_or(0, Queue::len);
            (signature, tasks)
        };
        let others: Vec<_> = others.into_iter().map(waiting).collect();
        let all = |(_, tasks): &(_, usize)| *tasks;
        let is_run = |(signature, _): &&(Arc<Signature>, usize)| signature.owner.is_group();
        let run = others.iter().filter(is_run).map(all).sum();
        draft.hurry |= turns::hurry(run, others.iter().map(all).sum());
        let others = turns::little_first(draft.room(), others);
        daemons.into_iter().map(|(.., signature)| signature).chain(others).collect()
    }

    /// A skew is measured anew when tasks of the owner came or went, or where they can go did.
    fn unskew(&mut self, index: &Index, gains: &BTreeSet<At>, stir: &Stir) {
        if self.skewed.is_empty() {
            return;
        }
        let gained = gains.iter().map(|at| index.fleet.cluster_of(*at));
        let clusters: BTreeSet<ClusterId> = gained.chain(stir.left.iter().copied()).collect();
        let moved = |signature: &&Arc<Signature>| {
            stir.owners.contains(&signature.owner) || clusters.contains(&signature.cluster)
        };
        let moved: Vec<_> = self.skewed.iter().filter(moved).cloned().collect();
        for signature in moved {
            self.ready(signature);
        }
    }

    /// A service whose tasks came or went may have lost places, which reserves are there for.
    fn let_go(&mut self, stir: &Stir) {
        let all = self.kept_back.values().flatten().map(|(_, signature)| signature);
        let moved = all.filter(|signature| stir.owners.contains(&signature.owner));
        for signature in moved.cloned().collect::<Vec<_>>() {
            self.ready(signature);
        }
    }

    /// Whether what tasks do on an instance can help somebody.
    pub fn is_nosy(&self) -> bool {
        !self.nosy.is_empty()
    }

    pub fn park(
        &mut self,
        index: &Index,
        signature: &Arc<Signature>,
        wish: &Wish,
        contest: &Contest,
    ) {
        self.ready.remove(signature);
        if wish.asks_for_tasks() {
            self.nosy.insert(signature.clone());
        }
        if contest.is_skewed() {
            self.skewed.insert(signature.clone());
        }
        let age = age(index, signature);
        self.ages.insert(signature.clone(), age);
        if contest.is_kept_back() {
            self.keep_back(signature.clone());
        }
        self.parked.entry(need(signature)).or_default().insert((age, signature.clone()));
    }

    /// A parked one that an instance has room for, and only the zone's reserve keeps from it.
    fn keep_back(&mut self, signature: Arc<Signature>) {
        if let Some(age) = self.ages.get(&signature) {
            let group = self.kept_back.entry(need(&signature)).or_default();
            group.insert((*age, signature));
        }
    }

    pub fn done(&mut self, signature: &Arc<Signature>) {
        self.ready.remove(signature);
    }

    pub fn woken(&self) -> u64 {
        self.woken
    }

    fn ready(&mut self, signature: Arc<Signature>) {
        self.nosy.remove(&signature);
        self.skewed.remove(&signature);
        if let Some(age) = self.ages.remove(&signature) {
            for lot in [&mut self.parked, &mut self.kept_back] {
                let Some(group) = lot.get_mut(&need(&signature)) else { continue };
                group.remove(&(age, signature.clone()));
                if group.is_empty() {
                    lot.remove(&need(&signature));
                }
            }
        }
        self.ready.insert(signature);
    }

    /// Readies what the gains can help; once nothing more is, they are used up.
    fn help(&mut self, state: &State, index: &mut Index) {
        let (mut helped, mut kept) = (Vec::new(), Vec::new());
        for at in self.gains.iter().copied() {
            self.helped_by(state, index, at, &mut helped, &mut kept);
            self.helped_in_zone(state, index, at, &mut helped);
        }
        for signature in kept {
            self.keep_back(signature);
        }
        if helped.is_empty() {
            self.gains.clear();
            self.tried.clear();
        }
        self.woken += helped.len() as u64;
        for signature in helped {
            self.tried.insert(signature.clone());
            self.ready(signature);
        }
    }

    fn helped_by(
        &self,
        state: &State,
        index: &mut Index,
        at: At,
        helped: &mut Vec<Arc<Signature>>,
        kept: &mut Vec<Arc<Signature>>,
    ) {
        if index.fleet.gates[at as usize] != Gate::Open {
            return;
        }
        let cluster = index.fleet.cluster_of(at);
        let mut left = index.fleet.free[at as usize];
        let zone = zone(index, at);
        let groups = self.parked.range((cluster, 0, 0)..=(cluster, left.cpu, u32::MAX));
        for (need, group) in groups {
            let (cpu, memory_mib) = (need.1, need.2);
            let size = Resources { cpu, memory_mib };
            // Who waits for the zone's reserve already is not asked again about one instance.
            let short = zone.is_some_and(|(reserve, room)| room.missing(reserve, size).is_some());
            let waits = self.kept_back.get(need).filter(|_| short);
            if waits.is_some_and(|waits| waits.len() == group.len()) {
                continue;
            }
            for entry in group {
                if !size.fits_in(left) {
                    break;
                }
                let signature = &entry.1;
                let tried = self.tried.contains(signature) || helped.contains(signature);
                if tried || waits.is_some_and(|waits| waits.contains(entry)) {
                    continue;
                }
                let Some(wish) = Wish::of(state, index, signature) else { continue };
                if wish.judge(index, state, &signature.owner, at).is_err() {
                    continue;
                }
                match wish.reserves.missing(index.fleet.class_of(at)) {
                    Some(_) => kept.push(signature.clone()),
                    None => {
                        left = left.minus(signature.size);
                        helped.push(signature.clone());
                    }
                }
            }
        }
    }

    /// The same for those that only the zone's reserve keeps from it: of which instance the room
    /// is does not matter to them.
    fn helped_in_zone(
        &self,
        state: &State,
        index: &mut Index,
        at: At,
        helped: &mut Vec<Arc<Signature>>,
    ) {
        if self.kept_back.is_empty() || index.fleet.gates[at as usize] != Gate::Open {
            return;
        }
        let cluster = index.fleet.cluster_of(at);
        let Some((reserve, room)) = zone(index, at) else { return };
        let zone = index.fleet.class_at(index.fleet.class_of(at)).zone().clone();
        let mut left = beyond(room, reserve);
        let groups = self.kept_back.range((cluster, 0, 0)..=(cluster, left.cpu, u32::MAX));
        for (_, group) in groups {
            for (_, signature) in group {
                if !signature.size.fits_in(left) {
                    break;
                }
                let tried = self.tried.contains(signature) || helped.contains(signature);
                let Some(wish) = Wish::of(state, index, signature).filter(|_| !tried) else {
                    continue;
                };
                let mut classes = index.fleet.classes_of(cluster, &zone);
                if classes.any(|class| wish.admits(&index.fleet, class)) {
                    left = left.minus(signature.size);
                    helped.push(signature.clone());
                }
            }
        }
    }
}

/// What is kept of the instance's zone, and what is free there. `None`: nothing is kept.
fn zone(index: &Index, at: At) -> Option<(Resources, Room)> {
    let cluster = index.fleet.cluster_of(at);
    let zone = index.fleet.class_at(index.fleet.class_of(at)).zone();
    let reserve = index.reserves(cluster)?.get(&**zone)?;
    Some((*reserve, index.fleet.room_in(cluster, zone)))
}

/// What a zone has beyond its reserve, as far as one task can take it.
fn beyond(room: Room, reserve: Resources) -> Resources {
    let room = room.minus(reserve);
    let part = |room: u64| u32::try_from(room).unwrap_or(u32::MAX);
    Resources { cpu: part(room.cpu), memory_mib: part(room.memory_mib) }
}

fn age(index: &Index, signature: &Signature) -> Age {
    let queue = index.waiting().get(signature)?;
    queue.first().map(|(at, slot, _)| (*at, *slot))
}

fn need(signature: &Signature) -> Need {
    (signature.cluster, signature.size.cpu, signature.size.memory_mib)
}
