//! Fuzz targets for what the store reads from its disk and from other managers: rows, log entries,
//! snapshots, raft messages. `cargo xtask fuzz` runs them for long; the corpora are in chaos/fuzz.
//!
//! What was read is written as the same value again; what `apply` is given, it answers or refuses.

use super::{command, entry, log_id};
use crate::codec::{self, Kind};
use crate::open::Identity;
use crate::snapshot::{self, Receiver};
use crate::types::{
    LeaderId, Membership, Peer, Proposal, RaftEntry, RaftPayload, Reply, StoredMembership, Vote,
};
use crate::{rows, wire};
use muster_model::fixture::World;
use muster_model::{Entry, Error, Index, RaftId, Response, State, apply};
use muster_proto::raft as pb;
use openraft::raft::{AppendEntriesRequest, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::OnceLock;

/// One row of every table, and the log of how they came to be.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        World::from_text(
            "
            instance i1 az=az-a cpu=4096 mem=8192 ready
            definition web cpu=256 mem=128 port=80
            service web definition=web:1 desired=3
            task t1 service=web on=i1 running
            ",
        )
    })
}

fn chosen(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, &[]), |(first, rest)| (*first, rest))
}

#[test]
fn stored_row() {
    let seeds = || {
        let rows = world().state.rows();
        let seed =
            |row| [vec![rows::number(muster_model::Row::table(&row))], rows::encode(&row).unwrap()];
        rows.map(|row| seed(row).concat()).collect()
    };
    muster_fuzz::target("stored_row", seeds, |input| {
        let (table, bytes) = chosen(input);
        let Some(table) = rows::table(table) else { return };
        let Ok(row) = rows::decode(table, bytes) else { return };
        let again = rows::encode(&row).expect("what was read can be written");
        assert_eq!(rows::decode_at(table, &row.key(), &again).as_ref(), Ok(&row));
        // Beside the rows of a whole state, in the order in which a disk gives them.
        if let Ok(state) = State::restore(world().state.rows().chain([row]), Index(9)) {
            state.hash();
        }
    });
}

fn values() -> Vec<Vec<u8>> {
    let members = membership();
    let stored = StoredMembership::new(Some(log_id(2, 8)), members.clone());
    let vote = Vote { leader_id: LeaderId::new(5, 2), committed: true };
    let identity = Identity { fleet: 7, raft_id: 3, disk: 42 };
    fn bytes<T: Serialize>(number: u8, kind: Kind, value: &T) -> Vec<u8> {
        [vec![number], codec::encode(kind, value).unwrap()].concat()
    }
    vec![
        bytes(0, codec::VOTE, &vote),
        bytes(1, codec::MEMBERSHIP, &members),
        bytes(2, codec::APPLIED, &(Some(log_id(3, 300)), stored)),
        bytes(3, codec::PURGED, &log_id(3, 70_000)),
        bytes(4, codec::IDENTITY, &identity),
        bytes(5, codec::REPLY, &Reply(Ok(Response::Manager(RaftId(4))))),
        bytes(6, codec::ERROR, &Error::Unavailable { why: "no leader".into() }),
    ]
}

#[test]
fn stored_value() {
    fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(kind: Kind, bytes: &[u8]) {
        let Ok(value) = codec::decode::<T>(kind, bytes) else { return };
        let again = codec::encode(kind, &value).expect("what was read can be written");
        assert_eq!(codec::decode::<T>(kind, &again).as_ref(), Ok(&value));
    }
    muster_fuzz::target("stored_value", values, |input| {
        let (number, bytes) = chosen(input);
        match number % 7 {
            0 => same::<Vote>(codec::VOTE, bytes),
            1 => same::<Membership>(codec::MEMBERSHIP, bytes),
            2 => same::<(Option<crate::types::LogId>, StoredMembership)>(codec::APPLIED, bytes),
            3 => same::<crate::types::LogId>(codec::PURGED, bytes),
            4 => same::<Identity>(codec::IDENTITY, bytes),
            5 => same::<Reply>(codec::REPLY, bytes),
            _ => drop(wire::to_error(bytes)),
        }
    });
}

