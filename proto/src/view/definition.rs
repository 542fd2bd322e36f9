//! Task definitions as they were registered, with ECS's defaults filled in.

use super::{life, timestamp};
use crate::arn::Arns;
use crate::convert::EC2;
use crate::convert::definition::LOCAL;
use crate::pb;
use crate::spelled;
use muster_model::placement::PlacementConstraint;
use muster_model::spec::{
    AppProtocol, ContainerDefinition, ContainerFile, CpuArchitecture, Device, DevicePermission,
    IpcMode, Link, Named, NetworkMode, PidMode, PortMapping, Protocol, RuntimePlatform, Tags,
    Ulimit, Volume, VolumeFrom,
};
use muster_model::volume::VolumeScope;
use muster_model::{DefinitionRow, State, TaskDefinition, VersionConsistency, capability};
use std::collections::BTreeMap;

pub fn definition(state: &State, row: &DefinitionRow) -> pb::TaskDefinition {
    let spec = &row.spec;
    let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
    let deleted = state.deleted_since(row.id);
    let status = match (deleted, row.deregistered_at) {
        (Some(_), _) => "DELETE_IN_PROGRESS",
        (None, Some(_)) => "INACTIVE",
        (None, None) => "ACTIVE",
    };
    pb::TaskDefinition {
        task_definition_arn: Arns::of(state).definition(&row.family, row.revision),
        family: row.family.to_string(),
        revision: super::int(row.revision.0),
        status: status.into(),
        container_definitions: spec.containers.iter().map(container).collect(),
        network_mode: network_mode(spec.network_mode).into(),
        cpu: number(spec.cpu),
        memory: number(spec.memory_mib),
        volumes: spec.volumes.iter().map(volume).collect(),
        placement_constraints: constraints(&spec.placement_constraints),
        requires_compatibilities: spec.requires_compatibilities.clone(),
        compatibilities: compatibilities(spec),
        task_role_arn: spec.task_role_arn.clone().unwrap_or_default(),
        execution_role_arn: spec.execution_role_arn.clone().unwrap_or_default(),
        registered_at: Some(timestamp(row.registered_at)),
        deregistered_at: row.deregistered_at.map(timestamp),
        registered_by: row.registered_by.to_string(),
        delete_requested_at: deleted.map(timestamp),
        requires_attributes: requires(spec),
        runtime_platform: spec.runtime_platform.map(platform),
        pid_mode: spec.pid_mode.map(pid_mode).unwrap_or_default().into(),
        ipc_mode: spec.ipc_mode.map(ipc_mode).unwrap_or_default().into(),
    }
}

fn volume(row: &Volume) -> pb::Volume {
    let is_host = row.docker.is_none() && row.efs.is_none();
    let scope = |scope| match scope {
        VolumeScope::Task => "task",
        VolumeScope::Shared => "shared",
    };
    pb::Volume {
        name: row.name.clone(),
        host: is_host.then(|| pb::HostVolumeProperties {
            source_path: row.host_path.clone().unwrap_or_default(),
        }),
        docker_volume_configuration: row.docker.as_ref().map(|docker| {
            pb::DockerVolumeConfiguration {
                scope: scope(docker.scope).into(),
                autoprovision: docker.autoprovision.then_some(true),
                driver: LOCAL.into(),
                driver_opts: BTreeMap::new(),
                labels: docker.labels.clone(),
            }
        }),
        efs_volume_configuration: row.efs.as_ref().map(|efs| pb::EfsVolumeConfiguration {
            file_system_id: efs.file_system_id.clone(),
            root_directory: efs.root_directory.clone(),
            ..Default::default()
        }),
    }
}

fn platform(row: RuntimePlatform) -> pb::RuntimePlatform {
    let cpu = match row.architecture {
        Some(CpuArchitecture::X86) => "X86_64",
        Some(CpuArchitecture::Arm) => "ARM64",
        None => "",
    };
    let system = if row.names_linux { "LINUX" } else { "" };
    pb::RuntimePlatform { cpu_architecture: cpu.into(), operating_system_family: system.into() }
}

/// ECS: it was checked for what it requires, and everything runs on container instances.
fn compatibilities(spec: &TaskDefinition) -> Vec<String> {
    let all = spelled::COMPATIBILITY.iter().map(|name| (*name).to_owned());
    all.filter(|name| name == EC2 || spec.requires_compatibilities.contains(name)).collect()
}

