//! The only door to the replicated state: read it, watch it, propose to it, follow who leads.
//!
//! It does not know how replication works: behind [`Replica`] stands a [`Backend`], which is
//! `muster-store` in a manager and [`memory::Memory`] in a test.
//! Invariant: every state handed out is the result of a prefix of the log, and the states one
//! replica hands out never go back.

pub mod memory;

use muster_model::{Entry, Error, Index, RaftId, Response, State};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
pub use tokio::time::Instant;

/// A handle that costs one reference count to clone.
#[derive(Clone)]
pub struct Replica {
    backend: Arc<dyn Backend>,
}

/// What a proposal led to once it was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where it stands in the log: a state with `applied() >= index` shows its effect.
    pub index: Index,
    pub response: Response,
}

/// Who leads, as far as this manager knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Id and address. `None` when nobody is known to hold a quorum.
    pub leader: Option<(RaftId, String)>,
    /// This manager leads and a quorum confirmed it recently.
    pub mine: bool,
    pub term: u64,
}

/// One manager as Raft sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: RaftId,
    pub address: String,
    /// False for a learner, which copies the log and does not vote.
    pub voter: bool,
    /// Last log position known to be on its disk; only the leader knows.
    pub matched: Option<u64>,
    /// How long ago it last answered this manager; `None` if never.
    pub answered: Option<Duration>,
}

/// The state of Raft on this manager, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    pub id: RaftId,
    pub term: u64,
    pub leader: Option<RaftId>,
    pub members: Vec<Member>,
    pub log_last: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    pub snapshot: Option<u64>,
    pub purged: Option<u64>,
    /// How long ago a quorum last confirmed this leader; `None` on followers.
    pub quorum_acked: Option<Duration>,
    pub log_bytes: u64,
    /// Why writes are refused now, if they are.
    pub refusing: Option<String>,
}

/// A change of who replicates. Each one is committed before it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Starts copying the log to a new manager. Its disk must be empty, its id never used before.
    AddLearner { id: RaftId, address: String },
    /// Gives a learner that has caught up a vote.
    Promote(RaftId),
    /// Takes a manager out for good: its id is never given out again.
    Remove(RaftId),
    /// Hands leadership to this voter, or to the one that is furthest.
    Transfer(Option<RaftId>),
    /// Drops log entries that the tables already hold. Local: never forwarded.
    Snapshot,
}

/// The future of a dyn-safe async method.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What stands behind a [`Replica`].
pub trait Backend: Send + Sync + 'static {
    fn watch(&self) -> watch::Receiver<Arc<State>>;
    fn age(&self) -> Duration;
    fn read(&self, deadline: Instant) -> Answer<'_, Arc<State>>;
    fn propose(&self, entry: Entry, deadline: Instant) -> Answer<'_, Applied>;
    fn leadership(&self) -> watch::Receiver<Leadership>;
    fn status(&self) -> RaftStatus;
    fn change(&self, change: Change, deadline: Instant) -> Answer<'_, ()>;
}

impl Replica {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// The newest state applied here. It may be stale: [`Replica::age`] says by how much.
    pub fn state(&self) -> Arc<State> {
        self.backend.watch().borrow().clone()
    }

    /// The newest state, again and again; states in between are skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.backend.watch()
    }

    /// How long ago this manager last heard from the leader or, leading, from a quorum.
    pub fn age(&self) -> Duration {
        self.backend.age()
    }

    /// A state that shows every write acknowledged before this call, on any manager.
    ///
    /// # Errors
    /// `Unavailable` when no leader answers for a second or `deadline` passes.
    pub async fn read(&self, deadline: Instant) -> Result<Arc<State>, Error> {
        self.backend.read(deadline).await
    }

    /// Commits and applies an entry; forwarded to the leader if another manager leads.
    ///
    /// # Errors
    /// `UnknownOutcome`: it may have been committed; repeat with the same request id.
    /// `Unavailable`: it was not; names which managers are missing.
    /// Anything else: the committed answer of `apply`.
    pub async fn propose(&self, entry: Entry, deadline: Instant) -> Result<Applied, Error> {
        self.backend.propose(entry, deadline).await
    }

    /// Who leads, whenever that changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.backend.leadership()
    }

    pub fn status(&self) -> RaftStatus {
        self.backend.status()
    }

    /// Changes who replicates; forwarded to the leader like a proposal.
    pub async fn change(&self, change: Change, deadline: Instant) -> Result<(), Error> {
        self.backend.change(change, deadline).await
    }

    /// Waits until the state here has applied `index`.
    ///
    /// # Errors
    /// `Unavailable` if `deadline` passes first.
    pub async fn applied(&self, index: Index, deadline: Instant) -> Result<Arc<State>, Error> {
        let mut states = self.backend.watch();
        let wait = states.wait_for(|state| state.applied() >= index);
        match tokio::time::timeout_at(deadline, wait).await {
            Ok(Ok(state)) => Ok(state.clone()),
            Ok(Err(_)) => Err(Error::Unavailable { why: "this manager is stopping".into() }),
            Err(_) => Err(Error::Unavailable {
                why: format!("this manager has not applied entry {index} in time"),
            }),
        }
    }
}
