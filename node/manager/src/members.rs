//! While leading: makes who replicates match the managers' rows.
//!
//! A joined manager is a row first; its Raft membership follows from here: added as a learner as
//! soon as it answers, promoted when it has kept up for a while, removed when its row says so.
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
                (None, None) => Change::AddLearner { id: row.id, address: row.address.to_string() },
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

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::{Index, Time, apply};

    const ME: RaftId = RaftId(1);

    /// Managers 1 (this one) to `count`; those named removed are.
    fn state(count: u64, removed: &[u64]) -> State {
        let founding = crate::Founding {
            name: "test".into(),
            account: "000000000000".into(),
            region: "local".into(),
            manager: "m1".into(),
            zone: "az-a".into(),
            address: "m1:1".into(),
            level: 1,
            admin: "admin".into(),
        };
        let bootstrap = crate::bootstrap_command(&founding, Time(1)).unwrap().command;
        let add = |n| Command::AddManager {
            name: format!("m{n}").into(),
            zone: "az-a".into(),
            address: format!("m{n}:1").into(),
            level: 1,
        };
        let remove = |id: &u64| Command::RemoveManager { manager: RaftId(*id) };
        let commands =
            [bootstrap].into_iter().chain((2..=count).map(add)).chain(removed.iter().map(remove));
        let mut state = State::default();
        for (index, command) in (1..).zip(commands) {
            let request = muster_model::RequestId::from_bits(u128::from(index));
            let by = Principal::Manager(ME);
            let entry = Entry { request, at: Time(index), by, trace: None, command };
            apply(&mut state, Index(index), &entry).unwrap();
        }
        state
    }

    fn member(id: u64, voter: bool, matched: u64) -> Member {
        Member {
            id: RaftId(id),
            address: format!("m{id}:1"),
            voter,
            matched: Some(matched),
            answered: Some(Duration::from_millis(20)),
        }
    }

    fn status(members: Vec<Member>) -> RaftStatus {
        RaftStatus { id: ME, members, log_last: Some(10_000), ..RaftStatus::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_without_a_member_becomes_a_learner_and_failures_pause() {
        let (state, mut upkeep) = (state(2, &[]), Upkeep::default());
        let status = status(vec![member(1, true, 10_000)]);
        let learner = Change::AddLearner { id: RaftId(2), address: "m2:1".into() };
        let mut pauses = Vec::new();
        let mut now = Instant::now();
        for _ in 0..8 {
            assert_eq!(upkeep.next(ME, &state, &status, now), Some(learner.clone()));
            upkeep.tried(Some(RaftId(2)), false, now);
            let failed = now;
            while upkeep.next(ME, &state, &status, now).is_none() {
                now += Duration::from_millis(50);
            }
            pauses.push(now.duration_since(failed).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_learner_is_promoted_once_it_has_kept_up_for_a_while() {
        let (state, mut upkeep) = (state(2, &[]), Upkeep::default());
        let near = status(vec![member(1, true, 10_000), member(2, false, 9_500)]);
        let far = status(vec![member(1, true, 10_000), member(2, false, 100)]);
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        assert_eq!(upkeep.next(ME, &state, &near, at(0)), None);
        assert_eq!(upkeep.next(ME, &state, &near, at(200)), None);
        assert_eq!(upkeep.next(ME, &state, &far, at(250)), None, "it fell behind");
        assert_eq!(upkeep.next(ME, &state, &near, at(300)), None, "the while begins anew");
        let promote = Some(Change::Promote(RaftId(2)));
        assert_eq!(upkeep.next(ME, &state, &near, at(600)), promote);
        let mut silent = near;
        silent.members[1].answered = None;
        assert_eq!(upkeep.next(ME, &state, &silent, at(700)), None, "a silent one is not steady");
    }

    #[test]
    fn a_removed_row_leaves_raft_and_the_rest_stays() {
        let (state, mut upkeep) = (state(3, &[3]), Upkeep::default());
        let now = Instant::now();
        let members = |ids: &[u64]| status(ids.iter().map(|id| member(*id, true, 1)).collect());
        let gone = Some(Change::Remove(RaftId(3)));
        assert_eq!(upkeep.next(ME, &state, &members(&[1, 2, 3]), now), gone);
        assert_eq!(upkeep.next(ME, &state, &members(&[1, 2]), now), None);
        // A member without a row is not ours to judge: absence proves nothing.
        assert_eq!(upkeep.next(ME, &state, &members(&[1, 2, 9]), now), None);
    }
}
