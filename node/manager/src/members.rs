//! While leading: makes who replicates match the managers' rows.
//!
//! A joined manager is a row first; its Raft membership follows from here: added as a learner as
//! soon as it answers, promoted when it has kept up for a second, removed when its row says so.
//! Whoever leads continues where the last one stopped, because rows and members say all there is.
//! Also raises the command level once every manager can apply it.

use crate::hub::Hub;
use crate::limits::{
    LEARNER_LAG_MAX, LEARNER_SILENCE_MAX, LEARNER_STEADY, MEMBERS_LOOK, MEMBERS_PAUSE_MAX,
    MEMBERS_WAIT,
};
use muster_model::{Command, Entry, Principal, RaftId, State};
use muster_replica::{Change, Instant, Member, RaftStatus};
use std::collections::HashMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Runs until `ended`.
pub async fn keep(hub: &Hub, ended: &CancellationToken) {
    let mut upkeep = Upkeep::default();
    while ended.run_until_cancelled(tokio::time::sleep(MEMBERS_LOOK)).await.is_some() {
        let state = hub.replica.state();
        let status = hub.replica.status();
        let Some(change) = upkeep.next(hub.me, &state, &status, Instant::now()) else {
            raise_level(hub, &state, ended).await;
            continue;
        };
        let what = format!("{change:?}");
        let id = subject(&change);
        let deadline = Instant::now() + MEMBERS_WAIT;
        let Some(result) = ended.run_until_cancelled(hub.replica.change(change, deadline)).await
        else {
            return;
        };
        match &result {
            Ok(()) => tracing::info!(change = what, "managers changed"),
            Err(error) => tracing::warn!(change = what, %error, "managers not changed yet"),
        }
        upkeep.tried(id, result.is_ok(), Instant::now());
    }
}

/// The manager that a change is about.
fn subject(change: &Change) -> Option<RaftId> {
    match change {
        Change::AddLearner { id, .. } | Change::Promote(id) | Change::Remove(id) => Some(*id),
        Change::Transfer(id) => *id,
        Change::Snapshot => None,
    }
}

/// What to do next, and what was tried: no clock and no IO, so that it can be tested.
#[derive(Default)]
struct Upkeep {
    /// Learners that keep up, since when.
    steady: HashMap<RaftId, Instant>,
    /// Changes that failed: how often, and when the next try may be.
    failed: HashMap<RaftId, (u32, Instant)>,
}

impl Upkeep {
    /// One change at a time: Raft takes them one after the other.
    fn next(
        &mut self,
        me: RaftId,
        state: &State,
        status: &RaftStatus,
        now: Instant,
    ) -> Option<Change> {
        self.watch_learners(status, now);
        let member = |id: RaftId| status.members.iter().find(|member| member.id == id);
        for row in state.managers() {
            let may = self.failed.get(&row.id).is_none_or(|(_, next)| *next <= now);
            if !may || row.id == me {
                continue;
            }
            let change = match (member(row.id), row.removed_at) {
                (None, None) => {
                    Change::AddLearner { id: row.id, address: row.address.to_string() }
                }
                (Some(_), Some(_)) => Change::Remove(row.id),
                (Some(learner), None) if !learner.voter && self.is_steady(row.id, now) => {
                    Change::Promote(row.id)
                }
                _ => continue,
            };
            return Some(change);
        }
        None
    }

    fn watch_learners(&mut self, status: &RaftStatus, now: Instant) {
        let last = status.log_last.unwrap_or(0);
        let keeps_up = |member: &Member| {
            let near = member.matched.is_some_and(|m| last.saturating_sub(m) <= LEARNER_LAG_MAX);
            near && member.answered.is_some_and(|ago| ago <= LEARNER_SILENCE_MAX)
        };
        let learners = status.members.iter().filter(|member| !member.voter);
        let steady: Vec<RaftId> = learners.filter(|m| keeps_up(m)).map(|m| m.id).collect();
        self.steady.retain(|id, _| steady.contains(id));
        for id in steady {
            self.steady.entry(id).or_insert(now);
        }
    }

    fn is_steady(&self, id: RaftId, now: Instant) -> bool {
        self.steady.get(&id).is_some_and(|since| now.duration_since(*since) >= LEARNER_STEADY)
    }

    fn tried(&mut self, id: Option<RaftId>, done: bool, now: Instant) {
        let Some(id) = id else { return };
        if done {
            self.failed.remove(&id);
            return;
        }
        let (times, _) = self.failed.get(&id).copied().unwrap_or((0, now));
        let pause = MEMBERS_LOOK.saturating_mul(1 << times.min(8)).min(MEMBERS_PAUSE_MAX);
        self.failed.insert(id, (times.saturating_add(1), now + pause));
    }
}

/// The level every manager can apply, once it is higher than the state's.
async fn raise_level(hub: &Hub, state: &State, ended: &CancellationToken) {
    let present = state.managers().filter(|row| row.removed_at.is_none());
    let Some(level) = present.map(|row| row.level).min() else { return };
    if level <= state.meta().level {
        return;
    }
    let entry = Entry {
        request: hub.ids().request(),
        at: hub.now(),
        by: Principal::Manager(hub.me),
        trace: None,
        command: Command::RaiseLevel { level },
    };
    let propose = hub.replica.propose(entry, Instant::now() + Duration::from_secs(5));
    match ended.run_until_cancelled(propose).await {
        Some(Ok(_)) => tracing::info!(level, "all managers can apply this command level"),
        Some(Err(error)) => tracing::warn!(level, %error, "command level not raised yet"),
        None => {}
    }
}
