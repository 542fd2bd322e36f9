//! The agent: how this program becomes it, and what its file holds.

use super::RoleError;
use muster_agent::config::AgentConfig;
use muster_agent::program::{Arguments, NAME};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Turns this process into `muster-agent`, which lies beside this program: without RocksDB and the
/// command line an agent takes half the memory (docs/decisions/0007). Returns only if it cannot.
pub fn become_agent(arguments: &Arguments) -> RoleError {
    let here = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/muster"));
    let program = here.with_file_name(NAME);
    let error = Command::new(&program).arg("--config").arg(&arguments.config).exec();
    RoleError::Failed(format!(
        "starting {}: {error}; install {NAME} beside {}",
        program.display(),
        here.display()
    ))
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
