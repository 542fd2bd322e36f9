//! Changes of who replicates: add, promote, remove, hand over.
//!
//! Carried out by the leader; other managers send the change to it. It does not know which ids are
//! free: the model gives them out. Invariants: a manager joins with an empty disk and stays bound
//! to that disk; no change is begun that would leave too few managers to go on.

use crate::limits::{CATCH_UP_WAIT, MESSAGE_BYTES_MAX, NO_LEADER_WAIT, PROMOTE_LAG_MAX};
use crate::peers::Line;
use crate::raft::Core;
use crate::types::{Membership, Peer, Raft, Types};
use crate::wire;
use muster_model::{Error, Kind, RaftId};
use muster_proto::raft as pb;
use muster_proto::raft::raft_client::RaftClient;
use muster_replica::{Change, Instant};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, RaftMetrics};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::timeout_at;
use tonic::Status;
use tonic::transport::Channel;

fn unavailable(why: impl std::fmt::Display) -> Error {
    Error::Unavailable { why: why.to_string() }
}

fn client(channel: Channel) -> RaftClient<Channel> {
    RaftClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Carries out a change here or on the leader.
pub async fn change(core: &Core, change: Change, deadline: Instant) -> Result<(), Error> {
    if change == Change::Snapshot {
        return core.raft.trigger().snapshot().await.map_err(unavailable);
    }
    let leader = leader(core, deadline).await?;
    let unknown = |e: Error| Error::UnknownOutcome {
        why: format!("the change was not confirmed: {e}; see `muster operator raft status`"),
    };
    let work = async {
        match leader == core.peers.me().raft_id {
            true => change_here(core, change).await,
            false => ask(core, leader, change).await,
        }
    };
    core.until(deadline, work).await.map_err(unknown)?
}

/// The leader's id; waits a moment for one.
async fn leader(core: &Core, deadline: Instant) -> Result<u64, Error> {
    let mut leadership = core.leadership.subscribe();
    let deadline = deadline.min(Instant::now() + NO_LEADER_WAIT);
    let led = timeout_at(deadline, leadership.wait_for(|now| now.leader.is_some())).await;
    let known = led.ok().and_then(Result::ok).and_then(|now| now.leader.clone());
    let outage = || core.outage.borrow().clone().unwrap_or_else(|| "no leader is known".into());
    known.map(|(id, _)| id.0).ok_or_else(|| unavailable(outage()))
}

async fn ask(core: &Core, leader: u64, change: Change) -> Result<(), Error> {
    let members = core.peers.members();
    let node = members.get_node(&leader).ok_or_else(|| unavailable("the leader is unknown"))?;
    let channel = core.peers.channel(leader, &node.address, Line::Control).map_err(unavailable)?;
    let header = Some(core.peers.header(leader, node));
    let request = pb::MembersRequest { header, change: Some(to_wire(change)?) };
    let answer = client(channel).members(request).await;
    let answer = answer.map_err(|status| Error::UnknownOutcome { why: status.to_string() })?;
    match answer.into_inner().error {
        error if error.is_empty() => Ok(()),
        error => Err(wire::to_error(&error)),
    }
}

fn to_wire(change: Change) -> Result<pb::members_request::Change, Error> {
    use pb::members_request::Change as Wire;
    Ok(match change {
        Change::AddLearner { id, address } => {
            Wire::AddLearner(pb::AddLearner { id: id.0, address })
        }
        Change::Promote(id) => Wire::Promote(id.0),
        Change::Remove(id) => Wire::Remove(id.0),
        Change::Transfer(to) => Wire::Transfer(pb::Transfer { to: to.map_or(0, |id| id.0) }),
        Change::Snapshot => {
            return Err(Error::refused("a snapshot is taken where it is asked for"));
        }
    })
}

#[allow(clippy::result_large_err)] // tonic's own type
pub fn from_wire(change: Option<pb::members_request::Change>) -> Result<Change, Status> {
    use pb::members_request::Change as Wire;
    Ok(match change.ok_or_else(|| Status::invalid_argument("change is missing"))? {
        Wire::AddLearner(add) => Change::AddLearner { id: RaftId(add.id), address: add.address },
        Wire::Promote(id) => Change::Promote(RaftId(id)),
        Wire::Remove(id) => Change::Remove(RaftId(id)),
        Wire::Transfer(transfer) => {
            Change::Transfer((transfer.to != 0).then_some(RaftId(transfer.to)))
        }
    })
}

/// On the leader; anywhere else it fails with what Raft says.
pub async fn change_here(core: &Core, change: Change) -> Result<(), Error> {
    tracing::info!(?change, "changing the managers");
    match change {
        Change::AddLearner { id, address } => add_learner(core, id.0, address).await,
        Change::Promote(id) => promote(core, id.0).await,
        Change::Remove(id) => remove(core, id.0).await,
        Change::Transfer(to) => transfer(core, to.map(|id| id.0)).await,
        Change::Snapshot => core.raft.trigger().snapshot().await.map_err(unavailable),
    }
}

/// The membership this manager's log ends with. A change decides by it: what [`Peers`] knows is
/// refreshed a moment later, and a manager that was just added would not be found there.
///
/// [`Peers`]: crate::peers::Peers
pub async fn of(raft: &Raft) -> Result<Membership, Error> {
    let current = raft.with_raft_state(|state| {
        let effective = state.membership_state.effective();
        effective.membership().clone()
    });
    current.await.map_err(unavailable)
}

async fn add_learner(core: &Core, id: u64, address: String) -> Result<(), Error> {
    let found = identify(core, id, &address).await?;
    let node = Peer { address, disk: found.disk };
    let members = of(&core.raft).await?;
    match members.get_node(&id) {
        Some(known) if *known == node => return Ok(()),
        Some(known) => {
            return Err(Error::Exists {
                kind: Kind::Manager,
                name: format!("{id} at {} with another data directory", known.address),
            });
        }
        None if !found.empty => {
            return Err(Error::invalid(
                "data directory",
                format!("of manager {id}"),
                "an empty one; its content belongs to an earlier membership",
            ));
        }
        None => {}
    }
    core.raft.add_learner(id, node, false).await.map(drop).map_err(unavailable)
}

/// What the manager at an address says about itself; also proves that it can be reached.
async fn identify(core: &Core, id: u64, address: &str) -> Result<pb::IdentifyResponse, Error> {
    let failed = |why: String| unavailable(format!("manager {id} at {address}: {why}"));
    let channel = core.peers.stranger(address).map_err(failed)?;
    let fleet = core.peers.me().fleet.to_be_bytes().to_vec().into();
    let mut client = client(channel);
    let call = client.identify(pb::IdentifyRequest { fleet, to: id });
    let limit = Duration::from_secs(5);
    let answer = tokio::time::timeout(limit, call).await;
    let answer = answer.map_err(|_| failed(format!("no answer in {limit:?}")))?;
    answer.map(|found| found.into_inner()).map_err(|status| failed(status.to_string()))
}

async fn promote(core: &Core, id: u64) -> Result<(), Error> {
    let members = of(&core.raft).await?;
    if members.get_node(&id).is_none() {
        return Err(Error::not_found(Kind::Manager, id));
    }
    if members.voter_ids().any(|voter| voter == id) {
        return Ok(());
    }
    let caught_up = |now: &RaftMetrics<Types>| {
        let followers = now.replication.as_ref();
        let matched = followers.and_then(|f| f.get(&id)).copied().flatten();
        let last = now.last_log_index.unwrap_or(0);
        matched.is_some_and(|m| m.index + PROMOTE_LAG_MAX >= last) || !now.state.is_leader()
    };
    let waited = core.raft.wait(Some(CATCH_UP_WAIT)).metrics(caught_up, "learner caught up").await;
    if waited.is_err() {
        return Err(unavailable(format!("manager {id} has not caught up in {CATCH_UP_WAIT:?}")));
    }
    let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
    core.raft.change_membership(change, true).await.map(drop).map_err(unavailable)
}

async fn remove(core: &Core, id: u64) -> Result<(), Error> {
    let members = of(&core.raft).await?;
    if members.get_node(&id).is_none() {
        return Err(Error::not_found(Kind::Manager, id));
    }
    let voters: BTreeSet<u64> = members.voter_ids().collect();
    if !voters.contains(&id) {
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
        return core.raft.change_membership(change, false).await.map(drop).map_err(unavailable);
    }
    check_quorum_without(core, id, &voters)?;
    let change = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
    core.raft.change_membership(change, false).await.map(drop).map_err(unavailable)
}

/// Refuses to take out a voter if the others could not go on without it.
fn check_quorum_without(core: &Core, id: u64, voters: &BTreeSet<u64>) -> Result<(), Error> {
    let me = core.peers.me().raft_id;
    let rest: Vec<u64> = voters.iter().copied().filter(|voter| *voter != id).collect();
    let answering = rest.iter().filter(|voter| **voter == me || answers(core, **voter)).count();
    let needed = rest.len() / 2 + 1;
    if rest.is_empty() || answering < needed {
        return Err(Error::InUse {
            kind: Kind::Manager,
            name: id.to_string(),
            what: format!(
                "of the {} managers that would remain {answering} answer and {needed} are needed",
                rest.len()
            ),
        });
    }
    Ok(())
}

fn answers(core: &Core, id: u64) -> bool {
    core.health.answered(id).is_some_and(|at| at.elapsed() < NO_LEADER_WAIT)
}

/// The voter that is furthest among those that answer.
pub fn successor(core: &Core) -> Option<u64> {
    let me = core.peers.me().raft_id;
    let metrics = core.raft.metrics().borrow_watched().clone();
    let followers: BTreeMap<u64, _> = metrics.replication.unwrap_or_default();
    let voters = metrics.membership_config.membership().voter_ids();
    voters
        .filter(|id| *id != me && answers(core, *id))
        .max_by_key(|id| followers.get(id).copied().flatten().map(|matched| matched.index))
}

async fn transfer(core: &Core, to: Option<u64>) -> Result<(), Error> {
    let me = core.peers.me().raft_id;
    let Some(to) = to.or_else(|| successor(core)) else {
        return Err(unavailable("no other manager with a vote answers"));
    };
    if to == me {
        return Ok(());
    }
    if !of(&core.raft).await?.voter_ids().any(|voter| voter == to) {
        return Err(Error::invalid("manager", to.to_string(), "the id of a manager with a vote"));
    }
    let mut leadership = core.leadership.subscribe();
    // A transfer is a request: the target may be a little behind and refuse the first.
    for _ in 0..TRANSFER_ATTEMPTS {
        core.raft.trigger().transfer_leader(to).await.map_err(unavailable)?;
        let led = leadership
            .wait_for(|now| now.leader.as_ref().is_some_and(|(leader, _)| leader.0 != me));
        if let Ok(Ok(_)) = tokio::time::timeout(NO_LEADER_WAIT, led).await {
            return Ok(());
        }
    }
    Err(unavailable(format!("manager {to} did not take over; see `muster operator raft status`")))
}

/// Requests to take over before a transfer is given up.
const TRANSFER_ATTEMPTS: usize = 3;
