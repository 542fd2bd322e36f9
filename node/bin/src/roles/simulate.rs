//! The agents of simulated instances, in this process: each joins the cluster with a token like any
//! machine, keeps a session like any agent, and only pretends to run containers.
//!
//! It does not know why an instance is wanted. They are kept across a restart of the process.

use super::{Machine, RoleError, agent, identity_dir};
use crate::cli;
use muster_agent::config::{AgentConfig, Capacity, SimulateConfig};
use muster_api::simulate::Simulator;
use muster_identity::{Identity, JoinToken};
use muster_model::{Error, InstanceId, InstanceSpec, InstanceStatus, Principal, State};
use muster_process::clock::Clock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an instance may take to join its own process's manager.
const JOIN_WAIT: Duration = Duration::from_secs(10);
/// Agents in one process: each is a session and a few tasks, some 200 KiB.
const INSTANCES_MAX: usize = 1000;
/// What an instance is, beside its identity, for the next start.
const CONFIG: &str = "agent.json";

/// Runs simulated instances until `stop`.
pub struct Instances {
    /// One directory per instance below it.
    dir: PathBuf,
    manager: String,
    token: JoinToken,
    clock: Clock,
    stop: CancellationToken,
    running: Mutex<BTreeMap<InstanceId, CancellationToken>>,
    agents: TaskTracker,
}

impl Instances {
    pub fn new(
        dir: PathBuf,
        manager: String,
        token: JoinToken,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        let (running, agents) = (Mutex::default(), TaskTracker::new());
        Self { dir, manager, token, clock, stop, running, agents }
    }

    /// Starts the agents of an earlier run.
    ///
    /// # Errors
    /// Their directories cannot be read.
    pub fn resume(&self) -> Result<(), RoleError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(RoleError::file("reading", &self.dir)(error)),
        };
        for entry in entries.filter_map(Result::ok) {
            let dir = entry.path();
            // One that was cut off while joining has no identity, and no row.
            let (Ok(identity), Ok(text)) =
                (Identity::load(&identity_dir(&dir)), std::fs::read(dir.join(CONFIG)))
            else {
                remove(&dir);
                continue;
            };
            let config = serde_json::from_slice(&text)
                .map_err(|error| RoleError::Failed(format!("{}: {error}", dir.display())))?;
            self.start(config, identity);
        }
        Ok(())
    }

    /// Waits for all agents to end.
    pub async fn ended(&self) {
        self.agents.close();
        self.agents.wait().await;
    }

    fn start(&self, config: AgentConfig, identity: Identity) {
        let Principal::Instance(id) = identity.principal() else { return };
        let stop = self.stop.child_token();
        self.running().insert(id, stop.clone());
        let (clock, process, dir) =
            (self.clock.clone(), self.stop.clone(), config.data_dir.clone());
        self.agents.spawn(async move {
            if let Err(error) = muster_agent::run(config, identity, clock, stop).await {
                tracing::error!(instance = %id, %error, "simulated agent ended");
            }
            // With the process it only pauses.
            if !process.is_cancelled() {
                remove(&dir);
            }
        });
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<InstanceId, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self, cluster: &str, spec: &InstanceSpec) -> Result<AgentConfig, RoleError> {
        let name = format!("{:032x}", rand::random::<u128>());
        let mut config = agent::config_of(Machine {
            data_dir: self.dir.join(name),
            managers: vec![self.manager.clone()],
            cluster: cluster.to_owned(),
            zone: spec.zone.clone(),
            address: spec.address.clone(),
        })?;
        config.hostname = Some(spec.hostname.clone());
        config.attributes = spec
            .attributes
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()))
            .collect();
        let (cpu, memory_mib) = (spec.total.cpu, spec.total.memory_mib);
        config.capacity = Some(Capacity { cpu, memory_mib });
        config.resources = spec.resources.clone();
        config.reserved_ports = spec.reserved_ports.iter().copied().collect();
        config.simulate = Some(SimulateConfig::default());
        Ok(config)
    }

    async fn join(&self, config: &AgentConfig) -> Result<Identity, RoleError> {
        let joined = cli::join_worker(&self.token, config, JOIN_WAIT)
            .await
            .map_err(|error| RoleError::Failed(error.to_string()))?;
        joined.identity.save(&identity_dir(&config.data_dir))?;
        let text = serde_json::to_vec(config)
            .map_err(|error| RoleError::Failed(format!("encoding a configuration: {error}")))?;
        let path = config.data_dir.join(CONFIG);
        std::fs::write(&path, text).map_err(RoleError::file("writing", &path))?;
        Ok(joined.identity)
    }
}

#[tonic::async_trait]
impl Simulator for Instances {
    async fn register(&self, cluster: &str, spec: InstanceSpec) -> Result<InstanceId, Error> {
        let count = self.running().len();
        if count >= INSTANCES_MAX {
            let (value, limit) = (count as u64 + 1, INSTANCES_MAX as u64);
            let what = "simulated instances of one process".to_owned();
            return Err(Error::LimitExceeded { what, value, limit });
        }
        let failed = |error: RoleError| Error::Unavailable { why: error.to_string() };
        let config = self.config(cluster, &spec).map_err(failed)?;
        let identity = self.join(&config).await.map_err(failed)?;
        let Principal::Instance(id) = identity.principal() else {
            return Err(Error::Unavailable { why: "joining gave another identity".into() });
        };
        self.start(config, identity);
        Ok(id)
    }

    async fn follow(&self, state: &State) {
        let registered = |id: &InstanceId| {
            state.instance(*id).is_some_and(|row| row.status != InstanceStatus::Inactive)
        };
        self.running().retain(|id, stop| {
            let stays = registered(id);
            if !stays {
                stop.cancel();
            }
            stays
        });
    }
}

/// What is left of an instance that is no more.
fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "removing a simulated instance's directory");
    }
}
