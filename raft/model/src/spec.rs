//! What users wrote: task definitions, resources and what one run says beside them. Immutable once
//! registered.
//!
//! Values here are already checked (`muster-proto` converts and checks); `apply` trusts their form
//! and checks only what needs state. New fields get `#[serde(default)]`: rows are stored by name.

use crate::environment_file;
use crate::error::Error;
use crate::life::{Condition, Dependency, HealthCheck, RestartPolicy};
use crate::limits;
use crate::pin::VersionConsistency;
use crate::placement::{Placement, PlacementConstraint};
pub use crate::platform::{CpuArchitecture, RuntimePlatform};
use crate::secret::SecretReference;
use crate::tags::PropagateTags;
use crate::volume::{DockerVolume, EfsVolume};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

pub type Tags = BTreeMap<String, String>;

/// Whole units of resources by name, as `GPU`: what an instance declares, what a container wants.
/// None is ever zero.
pub type Named = BTreeMap<String, u32>;

/// CPU units (1024 = one core) and memory in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resources {
    pub cpu: u32,
    pub memory_mib: u32,
}

impl Resources {
    pub fn fits_in(self, free: Resources) -> bool {
        self.cpu <= free.cpu && self.memory_mib <= free.memory_mib
    }

    /// Saturating on purpose: sizes come from users and from agents.
    pub fn plus(self, other: Resources) -> Resources {
        Resources {
            cpu: self.cpu.saturating_add(other.cpu),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
        }
    }

    pub fn minus(self, other: Resources) -> Resources {
        Resources {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
        }
    }
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// One network namespace and address per container, host ports published (ECS's default).
    #[default]
    Bridge,
    Host,
    None,
}

/// ECS `portMappings`. `host_port` 0 in bridge mode: one is chosen from `limits::DYNAMIC_PORTS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub name: Option<String>,
    pub container_port: u16,
    pub host_port: u16,
    pub protocol: Protocol,
    /// Kept and shown: ECS reads it where Service Connect is, which is not built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<AppProtocol>,
}

/// What is spoken on a port, ECS `appProtocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppProtocol {
    Http,
    Http2,
    Grpc,
}

/// ECS `mountPoints`: a volume of the task, by name, at a path in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    pub source_volume: String,
    pub container_path: String,
    pub read_only: bool,
}

/// ECS `volumes`, of one kind: a fresh directory that is dropped with the task, unless one of the
/// others is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    pub name: String,
    pub host_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerVolume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efs: Option<EfsVolume>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As in ECS: `nofile`, `nproc`, `memlock`, ...
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    pub container_path: String,
    pub size_mib: u32,
    pub mount_options: Vec<String>,
}

/// A secret or a config as a file of the container, read-only and on a tmpfs. ECS has none:
/// Docker's `secrets` and `configs` of services are its like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFile {
    pub path: String,
    /// As a secret's, see `SecretReference`.
    pub value_from: String,
    /// Permissions as chmod takes them, at most 0o777.
    pub mode: u32,
    /// `None`: of the user that the container runs as; so for the group.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// ECS `volumesFrom`: all mount points of another container of the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFrom {
    pub container: String,
    pub read_only: bool,
}

/// ECS `linuxParameters.devices[]`: a device of the instance, as the container sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host_path: String,
    pub container_path: String,
    /// Without any, as in ECS: all three.
    pub permissions: Vec<DevicePermission>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DevicePermission {
    Read,
    Write,
    Mknod,
}

/// ECS `links[]`: another container of the task, which this one reaches by the names in its
/// /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub container: String,
    pub alias: String,
}

/// ECS `pidMode`: whose processes containers see beside their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    Host,
    Task,
}

/// ECS `ipcMode`: whose shared memory, semaphores and message queues containers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    Host,
    Task,
    /// Its own, and no /dev/shm.
    None,
}

/// ECS `logConfiguration`: a driver of `log_driver`, and its options as they were written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfiguration {
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

