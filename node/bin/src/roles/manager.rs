//! The manager: store, brain and front ends behind one mTLS listener.

use super::front::Front;
use super::{LEVEL, RoleError, ecs, found, identity_dir, stop_on_signal};
use crate::config::{self, ManagerConfig, TimingProfile};
use clap::Args;
use muster_api::ecs::Trust;
use muster_api::simulate::Simulator;
use muster_api::{Api, ApiConfig, LiveBackend, live};
use muster_identity::{Connector, Identity};
use muster_manager::{Endpoints, Live, Manager, Parts};
use muster_model::{Command, Entry, Error, Principal, RaftId, TaskId};
use muster_process::clock::{self, Clock};
use muster_process::telemetry;
use muster_proto::dispatch::attach_order::What;
use muster_replica::{Instant, Replica};
use muster_store::{StoreConfig, Timing};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a stopping manager waits for another to lead.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How long calls under way may take to end once it stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long one try to found the cluster waits for a leader.
const FOUND_WAIT: Duration = Duration::from_secs(5);

/// Run a manager.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster manager --config /etc/muster/manager.toml")]
pub struct ManagerArguments {
    /// What `muster init` or `muster join` wrote.
    #[arg(long, default_value = config::MANAGER_CONFIG)]
    config: PathBuf,
}

/// Runs until SIGTERM or SIGINT, then hands leadership over and ends.
///
/// # Errors
/// The configuration, the identity or the data directory cannot be used, or the port is taken.
pub async fn manager(arguments: ManagerArguments) -> Result<(), RoleError> {
    let config: ManagerConfig = muster_process::config::read(&arguments.config, "muster init")?;
    config.telemetry.check()?;
    let telemetry =
        telemetry::start("manager", &config.telemetry).await.map_err(RoleError::Telemetry)?;
    super::join_traces(&telemetry);
    let result = run(&config, clock::start(), stop_on_signal()?, Manner::default()).await;
    telemetry.finish();
    result
}

/// How a manager in a laptop's process differs from one in production.
pub struct Manner {
    pub trust: Trust,
    pub simulator: Option<Arc<dyn Simulator>>,
    /// Told once the cluster is founded.
    pub founded: CancellationToken,
    /// Begin without any cluster, not even `default`, as an AWS account does.
    pub empty: bool,
}

impl Default for Manner {
    fn default() -> Self {
        let founded = CancellationToken::new();
        Self { trust: Trust::Signed, simulator: None, founded, empty: false }
    }
}