fn membership() -> Membership {
    let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])];
    let peer = |id: u64| Peer { address: format!("10.0.0.{id}:7700"), disk: 1000 + id };
    Membership::new(voters, BTreeMap::from_iter((1..=4).map(|id| (id, peer(id))))).unwrap()
}

fn log_entries() -> Vec<RaftEntry> {
    let at = |index, payload| RaftEntry { log_id: log_id(3, index), payload };
    vec![
        at(5, RaftPayload::Blank),
        at(6, RaftPayload::Membership(membership())),
        command(3, 0),
        command(3, 7),
    ]
}

#[test]
fn log_entry() {
    let seeds = || {
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        for entry in log_entries() {
            let mut bytes = vec![entry.log_id.index as u8];
            codec::encode_log(&entry, &mut bytes).unwrap();
            seeds.push(bytes);
        }
        seeds
    };
    muster_fuzz::target("log_entry", seeds, |input| {
        let (index, bytes) = chosen(input);
        let Ok(entry) = codec::decode_log(index.into(), bytes) else { return };
        let mut again = Vec::new();
        codec::encode_log(&entry, &mut again).expect("what was read can be written");
        assert_eq!(codec::decode_log(index.into(), &again).as_ref(), Ok(&entry));
    });
}

/// Any command that decodes, on a state in use: `apply` panics on no input, and what it makes can
/// be stored, restored and compared.
#[test]
fn log_command() {
    let seeds = || commands().iter().map(|e| codec::encode(codec::ENTRY, e).unwrap()).collect();
    muster_fuzz::target("log_command", seeds, |input| {
        let Ok(proposal) = Proposal::from_bytes(input.to_vec().into()) else { return };
        let before = &world().state;
        let mut state = before.clone();
        let index = Index(before.applied().0 + 1);
        let _ = apply(&mut state, index, proposal.entry());
        let restored = State::restore(state.rows(), index).expect("what was applied is a state");
        assert_eq!(restored.hash(), state.hash());
        State::diff(before, &state);
    });
}

fn commands() -> Vec<Entry> {
    use muster_model::{Command, Epoch, Principal, Step, TaskReport};
    let world = world();
    let (task, instance) = (world.task("t1"), world.instance("i1"));
    let observed = world.state.task(task).unwrap().observed.clone();
    let definition = world.state.latest("web").unwrap();
    let leader = Principal::Manager(RaftId(1));
    let as_leader = |command| Entry { by: leader.clone(), command, ..entry(3) };
    let epoch: Epoch = world.state.meta().epoch;
    vec![
        entry(0),
        entry(3),
        as_leader(Command::Takeover { manager: RaftId(1) }),
        as_leader(Command::RegisterTaskDefinition(definition.spec.clone())),
        as_leader(Command::StopTask { task, reason: "enough".into() }),
        as_leader(Command::DeleteService { service: world.service("web"), force: true }),
        as_leader(Command::Report { reports: vec![TaskReport { task, instance, observed }] }),
        as_leader(Command::Plan { epoch, steps: Vec::<Step>::new() }),
    ]
}

#[test]
fn snapshot_parts() {
    let seeds = || {
        let mut parts = Vec::new();
        let mut send = |part: pb::SnapshotRows| {
            parts.extend_from_slice(&part.data);
            true
        };
        snapshot::cut(&world().state, &mut send).unwrap();
        vec![parts]
    };
    muster_fuzz::target("snapshot_parts", seeds, |input| {
        // The checksums are right: who sends a snapshot also computes them.
        let part = pb::SnapshotRows {
            sequence: 0,
            crc32: crc32fast::hash(input),
            data: input.to_vec().into(),
        };
        let mut receiver = Receiver::default();
        if receiver.part(&part).is_err() {
            return;
        }
        let rows = receiver.rows_arrived();
        let sha256 = <sha2::Sha256 as sha2::Digest>::digest(input).to_vec().into();
        let end = pb::SnapshotEnd { parts: 1, rows, sha256 };
        if let Ok(image) = receiver.end(&end, Index(9)) {
            image.state.hash();
        }
    });
}