/// ECS `containerDefinitions[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerDefinition {
    pub name: String,
    pub image: String,
    /// Units; 0 means two shares and no reservation, as in ECS.
    pub cpu: u32,
    /// Hard limit in MiB: beyond it the container is killed.
    pub memory_mib: Option<u32>,
    /// Soft limit in MiB; what is reserved, if given.
    pub memory_reservation_mib: Option<u32>,
    pub essential: bool,
    pub command: Vec<String>,
    pub entry_point: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub port_mappings: Vec<PortMapping>,
    pub mount_points: Vec<MountPoint>,
    pub user: Option<String>,
    pub working_directory: Option<String>,
    pub readonly_root_filesystem: bool,
    pub hostname: Option<String>,
    pub ulimits: Vec<Ulimit>,
    pub tmpfs: Vec<Tmpfs>,
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub docker_labels: BTreeMap<String, String>,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout_secs: Option<u32>,
    pub log_configuration: Option<LogConfiguration>,
    /// Names and addresses for /etc/hosts.
    pub extra_hosts: BTreeMap<String, String>,
    pub dns_servers: Vec<String>,
    pub pseudo_terminal: bool,
    /// ECS `resourceRequirements`; beyond ECS any resource that instances declare, not only GPUs.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub resource_requirements: Named,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// Seconds after its own start that containers which depend on it wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout_secs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// ECS `interactive`: its standard input stays open, and nothing comes from it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interactive: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search_domains: Vec<String>,
    /// Size of /dev/shm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_memory_mib: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<VolumeFrom>,
    /// ECS `systemControls`: settings of the kernel that each container has for itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub system_controls: BTreeMap<String, String>,
    /// ECS `linuxParameters.initProcessEnabled`: process 1 passes signals on and reaps orphans.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub init_process: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// All that root of the instance may, where its cluster allows that: see `privilege`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// ECS `secrets`: variables of the environment, and `valueFrom` of each as it was written (see
    /// `SecretReference`). They win over variables of the same names in overrides.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// ECS `repositoryCredentials`: `valueFrom` of the secret that its image is pulled with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_credentials: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ContainerFile>,
    /// ECS `environmentFiles`: the `value` of each, see `environment_file`. Of two that have a
    /// variable the first wins, and `environment` and `secrets` before them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment_files: Vec<String>,
    /// `None`: enabled, as in ECS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_consistency: Option<VersionConsistency>,
}

impl ContainerDefinition {
    /// What it is given: its secrets, files, registry's credentials and environment files.
    pub fn secret_references(&self) -> impl Iterator<Item = Result<SecretReference, Error>> {
        let files = self.files.iter().map(|file| &file.value_from);
        let values = self.secrets.values().chain(&self.repository_credentials).chain(files);
        let environment = self.environment_files.iter();
        let environment = environment.map(|value| environment_file::reference(value));
        values.map(|value_from| value_from.parse()).chain(environment)
    }

    /// What this container asks the scheduler for, where the task names no size of its own.
    pub fn reservation(&self) -> Resources {
        Resources {
            cpu: self.cpu,
            memory_mib: self.memory_reservation_mib.or(self.memory_mib).unwrap_or(0),
        }
    }

    /// Which containers of the task it starts after and is stopped before: those it names, and
    /// those it is linked to, as in ECS.
    pub fn dependencies(&self) -> impl Iterator<Item = (&str, Condition)> {
        let named = self.depends_on.iter().map(|d| (d.container.as_str(), d.condition));
        named.chain(self.links.iter().map(|link| (link.container.as_str(), Condition::Start)))
    }

    pub fn stop_timeout_secs(&self) -> u32 {
        self.stop_timeout_secs.unwrap_or(limits::STOP_TIMEOUT_SECS_DEFAULT)
    }
}

/// A task definition as registered; family and revision stand in its row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskDefinition {
    pub family: String,
    pub containers: Vec<ContainerDefinition>,
    pub network_mode: NetworkMode,
    /// Size of the whole task; caps the sum of its containers.
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
    pub volumes: Vec<Volume>,
    pub placement_constraints: Vec<PlacementConstraint>,
    pub requires_compatibilities: Vec<String>,
    pub task_role_arn: Option<String>,
    pub execution_role_arn: Option<String>,
    pub tags: Tags,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_platform: Option<RuntimePlatform>,
    /// `None`: each container sees its own processes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_mode: Option<PidMode>,
    /// `None`: each container has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc_mode: Option<IpcMode>,
}

impl TaskDefinition {
    /// What it asks of an instance: what it says, and what its platform means.
    pub fn constraints(&self) -> impl Iterator<Item = &PlacementConstraint> {
        let platform = self.runtime_platform.as_ref().and_then(RuntimePlatform::constraint);
        self.placement_constraints.iter().chain(platform)
    }

    /// What its containers are given.
    pub fn secret_references(&self) -> impl Iterator<Item = Result<SecretReference, Error>> {
        self.containers.iter().flat_map(ContainerDefinition::secret_references)
    }

