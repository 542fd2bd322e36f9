//! The scheduler: gives waiting tasks an instance, or a counted reason why not.
//!
//! Works on signatures, the one that waits longest first (`turns` has who overtakes it). What
//! cannot be placed is parked under its reasons and looked at again only when an instance gained
//! something that lets it in; it never holds up others. Only instances of the task's own cluster
//! are considered, all of them.
//! A service's task waits, and so does a job's. A task of RunTask is refused, as ECS does: its
//! caller is answered with the reason, so it must not start later behind the caller's back. Its row
//! shows the counted reasons for a moment, then it is stopped.
//! Invariant: each placement is accepted by `apply` on the state it was made on.

use super::contest::Contest;
use super::draft::Draft;
use super::explain;
use super::filter::{Shape, Wish};
use super::index::{Index, OwnerKey, Queue, Signature};
use super::parking::Parking;
use super::tally::Tally;
use super::view::View;
use super::witness::By;
use muster_model::task::{StopCode, Waiting};
use muster_model::{Millis, ServiceId, Step, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a refused task of RunTask shows its counted reasons before it is stopped: longer than
/// its caller waits for them.
const REFUSAL_SHOWN: Millis = Millis::from_secs(5);

pub(super) fn stage(draft: &mut Draft, view: &mut View, index: &mut Index, parking: &mut Parking) {
    index.sync(draft.state());
    dismiss_refused(draft, view, index);
    index.sync(draft.state());
    index.suspect(&view.suspects);
    parking.learn(index, view.dirty.all);
    let mut started: BTreeMap<ServiceId, Vec<TaskId>> = BTreeMap::new();
    let mut told = Told::default();
    loop {
        let order = parking.order(draft, index);
        if order.is_empty() {
            break;
        }
        for signature in order {
            if draft.full() {
                break;
            }
            let placed = place_all(draft, view, index, parking, &mut told, &signature);
            if let OwnerKey::Service(service) = signature.owner {
                started.entry(service).or_default().extend(placed);
            }
        }
        if draft.full() {
            view.dirty.defer_waiting();
            break;
        }
    }
    for (service, tasks) in started {
        explain::started(draft, service, &tasks);
    }
    index.noted(draft.state());
}

/// Tallies of this round that hold for other signatures too: nothing was placed since.
type Told = BTreeMap<Shape, Tally>;

fn place_all(
    draft: &mut Draft,
    view: &mut View,
    index: &mut Index,
    parking: &mut Parking,
    told: &mut Told,
    signature: &Arc<Signature>,
) -> Vec<TaskId> {
    let queue: Queue = index.waiting().get(&**signature).cloned().unwrap_or_default();
    let Some(wish) = Wish::of(draft.state(), index, signature) else {
        // Its definition is gone: nothing will help it.
        parking.done(signature);
        return Vec::new();
    };
    let mut contest = Contest::new(index, signature, &wish);
    let mut placed = Vec::new();
    let mut left = queue.into_iter().peekable();
    let mut nowhere = false;
    while let Some(&turn) = left.peek() {
        if draft.full() {
            view.dirty.defer_waiting();
            break;
        }
        let task = turn.2;
        let found = contest.best(draft.state(), index, &signature.owner, &wish, task);
        let Some((at, ports)) = found else {
            nowhere = true;
            break;
        };
        left.next();
        if let Some(witness) = view.witness.as_deref_mut() {
            let by = By { signature, wish: &wish, contest: &contest };
            witness.chose(draft.state(), index, by, task, at);
        }
        let instance = index.fleet.ids[at as usize];
        if !draft.push(Step::Place { task, instance, ports }) {
            // A misjudgement of ours, counted by the draft: leave the task to the next scan.
            continue;
        }
        placed.push((turn, at));
        if let Some(row) = draft.state().instance(instance) {
            index.fleet.set_free(at, draft.state().free(row));
        }
        contest.placed(index, &wish, at);
    }
    index.settle(signature, &placed);
    if !placed.is_empty() {
        told.clear();
    }
    if nowhere {
        index.noticed(&signature.owner);
        parking.park(index, signature, &wish, &contest);
        let count = || Tally::of(draft.state(), index, signature, &wish, &contest);
        let held = contest.is_skewed() || contest.is_kept_back();
        let tally = match wish.shape(signature).filter(|_| !held) {
            Some(shape) => told.entry(shape).or_insert_with(count).clone(),
            None => count(),
        };
        give_reasons(draft, view, index, signature, tally, left.map(|turn| turn.2).collect());
    } else if left.peek().is_none() {
        parking.done(signature);
    }
    placed.into_iter().map(|(turn, _)| turn.2).collect()
}

fn give_reasons(
    draft: &mut Draft,
    view: &mut View,
    index: &mut Index,
    signature: &Signature,
    tally: Tally,
    tasks: Vec<TaskId>,
) {
    let Some(&first) = tasks.first() else { return };
    let closest = tally.closest();
    let waiting = tally.waiting();
    let is_refused = |id: &TaskId| draft.state().task(*id).is_some_and(|row| !row.is_patient());
    if tasks.iter().any(is_refused) {
        view.wakes.waiting_at(view.now + REFUSAL_SHOWN);
    }
    for task in tasks {
        if draft.full() {
            view.dirty.defer_all();
            return;
        }
        let Some(before) = draft.state().task(task).cloned() else { continue };
        let news = is_news(before.waiting.as_deref(), &waiting, view.dirty.all);
        if news
            && draft.push(Step::Explain { task, waiting: waiting.clone() })
            && let Some(after) = draft.state().task(task)
        {
            index.explained(draft.state(), &before, after);
        }
    }
    if let OwnerKey::Service(service) = signature.owner {
        explain::unplaced(draft, view.now, service, first, closest);
    }
}

/// Other reasons, not merely other counts: those are refreshed by the full scan.
fn is_news(old: Option<&Waiting>, waiting: &Waiting, exact: bool) -> bool {
    let Some(old) = old else { return true };
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
        let reason = explain::refusal(draft.state(), *task, &waiting.unwrap_or_default());
        draft.push(Step::Stop { task: *task, code: StopCode::TaskFailedToStart, reason });
    }
}
