//! What an agent reads at start: one TOML file, unknown keys refused. `deploy/config/agent.toml` is
//! its documentation.
//!
//! Cluster-wide settings are not here: they are state. [`machine`] makes of it, and of the machine
//! itself, what the instance registers as; [`machinery`] what its containers run with.

pub mod machine;
pub mod machinery;

use crate::image::{PullBehavior, mirror};
use muster_process::config::TelemetryConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where `muster join` puts an agent's file, and where the agent looks for it.
pub const AGENT_CONFIG: &str = "/etc/muster/agent.toml";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Everything this agent keeps: identity, journal, images, containers, logs. One agent each.
    pub data_dir: PathBuf,
    /// host:port of managers to ask first; where they are later is learnt and kept in `data_dir`.
    pub managers: Vec<String>,
    /// Name of the cluster that this instance joined. Fixed by joining; here for people.
    pub cluster: String,
    /// Availability zone (attribute `ecs.availability-zone`).
    pub zone: String,
    /// Address or name at which other machines reach published host ports.
    pub address: String,
    /// Name of the machine; absent: its host name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Custom attributes; an empty text is an attribute without a value.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// What else it has, by name, in whole units, as `GPU = 2`: tasks get it by number.
    #[serde(default)]
    pub resources: BTreeMap<String, u32>,
    /// What tasks may use altogether; absent: the machine less `reserved`.
    #[serde(default)]
    pub capacity: Option<Capacity>,
    /// What the system keeps for itself.
    #[serde(default)]
    pub reserved: Capacity,
    /// Host ports (tcp) that the system uses itself.
    #[serde(default = "default_reserved_ports")]
    pub reserved_ports: Vec<u16>,
    /// Records of running containers and their network namespaces, on a tmpfs; absent: a directory
    /// of this instance below `/run/muster`.
    #[serde(default)]
    pub run_dir: Option<PathBuf>,
    /// The OCI runtime: `runc`, or one that takes the same arguments, such as `crun`.
    #[serde(default = "default_runtime")]
    pub runtime: PathBuf,
    /// The shim that outlives the agent; absent: `muster-shim` beside this program.
    #[serde(default)]
    pub shim: Option<PathBuf>,
    /// Process 1 of containers with `initProcessEnabled`; it runs in their images, so it must be
    /// linked statically.
    #[serde(default = "default_init")]
    pub init: PathBuf,
    /// Name of the cgroup below which this instance gets its own, and every container of it one.
    #[serde(default = "default_cgroup_root")]
    pub cgroup_root: String,
    /// Containers created or started at once.
    #[serde(default = "default_starts_max")]
    pub starts_max: usize,
    #[serde(default)]
    pub bridge: BridgeConfig,
    #[serde(default)]
    pub registry: RegistryConfig,
    /// NFS servers of EFS volumes by `fileSystemId`: a host, or `host:/export`.
    #[serde(default)]
    pub efs: BTreeMap<String, String>,
    #[serde(default)]
    pub logs: LogsConfig,
    #[serde(default)]
    pub images: ImagesConfig,
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Runs nothing and pretends to: for trials and load tests.
    #[serde(default)]
    pub simulate: Option<SimulateConfig>,
}

/// CPU units (1024 = one core) and memory in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    #[serde(default)]
    pub cpu: u32,
    #[serde(default)]
    pub memory_mib: u32,
}

/// The bridge that tasks with network mode `bridge` are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BridgeConfig {
    /// Its interface name, at most 15 characters.
    pub name: String,
    /// Its IPv4 network in CIDR form; the first address is the machine's.
    pub subnet: String,
}

// Only this section has defaults of its own: a whole `AgentConfig` never comes from nothing.
impl Default for BridgeConfig {
    fn default() -> Self {
        Self { name: "muster0".to_owned(), subnet: "172.31.240.0/20".to_owned() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryConfig {
    /// Registries (`host` or `host:port`) that are spoken to over plain HTTP.
    pub insecure: Vec<String>,
    /// A file in the form of Docker's `config.json` with the registries' credentials.
    pub credentials: Option<PathBuf>,
    /// Certificate authorities of private registries, files in PEM.
    pub authorities: Vec<PathBuf>,
    /// When a registry is asked for an image that is here already.
    pub pull: Pull,
    /// Tasks whose images are pulled at once.
    pub pulls_max: usize,
    /// By the registry that images name: URLs of those asked in its place, the first first.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

/// ECS's `ECS_IMAGE_PULL_BEHAVIOR`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// Each time; if it does not answer, what is here is used.
    #[default]
    Default,
    /// Each time; if it does not answer, the task fails.
    Always,
    /// Only for what was never pulled.
    PreferCached,
}

impl From<Pull> for PullBehavior {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Default => Self::Default,
            Pull::Always => Self::Always,
            Pull::PreferCached => Self::PreferCached,
        }
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            credentials: None,
            authorities: Vec::new(),
            pull: Pull::Default,
            pulls_max: 8,
            mirrors: BTreeMap::new(),
        }
    }
}

/// Limits of one container's log, unless its definition says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// Size in MiB at which a log file is rotated.
    pub max_size_mib: u32,
    /// Files kept, the current one included.
    pub max_files: u32,
    /// Hours for which the logs of an ended task are kept.
    pub kept_hours: u32,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { max_size_mib: 10, max_files: 3, kept_hours: 24 }
    }
}

