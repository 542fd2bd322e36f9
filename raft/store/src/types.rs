//! What openraft is told about our types.
//!
//! A proposal is encoded once, by the manager that makes it, and decoded once per manager; the
//! same bytes go into the log, over the wire and into other logs. Invariant: `bytes` decode to
//! `entry`, so a proposal that cannot be decoded exists nowhere.

use crate::codec;
use bytes::Bytes;
use muster_model::{Entry, Error, Response};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

openraft::declare_raft_types!(
    /// The types of one log entry, answer and member.
    pub Types:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = Peer,
);

pub type RaftEntry = openraft::alias::EntryOf<Types>;
pub type RaftPayload = openraft::EntryPayload<Proposal, u64, Peer>;
pub type LogId = openraft::alias::LogIdOf<Types>;
pub type Vote = openraft::alias::VoteOf<Types>;
pub type LeaderId = openraft::alias::LeaderIdOf<Types>;
pub type Membership = openraft::Membership<u64, Peer>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub type Snapshot = openraft::alias::SnapshotOf<Types, crate::snapshot::Image>;
pub type Raft = openraft::Raft<Types, crate::machine::Machine>;

/// Where a manager is reached, and which disk it was added with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub address: String,
    /// Random number of the data directory: a wiped one has another.
    pub disk: u64,
}

/// One command on its way through the log.
#[derive(Clone)]
pub struct Proposal {
    bytes: Bytes,
    entry: Arc<Entry>,
}

impl Proposal {
    /// Encodes an entry; the only place where that happens.
    pub fn new(entry: Entry) -> Result<Self, codec::Error> {
        let bytes = Bytes::from(codec::encode(codec::ENTRY, &entry)?);
        Ok(Self { bytes, entry: Arc::new(entry) })
    }

    /// Decodes what came from a disk or a peer.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, codec::Error> {
        let entry = Arc::new(codec::decode(codec::ENTRY, &bytes)?);
        Ok(Self { bytes, entry })
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    pub fn entry(&self) -> &Entry {
        &self.entry
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for Proposal {
    /// Never the command itself: it may carry what users call secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} ({} bytes)", self.entry.request, self.bytes.len())
    }
}
impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

// openraft's `serde` feature asks for these; our own codec and wire do not use them.
impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.bytes.as_ref().serialize(to)
    }
}
impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        Self::from_bytes(bytes.into()).map_err(serde::de::Error::custom)
    }
}

/// The committed answer of an entry: both cases are results of `apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply(pub Result<Response, Error>);
