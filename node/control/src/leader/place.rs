//! The scheduler: gives waiting tasks an instance, or a counted reason why not.
//!
//! Works on signatures, the one that waits longest first. What cannot be placed is parked under
//! its reasons and looked at again only when an instance gained something that lets it in; it
//! never holds up others. Only instances of the task's own cluster are considered, all of them.
//! A service's task waits. A task of RunTask is refused, as ECS does: its caller is answered with
//! the reason, so it must not start later behind the caller's back. Its row shows the counted
//! reasons for a moment, then it is stopped.
//! Invariant: each placement is accepted by `apply` on the state it was made on.

use super::draft::Draft;
use super::explain;
use super::filter::{Tally, Wish};
use super::index::{At, Index, OwnerKey, Queue, Signature};
use super::score::Ranking;
use super::view::View;
use muster_model::spec::Placement;
use muster_model::task::{StopCode, Waiting};
use muster_model::{InstanceId, Millis, ServiceId, State, Step, TaskId};
use std::collections::{BTreeMap, BTreeSet};

/// How long a refused task of RunTask shows its counted reasons before it is stopped: longer than
/// its caller waits for them.
const REFUSAL_SHOWN: Millis = Millis::from_secs(5);

/// Signatures that nothing could take, until something is gained.
#[derive(Debug, Default)]
pub(super) struct Parking {
    parked: BTreeSet<Signature>,
}

pub(super) fn stage(draft: &mut Draft, view: &mut View, index: &mut Index, parking: &mut Parking) {
    index.sync(draft.state());
    dismiss_refused(draft, view, index);
    parking.wake(draft.state(), index, view.dirty.all);
    let mut started: BTreeMap<ServiceId, Vec<TaskId>> = BTreeMap::new();
    for signature in order(draft.state(), index, parking) {
        if draft.full() {
            view.dirty.defer_waiting();
            break;
        }
        let placed = place_all(draft, view, index, parking, &signature);
        if let OwnerKey::Service(service) = signature.owner {
            started.entry(service).or_default().extend(placed);
        }
        index.sync(draft.state());
    }
    for (service, tasks) in started {
        explain::started(draft, service, &tasks);
    }
}

/// Signatures to place, the one with the longest waiting task first; those of DAEMON services
/// before all others, so that what every instance needs finds room there.
fn order(state: &State, index: &Index, parking: &Parking) -> Vec<Signature> {
    let follows = |signature: &Signature| match &signature.owner {
        OwnerKey::Service(id) => !state.service(*id).is_some_and(|row| row.spec.is_daemon()),
        OwnerKey::Group(..) => true,
    };
    let awake = index.waiting().iter().filter(|(s, _)| !parking.parked.contains(s));
    let first = |queue: &Queue| queue.first().map(|(at, slot, _)| (*at, *slot));
    let mut order: Vec<_> = awake.map(|(s, queue)| (follows(s), first(queue), s)).collect();
    order.sort();
    order.into_iter().map(|(_, _, signature)| signature.clone()).collect()
}

impl Parking {
    fn wake(&mut self, state: &State, index: &mut Index, all: bool) {
        let gains = index.take_gains();
        let arrivals = index.take_arrivals();
        if all {
            self.parked.clear();
        }
        if self.parked.is_empty() {
            return;
        }
        let index = &*index;
        self.parked.retain(|signature| {
            index.waiting().contains_key(signature)
                && !arrivals.contains(signature)
                && !helps(state, index, signature, &gains)
        });
    }
}

fn helps(state: &State, index: &Index, signature: &Signature, gains: &BTreeSet<At>) -> bool {
    let Some(wish) = Wish::of(state, signature) else { return false };
    let mut gains = gains.iter().filter(|at| index.is_member(signature.cluster, **at));
    gains.any(|at| wish.passes(index, state, &signature.owner, *at))
}

