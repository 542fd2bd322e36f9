//! Where a leading manager and its agents meet: who leads here, which session is whose, which
//! attach order waits for which stream.
//!
//! It does not know what is said. Every lock is held for a few map operations and never across an
//! await. Invariant: at most one session per instance is registered; while nobody leads here there
//! is none.

use crate::endpoints::Endpoints;
use crate::limits::{ATTACHES_MAX, HOLD_MAX, SESSION_QUEUE_MAX};
use crate::wire;
use crate::{Clock, Parts};
use muster_control::io::LeaderInput;
use muster_identity::{Authority, Identity};
use muster_model::{Epoch, Error, IdSource, InstanceId, RaftId, SessionId, State, Time};
use muster_proto::dispatch as pb;
use muster_replica::Replica;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

/// What the parts of this crate share.
pub struct Hub {
    pub me: RaftId,
    pub replica: Replica,
    pub clock: Clock,
    pub identity: Identity,
    /// How often agents are told to say that they live.
    pub heartbeat: Duration,
    /// The URL that tasks' identities name as their issuer.
    pub issuer: Option<Arc<str>>,
    pub endpoints: Endpoints,
    /// Owns the readers of the agents' streams.
    pub readers: TaskTracker,
    /// Cancelled when this manager stops.
    pub stop: CancellationToken,
    ids: Mutex<IdSource>,
    reign: watch::Sender<Option<Reign>>,
    sessions: Mutex<HashMap<InstanceId, Arc<Session>>>,
    attaches: Mutex<HashMap<u128, Pending>>,
    authority: Mutex<Option<(Arc<str>, Arc<Authority>)>>,
}

/// The brain that leads here: where its agents' words go.
#[derive(Clone)]
pub struct Reign {
    pub epoch: Epoch,
    pub events: mpsc::Sender<LeaderInput>,
    pub beats: Arc<Beats>,
    pub ended: CancellationToken,
}

/// One agent's open stream.
pub struct Session {
    pub id: SessionId,
    pub instance: InstanceId,
    pub queue: mpsc::Sender<pb::ManagerMessage>,
    pub closing: Closing,
    /// It is among the `Beats`.
    beaten: AtomicBool,
}

impl Session {
    pub fn new(
        id: SessionId,
        instance: InstanceId,
        queue: mpsc::Sender<pb::ManagerMessage>,
    ) -> Self {
        Self { id, instance, queue, closing: Closing::default(), beaten: AtomicBool::new(false) }
    }
}

/// Sessions whose agents said that they live since the brain last heard of it; each once.
#[derive(Default)]
pub struct Beats(Mutex<Vec<Arc<Session>>>);

impl Beats {
    pub fn add(&self, session: &Arc<Session>) {
        if !session.beaten.swap(true, Ordering::AcqRel) {
            locked(&self.0).push(session.clone());
        }
    }

    /// All of them, for the brain to hear now. One that beats meanwhile is heard with these.
    pub fn take(&self) -> Vec<Arc<Session>> {
        let sessions = std::mem::take(&mut *locked(&self.0));
        for session in &sessions {
            session.beaten.store(false, Ordering::Release);
        }
        sessions
    }
}

/// Ends a session from either side, once, with a reason for the agent.
#[derive(Default)]
pub struct Closing {
    why: OnceLock<Status>,
    pub token: CancellationToken,
}

impl Closing {
    /// The first reason counts.
    pub fn close(&self, why: Status) {
        let _ = self.why.set(why);
        self.token.cancel();
    }

    pub fn why(&self) -> Option<Status> {
        self.why.get().cloned()
    }
}

/// An attach order that its agent has not answered yet.
struct Pending {
    instance: InstanceId,
    paired: oneshot::Sender<Attached>,
}

/// An order to attach on its way.
pub struct Order {
    pub attach: u128,
    pub stream: oneshot::Receiver<Attached>,
    /// Cancelled when the session that carries it ends.
    pub closed: CancellationToken,
}

/// Both directions of an attach stream.
pub struct Attached {
    pub up: Streaming<pb::AttachUp>,
    pub down: mpsc::Sender<Result<pb::AttachDown, Status>>,
}

impl Hub {
    pub fn new(parts: Parts) -> Self {
        let Parts { id: me, replica, clock, identity, heartbeat, issuer, endpoints, .. } = parts;
        Self {
            me,
            replica,
            clock,
            identity,
            heartbeat,
            issuer,
            endpoints,
            readers: TaskTracker::new(),
            stop: CancellationToken::new(),
            ids: Mutex::new(IdSource::new(rand::random())),
            reign: watch::Sender::new(None),
            sessions: Mutex::default(),
            attaches: Mutex::default(),
            authority: Mutex::default(),
        }
    }

    pub fn now(&self) -> Time {
        (self.clock)()
    }