/// What an instance's agent must say of itself, and every one of ours does.
fn requires(spec: &TaskDefinition) -> Vec<pb::Attribute> {
    let attribute = |name| pb::Attribute { name, ..pb::Attribute::default() };
    capability::required(spec).into_iter().map(attribute).collect()
}

fn network_mode(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    }
}

fn pid_mode(mode: PidMode) -> &'static str {
    match mode {
        PidMode::Host => "host",
        PidMode::Task => "task",
    }
}

fn ipc_mode(mode: IpcMode) -> &'static str {
    match mode {
        IpcMode::Host => "host",
        IpcMode::Task => "task",
        IpcMode::None => "none",
    }
}

/// As it was written: an alias that is the name itself is none.
fn link(row: &Link) -> String {
    match row.alias == row.container {
        true => row.container.clone(),
        false => format!("{}:{}", row.container, row.alias),
    }
}

pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

pub(super) fn constraints(rows: &[PlacementConstraint]) -> Vec<pb::PlacementConstraint> {
    let constraint = |row: &PlacementConstraint| match row {
        PlacementConstraint::DistinctInstance => {
            pb::PlacementConstraint { r#type: "distinctInstance".into(), expression: String::new() }
        }
        PlacementConstraint::MemberOf(query) => {
            pb::PlacementConstraint { r#type: "memberOf".into(), expression: query.to_string() }
        }
    };
    rows.iter().map(constraint).collect()
}

/// Tags in order of their keys.
pub fn tag_list(tags: &Tags) -> Vec<pb::Tag> {
    tags.iter().map(|(key, value)| pb::Tag { key: key.clone(), value: value.clone() }).collect()
}

pub(super) fn environment(variables: &BTreeMap<String, String>) -> Vec<pb::KeyValuePair> {
    variables
        .iter()
        .map(|(name, value)| pb::KeyValuePair { name: name.clone(), value: value.clone() })
        .collect()
}

fn container(spec: &ContainerDefinition) -> pb::ContainerDefinition {
    pb::ContainerDefinition {
        name: spec.name.clone(),
        image: spec.image.clone(),
        cpu: super::int(spec.cpu),
        memory: spec.memory_mib.map(super::int),
        memory_reservation: spec.memory_reservation_mib.map(super::int),
        port_mappings: spec.port_mappings.iter().map(port_mapping).collect(),
        essential: Some(spec.essential),
        entry_point: spec.entry_point.clone(),
        command: spec.command.clone(),
        environment: environment(&spec.environment),
        mount_points: spec.mount_points.iter().map(mount_point).collect(),
        user: spec.user.clone().unwrap_or_default(),
        working_directory: spec.working_directory.clone().unwrap_or_default(),
        readonly_root_filesystem: spec.readonly_root_filesystem,
        hostname: spec.hostname.clone().unwrap_or_default(),
        ulimits: spec.ulimits.iter().map(ulimit).collect(),
        linux_parameters: linux_parameters(spec),
        docker_labels: spec.docker_labels.clone(),
        stop_timeout: spec.stop_timeout_secs.map(super::int),
        log_configuration: spec.log_configuration.as_ref().map(|logs| pb::LogConfiguration {
            log_driver: logs.driver.clone(),
            options: logs.options.clone(),
        }),
        extra_hosts: spec
            .extra_hosts
            .iter()
            .map(|(hostname, address)| pb::HostEntry {
                hostname: hostname.clone(),
                ip_address: address.clone(),
            })
            .collect(),
        dns_servers: spec.dns_servers.clone(),
        pseudo_terminal: spec.pseudo_terminal,
        volumes_from: spec.volumes_from.iter().map(volume_from).collect(),
        system_controls: spec.system_controls.iter().map(system_control).collect(),
        resource_requirements: requirements(&spec.resource_requirements),
        depends_on: spec.depends_on.iter().map(life::dependency).collect(),
        start_timeout: spec.start_timeout_secs.map(super::int),
        health_check: spec.health_check.as_ref().map(life::health_check),
        restart_policy: spec.restart_policy.as_ref().map(life::restart_policy),
        interactive: spec.interactive.then_some(true),
        dns_search_domains: spec.dns_search_domains.clone(),
        links: spec.links.iter().map(link).collect(),
        privileged: spec.privileged.then_some(true),
        secrets: spec.secrets.iter().map(secret).collect(),
        repository_credentials: spec
            .repository_credentials
            .as_ref()
            .map(|from| pb::RepositoryCredentials { credentials_parameter: from.clone() }),
        files: spec.files.iter().map(file).collect(),
        environment_files: environment_files(&spec.environment_files),
        version_consistency: match spec.version_consistency {
            Some(VersionConsistency::Enabled) => "enabled",
            Some(VersionConsistency::Disabled) => "disabled",
            None => "",
        }
        .into(),
    }
}

fn secret((name, from): (&String, &String)) -> pb::Secret {
    pb::Secret { name: name.clone(), value_from: from.clone() }
}

pub(super) fn environment_files(rows: &[String]) -> Vec<pb::EnvironmentFile> {
    let file = |value: &String| pb::EnvironmentFile { value: value.clone(), r#type: "s3".into() };
    rows.iter().map(file).collect()
}

fn file(row: &ContainerFile) -> pb::ContainerFile {
    pb::ContainerFile {
        path: row.path.clone(),
        value_from: row.value_from.clone(),
        mode: format!("{:04o}", row.mode),
        uid: row.uid.map(i64::from),
        gid: row.gid.map(i64::from),
    }
}

fn volume_from(row: &VolumeFrom) -> pb::VolumeFrom {
    pb::VolumeFrom { source_container: row.container.clone(), read_only: row.read_only }
}

fn system_control((name, value): (&String, &String)) -> pb::SystemControl {
    pb::SystemControl { namespace: name.clone(), value: value.clone() }
}

pub(super) fn requirements(named: &Named) -> Vec<pb::ResourceRequirement> {
    let requirement = |(name, units): (&String, &u32)| pb::ResourceRequirement {
        value: units.to_string(),
        r#type: name.clone(),
    };
    named.iter().map(requirement).collect()
}

fn port_mapping(row: &PortMapping) -> pb::PortMapping {
    pb::PortMapping {
        container_port: row.container_port.into(),
        host_port: row.host_port.into(),
        protocol: protocol(row.protocol).into(),
        name: row.name.clone().unwrap_or_default(),
        app_protocol: match row.app_protocol {
            Some(AppProtocol::Http) => "http",
            Some(AppProtocol::Http2) => "http2",
            Some(AppProtocol::Grpc) => "grpc",
            None => "",
        }
        .into(),
    }
}

fn mount_point(row: &muster_model::spec::MountPoint) -> pb::MountPoint {
    pb::MountPoint {
        source_volume: row.source_volume.clone(),
        container_path: row.container_path.clone(),
        read_only: row.read_only,
    }
}

fn ulimit(row: &Ulimit) -> pb::Ulimit {
    // Unlimited is -1 in ECS.
    let limit = |value: u64| i64::try_from(value).unwrap_or(-1);
    pb::Ulimit { name: row.name.clone(), soft_limit: limit(row.soft), hard_limit: limit(row.hard) }
}

fn linux_parameters(spec: &ContainerDefinition) -> Option<pb::LinuxParameters> {
    let tmpfs = |row: &muster_model::spec::Tmpfs| pb::Tmpfs {
        container_path: row.container_path.clone(),
        size: super::int(row.size_mib),
        mount_options: row.mount_options.clone(),
    };
    let changed = !spec.capabilities_add.is_empty() || !spec.capabilities_drop.is_empty();
    let shown = changed
        || !spec.tmpfs.is_empty()
        || spec.shared_memory_mib.is_some()
        || spec.init_process
        || !spec.devices.is_empty();
    shown.then(|| pb::LinuxParameters {
        capabilities: changed.then(|| pb::KernelCapabilities {
            add: spec.capabilities_add.clone(),
            drop: spec.capabilities_drop.clone(),
        }),
        tmpfs: spec.tmpfs.iter().map(tmpfs).collect(),
        shared_memory_size: spec.shared_memory_mib.map(super::int),
        init_process_enabled: spec.init_process.then_some(true),
        devices: spec.devices.iter().map(device).collect(),
    })
}

fn device(row: &Device) -> pb::Device {
    let permission = |permission: &DevicePermission| match permission {
        DevicePermission::Read => "read".to_owned(),
        DevicePermission::Write => "write".to_owned(),
        DevicePermission::Mknod => "mknod".to_owned(),
    };
    pb::Device {
        host_path: row.host_path.clone(),
        container_path: row.container_path.clone(),
        permissions: row.permissions.iter().map(permission).collect(),
    }
}
