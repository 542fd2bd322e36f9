//! Watches over a running Raft: who leads, who is missing, disk, log size, and gives up the lead
//! when this manager is not fit for it.
//!
//! It decides nothing about entries. Invariant: `Leadership::mine` is true only while a quorum
//! confirmed this manager within [`QUORUM_SILENCE_MAX`].

use crate::disk::{Room, Space};
use crate::limits::PROPOSALS_IN_FLIGHT_MAX;
use crate::limits::{GUARD_PERIOD, NO_LEADER_WAIT};
use crate::members::successor;
use crate::raft::{Core, QUORUM_SILENCE_MAX, silence_max};
use crate::types::{Membership, Types};
use crate::writer::Fatal;
use muster_model::RaftId;
use muster_replica::Leadership;
use openraft::RaftMetrics;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Free space is looked at every so many periods: statvfs is cheap, not free.
const SPACE_EVERY: u32 = 4;
/// After a hand-over was asked for, the next is asked for no sooner than this.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(1);
/// A purge or snapshot takes a moment to show; then it is asked for again.
const COMPACT_PAUSE: Duration = Duration::from_secs(1);

struct Guard {
    core: Weak<Core>,
    fatal: Fatal,
    log_bytes_max: u64,
    /// When this manager was first seen leading this term, before any quorum's word.
    leading_since: Option<(u64, Instant)>,
    handed_over: Option<Instant>,
    compacted: Option<Instant>,
}

/// Starts watching; ends when the core is dropped or Raft stops.
pub async fn start(core: &Arc<Core>, space: Space, fatal: Fatal, log_bytes_max: u64) {
    // Once before anybody can write: a full disk must not take a first entry.
    if let Some(space) = look_at_space(core, space).await {
        tokio::spawn(watch_space(Arc::downgrade(core), space));
    }
    let guard = Guard {
        core: Arc::downgrade(core),
        fatal,
        log_bytes_max,
        leading_since: None,
        handed_over: None,
        compacted: None,
    };
    tokio::spawn(guard.run(core.raft.server_metrics()));
}

async fn watch_space(core: Weak<Core>, mut space: Space) {
    let mut period = tokio::time::interval(GUARD_PERIOD * SPACE_EVERY);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let Some(core) = core.upgrade() else { return };
        let Some(back) = look_at_space(&core, space).await else { return };
        space = back;
    }
}

/// Looks once and lets the store know; `None` when the process ends.
async fn look_at_space(core: &Core, mut space: Space) -> Option<Space> {
    let looked = tokio::task::spawn_blocking(move || {
        let found = space.look();
        (space, found)
    });
    let (space, found) = looked.await.ok()?;
    match found {
        Ok(room) => {
            // A manager that cannot write a vote must not stand for election.
            core.raft.runtime_config().elect(!matches!(room, Room::Critical(_)));
            if core.health.set_room(room) {
                match core.health.refusing() {
                    Some(why) => tracing::warn!(why, "refusing writes"),
                    None => tracing::info!("taking writes again"),
                }
            }
        }
        Err(e) => tracing::warn!(error = %e, "cannot see how much space is free"),
    }
    Some(space)
}

