//! Proposals and reads on their way to whoever leads.
//!
//! What waits goes out in one message, on one stream per leader; the leader hands each message to
//! Raft as one batch. It does not know what is proposed. Invariant: a proposal is answered
//! "not done" only if it certainly never reached a leader's log; if the stream ends before its
//! answer, the outcome is unknown.

use crate::limits::{FORWARD_BATCH_BYTES_MAX, FORWARD_BATCH_MAX};
use crate::limits::{MESSAGE_BYTES_MAX, PROPOSALS_IN_FLIGHT_MAX};
use crate::peers::{Line, Peers};
use crate::raft::Core;
use crate::types::{Proposal, Reply, Types};
use crate::{codec, wire};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use muster_model::Error;
use muster_proto::raft as pb;
use muster_proto::raft::outcome::Result as Outcome;
use muster_proto::raft::raft_client::RaftClient;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::raft::WriteResult;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

/// Why something was not done, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Nothing was done; ask again when the leader is known.
    NotLeader,
    /// Nothing was done, and asking again would not help.
    Failed(Error),
    /// It may have been done.
    Unknown(String),
}

/// What a proposal came to: its index and committed answer.
pub type Committed = (u64, Reply);

pub enum Item {
    Propose(Bytes, oneshot::Sender<Result<Committed, Miss>>),
    Read(oneshot::Sender<Result<u64, Miss>>),
}

/// The queue to the current leader.
#[derive(Clone)]
pub struct Forwarder {
    items: mpsc::Sender<Item>,
}

impl Forwarder {
    pub fn start(core: std::sync::Weak<Core>) -> Self {
        let (items, queue) = mpsc::channel(PROPOSALS_IN_FLIGHT_MAX);
        tokio::spawn(route(core, queue));
        Self { items }
    }

    pub async fn propose(&self, bytes: Bytes) -> Result<Committed, Miss> {
        let (done, answer) = oneshot::channel();
        self.items.send(Item::Propose(bytes, done)).await.map_err(|_| Miss::NotLeader)?;
        let lost = || Miss::Unknown("the connection to the leader ended".into());
        answer.await.map_err(|_| lost())?
    }

    pub async fn read_index(&self) -> Result<u64, Miss> {
        let (done, answer) = oneshot::channel();
        self.items.send(Item::Read(done)).await.map_err(|_| Miss::NotLeader)?;
        answer.await.map_err(|_| Miss::NotLeader)?
    }
}

fn not_leader(item: Item) {
    match item {
        Item::Propose(_, done) => drop(done.send(Err(Miss::NotLeader))),
        Item::Read(done) => drop(done.send(Err(Miss::NotLeader))),
    }
}

/// Gives each item to the stream of the leader that is known when its turn comes.
async fn route(core: std::sync::Weak<Core>, mut queue: mpsc::Receiver<Item>) {
    let mut stream: Option<(u64, mpsc::Sender<Item>)> = None;
    while let Some(item) = queue.recv().await {
        let Some(core) = core.upgrade() else { return not_leader(item) };
        let leader = core.leadership.borrow().leader.as_ref().map(|(id, _)| id.0);
        let me = core.peers.me().raft_id;
        let Some(leader) = leader.filter(|leader| *leader != me) else {
            not_leader(item);
            continue;
        };
        let open = |known: &(u64, mpsc::Sender<Item>)| known.0 == leader && !known.1.is_closed();
        if !stream.as_ref().is_some_and(open) {
            stream = open_stream(&core, leader).map(|items| (leader, items));
        }
        match &stream {
            None => not_leader(item),
            Some((_, items)) => {
                if let Err(back) = items.send(item).await {
                    not_leader(back.0);
                }
            }
        }
    }
}

/// Answers that are due on one stream.
#[derive(Default)]
struct Pending {
    proposals: HashMap<u64, oneshot::Sender<Result<Committed, Miss>>>,
    reads: HashMap<u64, oneshot::Sender<Result<u64, Miss>>>,
}

fn open_stream(core: &Arc<Core>, leader: u64) -> Option<mpsc::Sender<Item>> {
    let members = core.peers.members();
    let node = members.get_node(&leader)?;
    let channel = core.peers.channel(leader, &node.address, Line::Bulk).ok()?;
    let client = RaftClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let header = core.peers.header(leader, node);
    let (items, queue) = mpsc::channel(FORWARD_BATCH_MAX);
    let (stop, peers) = (core.stopped(), core.peers.clone());
    tokio::spawn(async move {
        let run = run_stream(client, header, queue, &peers, leader);
        // Callers that wait when this manager stops are answered by being dropped.
        futures::future::select(pin!(run), pin!(stop)).await;
    });
    Some(items)
}

