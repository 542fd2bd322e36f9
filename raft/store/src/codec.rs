//! How a value becomes bytes and back: `[format][bincode]`. The only user of bincode.
//!
//! It does not know what a value means. Invariant: bytes of an unknown format or with anything
//! left over are refused, never guessed at; decoding never panics and never allocates more than
//! [`DECODE_BYTES_MAX`].

use crate::limits::MESSAGE_BYTES_MAX;
use crate::types::{LeaderId, LogId, Membership, Proposal, RaftEntry, RaftPayload, Vote};
use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A decoder that is asked for more memory than this is reading garbage.
pub const DECODE_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// What a value is, for its error messages, and the one format this release writes and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub name: &'static str,
    pub format: u8,
}

pub const ENTRY: Kind = Kind { name: "log entry's command", format: 1 };
pub const LOG: Kind = Kind { name: "log entry", format: 1 };
pub const VOTE: Kind = Kind { name: "vote", format: 1 };
pub const MEMBERSHIP: Kind = Kind { name: "membership", format: 1 };
pub const APPLIED: Kind = Kind { name: "applied marker", format: 1 };
pub const PURGED: Kind = Kind { name: "purged marker", format: 1 };
pub const IDENTITY: Kind = Kind { name: "identity of the data directory", format: 1 };
pub const GENERATION: Kind = Kind { name: "generation of the tables", format: 1 };
pub const REPLY: Kind = Kind { name: "answer", format: 1 };
pub const ERROR: Kind = Kind { name: "error", format: 1 };

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{what} has format {found}, this release reads {known}")]
    UnknownFormat { what: &'static str, found: u8, known: u8 },
    #[error("{what} is corrupt: {why}")]
    Corrupt { what: &'static str, why: String },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_BYTES_MAX>()
}

/// `[format][bincode]`.
pub fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![kind.format];
    append(kind, &mut bytes, value)?;
    Ok(bytes)
}

fn append<T: Serialize>(kind: Kind, bytes: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    bincode::serde::encode_into_std_write(value, bytes, config())
        .map(|_| ())
        .map_err(|e| Error::Corrupt { what: kind.name, why: e.to_string() })
}

/// The value, if the format is known and every byte belongs to it.
pub fn decode<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, Error> {
    let (value, rest) = decode_prefix(kind, bytes)?;
    match rest {
        [] => Ok(value),
        more => {
            Err(Error::Corrupt { what: kind.name, why: format!("{} bytes left over", more.len()) })
        }
    }
}

fn decode_prefix<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<(T, &[u8]), Error> {
    let corrupt = |why: String| Error::Corrupt { what: kind.name, why };
    let Some((format, body)) = bytes.split_first() else {
        return Err(corrupt("empty".into()));
    };
    if *format != kind.format {
        return Err(Error::UnknownFormat { what: kind.name, found: *format, known: kind.format });
    }
    let (value, used) =
        bincode::serde::decode_from_slice(body, config()).map_err(|e| corrupt(e.to_string()))?;
    Ok((value, body.get(used..).unwrap_or_default()))
}

/// What stands before the data of a log entry. `index` repeats the key, so that a value under a
/// wrong key is noticed.
#[derive(Serialize, Deserialize)]
struct Head {
    index: u64,
    term: u64,
    manager: u64,
    payload: PayloadKind,
}

/// Append only.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum PayloadKind {
    Blank,
    Command,
    Membership,
}

/// Appends the stored form of a log entry: head, then the data as it is.
pub fn encode_log(entry: &RaftEntry, into: &mut Vec<u8>) -> Result<(), Error> {
    let id = entry.log_id;
    let payload = match &entry.payload {
        RaftPayload::Blank => PayloadKind::Blank,
        RaftPayload::Normal(_) => PayloadKind::Command,
        RaftPayload::Membership(_) => PayloadKind::Membership,
    };
    let leader = id.leader_id;
    let head = Head { index: id.index, term: leader.term, manager: leader.node_id, payload };
    into.push(LOG.format);
    append(LOG, into, &head)?;
    match &entry.payload {
        RaftPayload::Blank => {}
        RaftPayload::Normal(proposal) => into.extend_from_slice(proposal.bytes()),
        RaftPayload::Membership(members) => {
            into.push(MEMBERSHIP.format);
            append(MEMBERSHIP, into, members)?;
        }
    }
    Ok(())
}

/// The log entry stored under `index`.
pub fn decode_log(index: u64, bytes: &[u8]) -> Result<RaftEntry, Error> {
    let (head, data): (Head, _) = decode_prefix(LOG, bytes)?;
    if head.index != index {
        let why = format!("it says index {}, its key says {index}", head.index);
        return Err(Error::Corrupt { what: LOG.name, why });
    }
    let log_id = LogId::new(LeaderId::new(head.term, head.manager).to_committed(), index);
    let payload = match head.payload {
        PayloadKind::Blank if data.is_empty() => RaftPayload::Blank,
        PayloadKind::Blank => {
            return Err(Error::Corrupt { what: LOG.name, why: "a blank with data".into() });
        }
        PayloadKind::Command => {
            RaftPayload::Normal(Proposal::from_bytes(Bytes::copy_from_slice(data))?)
        }
        PayloadKind::Membership => RaftPayload::Membership(decode(MEMBERSHIP, data)?),
    };
    Ok(RaftEntry { log_id, payload })
}

pub fn encode_membership(members: &Membership) -> Result<Vec<u8>, Error> {
    encode(MEMBERSHIP, members)
}

pub fn encode_vote(vote: &Vote) -> Result<Vec<u8>, Error> {
    encode(VOTE, vote)
}
