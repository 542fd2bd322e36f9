//! The gRPC side of Raft: what other managers ask of this one.
//!
//! It does not know what the answers are for. Invariants: nothing is taken from anyone but the
//! manager that the connection proves ([`Peers::check`]); a manager whose disk is full takes no
//! entries, yet answers heartbeats and votes.

use crate::forward;
use crate::health::Health;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::raft::Core;
use crate::snapshot::Receiver;
use crate::types::{LogId, Snapshot, SnapshotMeta, Vote};
use crate::{codec, members, wire};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use muster_model::Index;
use muster_proto::raft as pb;
use muster_proto::raft::raft_server::{Raft as RaftRpc, RaftServer};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tonic::{Code, Request, Response, Status, Streaming};

/// The service, ready for a tonic server.
pub type RaftService = RaftServer<Service>;

///
/// Weak: a connection that stays open must not keep a stopped store's database open.
#[derive(Clone)]
pub struct Service {
    core: Weak<Core>,
}

pub fn service(core: &Arc<Core>) -> RaftService {
    RaftServer::new(Service { core: Arc::downgrade(core) })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

#[allow(clippy::result_large_err)] // tonic's own type
fn room(health: &Health) -> Result<(), Status> {
    match health.refusing() {
        Some(why) => Err(Status::resource_exhausted(why)),
        None => Ok(()),
    }
}

/// Refuses what would make this manager write a vote, while its disk cannot take one.
#[allow(clippy::result_large_err)] // tonic's own type
fn room_for_vote(core: &Core, vote: &Vote) -> Result<(), Status> {
    let known = core.raft.metrics().borrow_watched().vote;
    match core.health.critical() && *vote != known {
        true => room(&core.health),
        false => Ok(()),
    }
}

/// Work on a part of a snapshot, on a thread of its own.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(fatal)?.map_err(Status::data_loss)
}

/// How long a heartbeat waits for Raft's own answer, which comes after the fsync of everything
/// that was appended before it.
const HEARTBEAT_PATIENCE: Duration = Duration::from_millis(5);

/// Whether Raft has taken note of a leader whose vote has long been durable. That is all a
/// heartbeat asks, so its answer need not wait for a slow disk: this manager will vote for nobody
/// else while the lease lasts. Asked after the heartbeat, in the same queue.
async fn keeps_vote(core: &Core, vote: Vote) -> bool {
    let durable = core.raft.watch_vote_progress().get();
    let seen = core.raft.with_raft_state(move |state| *state.vote_ref() == vote).await;
    seen.unwrap_or(false) && durable == Some(vote)
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this manager is stopping: {error}"))
}

#[allow(clippy::result_large_err)] // tonic's own type
impl Service {
    /// The store, the message and who sent it.
    fn open<T>(&self, request: Request<T>) -> Result<(Arc<Core>, u64, T), Status> {
        let core = self.core.upgrade().ok_or_else(|| fatal("its store is closed"))?;
        let (metadata, extensions, message) = request.into_parts();
        let envelope = Request::from_parts(metadata, extensions, ());
        let sender = core.peers.sender(&envelope)?;
        Ok((core, sender, message))
    }

    /// The first message of a stream, which must come.
    async fn first<T>(&self, stream: &mut Streaming<T>) -> Result<T, Status> {
        stream.message().await?.ok_or_else(|| Status::invalid_argument("the stream is empty"))
    }

    async fn receive_snapshot(
        &self,
        core: &Core,
        parts: &mut Streaming<pb::SnapshotPart>,
        last: Option<LogId>,
    ) -> Result<crate::snapshot::Image, Status> {
        use pb::snapshot_part::Part;
        let mut receiver = Receiver::default();
        loop {
            let part = tokio::select! {
                part = parts.message() => part?.and_then(|part| part.part),
                () = core.stopped() => return Err(fatal("it receives no more")),
            };
            match part {
                // Decoding takes milliseconds, rebuilding the state longer: heartbeats must not
                // wait for it.
                Some(Part::Rows(rows)) => {
                    receiver = aside(move || receiver.part(&rows).map(|()| receiver)).await?;
                }
                Some(Part::End(end)) => {
                    let applied = Index(last.map_or(0, |id| id.index));
                    return aside(move || receiver.end(&end, applied)).await;
                }
                Some(Part::Begin(_)) | None => {
                    return Err(Status::data_loss("the snapshot ends without its end"));
                }
            }
        }
    }
}

