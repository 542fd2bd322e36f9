//! A manager's part in a cluster: runs the brain while this manager leads, serves the agents'
//! streams, lets machines in.
//!
//! It obeys: what to do is decided in `muster-control`, what is true in `muster-model`. It knows
//! time, sockets and certificates, and not why a task is placed where it is.
//! Invariant: everything started here is joined before [`Manager::run`] returns.

mod bootstrap;
mod confirm;
mod credentials;
mod dispatch;
mod drive;
mod endpoints;
mod enroll;
mod hooks;
mod hub;
mod lead;
pub mod limits;
mod live;
mod members;
mod placed;
mod secrets;
pub mod spans;
mod upkeep;
mod wire;

pub use bootstrap::{FIRST_MANAGER, Founded, Founding, bootstrap_command};
pub use dispatch::DispatchService;
pub use endpoints::{Endpoints, EndpointsError};
pub use enroll::{EnrollService, check_manager};
pub use hub::Attached;
pub use live::Live;

use hub::Hub;
use muster_identity::Identity;
use muster_model::{RaftId, Time};
use muster_proto::dispatch::dispatch_server::DispatchServer;
use muster_proto::dispatch::enroll_server::EnrollServer;
use muster_replica::Replica;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A cheap handle on the process's clock: wall time at start plus monotonic time since.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// What a manager is made of.
pub struct Parts {
    /// The Raft id in its certificate.
    pub id: RaftId,
    pub replica: Replica,
    pub clock: Clock,
    pub identity: Identity,
    /// Where the identity is saved when it is renewed; `None` keeps it in memory.
    pub identity_dir: Option<PathBuf>,
    /// host:port that others reach this manager at.
    pub address: String,
    /// The newest command level this binary can apply.
    pub level: u32,
    /// How often agents say that they live; `limits::HEARTBEAT` of the model but for tests.
    pub heartbeat: Duration,
    /// The URL that tasks' identities name as their issuer; `None`: none are given out.
    pub issuer: Option<Arc<str>>,
    /// What calls lifecycle hooks while this manager leads.
    pub endpoints: Endpoints,
}

/// A manager's services, and the loop behind them.
pub struct Manager {
    hub: Arc<Hub>,
    identity_dir: Option<PathBuf>,
    address: String,
    level: u32,
}

impl Manager {
    pub fn new(parts: Parts) -> Self {
        let (identity_dir, address) = (parts.identity_dir.clone(), parts.address.clone());
        let level = parts.level;
        Self { hub: Arc::new(Hub::new(parts)), identity_dir, address, level }
    }

    /// The agents' service, for a tonic router.
    pub fn dispatch(&self) -> DispatchServer<DispatchService> {
        DispatchServer::new(DispatchService { hub: self.hub.clone() })
            .max_decoding_message_size(limits::AGENT_MESSAGE_BYTES_MAX)
    }

    /// The service of joining machines, for a tonic router.
    pub fn enroll(&self) -> EnrollServer<EnrollService> {
        EnrollServer::new(EnrollService { hub: self.hub.clone() })
    }

    /// Logs and commands in containers.
    pub fn live(&self) -> Live {
        Live { hub: self.hub.clone() }
    }

    /// Leads whenever Raft says so, until `stop`; then ends every session and joins every task.
    pub async fn run(self, stop: CancellationToken) {
        let hub = &self.hub;
        let work = async {
            tokio::join!(
                lead::follow(hub.clone()),
                hub.stop.run_until_cancelled(upkeep::announce(hub, &self.address, self.level)),
                hub.stop.run_until_cancelled(upkeep::renew(hub, self.identity_dir.as_deref())),
            )
        };
        let stopped = async {
            stop.cancelled().await;
            hub.stop.cancel();
        };
        tokio::join!(work, stopped);
        hub.end();
        hub.readers.close();
        hub.readers.wait().await;
    }
}