fn place_all(
    draft: &mut Draft,
    view: &mut View,
    index: &mut Index,
    parking: &mut Parking,
    signature: &Signature,
) -> Vec<TaskId> {
    let queue: Queue = index.waiting().get(signature).cloned().unwrap_or_default();
    let Some(wish) = Wish::of(draft.state(), signature) else { return Vec::new() };
    let placement = placement(draft.state(), signature);
    let mut ranking = Ranking::new(index, &signature.owner, &placement);
    let mut tally = Tally::default();
    let mut candidates = Vec::new();
    for at in index.members(signature.cluster) {
        tally.seen();
        match wish.coarse(index, at, ranking.own(at)) {
            None => candidates.push(at),
            Some(blocker) => tally.remove(index, at, &wish, blocker, 0),
        }
    }
    ranking.enter_all(index, candidates.into_iter());

    let mut placed = Vec::new();
    let mut left = queue.into_iter().map(|(_, _, task)| task).peekable();
    while let Some(&task) = left.peek() {
        if draft.full() {
            view.dirty.defer_waiting();
            return placed;
        }
        let found =
            best(draft.state(), index, &signature.owner, &wish, &mut ranking, &mut tally, task);
        let Some((at, ports)) = found else { break };
        left.next();
        let instance = index.ids[at as usize];
        if !draft.push(Step::Place { task, instance, ports }) {
            // A misjudgement of ours, counted by the draft: leave the task to the next scan.
            continue;
        }
        placed.push(task);
        take_room(draft.state(), index, instance);
        ranking.placed(index, at);
        match wish.coarse(index, at, ranking.own(at)) {
            None => ranking.enter(index, at),
            Some(blocker) => tally.remove(index, at, &wish, blocker, 0),
        }
    }
    if left.peek().is_some() {
        parking.parked.insert(signature.clone());
        give_reasons(draft, view, signature, tally, left.collect());
    }
    placed
}

/// The best instance that passes the fine filters too; the others are out for this batch.
fn best(
    state: &State,
    index: &Index,
    owner: &OwnerKey,
    wish: &Wish,
    ranking: &mut Ranking,
    tally: &mut Tally,
    task: TaskId,
) -> Option<(At, Vec<u16>)> {
    while let Some(at) = ranking.pop(index) {
        match wish.fine(state, owner, index.ids[at as usize], task.bits()) {
            Ok(ports) => return Some((at, ports)),
            Err((blocker, port)) => tally.remove(index, at, wish, blocker, port),
        }
    }
    None
}

fn take_room(state: &State, index: &mut Index, instance: InstanceId) {
    if let Some(row) = state.instance(instance) {
        index.set_free(instance, state.free(row));
    }
}

fn placement(state: &State, signature: &Signature) -> Placement {
    match &signature.owner {
        OwnerKey::Service(service) => {
            state.service(*service).map(|s| s.spec.placement.clone()).unwrap_or_default()
        }
        OwnerKey::Group(..) => Placement::default(),
    }
}

fn give_reasons(
    draft: &mut Draft,
    view: &mut View,
    signature: &Signature,
    tally: Tally,
    tasks: Vec<TaskId>,
) {
    let closest = tally.closest();
    let waiting = tally.waiting();
    if let OwnerKey::Group(..) = signature.owner {
        view.wakes.waiting_at(view.now + REFUSAL_SHOWN);
    }
    for task in tasks {
        if draft.full() {
            view.dirty.defer_all();
            return;
        }
        if is_news(draft.state(), task, &waiting, view.dirty.all) {
            draft.push(Step::Explain { task, waiting: waiting.clone() });
        }
    }
    if let OwnerKey::Service(service) = signature.owner {
        explain::unplaced(draft, view.now, service, closest);
    }
}

/// Other reasons, not merely other counts: those are refreshed by the full scan.
fn is_news(state: &State, task: TaskId, waiting: &Waiting, exact: bool) -> bool {
    let Some(old) = state.task(task).and_then(|t| t.waiting.as_deref()) else { return true };
    let reasons = |w: &Waiting| w.removed.iter().map(|(b, _)| *b).collect::<BTreeSet<_>>();
    if exact { old != waiting } else { reasons(old) != reasons(waiting) }
}

/// Stops tasks of RunTask that were refused long enough ago for their callers to have seen why.
fn dismiss_refused(draft: &mut Draft, view: &mut View, index: &Index) {
    for (created, task) in index.refused() {
        let until = *created + REFUSAL_SHOWN;
        if until > view.now {
            view.wakes.waiting_at(until);
            return;
        }
        if draft.full() {
            view.dirty.defer_waiting();
            return;
        }
        let waiting = draft.state().task(*task).and_then(|row| row.waiting.clone());
        let reason = explain::refusal(&waiting.unwrap_or_default());
        draft.push(Step::Stop { task: *task, code: StopCode::TaskFailedToStart, reason });
    }
}
