//! Starts Raft over the store and serves the [`Replica`] handle.
//!
//! It does not know what is proposed or who reads. Invariants: a read is answered from a state at
//! least as new as the log when a quorum confirmed the leader after the read began; a proposal
//! that fails is "not done" only when that is certain; nothing waits beyond its deadline, nor
//! longer than [`NO_LEADER_WAIT`] for a leader that nobody knows.

use crate::batch::Batcher;
use crate::forward::{Committed, Forwarder, Miss};
use crate::health::Health;
use crate::limits::{ENTRY_BYTES_MAX, NO_LEADER_WAIT, PROPOSALS_IN_FLIGHT_MAX};
use crate::log::LogShared;
use crate::machine::Published;
use crate::members;
use crate::peers::Peers;
use crate::rounds::Rounds;
use crate::types::{Proposal, Raft};
use crate::{StoreConfig, Timing};
use futures::FutureExt;
use muster_model::{Entry, Error, Index, RaftId, State};
use muster_replica::{Answer, Applied, Backend, Change, Instant, Leadership, Member, RaftStatus};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ReadPolicy};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, watch};

/// A caller that was sent to the wrong manager asks again after this long, unless it learns of a
/// new leader sooner.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Everything a running manager's Raft consists of.
pub struct Core {
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub health: Arc<Health>,
    pub log: Arc<LogShared>,
    pub timing: Timing,
    pub published: Published,
    pub leadership: watch::Sender<Leadership>,
    /// Who is missing, once there has been no leader for [`NO_LEADER_WAIT`].
    pub outage: watch::Sender<Option<String>>,
    /// Confirms that this manager leads: what a read index is on the leader.
    pub confirm: Rounds,
    /// Asks the leader for its read index.
    pub remote: Rounds,
    pub batcher: Batcher,
    pub forwarder: Forwarder,
    pub in_flight: Arc<Semaphore>,
    /// Held while a snapshot is being received: one at a time.
    pub receiving: Mutex<()>,
    /// True once this manager stops: whatever holds on to the store lets go.
    pub stop: watch::Sender<bool>,
}

/// The parts that are made before Raft is.
pub struct Parts {
    pub raft: Raft,
    pub peers: Arc<Peers>,
    pub health: Arc<Health>,
    pub log: Arc<LogShared>,
    pub published: Published,
}

impl Core {
    pub fn start(parts: Parts, config: &StoreConfig) -> Arc<Self> {
        let Parts { raft, peers, health, log, published } = parts;
        Arc::new_cyclic(|weak| {
            let forwarder = Forwarder::start(weak.clone());
            let (leader, ask) = (raft.clone(), forwarder.clone());
            Core {
                confirm: Rounds::start(move || confirm(leader.clone()).boxed()),
                remote: Rounds::start(move || {
                    let ask = ask.clone();
                    async move { ask.read_index().await }.boxed()
                }),
                batcher: Batcher::start(raft.clone()),
                forwarder,
                raft,
                peers,
                health,
                log,
                timing: config.timing,
                published,
                leadership: watch::Sender::new(Leadership::default()),
                outage: watch::Sender::new(None),
                in_flight: Arc::new(Semaphore::new(PROPOSALS_IN_FLIGHT_MAX)),
                receiving: Mutex::new(()),
                stop: watch::Sender::new(false),
            }
        })
    }

    /// Resolves when this manager stops.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// Whether this manager leads; waits for some manager to lead.
    async fn mine(&self, deadline: Instant) -> Result<bool, Error> {
        let mut leadership = self.leadership.subscribe();
        if let now = leadership.borrow()
            && now.leader.is_some()
        {
            return Ok(now.mine);
        }
        let led = leadership.wait_for(|now| now.leader.is_some());
        match self.until(deadline, led).await? {
            Ok(now) => Ok(now.mine),
            Err(_) => Err(stopping()),
        }
    }

