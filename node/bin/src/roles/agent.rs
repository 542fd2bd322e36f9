//! The agent: its file, its identity, its runtime.

use super::{RoleError, identity_dir, stop_on_signal};
use crate::clock::{self, Clock};
use crate::config;
use crate::telemetry;
use clap::Args;
use muster_agent::config::AgentConfig;
use muster_identity::Identity;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Run an agent.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  muster agent --config /etc/muster/agent.toml")]
pub struct AgentArguments {
    /// What `muster join` wrote.
    #[arg(long, default_value = config::AGENT_CONFIG)]
    pub config: PathBuf,
}

/// Runs until SIGTERM or SIGINT; containers go on without it.
///
/// # Errors
/// The configuration, the identity, the data directory or the runtime cannot be used.
pub async fn agent(arguments: AgentArguments) -> Result<(), RoleError> {
    let config: AgentConfig = config::read(&arguments.config, "muster join")?;
    config.check()?;
    let telemetry =
        telemetry::start("agent", &config.telemetry).await.map_err(RoleError::Telemetry)?;
    let result = run(config, clock::start(), stop_on_signal()?).await;
    telemetry.finish();
    result
}

/// The agent itself, without the process around it.
pub async fn run(
    config: AgentConfig,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), RoleError> {
    let identity = Identity::load(&identity_dir(&config.data_dir))?;
    muster_agent::run(config, identity, clock, stop)
        .await
        .map_err(|error| RoleError::Failed(error.to_string()))
}

/// What must be said of a worker; every other key takes the default that the file's reader gives.
pub struct Machine {
    pub data_dir: PathBuf,
    pub managers: Vec<String>,
    pub cluster: String,
    pub zone: String,
    pub address: String,
}

/// A configuration of that machine.
///
/// # Errors
/// Never with this release's keys; named so that a change of them is found here.
pub fn config_of(machine: Machine) -> Result<AgentConfig, RoleError> {
    let Machine { data_dir, managers, cluster, zone, address } = machine;
    let mut keys = toml::Table::new();
    keys.insert("data_dir".into(), data_dir.to_string_lossy().into_owned().into());
    keys.insert("managers".into(), managers.into());
    keys.insert("cluster".into(), cluster.into());
    keys.insert("zone".into(), zone.into());
    keys.insert("address".into(), address.into());
    keys.try_into().map_err(|error| RoleError::Failed(format!("agent configuration: {error}")))
}
