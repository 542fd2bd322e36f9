//! What a container and its task are, in the JSON that ECS's agent answers.
//!
//! It reads the journal and the files beside a container, and what was last reported of the task.
//! Members that ECS has and nothing here knows are left out.

use crate::collector::started_at;
use crate::journal::{ContainerKey, TaskRecord};
use crate::runtime::shim::{Exit, read_exit};
use crate::runtime::{Runtime, restarts};
use muster_model::dispatch::Assignment;
use muster_model::spec::{ContainerDefinition, NetworkMode, Protocol, TaskDefinition};
use muster_model::{HealthStatus, Observed, Phase, TaskId, Time};
use muster_proto::arn::Arns;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// ECS counts a task's cpu in cores here.
const UNITS_PER_CORE: f64 = 1024.0;
/// A service's tasks are of the group `service:NAME`.
const SERVICE: &str = "service:";

/// What all containers of a task have together.
struct Seen<'a> {
    runtime: &'a Runtime,
    record: TaskRecord,
    observed: Observed,
}

/// `None` if nothing is known of it any more.
pub fn container(runtime: &Runtime, key: &ContainerKey) -> Option<Value> {
    let seen = seen(runtime, key.task)?;
    let definition = seen.spec().containers.iter().find(|c| *c.name == *key.name)?;
    Some(seen.container(definition))
}

/// `None` if nothing is known of it any more.
pub fn task(runtime: &Runtime, task: TaskId) -> Option<Value> {
    let seen = seen(runtime, task)?;
    let (assignment, spec) = (&seen.record.assignment, seen.spec());
    let mut all = Map::new();
    let mut set = |name: &str, value: Value| all.insert(name.into(), value);
    let arns = Arns::new(&assignment.account, &assignment.region);
    set("Cluster", json!(assignment.cluster));
    set("TaskARN", json!(arns.task(&assignment.cluster, task)));
    set("Family", json!(assignment.family));
    set("Revision", json!(assignment.revision.0.to_string()));
    set("DesiredStatus", json!(seen.desired()));
    let containers: Vec<Value> = spec.containers.iter().map(|c| seen.container(c)).collect();
    set("KnownStatus", json!(known_of_task(&containers)));
    let mut limits = Map::new();
    if let Some(units) = spec.cpu {
        limits.insert("CPU".into(), json!(f64::from(units) / UNITS_PER_CORE));
    }
    if let Some(mib) = spec.memory_mib {
        limits.insert("Memory".into(), json!(mib));
    }
    if !limits.is_empty() {
        set("Limits", Value::Object(limits));
    }
    let observed = &seen.observed;
    for (name, at) in [
        ("PullStartedAt", observed.pull_started_at),
        ("PullStoppedAt", observed.pull_stopped_at),
        ("ExecutionStoppedAt", observed.stopping_at),
    ] {
        if let Some(at) = at {
            set(name, json!(shown(at)));
        }
    }
    set("AvailabilityZone", json!(runtime.zone()));
    set("LaunchType", json!("EC2"));
    if let Some(service) = assignment.group.strip_prefix(SERVICE) {
        set("ServiceName", json!(service));
    }
    set("Containers", Value::Array(containers));
    Some(Value::Object(all))
}

fn seen(runtime: &Runtime, task: TaskId) -> Option<Seen<'_>> {
    let record = runtime.journal().read_task(task)?;
    Some(Seen { runtime, record, observed: runtime.observed(task) })
}

/// The least that all of its containers have come to; STOPPED ones do not hold a task back.
fn known_of_task(containers: &[Value]) -> &'static str {
    let has = |status: &str| containers.iter().any(|c| c["KnownStatus"] == status);
    ["NONE", "CREATED", "RUNNING"].into_iter().find(|status| has(status)).unwrap_or("STOPPED")
}

