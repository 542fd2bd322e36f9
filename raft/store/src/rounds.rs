//! One question answers everyone who was waiting when it was asked.
//!
//! Used for reads: a round confirms leadership once for all of them. It does not know what the
//! question is. Invariant: an answer comes from a round that began after the caller asked.

use crate::forward::Miss;
use crate::limits::{NO_LEADER_WAIT, PROPOSALS_IN_FLIGHT_MAX};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

/// Callers answered by one round.
const ROUND_MAX: usize = 1024;

type Answer = Result<u64, Miss>;

#[derive(Clone)]
pub struct Rounds {
    waiting: mpsc::Sender<oneshot::Sender<Answer>>,
}

impl Rounds {
    /// `ask` is one round; it is cut off after [`NO_LEADER_WAIT`].
    pub fn start(ask: impl Fn() -> BoxFuture<'static, Answer> + Send + Sync + 'static) -> Self {
        let (waiting, mut queue) = mpsc::channel(PROPOSALS_IN_FLIGHT_MAX);
        tokio::spawn(async move {
            let mut callers: Vec<oneshot::Sender<Answer>> = Vec::new();
            while queue.recv_many(&mut callers, ROUND_MAX).await > 0 {
                let answer = tokio::time::timeout(NO_LEADER_WAIT, ask()).await;
                let answer = answer.unwrap_or(Err(Miss::NotLeader));
                for caller in callers.drain(..) {
                    let _ = caller.send(answer.clone());
                }
            }
        });
        Self { waiting }
    }

    /// The answer of the next round.
    pub async fn next(&self) -> Answer {
        let (done, answer) = oneshot::channel();
        self.waiting.send(done).await.map_err(|_| Miss::NotLeader)?;
        answer.await.map_err(|_| Miss::NotLeader)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn callers_share_a_round_that_began_after_they_asked() {
        let rounds_run = Arc::new(AtomicU64::new(0));
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (counter, opener) = (rounds_run.clone(), gate.clone());
        let rounds = Rounds::start(move || {
            let (counter, gate) = (counter.clone(), gate.clone());
            Box::pin(async move {
                let round = counter.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.map_err(|_| Miss::NotLeader)?.forget();
                Ok(round)
            })
        });
        let first = tokio::spawn({
            let rounds = rounds.clone();
            async move { rounds.next().await }
        });
        while rounds_run.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (0..50)
            .map(|_| {
                let rounds = rounds.clone();
                tokio::spawn(async move { rounds.next().await })
            })
            .collect();
        while rounds.waiting.capacity() > PROPOSALS_IN_FLIGHT_MAX - 50 {
            tokio::task::yield_now().await;
        }
        opener.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(0));
        for caller in rest {
            assert_eq!(caller.await.unwrap(), Ok(1), "one more round served all that waited");
        }
    }
}