async fn run_stream(
    mut client: RaftClient<tonic::transport::Channel>,
    header: pb::Header,
    queue: mpsc::Receiver<Item>,
    peers: &Peers,
    leader: u64,
) {
    let pending = Arc::new(Mutex::new(Pending::default()));
    let (requests, outgoing) = mpsc::channel(4);
    let first = pb::ForwardRequest { header: Some(header), ..pb::ForwardRequest::default() };
    if requests.try_send(first).is_err() {
        return;
    }
    let (stop, stopped) = oneshot::channel();
    let sender = tokio::spawn(send_items(queue, requests, pending.clone(), stopped));
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    match client.forward(outgoing).await {
        Ok(answers) => receive_outcomes(answers.into_inner(), &pending).await,
        Err(status) => {
            peers.failed(leader, Line::Bulk);
            tracing::debug!(leader, %status, "cannot forward to the leader");
        }
    }
    drop(stop);
    // It answers what it has not sent; what it has sent is answered by dropping `pending`.
    let _ = sender.await;
}

async fn send_items(
    mut queue: mpsc::Receiver<Item>,
    requests: mpsc::Sender<pb::ForwardRequest>,
    pending: Arc<Mutex<Pending>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut next_id = 0;
    let mut carried = None;
    loop {
        let first = match carried.take() {
            Some(item) => Some(item),
            None => tokio::select! {
                item = queue.recv() => item,
                _ = &mut stopped => None,
            },
        };
        let Some(first) = first else { break };
        let request = gather(first, &mut queue, &mut carried, &pending, &mut next_id);
        if requests.send(request).await.is_err() {
            break;
        }
    }
    // These never left this manager: they may go to the next leader.
    queue.close();
    carried.into_iter().for_each(not_leader);
    while let Some(item) = queue.recv().await {
        not_leader(item);
    }
}

/// One message of what waits. An item that would make it too large is carried over to the next.
fn gather(
    first: Item,
    queue: &mut mpsc::Receiver<Item>,
    carried: &mut Option<Item>,
    pending: &Mutex<Pending>,
    next_id: &mut u64,
) -> pb::ForwardRequest {
    let mut request = pb::ForwardRequest::default();
    let mut bytes = 0;
    let mut item = Some(first);
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(next) = item.take() {
        *next_id += 1;
        match next {
            Item::Propose(entry, done) => {
                bytes += entry.len();
                pending.proposals.insert(*next_id, done);
                request.proposals.push(pb::Proposal { id: *next_id, entry });
            }
            Item::Read(done) => {
                pending.reads.insert(*next_id, done);
                request.reads.push(*next_id);
            }
        }
        if request.proposals.len() + request.reads.len() < FORWARD_BATCH_MAX {
            item = queue.try_recv().ok();
        }
        if let Some(Item::Propose(entry, _)) = &item
            && bytes + entry.len() > FORWARD_BATCH_BYTES_MAX
        {
            *carried = item.take();
        }
    }
    request
}

async fn receive_outcomes(mut answers: Streaming<pb::ForwardResponse>, pending: &Mutex<Pending>) {
    // An error ends the stream like its end: what is pending is answered by being dropped.
    while let Ok(Some(response)) = answers.message().await {
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        for outcome in response.outcomes {
            if let Some(done) = pending.proposals.remove(&outcome.id) {
                let _ = done.send(to_committed(outcome.result));
            } else if let Some(done) = pending.reads.remove(&outcome.id) {
                let _ = done.send(to_read_index(outcome.result));
            }
        }
    }
}

pub(crate) fn to_committed(outcome: Option<Outcome>) -> Result<Committed, Miss> {
    match outcome {
        Some(Outcome::Committed(committed)) => {
            let reply = codec::decode(codec::REPLY, &committed.answer);
            reply.map(|reply| (committed.index, reply)).map_err(|e| Miss::Unknown(e.to_string()))
        }
        Some(Outcome::NotLeader(_)) => Err(Miss::NotLeader),
        Some(Outcome::Error(error)) => Err(Miss::Failed(wire::to_error(&error))),
        Some(Outcome::Unknown(error)) => Err(Miss::Unknown(wire::to_error(&error).to_string())),
        Some(Outcome::ReadIndex(_)) | None => {
            Err(Miss::Unknown("the leader's answer says nothing".into()))
        }
    }
}

fn to_read_index(outcome: Option<Outcome>) -> Result<u64, Miss> {
    match outcome {
        Some(Outcome::ReadIndex(index)) => Ok(index),
        Some(Outcome::Error(error)) => Err(Miss::Failed(wire::to_error(&error))),
        _ => Err(Miss::NotLeader),
    }
}

// ---- the leader's side ----

/// Answers a stream of forwarded batches until it ends.
pub fn serve(
    core: Arc<Core>,
    first: pb::ForwardRequest,
    mut rest: Streaming<pb::ForwardRequest>,
) -> impl Stream<Item = Result<pb::ForwardResponse, Status>> + Send + 'static {
    let (answers, outgoing) = mpsc::channel(FORWARD_BATCH_MAX);
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(request) = next {
            for id in request.reads {
                tokio::spawn(serve_read(core.clone(), id, answers.clone()));
            }
            if !request.proposals.is_empty() {
                serve_proposals(&core, request.proposals, &answers).await;
            }
            next = tokio::select! {
                message = rest.message() => message.ok().flatten(),
                () = core.stopped() => None,
            };
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(outgoing).map(Ok)
}