impl Seen<'_> {
    fn spec(&self) -> &TaskDefinition {
        &self.record.assignment.spec
    }

    fn desired(&self) -> &'static str {
        if self.record.stopping { "STOPPED" } else { "RUNNING" }
    }

    fn container(&self, definition: &ContainerDefinition) -> Value {
        let assignment = &self.record.assignment;
        let key = ContainerKey::new(assignment.task, &definition.name.as_str().into());
        let dir = self.runtime.journal().container_dir(&key);
        let record = self.runtime.journal().read_container(&key);
        let (exit, started) = (read_exit(&dir), started_at(&dir));
        let mut all = Map::new();
        let mut set = |name: &str, value: Value| all.insert(name.into(), value);
        if let Some(record) = &record {
            set("DockerId", json!(record.id));
            set("DockerName", json!(record.id));
            set("ImageID", json!(record.image_digest));
        }
        set("Name", json!(definition.name));
        set("Image", json!(definition.image));
        set("Labels", labels(assignment, definition));
        set("DesiredStatus", json!(self.desired()));
        set("KnownStatus", json!(known(record.is_some(), started, exit.as_ref())));
        if let Some(code) = exit.as_ref().and_then(|exit| exit.exit_code) {
            set("ExitCode", json!(code));
        }
        let memory = definition.memory_mib.or(definition.memory_reservation_mib);
        set("Limits", json!({ "CPU": definition.cpu, "Memory": memory.unwrap_or_default() }));
        let finished = exit.as_ref().map(|exit| Time(exit.finished_at));
        for (name, at) in
            [("CreatedAt", created_at(&dir)), ("StartedAt", started), ("FinishedAt", finished)]
        {
            if let Some(at) = at {
                set(name, json!(shown(at)));
            }
        }
        set("Type", json!("NORMAL"));
        set("RestartCount", json!(restarts(&dir)));
        if definition.health_check.is_some() {
            set("Health", json!({ "status": self.health(definition, exit.as_ref()).name() }));
        }
        let logs = definition.log_configuration.as_ref();
        set("LogDriver", json!(logs.map_or("json-file", |logs| logs.driver.as_str())));
        if let Some(logs) = logs.filter(|logs| !logs.options.is_empty()) {
            set("LogOptions", json!(logs.options));
        }
        let arns = Arns::new(&assignment.account, &assignment.region);
        let arn = arns.container(&assignment.cluster, assignment.task, &definition.name);
        set("ContainerARN", json!(arn));
        let address = record.as_ref().and_then(|r| r.attachment.as_ref()).map(|a| a.address);
        set("Networks", networks(assignment.spec.network_mode, address));
        let ports = ports(assignment, definition);
        if !ports.is_empty() {
            set("Ports", Value::Array(ports));
        }
        Value::Object(all)
    }

    fn health(&self, definition: &ContainerDefinition, exit: Option<&Exit>) -> HealthStatus {
        let mut reported = self.observed.containers.iter();
        let reported = reported.find(|status| *status.name == *definition.name);
        match reported.filter(|status| exit.is_none() && status.phase == Phase::Running) {
            Some(status) => status.health,
            None => HealthStatus::Unknown,
        }
    }
}

fn known(created: bool, started: Option<Time>, exit: Option<&Exit>) -> &'static str {
    match (created, started, exit) {
        (_, _, Some(_)) => "STOPPED",
        (_, Some(_), None) => "RUNNING",
        (true, None, None) => "CREATED",
        (false, None, None) => "NONE",
    }
}

/// The user's, and those that ECS puts on every container.
fn labels(assignment: &Assignment, definition: &ContainerDefinition) -> Value {
    let arns = Arns::new(&assignment.account, &assignment.region);
    let mut all: Map<String, Value> =
        definition.docker_labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    for (name, value) in [
        ("cluster", assignment.cluster.to_string()),
        ("container-name", definition.name.clone()),
        ("task-arn", arns.task(&assignment.cluster, assignment.task)),
        ("task-definition-family", assignment.family.to_string()),
        ("task-definition-version", assignment.revision.0.to_string()),
    ] {
        all.insert(format!("com.amazonaws.ecs.{name}"), json!(value));
    }
    Value::Object(all)
}

fn networks(mode: NetworkMode, address: Option<std::net::Ipv4Addr>) -> Value {
    let mode = match mode {
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    let addresses: Vec<String> = address.iter().map(ToString::to_string).collect();
    json!([{ "NetworkMode": mode, "IPv4Addresses": addresses }])
}

fn ports(assignment: &Assignment, definition: &ContainerDefinition) -> Vec<Value> {
    let mappings = assignment.spec.port_mappings().zip(&assignment.ports);
    let own = mappings.filter(|((container, _), _)| container.name == definition.name);
    own.map(|((_, mapping), host)| {
        let protocol = match mapping.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        json!({
            "ContainerPort": mapping.container_port,
            "Protocol": protocol,
            "HostPort": host,
            "HostIp": "0.0.0.0",
        })
    })
    .collect()
}

/// When its record was written, right before anything of it was made.
fn created_at(dir: &Path) -> Option<Time> {
    let modified = std::fs::metadata(dir.join("container.json")).ok()?.modified().ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(Time)
}

/// As RFC 3339 has it.
pub fn shown(at: Time) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(at.0 % 1000 * 1_000_000).unwrap_or_default();
    prost_types::Timestamp { seconds, nanos }.to_string()
}