fn raft_seeds() -> Vec<Vec<u8>> {
    let vote = Vote { leader_id: LeaderId::new(5, 2), committed: true };
    let header = pb::Header::default();
    let append = AppendEntriesRequest {
        vote,
        prev_log_id: Some(log_id(3, 4)),
        leader_commit: Some(log_id(3, 4)),
        entries: log_entries(),
    };
    let append = wire::from_append(Some(header.clone()), &append).unwrap();
    let ask = wire::from_vote_request(header, &VoteRequest::new(vote, Some(log_id(3, 4))), true);
    let answer = wire::from_vote_response(&VoteResponse::new(vote, Some(log_id(3, 4)), true));
    let matched = wire::from_appended(&Ok(Some(log_id(3, 4))));
    let committed = pb::Committed {
        index: 9,
        answer: codec::encode(codec::REPLY, &Reply(Ok(Response::Manager(RaftId(4)))))
            .unwrap()
            .into(),
    };
    let outcome = pb::Outcome { id: 1, result: Some(pb::outcome::Result::Committed(committed)) };
    let forwarded = pb::ForwardResponse { outcomes: vec![outcome] };
    let proposal = pb::Proposal { id: 1, entry: Proposal::new(entry(3)).unwrap().bytes().clone() };
    let forward = pb::ForwardRequest { proposals: vec![proposal], ..Default::default() };
    let change = pb::members_request::Change::Transfer(pb::Transfer { to: 2 });
    let members = pb::MembersRequest { change: Some(change), ..Default::default() };
    [
        append.encode_to_vec(),
        matched.encode_to_vec(),
        ask.encode_to_vec(),
        answer.encode_to_vec(),
        forward.encode_to_vec(),
        forwarded.encode_to_vec(),
        members.encode_to_vec(),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, bytes)| [vec![number as u8], bytes].concat())
    .collect()
}

#[test]
fn raft_message() {
    muster_fuzz::target("raft_message", raft_seeds, |input| {
        let (number, bytes) = chosen(input);
        match number % 7 {
            0 => append(bytes),
            1 => {
                let Ok(message) = pb::AppendResponse::decode(bytes) else { return };
                let Ok(result) = wire::to_appended(message) else { return };
                wire::from_appended(&result);
            }
            2 => {
                let Ok(message) = pb::VoteRequest::decode(bytes) else { return };
                let _ = wire::to_vote_request(message);
            }
            3 => {
                let Ok(message) = pb::VoteResponse::decode(bytes) else { return };
                let _ = wire::to_vote_response(message);
            }
            4 => {
                let Ok(message) = pb::ForwardRequest::decode(bytes) else { return };
                for proposal in message.proposals {
                    let _ = Proposal::from_bytes(proposal.entry);
                }
            }
            5 => {
                let Ok(message) = pb::ForwardResponse::decode(bytes) else { return };
                for outcome in message.outcomes {
                    let _ = crate::forward::to_committed(outcome.result);
                }
            }
            _ => {
                let Ok(message) = pb::MembersRequest::decode(bytes) else { return };
                let _ = crate::members::from_wire(message.change);
            }
        }
    });
}

fn append(bytes: &[u8]) {
    let Ok(message) = pb::AppendRequest::decode(bytes) else { return };
    let header = message.header.clone();
    let Ok(request) = wire::to_append(message) else { return };
    let again = wire::from_append(header, &request).expect("what was read can be written");
    let again = wire::to_append(again).expect("what was written can be read");
    assert_eq!(again.entries, request.entries);
}