/// The manager itself, without the process around it.
pub async fn run(
    config: &ManagerConfig,
    clock: Clock,
    stop: CancellationToken,
    manner: Manner,
) -> Result<(), RoleError> {
    let identity = Identity::load(&identity_dir(&config.data_dir))?;
    let id = manager_of(&identity, &config.data_dir)?;
    let first = found::pending_bootstrap(&config.data_dir)?;
    let listener = listen(config.listen).await?;
    let store = store_config(config, &identity, id, first.is_some());
    let started = muster_store::start(store, Arc::new(Connector::new(identity.clone()))).await?;
    let replica = started.replica.clone();

    let manager = Manager::new(Parts {
        id,
        replica: replica.clone(),
        clock: clock.clone(),
        identity: identity.clone(),
        identity_dir: Some(identity_dir(&config.data_dir)),
        address: config.address.clone(),
        level: LEVEL,
        heartbeat: Duration::from_millis(muster_model::limits::HEARTBEAT.0),
        issuer: issuer(config),
        endpoints: endpoints(config)?,
    });
    let wire = match &config.ecs {
        Some(ecs) => Some(ecs::bind(ecs, &config.address, &replica, &clock).await?),
        None => None,
    };
    let api = front_ends(&clock, &replica, &manager, manner.simulator, issuer(config)).await?;
    let routes = api
        .routes()
        .add_service(manager.dispatch())
        .add_service(manager.enroll())
        .add_service(started.service);
    let closed = CancellationToken::new();
    let incoming =
        muster_identity::incoming(listener, identity, muster_identity::Options::default());
    let front = Front::start()?;
    let servers = front.serve(incoming, &api.guard(), &routes, &closed);
    tracing::info!(manager = %id, address = %config.address, "manager is up");
    let leading = CancellationToken::new();
    let brain = tokio::spawn(manager.run(leading.clone()));
    if let Some(command) = first {
        let first = First { id, command, empty: manner.empty };
        stop.run_until_cancelled(found_cluster(&replica, &clock, first, &config.data_dir))
            .await
            .transpose()?;
    }
    manner.founded.cancel();
    let wire = wire.map(|wire| front.spawn(wire.serve(api.ecs(manner.trust), closed.clone())));

    stop.cancelled().await;
    tracing::info!(manager = %id, "stopping: handing leadership over");
    api.stop_serving().await;
    started.handle.hand_over(HAND_OVER).await;
    closed.cancel();
    if let Some(wire) = wire {
        ended("the ECS listener", tokio::time::timeout(DRAIN, wire).await.unwrap_or(Ok(())));
    }
    // What is under way is done through the next leader.
    let _ = tokio::time::timeout(DRAIN, api.drained()).await;
    leading.cancel();
    ended("the leader's loop", brain.await);
    // Other managers' streams into this one end with the store, not by themselves.
    let served = tokio::time::timeout(DRAIN, futures::future::join_all(servers));
    let (served, ()) = tokio::join!(served, started.handle.shutdown());
    if served.is_err() {
        tracing::warn!("calls still under way are cut off");
    }
    for joined in served.unwrap_or_default() {
        match joined {
            Ok(Err(error)) => tracing::warn!(%error, "the listener ended badly"),
            joined => ended("the listener", joined.map(|_| ())),
        }
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RoleError> {
    TcpListener::bind(address).await.map_err(|source| RoleError::Listen { address, source })
}

fn manager_of(identity: &Identity, data_dir: &Path) -> Result<RaftId, RoleError> {
    match identity.principal() {
        Principal::Manager(id) => Ok(id),
        other => Err(RoleError::Failed(format!(
            "{} holds the identity of {other}, not of a manager; start `muster agent` with it, or \
             join again with a manager's token",
            data_dir.display(),
        ))),
    }
}

/// What calls lifecycle hooks while this manager leads.
fn endpoints(config: &ManagerConfig) -> Result<Endpoints, RoleError> {
    let mut authorities = Vec::new();
    for path in &config.lifecycle_hooks.authorities {
        authorities.extend(std::fs::read(path).map_err(RoleError::file("reading", path))?);
    }
    Endpoints::new(&authorities).map_err(|error| RoleError::Failed(error.to_string()))
}

/// The URL that tasks' identities name as their issuer.
fn issuer(config: &ManagerConfig) -> Option<Arc<str>> {
    config.ecs.as_ref().and_then(|ecs| ecs.issuer.as_deref()).map(Arc::from)
}

async fn front_ends(
    clock: &Clock,
    replica: &Replica,
    manager: &Manager,
    simulator: Option<Arc<dyn Simulator>>,
    issuer: Option<Arc<str>>,
) -> Result<Api, RoleError> {
    let parts = ApiConfig {
        now: clock.clone(),
        seed: rand::random(),
        current_trace: Some(telemetry::current_trace),
        simulator,
        adopt_parent: Some(telemetry::adopt_parent),
        foresee: Arc::new(muster_control::leader::foresee::foresee),
        issuer,
    };
    Api::new(parts, replica.clone(), Arc::new(Sessions(manager.live())))
        .await
        .map_err(|error| RoleError::Failed(format!("describing the services: {error}")))
}

fn ended(what: &str, joined: Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined {
        tracing::error!(%error, "{what} ended badly");
    }
}

fn store_config(
    config: &ManagerConfig,
    identity: &Identity,
    id: RaftId,
    bootstrap: bool,
) -> StoreConfig {
    let dir = config.data_dir.join("raft");
    let mut store = StoreConfig::new(dir, fleet(identity), id.0, config.address.clone());
    store.timing = match config.timing {
        TimingProfile::Lan => Timing::LAN,
        TimingProfile::Fast => Timing::FAST,
        TimingProfile::Wan => Timing::millis(300, 1000, 2000),
    };
    store.log_bytes_max = config.log_mib.saturating_mul(1024 * 1024);
    store.bootstrap = bootstrap;
    store
}

/// Which set of managers this is: the first 128 bits of its authority's digest.
fn fleet(identity: &Identity) -> u128 {
    let digest = identity.ca_digest().to_string();
    digest.get(..32).and_then(|hex| u128::from_str_radix(hex, 16).ok()).unwrap_or_default()
}

/// What a cluster begins with.
struct First {
    id: RaftId,
    command: Command,
    empty: bool,
}

/// Commits the first entry, as often as it takes: a repeat of it is refused by the state itself.
async fn found_cluster(
    replica: &Replica,
    clock: &Clock,
    first: First,
    data_dir: &Path,
) -> Result<(), RoleError> {
    let mut commands = vec![first.command];
    if first.empty {
        commands.push(Command::Reset);
    }
    for command in commands {
        if let Err(error) = commit(replica, clock, first.id, command).await {
            // An earlier start got this far.
            if !matches!(error, Error::Exists { .. }) {
                return Err(error.into());
            }
        }
    }
    tracing::info!("the cluster is founded");
    found::bootstrap_done(data_dir)
}

async fn commit(
    replica: &Replica,
    clock: &Clock,
    by: RaftId,
    command: Command,
) -> Result<(), Error> {
    let (request, by) = (super::fresh_request(), Principal::Manager(by));
    loop {
        let (by, command) = (by.clone(), command.clone());
        let entry = Entry { request, at: clock(), by, trace: None, command };
        match replica.propose(entry, Instant::now() + FOUND_WAIT).await {
            Ok(_) => return Ok(()),
            Err(error @ (Error::Unavailable { .. } | Error::UnknownOutcome { .. })) => {
                tracing::debug!(%error, "founding the cluster: trying again");
            }
            Err(error) => return Err(error),
        }
    }
}

/// Logs and commands in containers travel over the agents' sessions.
struct Sessions(Live);

#[tonic::async_trait]
impl LiveBackend for Sessions {
    async fn attach(&self, task: TaskId, what: What) -> Result<live::Attached, Error> {
        let attached = self.0.attach(task, what).await?;
        Ok(live::Attached { up: Box::pin(attached.up), down: attached.down })
    }
}
