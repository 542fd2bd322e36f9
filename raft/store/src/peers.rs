//! Connections to the other managers, and who they must prove to be.
//!
//! Three connections per peer, so that a vote or heartbeat never waits behind log entries, nor
//! those behind a snapshot. It does not know what is sent. Invariant: every message names the
//! fleet, both ids and both disks, and is taken only if all five are as this manager knows them.

use crate::health::Health;
use crate::limits::RECONNECT_AFTER;
use crate::open::Identity;
use crate::relapse::Relapses;
use crate::types::{Membership, Peer};
use muster_model::RaftId;
use muster_proto::raft::Header;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// How managers reach and recognise each other: TLS in a real process.
pub trait Trust: Send + Sync + 'static {
    /// A channel that connects when it is first used, and again whenever it must.
    fn channel(&self, address: &str) -> Result<Channel, String>;
    /// The manager that sent a request, from what its connection proved.
    #[allow(clippy::result_large_err)] // tonic's own type
    fn sender(&self, request: &Request<()>) -> Result<RaftId, Status>;
}

impl Trust for muster_identity::Connector {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        let options = muster_identity::ConnectOptions {
            connect_timeout: RECONNECT_AFTER,
            keepalive_interval: RECONNECT_AFTER,
            keepalive_while_idle: true,
            keepalive_timeout: 2 * RECONNECT_AFTER,
        };
        self.connect_lazy(address, options).map_err(|e| e.to_string())
    }
    fn sender(&self, request: &Request<()>) -> Result<RaftId, Status> {
        muster_identity::require_manager(request)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// Heartbeats, votes, questions: small and urgent.
    Control,
    /// Log entries and forwarded proposals.
    Bulk,
    Snapshot,
}

/// One connection and how it fares.
struct Open {
    address: String,
    channel: Channel,
    /// Since when every call over it has failed.
    failing: Option<Instant>,
}

/// All connections of this manager.
pub struct Peers {
    me: Identity,
    trust: Arc<dyn Trust>,
    pub health: Arc<Health>,
    lines: Mutex<BTreeMap<(u64, Line), Open>>,
    members: RwLock<Arc<Membership>>,
    pub relapses: Relapses,
    /// When a refused message was last logged: who is refused tries again at once.
    told: Mutex<Option<Instant>>,
}

/// Between two lines about refused messages.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Peers {
    pub fn new(me: Identity, trust: Arc<dyn Trust>, health: Arc<Health>) -> Self {
        let members = RwLock::new(Arc::new(Membership::default()));
        Self {
            me,
            trust,
            health,
            lines: Mutex::default(),
            members,
            relapses: Relapses::default(),
            told: Mutex::default(),
        }
    }

    pub fn me(&self) -> Identity {
        self.me
    }

    /// The membership that is in force here now.
    pub fn members(&self) -> Arc<Membership> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_members(&self, members: Arc<Membership>) {
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members;
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<(u64, Line), Open>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel to a peer; a new one if its address has changed.
    pub fn channel(&self, id: u64, address: &str, line: Line) -> Result<Channel, String> {
        let mut lines = self.lines();
        match lines.get(&(id, line)) {
            Some(open) if open.address == address => Ok(open.channel.clone()),
            _ => {
                let channel = self.trust.channel(address)?;
                let (address, kept) = (address.to_owned(), channel.clone());
                lines.insert((id, line), Open { address, channel: kept, failing: None });
                Ok(channel)
            }
        }
    }

    /// A channel that is not kept: for an address that is no member yet.
    pub fn stranger(&self, address: &str) -> Result<Channel, String> {
        self.trust.channel(address)
    }

    /// A call was answered.
    pub fn answered(&self, id: u64, line: Line) {
        self.health.peer_answered(id);
        if let Some(open) = self.lines().get_mut(&(id, line)) {
            open.failing = None;
        }
    }

    /// A call failed. After a while of nothing else the connection is made anew: a peer that
    /// vanished without a word leaves one that looks alive. One that is only slow, and answers on
    /// other lines, is given longer.
    pub fn failed(&self, id: u64, line: Line) {
        let alive = self.health.answered(id).is_some_and(|at| at.elapsed() < RECONNECT_AFTER);
        let patience = if alive { RECONNECT_AFTER * 3 } else { RECONNECT_AFTER };
        let mut lines = self.lines();
        let Some(open) = lines.get_mut(&(id, line)) else { return };
        if open.failing.get_or_insert_with(Instant::now).elapsed() >= patience {
            lines.remove(&(id, line));
        }
    }

    /// Lets go of all connections.
    pub fn close(&self) {
        self.lines().clear();
    }

    pub fn header(&self, to: u64, node: &Peer) -> Header {
        Header {
            fleet: self.me.fleet.to_be_bytes().to_vec().into(),
            from: self.me.raft_id,
            from_disk: self.me.disk,
            to,
            to_disk: node.disk,
        }
    }

    fn tell_now(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        if due {
            *told = Some(Instant::now());
        }
        due
    }

    /// Who sent a request, if the connection proves it.
    #[allow(clippy::result_large_err)] // tonic's own type
    pub fn sender(&self, request: &Request<()>) -> Result<u64, Status> {
        self.trust.sender(request).map(|id| id.0)
    }

    /// Refuses a message that is not from whom the connection belongs to, not for this disk, of
    /// another fleet, or from a disk other than the one its id was added with.
    #[allow(clippy::result_large_err)] // tonic's own type
    pub fn check(&self, sender: u64, header: Option<&Header>) -> Result<u64, Status> {
        let header = header.ok_or_else(|| Status::invalid_argument("header is missing"))?;
        let me = self.me;
        let refuse = |why: String| {
            if self.tell_now() {
                tracing::warn!(from = header.from, why, "refusing messages between managers");
            }
            Err(Status::permission_denied(why))
        };
        if header.from != sender {
            return refuse(format!("manager {sender} may not speak for {}", header.from));
        }
        if header.fleet[..] != me.fleet.to_be_bytes() {
            return refuse("this manager belongs to another set of managers".into());
        }
        if header.to != me.raft_id {
            return refuse(format!("this is manager {}, not {}", me.raft_id, header.to));
        }
        if header.to_disk != me.disk {
            return refuse(format!(
                "the data directory of manager {} was wiped or replaced; take it out with `muster \
                 operator raft remove {}` and join again, which gives it a new id",
                me.raft_id, me.raft_id
            ));
        }
        match self.members().get_node(&sender) {
            Some(node) if node.disk != header.from_disk => refuse(format!(
                "manager {sender} speaks from a wiped or replaced data directory; take it out with \
                 `muster operator raft remove {sender}` and join again, which gives it a new id"
            )),
            _ => Ok(sender),
        }
    }
}
