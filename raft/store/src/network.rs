//! openraft's calls to the other managers, over gRPC.
//!
//! It does not know why openraft calls. Invariants: every call ends, by an answer or a timeout;
//! at most [`APPENDS_IN_FLIGHT_MAX`] appends to one follower are unanswered, so that entries
//! gather into few messages instead of queueing as many; heartbeats and votes have a connection
//! of their own.

use crate::limits::{
    APPENDS_IN_FLIGHT_MAX, MESSAGE_BYTES_MAX, PEER_STALL, SNAPSHOT_PARTS_AHEAD, SNAPSHOT_TIMEOUT,
};
use crate::peers::{Line, Peers};
use crate::snapshot::{self, Image};
use crate::types::{Peer, Snapshot, Types, Vote};
use crate::{codec, wire};
use futures::{FutureExt, Stream, StreamExt, TryFutureExt, stream};
use muster_proto::raft as pb;
use muster_proto::raft::raft_client::RaftClient;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::transport::Channel;

type RpcError = RPCError<Types>;
type Appended = Result<StreamAppendResult<Types>, RpcError>;

/// Makes one [`Link`] per peer and use.
pub struct Network {
    pub peers: Arc<Peers>,
}

impl Network {
    fn link(&self, target: u64, node: &Peer, line: Line) -> Link {
        Link { peers: self.peers.clone(), target, node: node.clone(), line }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Link {
        self.link(target, node, Line::Bulk)
    }
    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Link {
        self.link(target, node, Line::Control)
    }
    async fn new_snapshot_client(&mut self, target: u64, node: &Peer) -> Link {
        self.link(target, node, Line::Snapshot)
    }
}

/// The way to one peer.
pub struct Link {
    peers: Arc<Peers>,
    target: u64,
    node: Peer,
    /// Which connection appends use; votes always use the control line.
    line: Line,
}

fn network(why: impl std::fmt::Display) -> RpcError {
    RPCError::Network(NetworkError::new(&AnyError::error(why)))
}

fn unreachable(why: impl std::fmt::Display) -> RpcError {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(why)))
}

impl Link {
    fn client(&self, line: Line) -> Result<RaftClient<Channel>, RpcError> {
        let address = &self.node.address;
        let channel = self.peers.channel(self.target, address, line).map_err(unreachable)?;
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn header(&self) -> pb::Header {
        self.peers.header(self.target, &self.node)
    }

    /// What a failed call means: worth a retry at once, or only after a pause.
    fn failed(&self, line: Line, status: &Status) -> RpcError {
        self.peers.failed(self.target, line);
        match status.code() {
            tonic::Code::NotFound => {
                self.peers.health.set_dismissed(true);
                unreachable(status)
            }
            tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => network(status),
            _ => unreachable(status),
        }
    }

    /// One question and its answer, within `limit`.
    async fn ask<T>(
        &self,
        line: Line,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, RpcError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => {
                self.peers.answered(self.target, line);
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(self.failed(line, &status)),
            Err(_) => {
                self.peers.failed(self.target, line);
                Err(network(format!("manager {} did not answer in {limit:?}", self.target)))
            }
        }
    }

    async fn heartbeat(&self, rpc: AppendEntriesRequest<Types>, limit: Duration) -> Appended {
        let request = wire::from_append(Some(self.header()), &rpc).map_err(unreachable)?;
        let mut client = self.client(Line::Control)?;
        let response = self.ask(Line::Control, limit, client.heartbeat(request)).await?;
        wire::to_appended(response).map_err(network)
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<Types>,
        pre: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let request = wire::from_vote_request(self.header(), &rpc, pre);
        let mut client = self.client(Line::Control)?;
        let call = client.vote(request);
        let response = self.ask(Line::Control, option.soft_ttl(), call).await?;
        wire::to_vote_response(response).map_err(network)
    }

    async fn open_append<S>(&self, input: S) -> Result<BoxStream<'_, Appended>, RpcError>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let window = Arc::new(Window::new());
        let requests = windowed(input, window.clone(), self.header());
        let mut client = self.client(self.line)?;
        let opening = tokio::time::timeout(PEER_STALL, client.append(requests)).await;
        let answers = opening
            .map_err(|_| network("no answer to a new stream"))?
            .map_err(|status| self.failed(self.line, &status))?
            .into_inner();
        let state = (answers, window);
        let answers = stream::unfold(Some(state), move |state| async move {
            let (mut answers, window) = state?;
            match self.next_answer(&mut answers, &window).await {
                None => None,
                Some(Ok(result)) => {
                    window.answered();
                    let ended = result.is_err();
                    Some((Ok(result), (!ended).then_some((answers, window))))
                }
                Some(Err(e)) => Some((Err(e), None)),
            }
        });
        Ok(answers.boxed())
    }

    /// The next answer. Silence is an error only while something is unanswered.
    async fn next_answer(
        &self,
        answers: &mut tonic::Streaming<pb::AppendResponse>,
        window: &Window,
    ) -> Option<Appended> {
        loop {
            let answer = match tokio::time::timeout(PEER_STALL, answers.message()).await {
                Ok(Ok(answer)) => answer?,
                Ok(Err(status)) => return Some(Err(self.failed(self.line, &status))),
                Err(_) if window.idle() => continue,
                Err(_) => {
                    self.peers.failed(self.target, self.line);
                    return Some(Err(network(format!("appends unanswered for {PEER_STALL:?}"))));
                }
            };
            self.peers.answered(self.target, self.line);
            let answer = wire::to_appended(answer).map_err(network);
            return Some(answer.inspect(|answer| self.compare(answer, window)));
        }
    }

