//! Raft over RocksDB: the log, the tables, snapshots, the network between managers, and the
//! [`Replica`] handle on top.
//!
//! It does not know what a task is: it sees rows, `apply` and `diff`. The only crate that names
//! openraft, RocksDB and bincode. Start with [`start`]; read `writer.rs` for how a write becomes
//! durable, `machine.rs` for how it is applied, `raft.rs` for how it is answered.

mod batch;
pub mod codec;
mod disk;
mod error;
mod forward;
mod frames;
mod guard;
mod health;
pub mod limits;
mod log;
mod machine;
mod members;
mod network;
mod open;
mod peers;
mod raft;
mod relapse;
mod rounds;
mod rows;
mod service;
mod snapshot;
pub mod spans;
mod tables;
#[cfg(test)]
mod tests;
mod tuning;
mod types;
mod wire;
mod writer;

pub use disk::SpaceLimits;
pub use error::StoreError;
pub use peers::Trust;
pub use service::{RaftService, Service};
pub use writer::{Fatal, Hook, Point, abort_process};

use disk::Space;
use health::Health;
use log::{Log, LogShared};
use machine::{Machine, Published};
use muster_replica::Replica;
use network::Network;
use open::{Borrowed, Identity, Opened};
use openraft::{Config, SnapshotPolicy};
use peers::Peers;
use raft::{Core, Parts};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How fast managers notice that one of them is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}

impl Timing {
    /// For a local network: a new leader about half a second after the old one died.
    pub const LAN: Self = Self::millis(50, 150, 300);
    /// For one machine or rack: a quarter of a second; needs quiet disks and processors.
    pub const FAST: Self = Self::millis(25, 75, 150);

    pub const fn millis(heartbeat: u64, election_min: u64, election_max: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat),
            election_min: Duration::from_millis(election_min),
            election_max: Duration::from_millis(election_max),
        }
    }
}

/// Where and as whom a store runs.
#[derive(Clone)]
pub struct StoreConfig {
    /// Belongs to this manager alone; formatted if it is empty.
    pub data_dir: PathBuf,
    /// Which set of managers: all of them agree on it, for good. A directory of another is
    /// refused, and so is every message.
    pub fleet: u128,
    /// Given out by the log, never reused.
    pub raft_id: u64,
    /// `host:port` at which the other managers reach this one.
    pub address: String,
    pub timing: Timing,
    /// The log is purged beyond this size; half of it stays.
    pub log_bytes_max: u64,
    pub space: SpaceLimits,
    /// Makes this the first and only manager of a new fleet, if the directory is empty. To be set
    /// by `init` alone: on a wiped disk of an old fleet it would begin a second one.
    pub bootstrap: bool,
    pub fatal: Fatal,
    pub hook: Hook,
}

impl StoreConfig {
    /// With the defaults for a local network.
    pub fn new(data_dir: impl Into<PathBuf>, fleet: u128, raft_id: u64, address: String) -> Self {
        Self {
            data_dir: data_dir.into(),
            fleet,
            raft_id,
            address,
            timing: Timing::LAN,
            log_bytes_max: limits::LOG_BYTES_MAX,
            space: SpaceLimits::DEFAULT,
            bootstrap: false,
            fatal: abort_process(),
            hook: Arc::new(|_| {}),
        }
    }

    fn raft(&self) -> Result<Config, StoreError> {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: format!("{:032x}", self.fleet),
            heartbeat_interval: millis(self.timing.heartbeat),
            election_timeout_min: millis(self.timing.election_min),
            election_timeout_max: millis(self.timing.election_max),
            enable_pre_vote: Some(true),
            // A restarted leader's tables may lag behind what it had acknowledged: it has to be
            // elected again, which makes it commit, and so apply, everything first.
            enable_leader_restore: Some(false),
            max_payload_entries: limits::APPEND_ENTRIES_MAX,
            // By bytes, not by entries: see `guard.rs`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            install_snapshot_timeout: millis(limits::SNAPSHOT_TIMEOUT),
            // A follower that lost entries gets them again: see `relapse.rs`.
            allow_log_reversion: Some(true),
            replication_lag_threshold: limits::PROMOTE_LAG_MAX,
            backoff: "20ms 50ms 100ms ..500ms".to_owned(),
            ..Config::default()
        };
        config.validate().map_err(|e| StoreError::Raft(e.to_string()))
    }
}

/// A running store.
pub struct Started {
    pub replica: Replica,
    /// To be served on the managers' listener.
    pub service: RaftService,
    pub handle: Handle,
}