/// The appends of one stream, checked and decoded; ends at the first that is not acceptable.
fn appends(
    health: Arc<Health>,
    sender: u64,
    first: pb::AppendRequest,
    rest: Streaming<pb::AppendRequest>,
    ended: tokio::sync::oneshot::Sender<Status>,
) -> impl Stream<Item = openraft::raft::AppendEntriesRequest<crate::types::Types>> + Send + 'static
{
    let start = (health, Some(first), rest, Some(ended));
    futures::stream::unfold(start, move |(health, first, mut rest, mut ended)| async move {
        let next = match first {
            Some(first) => Ok(Some(first)),
            None => rest.message().await,
        };
        let taken = next.and_then(|rpc| match rpc {
            Some(rpc) if rpc.entries.is_empty() => wire::to_append(rpc).map(Some),
            Some(rpc) => room(&health).and_then(|()| wire::to_append(rpc)).map(Some),
            None => Ok(None),
        });
        match taken {
            Ok(Some(rpc)) => Some((rpc, (health, None, rest, ended))),
            Ok(None) => None,
            Err(status) => {
                match status.code() {
                    // Somebody speaks another language.
                    Code::InvalidArgument | Code::FailedPrecondition | Code::DataLoss => {
                        tracing::warn!(from = sender, %status, "refused log entries");
                    }
                    // A full disk is told where it is noticed; a broken connection is daily life.
                    _ => tracing::debug!(from = sender, %status, "no more log entries"),
                }
                let _ = ended.take().map(|ended| ended.send(status));
                None
            }
        }
    })
}

#[tonic::async_trait]
impl RaftRpc for Service {
    type AppendStream = BoxStream<'static, Result<pb::AppendResponse, Status>>;
    type ForwardStream = BoxStream<'static, Result<pb::ForwardResponse, Status>>;

    async fn identify(
        &self,
        request: Request<pb::IdentifyRequest>,
    ) -> Result<Response<pb::IdentifyResponse>, Status> {
        let (core, _, asked) = self.open(request)?;
        let me = core.peers.me();
        if asked.fleet[..] != me.fleet.to_be_bytes() || asked.to != me.raft_id {
            let why = format!("this is manager {} of the set {:032x}", me.raft_id, me.fleet);
            return Err(Status::permission_denied(why));
        }
        let empty = !core.raft.is_initialized().await.map_err(fatal)?;
        Ok(Response::new(pb::IdentifyResponse { disk: me.disk, empty }))
    }

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (core, sender, mut stream) = self.open(request)?;
        let first = self.first(&mut stream).await?;
        core.peers.check(sender, first.header.as_ref())?;
        let (ended, why) = tokio::sync::oneshot::channel();
        let input = appends(core.health.clone(), sender, first, stream, ended);
        let input = input.take_until(core.stopped());
        let health = core.health.clone();
        let answers = core.raft.stream_append(input).map(move |answer| match answer {
            Ok(result) => {
                if result.is_ok() {
                    health.heard_leader();
                }
                Ok(wire::from_appended(&result))
            }
            Err(e) => Err(fatal(e)),
        });
        // After the last answer, the reason why no more entries are taken, if there is one.
        let refusal = futures::stream::once(why).filter_map(async |why| why.ok().map(Err));
        Ok(Response::new(answers.chain(refusal).boxed()))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendResponse>, Status> {
        let (core, sender, rpc) = self.open(request)?;
        core.peers.check(sender, rpc.header.as_ref())?;
        if !rpc.entries.is_empty() {
            return Err(Status::invalid_argument("a heartbeat carries no entries"));
        }
        let rpc = wire::to_append(rpc)?;
        room_for_vote(&core, &rpc.vote)?;
        let (vote, previous) = (rpc.vote, rpc.prev_log_id);
        let answers = core.raft.stream_append(futures::stream::iter([rpc]));
        let mut answers = std::pin::pin!(answers);
        let soon = tokio::time::timeout(HEARTBEAT_PATIENCE, answers.next()).await;
        let answer = match soon {
            Ok(answer) => answer,
            Err(_) if keeps_vote(&core, vote).await => Some(Ok(Ok(previous))),
            Err(_) => answers.next().await,
        };
        let result = answer.ok_or_else(|| fatal("no answer"))?.map_err(fatal)?;
        if result.is_ok() {
            core.health.heard_leader();
        }
        Ok(Response::new(wire::from_appended(&result)))
    }