type Answers = mpsc::Sender<pb::ForwardResponse>;

async fn serve_read(core: Arc<Core>, id: u64, answers: Answers) {
    let result = match core.confirm.next().await {
        Ok(index) => Outcome::ReadIndex(index),
        Err(miss) => from_miss(&miss),
    };
    let outcomes = vec![pb::Outcome { id, result: Some(result) }];
    let _ = answers.send(pb::ForwardResponse { outcomes }).await;
}

/// Hands a batch to Raft; a task of its own answers it, so that the next batch need not wait.
async fn serve_proposals(core: &Arc<Core>, proposals: Vec<pb::Proposal>, answers: &Answers) {
    let mut refused = Vec::new();
    let mut ids = Vec::with_capacity(proposals.len());
    let mut batch = Vec::with_capacity(proposals.len());
    let room = core.health.refusing();
    for pb::Proposal { id, entry } in proposals {
        let checked = match &room {
            Some(why) => Err(Error::Unavailable { why: why.clone() }),
            None => Proposal::from_bytes(entry).map_err(unreadable),
        };
        match checked {
            Ok(proposal) => {
                ids.push(id);
                batch.push(proposal);
            }
            Err(e) => refused.push(outcome(id, Outcome::Error(wire::from_error(&e)))),
        }
    }
    if !refused.is_empty() {
        let _ = answers.send(pb::ForwardResponse { outcomes: refused }).await;
    }
    let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
    let Ok(permits) = core.in_flight.clone().acquire_many_owned(count).await else { return };
    let written = core.raft.client_write_many(batch).await;
    let answers = answers.clone();
    tokio::spawn(async move {
        let _permits = permits;
        match written {
            Ok(results) => answer_batch(ids, results, &answers).await,
            Err(_) => {
                // Not even queued: Raft has stopped on this manager.
                let all = ids.into_iter().map(|id| outcome(id, from_miss(&Miss::NotLeader)));
                let _ = answers.send(pb::ForwardResponse { outcomes: all.collect() }).await;
            }
        }
    });
}

async fn answer_batch(
    ids: Vec<u64>,
    results: impl Stream<Item = Written> + Unpin,
    answers: &Answers,
) {
    let mut ids = ids.into_iter();
    // Results that are there together go back together.
    let mut ready = results.ready_chunks(FORWARD_BATCH_MAX);
    while let Some(chunk) = ready.next().await {
        let outcomes = chunk.into_iter().zip(ids.by_ref()).map(|(result, id)| {
            outcome(
                id,
                match from_written(result) {
                    Ok((index, reply)) => committed(index, &reply),
                    Err(miss) => from_miss(&miss),
                },
            )
        });
        let outcomes = outcomes.collect();
        if answers.send(pb::ForwardResponse { outcomes }).await.is_err() {
            return;
        }
    }
    let lost = Miss::Unknown("the leader stopped".into());
    let outcomes = ids.map(|id| outcome(id, from_miss(&lost))).collect();
    let _ = answers.send(pb::ForwardResponse { outcomes }).await;
}

fn outcome(id: u64, result: Outcome) -> pb::Outcome {
    pb::Outcome { id, result: Some(result) }
}

fn committed(index: u64, reply: &Reply) -> Outcome {
    match codec::encode(codec::REPLY, reply) {
        Ok(answer) => Outcome::Committed(pb::Committed { index, answer: answer.into() }),
        Err(e) => from_miss(&Miss::Unknown(e.to_string())),
    }
}

fn from_miss(miss: &Miss) -> Outcome {
    match miss {
        Miss::NotLeader => Outcome::NotLeader(pb::NotLeader::default()),
        Miss::Failed(error) => Outcome::Error(wire::from_error(error)),
        Miss::Unknown(why) => {
            let error = Error::UnknownOutcome { why: why.clone() };
            Outcome::Unknown(wire::from_error(&error))
        }
    }
}

fn unreadable(error: codec::Error) -> Error {
    Error::UpgradeRequired { what: format!("a forwarded proposal: {error}") }
}

/// What openraft says of one write of a batch.
pub type Written = Result<WriteResult<Types>, Fatal<Types>>;

/// openraft's word on a write.
pub fn from_written(result: Written) -> Result<Committed, Miss> {
    match result {
        Ok(Ok(written)) => Ok((written.log_id.index, written.response)),
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Miss::NotLeader),
        Ok(Err(e)) => Err(Miss::Unknown(e.to_string())),
        Err(e) => Err(Miss::Unknown(e.to_string())),
    }
}
