//! Proposals of this manager on their way into its own Raft: what waits goes in as one batch.
//!
//! A batch costs Raft's loop one message instead of one per proposal. It does not know what is
//! proposed. Invariant: answers are Raft's own; a proposal whose answer is lost has an unknown
//! outcome.

use crate::forward::{Committed, Miss, from_written};
use crate::limits::{FORWARD_BATCH_MAX, PROPOSALS_IN_FLIGHT_MAX};
use crate::types::{Proposal, Raft};
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};

type Done = oneshot::Sender<Result<Committed, Miss>>;

#[derive(Clone)]
pub struct Batcher {
    waiting: mpsc::Sender<(Proposal, Done)>,
}

impl Batcher {
    pub fn start(raft: Raft) -> Self {
        let (waiting, queue) = mpsc::channel(PROPOSALS_IN_FLIGHT_MAX);
        tokio::spawn(run(raft, queue));
        Self { waiting }
    }

    pub async fn propose(&self, proposal: Proposal) -> Result<Committed, Miss> {
        let (done, answer) = oneshot::channel();
        self.waiting.send((proposal, done)).await.map_err(|_| Miss::NotLeader)?;
        answer.await.map_err(|_| Miss::Unknown("this manager is stopping".into()))?
    }
}

async fn run(raft: Raft, mut queue: mpsc::Receiver<(Proposal, Done)>) {
    let mut batch = Vec::with_capacity(FORWARD_BATCH_MAX);
    while queue.recv_many(&mut batch, FORWARD_BATCH_MAX).await > 0 {
        let (proposals, callers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        match raft.client_write_many(proposals).await {
            // On a task of its own, so that the next batch does not wait for this one's commit.
            Ok(results) => drop(tokio::spawn(answer(results, callers))),
            // Not even queued: Raft has stopped on this manager.
            Err(_) => callers.into_iter().for_each(|done| drop(done.send(Err(Miss::NotLeader)))),
        }
    }
}

async fn answer<S>(mut results: S, callers: Vec<Done>)
where
    S: futures::Stream<Item = crate::forward::Written> + Unpin,
{
    for done in callers {
        // When the stream ends early, the rest is dropped: their outcome is unknown.
        let Some(result) = results.next().await else { return };
        let _ = done.send(from_written(result));
    }
}