    /// Compares an answer with what the follower had confirmed before.
    fn compare(&self, answer: &StreamAppendResult<Types>, window: &Window) {
        let (relapses, term) = (&self.peers.relapses, window.term.load(Ordering::Relaxed));
        match answer {
            Ok(Some(matched)) => relapses.confirmed(self.target, term, matched.index),
            Err(StreamAppendError::Conflict(missing)) => {
                if let Some(what) = relapses.lacks(self.target, term, missing.index) {
                    tracing::error!("{what}");
                }
            }
            _ => {}
        }
    }
}

fn term_of(rpc: &AppendEntriesRequest<Types>) -> u64 {
    rpc.vote.leader_id.term
}

/// How many appends of one stream may be unanswered, and how many are.
struct Window {
    free: Semaphore,
    unanswered: AtomicUsize,
    /// Of the leader that sends.
    term: AtomicU64,
}

impl Window {
    fn new() -> Self {
        Self {
            free: Semaphore::new(APPENDS_IN_FLIGHT_MAX),
            unanswered: AtomicUsize::new(0),
            term: AtomicU64::new(0),
        }
    }
    fn answered(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        self.free.add_permits(1);
    }
    fn idle(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) == 0
    }
}

/// The requests of `input`, each taken only when an earlier one has been answered: what gathers
/// meanwhile goes out in one message. Only the first carries the header.
fn windowed<S>(
    input: S,
    window: Arc<Window>,
    header: pb::Header,
) -> impl Stream<Item = pb::AppendRequest> + Send + 'static
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    stream::unfold((input, window, Some(header)), |(mut input, window, mut header)| async move {
        window.free.acquire().await.ok()?.forget();
        let rpc = input.next().await?;
        window.unanswered.fetch_add(1, Ordering::Relaxed);
        window.term.store(term_of(&rpc), Ordering::Relaxed);
        match wire::from_append(header.take(), &rpc) {
            Ok(request) => Some((request, (input, window, header))),
            Err(e) => {
                tracing::error!(error = %e, "a log entry cannot be encoded");
                None
            }
        }
    })
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        self.heartbeat(rpc, option.soft_ttl()).await.map(AppendEntriesResponse::from)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let link = &*self;
        match self.line {
            // A heartbeat worker sends one request at a time.
            Line::Control => async move {
                let answer = match input.next().await {
                    Some(rpc) => Some(link.heartbeat(rpc, option.hard_ttl()).await?),
                    None => None,
                };
                Ok(stream::iter(answer.map(Ok)).boxed())
            }
            .boxed(),
            Line::Bulk | Line::Snapshot => link.open_append(input).boxed(),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let begin = pb::SnapshotBegin {
            header: Some(self.header()),
            vote: Some(wire::from_vote(&vote)),
            last: snapshot.meta.last_log_id.as_ref().map(wire::from_log_id),
            membership: codec::encode(codec::MEMBERSHIP, &snapshot.meta.last_membership)
                .map_err(|e| StreamingError::from(unreachable(e)))?
                .into(),
        };
        let mut client = self.client(Line::Snapshot).map_err(StreamingError::from)?;
        let parts = parts(begin, snapshot.snapshot);
        let call = client.snapshot(parts);
        let send = self.ask(Line::Snapshot, SNAPSHOT_TIMEOUT, call).map_err(StreamingError::from);
        let response = tokio::select! {
            sent = send => sent?,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let vote = wire::to_vote(response.vote).map_err(|e| StreamingError::from(network(e)))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let request = pb::TransferRequest {
            header: Some(self.header()),
            leader: Some(wire::from_vote(rpc.from_leader())),
            to: *rpc.to_node_id(),
            last: rpc.last_log_id().map(wire::from_log_id),
        };
        let mut client = self.client(Line::Control)?;
        let call = client.transfer_leader(request);
        let response = self.ask(Line::Control, option.hard_ttl(), call).await?;
        match response.refused.is_empty() {
            true => Ok(Ok(())),
            false => Err(network(response.refused)),
        }
    }
}

/// The parts of a snapshot, cut on a thread of its own a few ahead of the network.
fn parts(
    begin: pb::SnapshotBegin,
    image: Image,
) -> impl Stream<Item = pb::SnapshotPart> + Send + 'static {
    use pb::snapshot_part::Part;
    let (send, receive) = tokio::sync::mpsc::channel(SNAPSHOT_PARTS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let send = |part| send.blocking_send(pb::SnapshotPart { part: Some(part) }).is_ok();
        if !send(Part::Begin(begin)) {
            return;
        }
        match snapshot::cut(&image.state, |rows| send(Part::Rows(rows))) {
            Ok(end) => drop(send(Part::End(end))),
            // Without an end the receiver refuses what it got.
            Err(e) => tracing::error!(error = %e, "a row cannot be encoded"),
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receive)
}
