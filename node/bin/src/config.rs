//! What a manager reads at start: one TOML file, unknown keys refused. The commented examples in
//! `deploy/config` are its documentation and are parsed by a test.
//!
//! An agent's file belongs to `muster-agent`. Cluster-wide settings are not here: they are state.

pub use muster_agent::config::TelemetryConfig;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where `init` and `join` put things, and where the roles look for them.
pub const MANAGER_CONFIG: &str = "/etc/muster/manager.toml";
pub const AGENT_CONFIG: &str = "/etc/muster/agent.toml";
pub const MANAGER_DATA: &str = "/var/lib/muster/manager";
pub const AGENT_DATA: &str = "/var/lib/muster/agent";
/// The one port of a manager: API, dispatch, enrolment and Raft.
pub const PORT: u16 = 7400;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerConfig {
    /// Everything this manager keeps: identity, log, tables.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// host:port at which managers, agents and clients reach it.
    pub address: String,
    #[serde(default)]
    pub timing: TimingProfile,
    /// Log kept for lagging managers before it is replaced by a snapshot, MiB.
    #[serde(default = "default_log_mib")]
    pub log_mib: u64,
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

fn default_log_mib() -> u64 {
    64
}

/// How soon a silent leader is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimingProfile {
    /// Heartbeat 50 ms, election 150 to 300 ms: managers within a few milliseconds of each other.
    #[default]
    Lan,
    /// Heartbeat 25 ms, election 75 to 150 ms: quiet machines on a fast network.
    Fast,
    /// Heartbeat 300 ms, election 1 to 2 s: managers in distant zones.
    Wan,
}

/// What goes wrong with a configuration file, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {}: {source}; create it with `{create}`", path.display())]
    Read { path: PathBuf, create: &'static str, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error(
        "{}: telemetry.metrics_listen: {address} is not allowed; allowed: a loopback address, \
         because metrics are served without TLS",
        path.display()
    )]
    MetricsNotLoopback { path: PathBuf, address: SocketAddr },
}

/// Reads a role's file. `create` is the command that would have made it.
///
/// # Errors
/// The file cannot be read, is not TOML, or has a key or value that is not allowed.
pub fn read<T: serde::de::DeserializeOwned>(
    path: &Path,
    create: &'static str,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        create,
        source,
    })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })
}

/// Metrics are served without TLS, so only this machine may read them.
///
/// # Errors
/// The metrics address is not a loopback address.
pub fn check_telemetry(telemetry: &TelemetryConfig, path: &Path) -> Result<(), ConfigError> {
    match telemetry.metrics_listen {
        Some(address) if !address.ip().is_loopback() => {
            Err(ConfigError::MetricsNotLoopback { path: path.into(), address })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config").join(name)
    }

    #[test]
    fn the_commented_examples_are_valid() {
        let manager: ManagerConfig = read(&example("manager.toml"), "muster init").unwrap();
        assert_eq!(manager.listen.port(), PORT);
        let agent: muster_agent::config::AgentConfig =
            read(&example("agent.toml"), "muster join").unwrap();
        agent.check().unwrap();
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let text = std::fs::read_to_string(example("manager.toml")).unwrap();
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, text.replace("timing =", "timings =")).unwrap();
        let error = read::<ManagerConfig>(path.path(), "muster init").unwrap_err();
        assert!(error.to_string().contains("unknown field `timings`"), "{error}");
    }

    #[test]
    fn metrics_are_for_this_machine_only() {
        let open = TelemetryConfig {
            metrics_listen: Some(SocketAddr::from(([10, 0, 1, 10], 7410))),
            ..TelemetryConfig::default()
        };
        let error = check_telemetry(&open, Path::new("manager.toml")).unwrap_err();
        assert!(error.to_string().contains("10.0.1.10:7410"), "{error}");
    }
}