    /// What one task takes from its instance while it is placed there.
    pub fn reservation(&self) -> Resources {
        let sum =
            self.containers.iter().fold(Resources::default(), |sum, c| sum.plus(c.reservation()));
        Resources {
            cpu: self.cpu.unwrap_or(sum.cpu),
            memory_mib: self.memory_mib.unwrap_or(sum.memory_mib),
        }
    }

    /// What one task takes of its instance's named resources: the sums over its containers.
    pub fn named_reservation(&self) -> Named {
        let mut sums = Named::new();
        for (name, amount) in self.containers.iter().flat_map(|c| &c.resource_requirements) {
            let sum = sums.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
        sums
    }

    /// Port mappings in the order in which `Task::ports` lists the host ports chosen for them.
    /// Empty with network mode `none`.
    pub fn port_mappings(&self) -> impl Iterator<Item = (&ContainerDefinition, &PortMapping)> {
        let shown = self.network_mode != NetworkMode::None;
        self.containers
            .iter()
            .filter(move |_| shown)
            .flat_map(|c| c.port_mappings.iter().map(move |p| (c, p)))
    }

    /// The host port a mapping asks for; `None` = any free one of `limits::DYNAMIC_PORTS`.
    pub fn wanted_host_port(&self, mapping: &PortMapping) -> Option<u16> {
        match self.network_mode {
            NetworkMode::Bridge if mapping.host_port == 0 => None,
            NetworkMode::Bridge => Some(mapping.host_port),
            NetworkMode::Host | NetworkMode::None => Some(mapping.container_port),
        }
    }
}

/// ECS `overrides.containerOverrides[]`; environment is merged by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerOverride {
    pub name: String,
    pub command: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
    pub memory_reservation_mib: Option<u32>,
    /// In place of the definition's, unless empty.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub resource_requirements: Named,
    /// In place of the definition's, unless empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment_files: Vec<String>,
}

/// What one run says beside its definition: ECS's `overrides`, and where it may and should go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    pub containers: Vec<ContainerOverride>,
    pub cpu: Option<u32>,
    pub memory_mib: Option<u32>,
    /// In place of the definition's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_role_arn: Option<String>,
    /// Kept and shown, as the definition's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_role_arn: Option<String>,
    /// ECS `enableExecuteCommand` of the run, or of the service when it started the task: kept and
    /// shown; commands can be run in any task.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_execute_command: bool,
    /// ECS `placementConstraints` and `placementStrategy` of RunTask.
    #[serde(skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// ECS `propagateTags` of the run: the definition's, or none. The run's own go before them.
    #[serde(skip_serializing_if = "PropagateTags::is_none")]
    pub propagate_tags: PropagateTags,
    /// ECS `enableECSManagedTags` of the run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub managed_tags: bool,
}

impl Overrides {
    /// The definition as this run sees it; unknown container names were refused at the edge.
    pub fn applied_to(&self, definition: &Arc<TaskDefinition>) -> Arc<TaskDefinition> {
        let sizes = self.cpu.or(self.memory_mib);
        if self.containers.is_empty() && sizes.is_none() && self.task_role_arn.is_none() {
            return definition.clone();
        }
        let mut changed = TaskDefinition::clone(definition);
        changed.cpu = self.cpu.or(changed.cpu);
        changed.memory_mib = self.memory_mib.or(changed.memory_mib);
        if self.task_role_arn.is_some() {
            changed.task_role_arn.clone_from(&self.task_role_arn);
        }
        for over in &self.containers {
            let Some(container) = changed.containers.iter_mut().find(|c| c.name == over.name)
            else {
                continue;
            };
            if let Some(command) = &over.command {
                container.command.clone_from(command);
            }
            container
                .environment
                .extend(over.environment.iter().map(|(k, v)| (k.clone(), v.clone())));
            container.cpu = over.cpu.unwrap_or(container.cpu);
            container.memory_mib = over.memory_mib.or(container.memory_mib);
            container.memory_reservation_mib =
                over.memory_reservation_mib.or(container.memory_reservation_mib);
            if !over.resource_requirements.is_empty() {
                container.resource_requirements.clone_from(&over.resource_requirements);
            }
            if !over.environment_files.is_empty() {
                container.environment_files.clone_from(&over.environment_files);
            }
        }
        Arc::new(changed)
    }
}