    /// Waits for `work`, but not beyond the deadline nor through an outage.
    pub async fn until<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let mut outage = self.outage.subscribe();
        enum Event<T> {
            Done(T),
            Outage(String),
            Late,
        }
        let event = tokio::select! {
            biased;
            done = work => Event::Done(done),
            why = outage.wait_for(Option::is_some) => {
                Event::Outage(why.ok().and_then(|why| why.clone()).unwrap_or_default())
            }
            () = tokio::time::sleep_until(deadline) => Event::Late,
        };
        match event {
            Event::Done(done) => Ok(done),
            Event::Outage(why) => Err(Error::Unavailable { why }),
            Event::Late => Err(Error::Unavailable { why: "no answer before the deadline".into() }),
        }
    }

    /// Before another attempt: until the leader changes, or a moment.
    async fn pause(&self) {
        let mut leadership = self.leadership.subscribe();
        leadership.mark_unchanged();
        let _ = tokio::time::timeout(RETRY_PAUSE, leadership.changed()).await;
    }

    async fn write_here(&self, proposal: Proposal) -> Result<Committed, Miss> {
        if let Some(why) = self.health.refusing() {
            return Err(Miss::Failed(Error::Unavailable { why }));
        }
        self.batcher.propose(proposal).await
    }

    async fn propose(&self, entry: Entry, deadline: Instant) -> Result<Applied, Error> {
        let proposal = Proposal::new(entry)
            .map_err(|e| Error::refused(format!("the entry cannot be encoded: {e}")))?;
        let bytes = proposal.bytes().len();
        if bytes > ENTRY_BYTES_MAX {
            let (value, limit) = (bytes as u64, ENTRY_BYTES_MAX as u64);
            return Err(Error::LimitExceeded { what: "bytes of one entry".into(), value, limit });
        }
        let room = tokio::time::timeout_at(deadline, self.in_flight.acquire()).await;
        let _permit = room.map_err(|_| busy())?.map_err(|_| stopping())?;
        loop {
            let mine = self.mine(deadline).await?;
            let attempt = async {
                match mine {
                    true => self.write_here(proposal.clone()).await,
                    false => self.forwarder.propose(proposal.bytes().clone()).await,
                }
            };
            // Once an attempt has begun, giving up on it leaves its outcome unknown.
            let unknown = |e: Error| Error::UnknownOutcome { why: e.to_string() };
            match self.until(deadline, attempt).await.map_err(unknown)? {
                Ok((index, reply)) => {
                    return reply.0.map(|response| Applied { index: Index(index), response });
                }
                Err(Miss::NotLeader) => self.pause().await,
                Err(Miss::Failed(error)) => return Err(error),
                Err(Miss::Unknown(why)) => return Err(Error::UnknownOutcome { why }),
            }
        }
    }

    async fn read(&self, deadline: Instant) -> Result<Arc<State>, Error> {
        let index = loop {
            let rounds = match self.mine(deadline).await? {
                true => &self.confirm,
                false => &self.remote,
            };
            match self.until(deadline, rounds.next()).await? {
                Ok(index) => break index,
                Err(Miss::Failed(error)) => return Err(error),
                Err(Miss::NotLeader | Miss::Unknown(_)) => self.pause().await,
            }
        };
        let mut next = self.published.next.subscribe();
        let caught_up = self.until(deadline, next.wait_for(|next| *next > index)).await?;
        caught_up.map_err(|_| stopping())?;
        Ok(self.published.states.borrow().clone())
    }

    /// How long ago a quorum confirmed this leader; `None` if it does not lead.
    pub fn quorum_acked(&self) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let acked = metrics.last_quorum_acked.as_ref().map(|at| at.elapsed());
        acked.filter(|_| metrics.state.is_leader())
    }

    fn age(&self) -> Duration {
        let me = self.peers.me().raft_id;
        if self.leadership.borrow().mine && self.peers.members().voter_ids().all(|id| id == me) {
            return Duration::ZERO;
        }
        let heard = self.quorum_acked().or_else(|| self.health.leader_silent());
        heard.unwrap_or_else(|| self.health.uptime())
    }

    fn status(&self) -> RaftStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let config = metrics.membership_config.membership();
        let voters: Vec<u64> = config.voter_ids().collect();
        let member = |(id, node): (&u64, &crate::types::Peer)| Member {
            id: RaftId(*id),
            address: node.address.clone(),
            voter: voters.contains(id),
            matched: match &metrics.replication {
                Some(followers) => followers.get(id).copied().flatten().map(|id| id.index),
                None => None,
            },
            answered: self.health.answered(*id).map(|at| at.elapsed()),
        };
        RaftStatus {
            id: RaftId(metrics.id),
            term: metrics.current_term,
            leader: self.leadership.borrow().leader.as_ref().map(|(id, _)| *id),
            members: config.nodes().map(member).collect(),
            log_last: metrics.last_log_index,
            committed: metrics.cluster_committed.map(|id| id.index),
            applied: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            quorum_acked: self.quorum_acked(),
            log_bytes: self.log.bytes(),
            refusing: self.health.refusing(),
        }
    }
}

fn stopping() -> Error {
    Error::Unavailable { why: "this manager is stopping".into() }
}

fn busy() -> Error {
    let why = format!("{PROPOSALS_IN_FLIGHT_MAX} proposals are in flight on this manager");
    Error::Unavailable { why }
}

/// One read index round of the leader: a quorum says that it still leads.
async fn confirm(raft: Raft) -> Result<u64, Miss> {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(confirmed) => Ok(confirmed.read_log_id().index()),
        Err(_) => Err(Miss::NotLeader),
    }
}

impl Backend for Core {
    fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.published.states.subscribe()
    }
    fn age(&self) -> Duration {
        let me = self.peers.me().raft_id;
        if self.leadership.borrow().mine && self.peers.members().voter_ids().all(|id| id == me) {
            return Duration::ZERO;
        }
        Core::age(self)
    }
    fn read(&self, deadline: Instant) -> Answer<'_, Arc<State>> {
        Box::pin(Core::read(self, deadline))
    }
    fn propose(&self, entry: Entry, deadline: Instant) -> Answer<'_, Applied> {
        Box::pin(Core::propose(self, entry, deadline))
    }
    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
    fn status(&self) -> RaftStatus {
        Core::status(self)
    }
    fn change(&self, change: Change, deadline: Instant) -> Answer<'_, ()> {
        Box::pin(members::change(self, change, deadline))
    }
}

/// How long a follower may be without its leader's word before it calls nobody leader: a leader's
/// lease and an election.
pub fn silence_max(timing: Timing) -> Duration {
    (timing.election_max * 2).min(NO_LEADER_WAIT)
}

/// How long a leader may be without a quorum's word before it stops calling itself one. Longer
/// than [`silence_max`]: its followers answer heartbeats after their fsyncs, and to step back for
/// a slow one costs a takeover. Nothing it does meanwhile counts: it has no quorum.
pub const QUORUM_SILENCE_MAX: Duration = NO_LEADER_WAIT;
