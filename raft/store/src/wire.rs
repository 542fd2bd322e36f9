//! Raft messages between openraft's types and the wire's.
//!
//! Invariant: nothing that came over the wire is used before it was checked here: an id is
//! complete, an entry decodes, a result says something.

use crate::codec;
use crate::types::{LeaderId, LogId, Membership, Proposal, RaftEntry, RaftPayload, Types, Vote};
use bytes::Bytes;
use muster_model::Error;
use muster_proto::raft as pb;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use tonic::Status;

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("{field} is missing"))
}

/// A value that does not decode: of another release, or damaged.
pub fn bad(error: codec::Error) -> Status {
    match error {
        codec::Error::UnknownFormat { .. } => {
            Status::failed_precondition(format!("UPGRADE_REQUIRED: {error}"))
        }
        codec::Error::Corrupt { .. } => Status::data_loss(error.to_string()),
    }
}

pub fn from_vote(vote: &Vote) -> pb::Vote {
    let leader = pb::LeaderId { term: vote.leader_id.term, manager: vote.leader_id.node_id };
    pb::Vote { leader: Some(leader), committed: vote.committed }
}

pub fn to_vote(vote: Option<pb::Vote>) -> Result<Vote, Status> {
    let vote = vote.ok_or_else(|| missing("vote"))?;
    let leader = vote.leader.ok_or_else(|| missing("vote.leader"))?;
    let leader_id = LeaderId::new(leader.term, leader.manager);
    Ok(Vote { leader_id, committed: vote.committed })
}

pub fn from_log_id(id: &LogId) -> pb::LogId {
    let leader = pb::LeaderId { term: id.leader_id.term, manager: id.leader_id.node_id };
    pb::LogId { leader: Some(leader), index: id.index }
}

pub fn to_log_id(id: pb::LogId) -> Result<LogId, Status> {
    let leader = id.leader.ok_or_else(|| missing("log id's leader"))?;
    Ok(LogId::new(LeaderId::new(leader.term, leader.manager).to_committed(), id.index))
}

fn to_maybe(id: Option<pb::LogId>) -> Result<Option<LogId>, Status> {
    id.map(to_log_id).transpose()
}

fn from_entry(entry: &RaftEntry) -> Result<pb::LogEntry, codec::Error> {
    let (payload, data) = match &entry.payload {
        RaftPayload::Blank => (pb::Payload::Blank, Bytes::new()),
        RaftPayload::Normal(proposal) => (pb::Payload::Command, proposal.bytes().clone()),
        RaftPayload::Membership(members) => {
            (pb::Payload::Membership, codec::encode_membership(members)?.into())
        }
    };
    let id = Some(from_log_id(&entry.log_id));
    Ok(pb::LogEntry { id, payload: payload as i32, data })
}

fn to_entry(entry: pb::LogEntry) -> Result<RaftEntry, Status> {
    let log_id = to_log_id(entry.id.ok_or_else(|| missing("entry's id"))?)?;
    let payload = match pb::Payload::try_from(entry.payload) {
        Ok(pb::Payload::Blank) => RaftPayload::Blank,
        Ok(pb::Payload::Command) => {
            RaftPayload::Normal(Proposal::from_bytes(entry.data).map_err(bad)?)
        }
        Ok(pb::Payload::Membership) => RaftPayload::Membership(to_membership(&entry.data)?),
        Ok(pb::Payload::Unspecified) | Err(_) => {
            let what = format!("UPGRADE_REQUIRED: log payload {}", entry.payload);
            return Err(Status::failed_precondition(what));
        }
    };
    Ok(RaftEntry { log_id, payload })
}

pub fn to_membership(data: &[u8]) -> Result<Membership, Status> {
    codec::decode(codec::MEMBERSHIP, data).map_err(bad)
}

pub fn from_append(
    header: Option<pb::Header>,
    rpc: &AppendEntriesRequest<Types>,
) -> Result<pb::AppendRequest, codec::Error> {
    Ok(pb::AppendRequest {
        header,
        vote: Some(from_vote(&rpc.vote)),
        previous: rpc.prev_log_id.as_ref().map(from_log_id),
        commit: rpc.leader_commit.as_ref().map(from_log_id),
        entries: rpc.entries.iter().map(from_entry).collect::<Result<_, _>>()?,
    })
}

pub fn to_append(rpc: pb::AppendRequest) -> Result<AppendEntriesRequest<Types>, Status> {
    Ok(AppendEntriesRequest {
        vote: to_vote(rpc.vote)?,
        prev_log_id: to_maybe(rpc.previous)?,
        leader_commit: to_maybe(rpc.commit)?,
        entries: rpc.entries.into_iter().map(to_entry).collect::<Result<_, _>>()?,
    })
}

pub fn from_appended(result: &StreamAppendResult<Types>) -> pb::AppendResponse {
    use pb::append_response::Result as R;
    let result = match result {
        Ok(id) => R::Matched(pb::Matched { id: id.as_ref().map(from_log_id) }),
        Err(StreamAppendError::Conflict(id)) => R::Conflict(from_log_id(id)),
        Err(StreamAppendError::HigherVote(vote)) => R::Higher(from_vote(vote)),
    };
    pb::AppendResponse { result: Some(result) }
}

pub fn to_appended(response: pb::AppendResponse) -> Result<StreamAppendResult<Types>, Status> {
    use pb::append_response::Result as R;
    Ok(match response.result.ok_or_else(|| missing("result"))? {
        R::Matched(matched) => Ok(to_maybe(matched.id)?),
        R::Conflict(id) => Err(StreamAppendError::Conflict(to_log_id(id)?)),
        R::Higher(vote) => Err(StreamAppendError::HigherVote(to_vote(Some(vote))?)),
    })
}

pub fn from_vote_request(
    header: pb::Header,
    rpc: &VoteRequest<Types>,
    pre: bool,
) -> pb::VoteRequest {
    pb::VoteRequest {
        header: Some(header),
        vote: Some(from_vote(&rpc.vote)),
        last: rpc.last_log_id.as_ref().map(from_log_id),
        pre,
        transfer: rpc.leadership_transfer,
    }
}

pub fn to_vote_request(rpc: pb::VoteRequest) -> Result<VoteRequest<Types>, Status> {
    let mut request = VoteRequest::new(to_vote(rpc.vote)?, to_maybe(rpc.last)?);
    request.leadership_transfer = rpc.transfer;
    Ok(request)
}

pub fn from_vote_response(response: &VoteResponse<Types>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(from_vote(&response.vote)),
        last: response.last_log_id.as_ref().map(from_log_id),
        granted: response.vote_granted,
    }
}

pub fn to_vote_response(response: pb::VoteResponse) -> Result<VoteResponse<Types>, Status> {
    let vote = to_vote(response.vote)?;
    Ok(VoteResponse::new(vote, to_maybe(response.last)?, response.granted))
}

/// An error of the model, framed.
pub fn from_error(error: &Error) -> Bytes {
    codec::encode(codec::ERROR, error).unwrap_or_default().into()
}

/// What a peer says went wrong; if that cannot be read, at least that something did.
pub fn to_error(bytes: &[u8]) -> Error {
    codec::decode(codec::ERROR, bytes).unwrap_or_else(|e| Error::UnknownOutcome {
        why: format!("the leader's answer is not readable: {e}"),
    })
}