    /// Fresh ids; never held across anything.
    pub fn ids(&self) -> MutexGuard<'_, IdSource> {
        locked(&self.ids)
    }

    /// The brain that leads here.
    ///
    /// # Errors
    /// Where the leader is, for an agent that asked the wrong manager.
    pub fn reign(&self) -> Result<Reign, Status> {
        match &*self.reign.borrow() {
            Some(reign) if !reign.ended.is_cancelled() => Ok(reign.clone()),
            _ => Err(self.not_leader()),
        }
    }

    /// The same, but while nobody is known to lead, or this manager is about to, the caller is held
    /// for a second: thousands of agents that ask in a circle would only slow the election down.
    ///
    /// # Errors
    /// Where the leader is, if that is known, or that nobody leads.
    pub async fn reign_soon(&self) -> Result<Reign, Status> {
        let mut reigns = self.reign.subscribe();
        let mut leadership = self.replica.leadership();
        let elsewhere = |leader: &Option<(RaftId, String)>| {
            leader.as_ref().is_some_and(|(id, _)| *id != self.me)
        };
        let settled = async {
            tokio::select! {
                _ = reigns.wait_for(Option::is_some) => {}
                _ = leadership.wait_for(|now| elsewhere(&now.leader)) => {}
            }
        };
        // Whatever came of it, the answer is read from the hub.
        let _ = tokio::time::timeout(HOLD_MAX, settled).await;
        self.reign()
    }

    pub fn begin(&self, reign: Reign) {
        self.reign.send_replace(Some(reign));
    }

    /// Ends every session: their agents go to the next leader.
    pub fn end(&self) {
        if let Some(reign) = self.reign.send_replace(None) {
            reign.ended.cancel();
        }
        let sessions = std::mem::take(&mut *locked(&self.sessions));
        locked(&self.attaches).clear();
        metrics::gauge!("muster_manager_sessions").set(0.0);
        let why = self.not_leader();
        for session in sessions.into_values() {
            session.closing.close(why.clone());
        }
    }

    pub fn not_leader(&self) -> Status {
        let leadership = self.replica.leadership();
        let leader = leadership.borrow().leader.clone().filter(|(id, _)| *id != self.me);
        wire::not_leader(leader)
    }

    /// Registers a session; an older one of its instance is ended.
    pub fn enter(&self, session: Arc<Session>) {
        let mut sessions = locked(&self.sessions);
        let older = sessions.insert(session.instance, session);
        metrics::gauge!("muster_manager_sessions").set(sessions.len() as f64);
        drop(sessions);
        if let Some(older) = older {
            let why = "a newer session of this container instance has begun";
            older.closing.close(Status::aborted(why));
        }
    }

    /// Forgets a session, unless a newer one has its place.
    pub fn leave(&self, instance: InstanceId, id: SessionId) {
        let mut sessions = locked(&self.sessions);
        if sessions.get(&instance).is_some_and(|session| session.id == id) {
            sessions.remove(&instance);
        }
        metrics::gauge!("muster_manager_sessions").set(sessions.len() as f64);
    }

    fn session(&self, instance: InstanceId) -> Option<Arc<Session>> {
        locked(&self.sessions).get(&instance).cloned()
    }

    /// Queues a message for an agent without ever waiting: an agent that does not read loses its
    /// session and gets the complete set in the next one.
    pub fn send(&self, instance: InstanceId, id: SessionId, message: pb::ManagerMessage) {
        let Some(session) = self.session(instance).filter(|session| session.id == id) else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = session.queue.try_send(message) {
            metrics::counter!("muster_manager_sessions_slow_total").increment(1);
            tracing::warn!(%instance, "agent does not read its orders, its session is ended");
            session.closing.close(Status::resource_exhausted(format!(
                "{SESSION_QUEUE_MAX} messages wait to be read; connect again"
            )));
        }
    }

    /// Ends one session.
    pub fn close(&self, instance: InstanceId, id: SessionId, why: Status) {
        if let Some(session) = self.session(instance).filter(|session| session.id == id) {
            session.closing.close(why);
            self.leave(instance, id);
        }
    }

    /// Orders the agent of `instance` to open an attach stream, which arrives at the receiver.
    ///
    /// # Errors
    /// `Unavailable` if the agent has no session here or too many orders wait already.
    pub fn order_attach(
        &self,
        instance: InstanceId,
        mut order: pb::AttachOrder,
    ) -> Result<Order, Error> {
        let unavailable = |why: String| Error::Unavailable { why };
        let Some(session) = self.session(instance) else {
            let why = format!("the agent of container instance {instance} is not connected");
            return Err(unavailable(why));
        };
        let attach = rand::random::<u128>();
        let (paired, stream) = oneshot::channel();
        {
            let mut attaches = locked(&self.attaches);
            if attaches.len() >= ATTACHES_MAX {
                let why = format!("{ATTACHES_MAX} log and exec requests wait for their agents");
                return Err(unavailable(why));
            }
            attaches.insert(attach, Pending { instance, paired });
        }
        order.attach = attach.to_be_bytes().to_vec().into();
        let message = pb::manager_message::Message::Attach(order);
        self.send(instance, session.id, pb::ManagerMessage { message: Some(message) });
        Ok(Order { attach, stream, closed: session.closing.token.clone() })
    }

    /// Forgets an order that nobody waits for any more.
    pub fn cancel_attach(&self, attach: u128) {
        locked(&self.attaches).remove(&attach);
    }

    /// Hands an agent's stream to whoever ordered it. `None` if nobody did, or not of this agent.
    pub fn pair(&self, instance: InstanceId, attach: u128) -> Option<oneshot::Sender<Attached>> {
        let mut attaches = locked(&self.attaches);
        let ours = attaches.get(&attach).is_some_and(|pending| pending.instance == instance);
        ours.then(|| attaches.remove(&attach)).flatten().map(|pending| pending.paired)
    }

    /// The cluster's authority, as `state` has it.
    ///
    /// # Errors
    /// When the state holds none, or not one of ours.
    pub fn authority(&self, state: &State) -> Result<Arc<Authority>, Error> {
        let row = &state.meta().authority;
        let mut cached = locked(&self.authority);
        if let Some((pem, authority)) = &*cached
            && *pem == row.certificate_pem
        {
            return Ok(authority.clone());
        }
        let authority = Authority::from_pem(&row.certificate_pem, &row.key_pem)
            .map_err(|error| Error::Unavailable { why: format!("cluster authority: {error}") })?;
        let authority = Arc::new(authority);
        *cached = Some((row.certificate_pem.clone(), authority.clone()));
        Ok(authority)
    }
}

/// No code of ours panics with a lock held; if some did, the maps would still be whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