    async fn vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let (core, sender, rpc) = self.open(request)?;
        core.peers.check(sender, rpc.header.as_ref())?;
        // It was not there to hear of its removal, and will ask for votes for ever.
        if core.leadership.borrow().mine && core.peers.members().get_node(&sender).is_none() {
            return Err(Status::not_found(format!("manager {sender} was taken out")));
        }
        let pre = rpc.pre;
        let rpc = wire::to_vote_request(rpc)?;
        room_for_vote(&core, &rpc.vote)?;
        let response = match pre {
            true => core.raft.pre_vote(rpc).await,
            false => core.raft.vote(rpc).await,
        };
        Ok(Response::new(wire::from_vote_response(&response.map_err(fatal)?)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let (core, sender, mut parts) = self.open(request)?;
        let Some(pb::snapshot_part::Part::Begin(begin)) = self.first(&mut parts).await?.part else {
            return Err(Status::invalid_argument("a snapshot begins with its Begin"));
        };
        core.peers.check(sender, begin.header.as_ref())?;
        room(&core.health)?;
        let busy = || Status::unavailable("another snapshot is being received");
        let _one = core.receiving.try_lock().map_err(|_| busy())?;
        let vote = wire::to_vote(begin.vote)?;
        let last_log_id = begin.last.map(wire::to_log_id).transpose()?;
        let last_membership =
            codec::decode(codec::MEMBERSHIP, &begin.membership).map_err(wire::bad)?;
        tracing::info!(from = sender, last = ?last_log_id, "receiving a snapshot");
        let image = self.receive_snapshot(&core, &mut parts, last_log_id).await?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        let snapshot = Snapshot { meta, snapshot: image };
        let installed = core.raft.install_full_snapshot(vote, snapshot).await;
        let vote = wire::from_vote(&installed.map_err(fatal)?.vote);
        Ok(Response::new(pb::SnapshotResponse { vote: Some(vote) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Result<Response<pb::TransferResponse>, Status> {
        let (core, sender, rpc) = self.open(request)?;
        core.peers.check(sender, rpc.header.as_ref())?;
        let leader = wire::to_vote(rpc.leader)?;
        let last = rpc.last.map(wire::to_log_id).transpose()?;
        let rpc = TransferLeaderRequest::new(leader, rpc.to, last);
        let answer = core.raft.handle_transfer_leader(rpc).await.map_err(fatal)?;
        let refused = answer.err().map(|e| e.to_string()).unwrap_or_default();
        Ok(Response::new(pb::TransferResponse { refused }))
    }

    async fn forward(
        &self,
        request: Request<Streaming<pb::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let (core, sender, mut stream) = self.open(request)?;
        let first = self.first(&mut stream).await?;
        core.peers.check(sender, first.header.as_ref())?;
        Ok(Response::new(forward::serve(core.clone(), first, stream).boxed()))
    }

    async fn members(
        &self,
        request: Request<pb::MembersRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        let (core, sender, rpc) = self.open(request)?;
        core.peers.check(sender, rpc.header.as_ref())?;
        let change = members::from_wire(rpc.change)?;
        let error = match members::change_here(&core, change).await {
            Ok(()) => bytes::Bytes::new(),
            Err(e) => wire::from_error(&e),
        };
        Ok(Response::new(pb::MembersResponse { error, index: 0 }))
    }
}