/// When images go that no container of this instance uses. They are looked at every ten minutes,
/// the disk every minute. ECS's agent has the age (`ECS_IMAGE_MINIMUM_CLEANUP_AGE`, an hour, since
/// the pull; ours counts from the last use) and takes five each half hour; the marks are
/// Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesConfig {
    /// Hours for which an image is kept after the last container that used it; 0 keeps none.
    pub kept_hours: u32,
    /// Per cent of the disk's bytes or inodes in use from which room is made, whatever the age:
    /// first of logs of ended tasks, the oldest first, then of unused images, the least recently
    /// used first. 100: never.
    pub disk_high_percent: u8,
    /// Per cent in use down to which room is made.
    pub disk_low_percent: u8,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self { kept_hours: 24, disk_high_percent: 85, disk_low_percent: 80 }
    }
}

/// How pretended containers behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulateConfig {
    /// From the order to start until it runs, in milliseconds.
    pub start_ms: u64,
    /// From running until it ends with exit code 0, in milliseconds. Absent: it runs until stopped.
    pub exit_ms: Option<u64>,
}

impl AgentConfig {
    /// Where the identity is kept.
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("identity")
    }

    /// The shim to start.
    pub fn shim_path(&self) -> PathBuf {
        self.shim.clone().unwrap_or_else(|| beside_this_program("muster-shim"))
    }

    /// Checks what the form of the file cannot.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), muster_model::Error> {
        let invalid = |field: &str, value: &str, allowed: &str| {
            muster_model::Error::invalid(field, value, allowed)
        };
        if self.managers.is_empty() {
            return Err(invalid("managers", "[]", "at least one manager as host:port"));
        }
        if self.zone.is_empty() {
            return Err(invalid("zone", "", "the name of an availability zone"));
        }
        let host = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if self.address.is_empty() || !self.address.bytes().all(host) {
            let allowed = "a host name or address that other machines reach";
            return Err(invalid("address", &self.address, allowed));
        }
        let name = &self.bridge.name;
        if name.is_empty() || name.len() > 15 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(invalid("bridge.name", name, "1 to 15 letters and digits"));
        }
        for (field, value) in
            [("starts_max", self.starts_max), ("registry.pulls_max", self.registry.pulls_max)]
        {
            if !(1..=1024).contains(&value) {
                return Err(invalid(field, &value.to_string(), "1 to 1024"));
            }
        }
        let ImagesConfig { disk_high_percent: high, disk_low_percent: low, .. } = self.images;
        for (field, value, most) in [("high", high, 100), ("low", low, high)] {
            if !(1..=most).contains(&value) {
                let field = format!("images.disk_{field}_percent");
                return Err(invalid(&field, &value.to_string(), &format!("1 to {most}")));
            }
        }
        for (id, server) in &self.efs {
            // It is a word of a command.
            let printable = server.bytes().all(|b| b.is_ascii_graphic());
            if server.is_empty() || server.starts_with(['-', ':', '/']) || !printable {
                let allowed = "an NFS server as host or host:/export";
                return Err(invalid(&format!("efs.{id}"), server, allowed));
            }
        }
        mirror::read(&self.registry.mirrors, &self.registry.insecure)?;
        self.telemetry.check()
    }
}

fn beside_this_program(name: &str) -> PathBuf {
    match std::env::current_exe() {
        Ok(exe) => exe.parent().unwrap_or(Path::new("/usr/bin")).join(name),
        Err(_) => Path::new("/usr/bin").join(name),
    }
}

fn default_reserved_ports() -> Vec<u16> {
    vec![22]
}

fn default_runtime() -> PathBuf {
    PathBuf::from("runc")
}

/// Of the package tini.
fn default_init() -> PathBuf {
    PathBuf::from("/usr/bin/tini-static")
}

fn default_cgroup_root() -> String {
    "muster".to_owned()
}

fn default_starts_max() -> usize {
    16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_or_without_a_directory() {
        let checked = |server: &str| {
            let config = serde_json::json!({
                "data_dir": "/d", "managers": ["m:1"], "cluster": "c", "zone": "z", "address": "a",
                "efs": { "fs-1": server },
            });
            let config: AgentConfig = serde_json::from_value(config).unwrap();
            config.check().map_err(|e| e.to_string())
        };
        assert_eq!((checked("nas"), checked("10.0.0.7:/exports")), (Ok(()), Ok(())));
        for bad in ["", "-o", "/exports", ":/exports", "nas exports"] {
            assert!(checked(bad).unwrap_err().contains("efs.fs-1"), "{bad}");
        }
    }

    fn checked(images: serde_json::Value) -> Result<ImagesConfig, String> {
        let config = serde_json::json!({
            "data_dir": "/d", "managers": ["m:1"], "cluster": "c", "zone": "z", "address": "a",
            "images": images,
        });
        let config: AgentConfig = serde_json::from_value(config).map_err(|e| e.to_string())?;
        config.check().map(|()| config.images).map_err(|e| e.to_string())
    }

    #[test]
    fn room_is_made_down_to_what_is_below_where_it_begins() {
        assert_eq!(checked(serde_json::json!({})), Ok(ImagesConfig::default()));
        let never = serde_json::json!({"kept_hours": 0, "disk_high_percent": 100});
        assert_eq!(checked(never).unwrap().disk_low_percent, 80);
        for (images, told) in [
            (serde_json::json!({"disk_high_percent": 0}), "images.disk_high_percent: \"0\""),
            (serde_json::json!({"disk_high_percent": 101}), "allowed: 1 to 100"),
            (serde_json::json!({"disk_high_percent": 79}), "images.disk_low_percent: \"80\""),
            (serde_json::json!({"disk_low_percent": 86}), "allowed: 1 to 85"),
            (serde_json::json!({"disk_high": 86}), "unknown field"),
        ] {
            let refused = checked(images).unwrap_err();
            assert!(refused.contains(told), "{refused}");
        }
    }
}