impl Guard {
    async fn run(mut self, mut server: WatchReceiverOf<Types, RaftServerMetrics<Types>>) {
        let mut period = tokio::time::interval(GUARD_PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = period.tick() => {}
                changed = server.changed() => if changed.is_err() { return },
            }
            let Some(core) = self.core.upgrade() else { return };
            let metrics = core.raft.metrics().borrow_watched().clone();
            if let Err(e) = &metrics.running_state {
                if !matches!(e, openraft::errors::Fatal::Stopped) {
                    (self.fatal)(&format!("raft stopped: {e}"));
                }
                return;
            }
            self.look(&core, &metrics).await;
        }
    }

    async fn look(&mut self, core: &Core, metrics: &RaftMetrics<Types>) {
        let members = metrics.membership_config.membership();
        if *core.peers.members() != *members {
            core.peers.set_members(Arc::new(members.clone()));
        }
        let now = self.leadership(core, metrics, members);
        let outage = outage(core, &now, members);
        if let Some(why) = &outage
            && core.outage.borrow().is_none()
        {
            tracing::warn!(why, "no leader");
        }
        core.outage.send_if_modified(|known| replace(known, outage));
        let mine = now.mine;
        core.leadership.send_if_modified(|known| replace(known, now));
        if mine {
            self.fit_to_lead(core).await;
        }
        self.compact(core, metrics).await;
        gauges(core, metrics, mine);
    }

    fn leadership(
        &mut self,
        core: &Core,
        metrics: &RaftMetrics<Types>,
        members: &Membership,
    ) -> Leadership {
        let term = metrics.current_term;
        let nobody = Leadership { leader: None, mine: false, term };
        let Some(leader) = metrics.current_leader else { return nobody };
        let mine = metrics.state.is_leader() && leader == metrics.id;
        let known = match mine {
            true => self.leading_silent(core, term, members) < QUORUM_SILENCE_MAX,
            false => {
                // Never heard: it was elected a moment ago, or this manager has just started.
                let silent = core.health.leader_silent().unwrap_or_else(|| core.health.uptime());
                leader != metrics.id && silent < silence_max(core.timing)
            }
        };
        match members.get_node(&leader) {
            Some(node) if known => {
                let leader = Some((RaftId(leader), node.address.clone()));
                Leadership { leader, mine, term }
            }
            _ => nobody,
        }
    }

    /// How long this leader has been without a quorum's word.
    fn leading_silent(&mut self, core: &Core, term: u64, members: &Membership) -> Duration {
        if members.voter_ids().all(|id| id == core.peers.me().raft_id) {
            return Duration::ZERO;
        }
        // Votes are a quorum's word, too: a new leader has it from the moment it leads.
        let since = match self.leading_since {
            Some((known, since)) if known == term => since,
            _ => Instant::now(),
        };
        self.leading_since = Some((term, since));
        let acked = core.quorum_acked().unwrap_or(Duration::MAX);
        acked.min(since.elapsed())
    }

    /// Hands over when the disk is full or does not answer.
    async fn fit_to_lead(&mut self, core: &Core) {
        let why = match core.health.refusing() {
            Some(full) => full,
            None if core.health.stalled() => "a write to the disk takes too long".to_owned(),
            None => return,
        };
        if self.handed_over.is_some_and(|at| at.elapsed() < HAND_OVER_PAUSE) {
            return;
        }
        let Some(to) = successor(core) else { return };
        self.handed_over = Some(Instant::now());
        tracing::warn!(why, to, "handing over leadership");
        let _ = core.raft.trigger().transfer_leader(to).await;
    }

    /// Keeps the log below its size: the tables hold what it says.
    async fn compact(&mut self, core: &Core, metrics: &RaftMetrics<Types>) {
        let recently = self.compacted.is_some_and(|at| at.elapsed() < COMPACT_PAUSE);
        if core.log.bytes() <= self.log_bytes_max || recently {
            return;
        }
        self.compacted = Some(Instant::now());
        // Half of it stays, so that a follower that is a little behind needs no snapshot.
        let Some(upto) = core.log.purge_point(self.log_bytes_max / 2) else { return };
        let trigger = core.raft.trigger();
        let covered = metrics.snapshot.map_or(0, |id| id.index);
        let done = match covered < upto {
            // The purge follows with the next look, when the snapshot covers it.
            true => trigger.snapshot().await,
            false => trigger.purge_log(upto).await,
        };
        if let Err(e) = done {
            tracing::warn!(error = %e, "cannot compact the log");
        }
        if covered < upto {
            self.compacted = None;
        }
    }
}

fn replace<T: PartialEq>(known: &mut T, now: T) -> bool {
    let changed = *known != now;
    if changed {
        *known = now;
    }
    changed
}

/// Who is missing, once nobody has led for long enough.
fn outage(core: &Core, now: &Leadership, members: &Membership) -> Option<String> {
    if now.leader.is_some() {
        return None;
    }
    let voters: Vec<u64> = members.voter_ids().collect();
    let silent = core.quorum_acked().or_else(|| core.health.leader_silent());
    if silent.unwrap_or_else(|| core.health.uptime()) < NO_LEADER_WAIT {
        return None;
    }
    if voters.is_empty() {
        return Some("this manager has not been added to a cluster yet".into());
    }
    let me = core.peers.me().raft_id;
    if members.get_node(&me).is_none() || core.health.dismissed() {
        return Some(format!(
            "manager {me} was taken out of the cluster; stop it, or empty its data directory and \
             join again"
        ));
    }
    let missing: Vec<String> = members
        .nodes()
        .filter(|(id, _)| **id != me && voters.contains(id))
        .filter(|(id, _)| {
            let answered = core.health.answered(**id);
            answered.is_none_or(|at| at.elapsed() >= NO_LEADER_WAIT)
        })
        .map(|(id, node)| format!("manager {id} ({})", node.address))
        .collect();
    let needed = voters.len() / 2 + 1;
    Some(match missing.is_empty() {
        true => "the managers have not elected a leader yet".into(),
        false => format!(
            "no leader: {} {} not answer, {needed} of {} managers are needed; start them, or see \
             that the managers reach each other",
            missing.join(" and "),
            if missing.len() == 1 { "does" } else { "do" },
            voters.len()
        ),
    })
}

fn gauges(core: &Core, metrics: &RaftMetrics<Types>, mine: bool) {
    metrics::gauge!("muster_raft_term").set(metrics.current_term as f64);
    metrics::gauge!("muster_raft_is_leader").set(f64::from(u8::from(mine)));
    let index = |id: Option<u64>| id.map_or(0.0, |index| index as f64);
    let committed = metrics.cluster_committed.map(|id| id.index);
    metrics::gauge!("muster_raft_commit_index").set(index(committed));
    let applied = metrics.last_applied.map(|id| id.index);
    metrics::gauge!("muster_raft_applied_index").set(index(applied));
    let in_flight = PROPOSALS_IN_FLIGHT_MAX - core.in_flight.available_permits();
    metrics::gauge!("muster_raft_proposals_in_flight").set(in_flight as f64);
    metrics::gauge!("muster_raft_log_bytes").set(core.log.bytes() as f64);
}
