//! The bytes of every stored format, as committed. A diff here breaks every existing cluster:
//! raise the format and read the old one, or do not change it. `UPDATE=1` records new ones.

use super::{command, log_id};
use crate::codec::{self, Kind};
use crate::open::Identity;
use crate::types::{
    LeaderId, Membership, Peer, Proposal, RaftEntry, RaftPayload, Reply, StoredMembership, Vote,
};
use muster_model::{Error, RaftId, Response};
use openraft::vote::RaftLeaderId;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

fn membership() -> Membership {
    let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])];
    let peer = |id: u64| Peer { address: format!("10.0.0.{id}:7700"), disk: 1000 + id };
    Membership::new(voters, BTreeMap::from_iter((1..=4).map(|id| (id, peer(id))))).unwrap()
}

pub fn line(into: &mut String, name: &str, bytes: &[u8]) {
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let _ = writeln!(into, "{name} = {hex}");
}

pub fn value<T: Serialize>(into: &mut String, kind: Kind, value: &T) {
    line(into, kind.name, &codec::encode(kind, value).unwrap());
}

fn log_entry(into: &mut String, name: &str, entry: &RaftEntry) {
    let mut bytes = Vec::new();
    codec::encode_log(entry, &mut bytes).unwrap();
    let back = codec::decode_log(entry.log_id.index, &bytes).unwrap();
    assert_eq!(&back, entry);
    line(into, name, &bytes);
}

#[test]
fn stored_formats_are_as_committed() {
    let mut now = String::new();
    let members = membership();
    let stored = StoredMembership::new(Some(log_id(2, 8)), members.clone());
    let identity = Identity { fleet: 0x0123_4567_89ab_cdef, raft_id: 3, disk: 42 };
    let vote = Vote { leader_id: LeaderId::new(5, 2), committed: true };
    value(&mut now, codec::VOTE, &vote);
    value(&mut now, codec::MEMBERSHIP, &members);
    value(&mut now, codec::APPLIED, &(Some(log_id(3, 300)), stored));
    value(&mut now, codec::PURGED, &log_id(3, 70_000));
    value(&mut now, codec::IDENTITY, &identity);
    value(&mut now, codec::GENERATION, &1u8);
    value(&mut now, codec::REPLY, &Reply(Ok(Response::Manager(RaftId(4)))));
    value(&mut now, codec::ERROR, &Error::Unavailable { why: "no leader".into() });
    let at = |payload| RaftEntry { log_id: log_id(3, 300), payload };
    log_entry(&mut now, "log entry, blank", &at(RaftPayload::Blank));
    log_entry(&mut now, "log entry, membership", &at(RaftPayload::Membership(members)));
    log_entry(&mut now, "log entry, command", &command(3, 300));

    check("formats.txt", &now);
}

/// Compares with the committed file, or records a new one.
pub fn check(file: &str, now: &str) {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (now, committed) in now.lines().zip(committed.lines()) {
        assert_eq!(now, committed, "stored bytes changed; see the top of this file");
    }
    assert_eq!(now.lines().count(), committed.lines().count(), "record with UPDATE=1");
}

#[test]
fn unknown_formats_and_damage_are_refused() {
    let bytes = codec::encode(codec::PURGED, &log_id(1, 1)).unwrap();
    let mut newer = bytes.clone();
    newer[0] = 2;
    let refused = codec::decode::<crate::types::LogId>(codec::PURGED, &newer).unwrap_err();
    assert!(matches!(refused, codec::Error::UnknownFormat { found: 2, known: 1, .. }));
    let mut longer = bytes.clone();
    longer.push(0);
    for bad in [&bytes[..0], &bytes[..1], &bytes[..bytes.len() - 1], &longer] {
        let refused = codec::decode::<crate::types::LogId>(codec::PURGED, bad).unwrap_err();
        assert!(matches!(refused, codec::Error::Corrupt { .. }), "{bad:?}");
    }
    // A length that promises more than there could ever be must not be believed.
    let huge = [codec::ENTRY.format, 253, 255, 255, 255, 255, 255, 255, 255, 127];
    assert!(codec::decode::<Vec<u8>>(codec::ENTRY, &huge).is_err());
    assert!(Proposal::from_bytes(huge.to_vec().into()).is_err());
}

#[test]
fn a_log_entry_under_a_foreign_key_is_refused() {
    let mut bytes = Vec::new();
    codec::encode_log(&command(1, 5), &mut bytes).unwrap();
    assert!(codec::decode_log(5, &bytes).is_ok());
    assert!(codec::decode_log(6, &bytes).is_err());
}

#[test]
fn no_damage_of_one_byte_makes_decoding_panic() {
    let mut bytes = Vec::new();
    codec::encode_log(&command(1, 5), &mut bytes).unwrap();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            let _ = codec::decode_log(5, &bad);
        }
        let _ = codec::decode_log(5, &bytes[..at]);
    }
}
