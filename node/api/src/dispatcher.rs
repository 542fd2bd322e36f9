//! One method per rpc, in words of the protobuf messages and without a transport: gRPC and the ECS
//! wire protocol call the same ones.
//!
//! The methods stand in `handle/`, one file per noun. What they share stands here.

use crate::call::Call;
use crate::live::LiveBackend;
use crate::policy::Policies;
use crate::simulate::Simulator;
use crate::watch::history::History;
use muster_model::{Entry, Error, Foresight, IdSource, RaftId, State, Time, TraceId};
use muster_replica::Replica;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The process's clock.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Says what an entry would lead to on a state; whoever knows how the scheduler decides.
pub type Foresee = Arc<dyn Fn(&State, &Entry) -> Result<Foresight, Error> + Send + Sync>;

/// Answers requests.
pub struct Dispatcher {
    pub(crate) replica: Replica,
    pub(crate) live: Arc<dyn LiveBackend>,
    pub(crate) history: Arc<History>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    /// Cancelled when this manager stops: what would go on for ever ends.
    pub(crate) stopping: CancellationToken,
    /// Calls being answered, and what they leave to do behind them.
    pub(crate) under_way: TaskTracker,
    now: Clock,
    ids: Mutex<IdSource>,
    current_trace: Option<fn() -> Option<TraceId>>,
    pub(crate) simulator: Option<Arc<dyn Simulator>>,
    pub(crate) foresee: Foresee,
    pub(crate) foreseers: Arc<Semaphore>,
}

/// What a dispatcher is made of.
pub(crate) struct Parts {
    pub replica: Replica,
    pub live: Arc<dyn LiveBackend>,
    pub history: Arc<History>,
    pub now: Clock,
    pub seed: u128,
    pub current_trace: Option<fn() -> Option<TraceId>>,
    pub simulator: Option<Arc<dyn Simulator>>,
    pub foresee: Foresee,
}

impl Dispatcher {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { replica, live, history, now, seed, current_trace, simulator, foresee } = parts;
        Self {
            replica,
            live,
            history,
            policies: Arc::default(),
            watchers: Arc::new(Semaphore::new(crate::limits::WATCHERS_MAX)),
            streams: Arc::new(Semaphore::new(crate::limits::LIVE_STREAMS_MAX)),
            stopping: CancellationToken::new(),
            under_way: TaskTracker::new(),
            now,
            ids: Mutex::new(IdSource::new(seed)),
            current_trace,
            simulator,
            foresee,
            foreseers: Arc::new(Semaphore::new(crate::limits::FORESEERS_MAX)),
        }
    }

    /// The trace the current span belongs to, where spans are exported.
    pub(crate) fn current_trace(&self) -> Option<TraceId> {
        self.current_trace.and_then(|current| current())
    }

    /// A state to answer a read from: linearizable, or, if `stale`, what this manager has, with its
    /// age beside the answer.
    ///
    /// # Errors
    /// `Unavailable` when a linearizable one cannot be had; it says who is missing.
    pub(crate) async fn view(&self, call: &Call, stale: bool) -> Result<Arc<State>, Error> {
        let state = match stale {
            true => self.replica.state(),
            false => self.replica.read(call.deadline).await?,
        };
        call.saw(&state, stale.then(|| self.replica.age()));
        Ok(call.seeing(state))
    }

    /// Why a stream ends when this manager stops.
    pub(crate) fn stopped() -> Error {
        Error::Unavailable { why: "this manager is stopping; go on at another one".into() }
    }

    pub(crate) fn time(&self) -> Time {
        (self.now)()
    }

    /// The same clock for certificates.
    pub(crate) fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.time().0)
    }

    /// Fresh ids; never held across anything.
    pub(crate) fn ids(&self) -> MutexGuard<'_, IdSource> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader this manager knows of.
    pub(crate) fn leader(&self) -> Option<(RaftId, String)> {
        self.replica.leadership().borrow().leader.clone()
    }

    /// For what only the leader can answer: it holds the agents' sessions and hears the followers.
    ///
    /// # Errors
    /// `Unavailable`, naming the leader.
    pub(crate) fn require_leading(&self, what: &str) -> Result<(), Error> {
        let leadership = self.replica.leadership();
        let leadership = leadership.borrow();
        if leadership.mine {
            return Ok(());
        }
        let why = match &leadership.leader {
            Some((id, address)) => {
                format!("only the leader can {what}: ask manager {id} at {address}")
            }
            None => format!("only the leader can {what}, and no manager leads now: try again"),
        };
        Err(Error::Unavailable { why })
    }
}
