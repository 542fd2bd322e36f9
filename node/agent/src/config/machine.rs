//! What this machine is: its size, name and versions, less what the system keeps.
//!
//! Read once at start: a machine that changes is registered anew when its agent starts again.

use crate::config::{AgentConfig, Capacity};
use muster_model::spec::Resources;
use muster_model::{Error, InstanceSpec, capability};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// How long the runtime may take to say its version.
const VERSION_WAIT: Duration = Duration::from_secs(2);

/// The attribute that says which cpus this binary runs on, in ECS's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

/// What the instance registers as.
///
/// # Errors
/// When the machine does not say its size, or less than nothing is left of it.
pub async fn instance_spec(config: &AgentConfig) -> Result<InstanceSpec, Error> {
    let hostname = match &config.hostname {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_else(|| "localhost".to_owned()),
    };
    let mut attributes: BTreeMap<String, Option<String>> = BTreeMap::new();
    attributes.insert("ecs.os-type".to_owned(), Some("linux".to_owned()));
    // What only pretends has neither cpus nor abilities, but what it was told to have.
    if config.simulate.is_none() {
        attributes.insert("ecs.cpu-architecture".to_owned(), Some(architecture().to_owned()));
        attributes.extend(capability::all().map(|name| (name, None)));
    }
    attributes.extend(config.attributes.iter().map(|(name, value)| {
        (name.clone(), Some(value.clone()).filter(|value| !value.is_empty()))
    }));
    let mut versions = BTreeMap::new();
    if let Ok(kernel) = std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        versions.insert("kernel".to_owned(), kernel.trim().to_owned());
    }
    if config.simulate.is_none()
        && let Some(version) = runtime_version(&config.runtime).await
    {
        let name = config.runtime.file_name().and_then(|n| n.to_str()).unwrap_or("runtime");
        versions.insert(name.to_owned(), version);
    }
    Ok(InstanceSpec {
        hostname,
        zone: config.zone.clone(),
        address: config.address.clone(),
        total: total(config)?,
        resources: config.resources.clone(),
        reserved_ports: config.reserved_ports.iter().copied().collect(),
        attributes,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        versions,
        ..InstanceSpec::default()
    })
}

fn total(config: &AgentConfig) -> Result<Resources, Error> {
    if let Some(Capacity { cpu, memory_mib }) = config.capacity {
        return Ok(Resources { cpu, memory_mib });
    }
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let cpu = u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(1024);
    let machine = Resources { cpu, memory_mib: memory_mib()? };
    left_of(machine, config)
}

/// The machine less what the system keeps.
fn left_of(machine: Resources, config: &AgentConfig) -> Result<Resources, Error> {
    let kept = Resources { cpu: config.reserved.cpu, memory_mib: config.reserved.memory_mib };
    let left = machine.minus(kept);
    if left.cpu == 0 || left.memory_mib == 0 {
        return Err(Error::invalid(
            "reserved",
            format!("cpu {}, memory_mib {}", kept.cpu, kept.memory_mib),
            format!(
                "less than the machine: cpu {}, memory_mib {}",
                machine.cpu, machine.memory_mib
            ),
        ));
    }
    Ok(left)
}

fn memory_mib() -> Result<u32, Error> {
    let unreadable = |why: String| {
        let allowed = "a number from /proc/meminfo; or set `capacity` in the configuration";
        Error::invalid("memory of this machine", why, allowed)
    };
    let text =
        std::fs::read_to_string("/proc/meminfo").map_err(|error| unreadable(error.to_string()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    let kib = kib.ok_or_else(|| unreadable("no MemTotal".to_owned()))?;
    Ok(u32::try_from(kib / 1024).unwrap_or(u32::MAX))
}

async fn runtime_version(runtime: &Path) -> Option<String> {
    let mut command = tokio::process::Command::new(runtime);
    command.arg("--version").kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_WAIT, command.output()).await.ok()?.ok()?;
    // The first line is `runc version 1.1.5`; only the last word is the version.
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.lines().next()?.split_whitespace().next_back()?;
    Some(word.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const MACHINE: Resources = Resources { cpu: 4096, memory_mib: 8192 };

    fn config(more: Value) -> AgentConfig {
        let mut keys = json!({
            "data_dir": "/d", "managers": ["m:7400"], "cluster": "default", "zone": "a",
            "address": "w", "simulate": {},
        });
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(keys).unwrap()
    }

    #[test]
    fn tasks_are_never_promised_what_the_system_keeps() {
        let left = |reserved| left_of(MACHINE, &config(json!({ "reserved": reserved })));
        assert_eq!(left(json!({})).unwrap(), MACHINE);
        let kept = left(json!({ "cpu": 1024, "memory_mib": 256 })).unwrap();
        assert_eq!(kept, Resources { cpu: 3072, memory_mib: 7936 });
        for all in [json!({ "cpu": 4096 }), json!({ "memory_mib": 8192 }), json!({ "cpu": 9000 })] {
            assert!(left(all.clone()).is_err(), "{all} leaves nothing");
        }
    }

    #[tokio::test]
    async fn a_machine_registers_what_its_file_declares() {
        let config = config(json!({
            "capacity": { "cpu": 512, "memory_mib": 64 },
            "reserved": { "memory_mib": 32 },
            "resources": { "GPU": 2, "dongle": 1 },
        }));
        let spec = instance_spec(&config).await.unwrap();
        // A capacity that is said outright is already what tasks may use.
        assert_eq!(spec.total, Resources { cpu: 512, memory_mib: 64 });
        let declared = [("GPU".to_owned(), 2), ("dongle".to_owned(), 1)];
        assert_eq!(spec.resources, BTreeMap::from(declared));
    }
}