/// Stops a store in good order.
pub struct Handle {
    core: Arc<Core>,
    writer: writer::Writer,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Opens the data directory and starts Raft on it. Must run inside a tokio runtime.
///
/// # Errors
/// When the directory is damaged, of another release or of another manager: see [`StoreError`].
pub async fn start(config: StoreConfig, trust: Arc<dyn Trust>) -> Result<Started, StoreError> {
    let raft_config = Arc::new(config.raft()?);
    let dir = config.data_dir.clone();
    let (fleet, raft_id) = (config.fleet, config.raft_id);
    let wanted = Identity { fleet, raft_id, disk: random_disk()? };
    let opened = tokio::task::spawn_blocking(move || open::open(&dir, wanted)).await;
    let opened = opened.map_err(|e| StoreError::Raft(e.to_string()))??;
    let Opened { db, mark, tail, applied, generation, identity } = opened;

    let health = Arc::new(Health::default());
    let borrowed = Borrowed::of(&db);
    let log = Arc::new(LogShared::new(borrowed.clone(), tail));
    let (writer, thread) = writer::start(writer::Thread {
        db,
        log: log.clone(),
        mark,
        health: health.clone(),
        fatal: config.fatal.clone(),
        hook: config.hook.clone(),
        reserve: disk::reserve(&config.data_dir),
        persisted: applied.state.clone(),
        generation,
    })
    .map_err(|e| StoreError::io(&config.data_dir, e))?;
    let published = Published::new(&applied);
    let (hook, shown) = (config.hook.clone(), published.clone());
    let machine = Machine::new(borrowed, writer.clone(), shown, hook, applied);
    let peers = Arc::new(Peers::new(identity, trust, health.clone()));
    let parts = (Network { peers: peers.clone() }, Log::new(log.clone(), writer.clone()), machine);
    let raft = match raise(&config, raft_config, identity, parts).await {
        Ok(raft) => raft,
        Err(e) => {
            close(&writer, thread).await;
            return Err(e);
        }
    };
    // Known before the first message is checked: a wiped disk must not slip through at start.
    let members = members::of(&raft).await.map_err(|e| StoreError::Raft(e.to_string()))?;
    peers.set_members(Arc::new(members));
    let core = Core::start(Parts { raft, peers, health, log, published }, &config);
    let space = Space::new(&config.data_dir, config.space);
    guard::start(&core, space, config.fatal.clone(), config.log_bytes_max).await;
    Ok(Started {
        replica: Replica::new(core.clone()),
        service: service::service(&core),
        handle: Handle { core, writer, thread: Some(thread) },
    })
}

/// Starts Raft, as the first manager of a fleet if that is what was asked for.
async fn raise(
    config: &StoreConfig,
    raft_config: Arc<Config>,
    me: Identity,
    (network, log, machine): (Network, Log, Machine),
) -> Result<types::Raft, StoreError> {
    let failed = |e: &dyn std::fmt::Display| StoreError::Raft(e.to_string());
    let raft = types::Raft::new(me.raft_id, raft_config, network, log, machine)
        .await
        .map_err(|e| failed(&e))?;
    if config.bootstrap && !raft.is_initialized().await.map_err(|e| failed(&e))? {
        let peer = types::Peer { address: config.address.clone(), disk: me.disk };
        let first = BTreeMap::from([(me.raft_id, peer)]);
        raft.initialize(first).await.map_err(|e| failed(&e))?;
    }
    Ok(raft)
}

/// Writes what is queued and closes the database, which is the writer thread's.
async fn close(writer: &writer::Writer, thread: std::thread::JoinHandle<()>) {
    writer.stop().await;
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
}

/// From the kernel: a disk is told apart from every other one that ever was.
fn random_disk() -> Result<u64, StoreError> {
    use std::io::Read;
    let path = std::path::Path::new("/dev/urandom");
    let mut bytes = [0; 8];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| StoreError::io(path, e))?;
    // 0 means "unknown" on the wire.
    Ok(u64::from_le_bytes(bytes).max(1))
}

impl Handle {
    /// Hands over leadership if this manager leads; returns when another leads or after `limit`.
    pub async fn hand_over(&self, limit: Duration) {
        if !self.core.leadership.borrow().mine {
            return;
        }
        let change = muster_replica::Change::Transfer(None);
        let _ = tokio::time::timeout(limit, members::change_here(&self.core, change)).await;
    }

    /// Hands over, stops Raft, writes what is queued and closes the database.
    pub async fn shutdown(self) {
        self.hand_over(Duration::from_secs(2)).await;
        self.halt().await;
    }

    /// Stops without handing over: the others find out by the silence.
    pub async fn halt(mut self) {
        self.core.stop.send_replace(true);
        if let Err(e) = self.core.raft.shutdown().await {
            tracing::warn!(error = %e, "raft did not stop in good order");
        }
        self.core.peers.close();
        if let Some(thread) = self.thread.take() {
            close(&self.writer, thread).await;
        }
    }
}
