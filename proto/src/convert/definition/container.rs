//! One container of a task definition.

use super::life::{depends_on, health_check, restart_policy, start_timeout, stop_timeout};
use super::linux::{capability_names, devices, tmpfs, ulimits};
use super::logs::logs;
use super::secrets;
use super::sharing;
use super::size::requirements;
use crate::convert::{At, amount, at_most, given, mib, name, number, one_of, text};
use crate::{pb, spelled};
use muster_model::limits::{CPU_UNITS_MAX, PORT_MAPPINGS_MAX};
use muster_model::spec::{
    AppProtocol, ContainerDefinition, MountPoint, PortMapping, Protocol, Volume,
};
use muster_model::{Error, VersionConsistency};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const IMAGE_CHARS_MAX: usize = 512;
/// Linux's PATH_MAX, less its NUL.
const PATH_CHARS_MAX: usize = 4095;
const ENVIRONMENT_MAX: usize = 1000;
const ARGUMENTS_MAX: usize = 1000;
const LABELS_MAX: usize = 200;
const MOUNTS_MAX: usize = 50;
/// A word of a command or a value of the environment: Linux's limit for one argument, 128 KiB,
/// is more than a whole definition may have.
const WORD_CHARS_MAX: usize = 65_536;
/// Entries of /etc/resolv.conf that resolvers read.
const DNS_SERVERS_MAX: usize = 3;
/// A name in /etc/hosts, as DNS has it.
const HOSTNAME_CHARS_MAX: usize = 253;
/// Of the container itself: Linux's limit.
const OWN_HOSTNAME_CHARS_MAX: usize = 64;

pub fn checked(
    at: &At<'_>,
    wire: &pb::ContainerDefinition,
    volumes: &[Volume],
    task_memory_mib: Option<u32>,
) -> Result<ContainerDefinition, Error> {
    own_name(&at.field("name"), &wire.name)?;
    image(&at.field("image"), &wire.image)?;
    let (memory_mib, memory_reservation_mib) = memory(at, wire, task_memory_mib)?;
    let linux = wire.linux_parameters.clone().unwrap_or_default();
    let linux_at = at.field("linuxParameters");
    let capabilities = linux.capabilities.unwrap_or_default();
    let capabilities_at = linux_at.field("capabilities");
    Ok(ContainerDefinition {
        name: wire.name.clone(),
        image: wire.image.clone(),
        cpu: amount(&at.field("cpu"), wire.cpu, 0..=CPU_UNITS_MAX, "units (1024 = one core)")?,
        memory_mib,
        memory_reservation_mib,
        essential: wire.essential.unwrap_or(true),
        command: words(&at.field("command"), &wire.command)?,
        entry_point: words(&at.field("entryPoint"), &wire.entry_point)?,
        environment: environment(&at.field("environment"), &wire.environment)?,
        port_mappings: port_mappings(&at.field("portMappings"), &wire.port_mappings)?,
        mount_points: mount_points(&at.field("mountPoints"), &wire.mount_points, volumes)?,
        user: user(&at.field("user"), &wire.user)?,
        working_directory: optional_path(&at.field("workingDirectory"), &wire.working_directory)?,
        readonly_root_filesystem: wire.readonly_root_filesystem,
        hostname: hostname(&at.field("hostname"), &wire.hostname)?,
        ulimits: ulimits(&at.field("ulimits"), &wire.ulimits)?,
        tmpfs: tmpfs(&linux_at.field("tmpfs"), &linux.tmpfs)?,
        capabilities_add: capability_names(&capabilities_at.field("add"), &capabilities.add)?,
        capabilities_drop: capability_names(&capabilities_at.field("drop"), &capabilities.drop)?,
        docker_labels: labels(&at.field("dockerLabels"), &wire.docker_labels)?,
        stop_timeout_secs: stop_timeout(&at.field("stopTimeout"), wire.stop_timeout)?,
        log_configuration: match &wire.log_configuration {
            Some(wire) => Some(logs(&at.field("logConfiguration"), wire)?),
            None => None,
        },
        extra_hosts: extra_hosts(&at.field("extraHosts"), &wire.extra_hosts)?,
        dns_servers: dns_servers(&at.field("dnsServers"), &wire.dns_servers)?,
        pseudo_terminal: wire.pseudo_terminal,
        resource_requirements: requirements(
            &at.field("resourceRequirements"),
            &wire.resource_requirements,
        )?,
        depends_on: depends_on(&at.field("dependsOn"), &wire.depends_on)?,
        start_timeout_secs: start_timeout(&at.field("startTimeout"), wire.start_timeout)?,
        health_check: health_check(&at.field("healthCheck"), wire.health_check.as_ref())?,
        restart_policy: restart_policy(&at.field("restartPolicy"), wire.restart_policy.as_ref())?,
        interactive: wire.interactive.unwrap_or_default(),
        dns_search_domains: sharing::search_domains(
            &at.field("dnsSearchDomains"),
            &wire.dns_search_domains,
            is_hostname,
        )?,
        shared_memory_mib: sharing::shared_memory(
            &linux_at.field("sharedMemorySize"),
            linux.shared_memory_size,
        )?,
        volumes_from: sharing::volumes_from(&at.field("volumesFrom"), &wire.volumes_from)?,
        system_controls: sharing::system_controls(
            &at.field("systemControls"),
            &wire.system_controls,
        )?,
        init_process: linux.init_process_enabled.unwrap_or_default(),
        devices: devices(&linux_at.field("devices"), &linux.devices)?,
        privileged: wire.privileged.unwrap_or_default(),
        links: sharing::links(&at.field("links"), &wire.links, is_hostname)?,
        secrets: secrets::variables(&at.field("secrets"), &wire.secrets, &wire.environment)?,
        repository_credentials: secrets::credentials(at, wire.repository_credentials.as_ref())?,
        files: secrets::files(&at.field("files"), wire)?,
        environment_files: secrets::environment_files(at, &wire.environment_files)?,
        version_consistency: version_consistency(at, &wire.version_consistency)?,
    })
}

/// In ECS's words, which tools of many kinds print.
fn own_name(at: &At<'_>, wire: &str) -> Result<(), Error> {
    match (wire, name(at, wire)) {
        ("", _) => Err(at.invalid("", "Container.name should not be null or empty.")),
        (_, Err(Error::Invalid { allowed, .. })) => {
            let why = format!("Container.name contains invalid characters. (Allowed: {allowed}.)");
            Err(at.invalid(wire, why))
        }
        (_, other) => other,
    }
}

fn image(at: &At<'_>, wire: &str) -> Result<(), Error> {
    if wire.is_empty() {
        return Err(at.invalid("", "Container.image should not be null or empty."));
    }
    let fits = wire.len() <= IMAGE_CHARS_MAX && wire.bytes().all(|b| b.is_ascii_graphic());
    let allowed =
        || format!("1 to {IMAGE_CHARS_MAX} characters without spaces, as registry:5000/name:tag");
    if fits { Ok(()) } else { Err(at.invalid(wire.escape_default(), allowed())) }
}

fn version_consistency(at: &At<'_>, wire: &str) -> Result<Option<VersionConsistency>, Error> {
    match wire {
        "" => Ok(None),
        "enabled" => Ok(Some(VersionConsistency::Enabled)),
        "disabled" => Ok(Some(VersionConsistency::Disabled)),
        other => {
            let at = at.field("versionConsistency");
            Err(at.invalid(other, one_of(spelled::VERSION_CONSISTENCY)))
        }
    }
}

/// Hard and soft limit in MiB; without a size of the task one of them must be given.
fn memory(
    at: &At<'_>,
    wire: &pb::ContainerDefinition,
    task: Option<u32>,
) -> Result<(Option<u32>, Option<u32>), Error> {
    let of = |field, wire: Option<i32>| wire.map(|wire| mib(&at.field(field), wire)).transpose();
    let hard = of("memory", wire.memory)?;
    let soft = of("memoryReservation", wire.memory_reservation)?;
    match (hard, soft, task) {
        (None, None, None) => Err(at.field("memory").invalid(
            "",
            format!(
                "Invalid setting for container '{}'. At least one of 'memory' or \
                 'memoryReservation' must be specified.",
                wire.name
            ),
        )),
        (Some(hard), Some(soft), _) if soft > hard => {
            Err(at.field("memoryReservation").invalid(soft, format!("at most memory, {hard} MiB")))
        }
        (Some(hard), _, Some(task)) if hard > task => {
            Err(at.field("memory").invalid(hard, more_than_the_task(&wire.name, task)))
        }
        _ => Ok((hard, soft)),
    }
}

/// ECS's sentence about the memory of one container.
pub(crate) fn more_than_the_task(container: &str, task_mib: u32) -> String {
    format!(
        "The 'memory' setting for container '{container}' is greater than for the task. (It has \
         {task_mib} MiB.)"
    )
}

pub(crate) fn words(at: &At<'_>, wire: &[String]) -> Result<Vec<String>, Error> {
    at_most(at, wire.len(), ARGUMENTS_MAX, "words")?;
    for (index, word) in wire.iter().enumerate() {
        no_nul(&at.index(index), word)?;
    }
    Ok(wire.to_vec())
}

/// Arguments and values of the environment may hold anything that execve takes.
fn no_nul(at: &At<'_>, wire: &str) -> Result<(), Error> {
    if wire.contains('\0') {
        return Err(at.invalid(wire.escape_default(), "no NUL character"));
    }
    if wire.len() > WORD_CHARS_MAX {
        return Err(at.invalid(wire, format!("at most {WORD_CHARS_MAX} bytes")));
    }
    Ok(())
}

pub(crate) fn environment(
    at: &At<'_>,
    wire: &[pb::KeyValuePair],
) -> Result<BTreeMap<String, String>, Error> {
    at_most(at, wire.len(), ENVIRONMENT_MAX, "variables")?;
    let mut environment = BTreeMap::new();
    for (index, pair) in wire.iter().enumerate() {
        let at = at.index(index);
        let name = at.field("name");
        variable(&name, &pair.name)?;
        no_nul(&at.field("value"), &pair.value)?;
        if environment.insert(pair.name.clone(), pair.value.clone()).is_some() {
            return Err(name.invalid(&pair.name, "each name once"));
        }
    }
    Ok(environment)
}

/// The name of a variable.
pub(super) fn variable(at: &At<'_>, name: &str) -> Result<(), Error> {
    text(at, name, 1..=WORD_CHARS_MAX)?;
    match name.contains('=') {
        true => Err(at.invalid(name, "a name without =")),
        false => Ok(()),
    }
}

fn port_mappings(at: &At<'_>, wire: &[pb::PortMapping]) -> Result<Vec<PortMapping>, Error> {
    at_most(at, wire.len(), PORT_MAPPINGS_MAX, "port mappings")?;
    let mapping = |(index, wire): (usize, &pb::PortMapping)| {
        let at = at.index(index);
        let protocol = match wire.protocol.as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => {
                return Err(at
                    .field("protocol")
                    .invalid(other, one_of(spelled::TRANSPORT_PROTOCOL)));
            }
        };
        let app_protocol = match wire.app_protocol.as_str() {
            "" => None,
            "http" => Some(AppProtocol::Http),
            "http2" => Some(AppProtocol::Http2),
            "grpc" => Some(AppProtocol::Grpc),
            other => {
                return Err(at
                    .field("appProtocol")
                    .invalid(other, one_of(spelled::APPLICATION_PROTOCOL)));
            }
        };
        if !wire.name.is_empty() {
            name(&at.field("name"), &wire.name)?;
        }
        let port = |field, wire: i32, low: u32| {
            let port = number(&at.field(field), wire, low..=u32::from(u16::MAX))?;
            Ok(u16::try_from(port).unwrap_or(u16::MAX))
        };
        Ok(PortMapping {
            name: given(&wire.name),
            container_port: port("containerPort", wire.container_port, 1)?,
            host_port: port("hostPort", wire.host_port, 0)?,
            protocol,
            app_protocol,
        })
    };
    wire.iter().enumerate().map(mapping).collect()
}

fn mount_points(
    at: &At<'_>,
    wire: &[pb::MountPoint],
    volumes: &[Volume],
) -> Result<Vec<MountPoint>, Error> {
    at_most(at, wire.len(), MOUNTS_MAX, "mount points")?;
    let mut paths = BTreeSet::new();
    let mut mounts = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let at = at.index(index);
        if !volumes.iter().any(|volume| volume.name == wire.source_volume) {
            let known: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
            let known = match known.as_slice() {
                [] => "none".to_owned(),
                known => known.join(", "),
            };
            let why = format!("Unknown volume '{}'. (Known: {known}.)", wire.source_volume);
            return Err(at.field("sourceVolume").invalid(&wire.source_volume, why));
        }
        let path = at.field("containerPath");
        absolute(&path, &wire.container_path)?;
        if !paths.insert(wire.container_path.trim_end_matches('/')) {
            return Err(path.invalid(&wire.container_path, "each path once"));
        }
        mounts.push(MountPoint {
            source_volume: wire.source_volume.clone(),
            container_path: wire.container_path.clone(),
            read_only: wire.read_only,
        });
    }
    Ok(mounts)
}

/// An absolute path that does not climb.
pub(crate) fn absolute(at: &At<'_>, path: &str) -> Result<(), Error> {
    text(at, path, 1..=PATH_CHARS_MAX)?;
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(at.invalid(path, "an absolute path without .."));
    }
    Ok(())
}

fn optional_path(at: &At<'_>, wire: &str) -> Result<Option<String>, Error> {
    if !wire.is_empty() {
        absolute(at, wire)?;
    }
    Ok(given(wire))
}

/// `user`, `uid`, `user:group`, `uid:gid` and so on.
fn user(at: &At<'_>, wire: &str) -> Result<Option<String>, Error> {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let (user, group) = match wire.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wire, None),
    };
    let fits = wire.len() <= 255 && part(user) && group.is_none_or(part);
    if wire.is_empty() || fits {
        return Ok(given(wire));
    }
    Err(at.invalid(wire, "user, uid, user:group or uid:gid"))
}

fn is_hostname(text: &str) -> bool {
    let charset = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    !text.is_empty() && text.len() <= HOSTNAME_CHARS_MAX && text.bytes().all(charset)
}

fn hostname(at: &At<'_>, wire: &str) -> Result<Option<String>, Error> {
    if wire.is_empty() || (is_hostname(wire) && wire.len() <= OWN_HOSTNAME_CHARS_MAX) {
        return Ok(given(wire));
    }
    let allowed = format!("up to {OWN_HOSTNAME_CHARS_MAX} letters, digits, hyphens and dots");
    Err(at.invalid(wire, allowed))
}

pub(super) fn labels(
    at: &At<'_>,
    wire: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Error> {
    at_most(at, wire.len(), LABELS_MAX, "labels")?;
    for (key, value) in wire {
        text(at, key, 1..=WORD_CHARS_MAX)?;
        no_nul(at, value)?;
    }
    Ok(wire.clone())
}

fn extra_hosts(at: &At<'_>, wire: &[pb::HostEntry]) -> Result<BTreeMap<String, String>, Error> {
    at_most(at, wire.len(), MOUNTS_MAX, "hosts")?;
    let mut hosts = BTreeMap::new();
    for (index, wire) in wire.iter().enumerate() {
        let at = at.index(index);
        if !is_hostname(&wire.hostname) {
            return Err(at.field("hostname").invalid(&wire.hostname, "a host name"));
        }
        address(&at.field("ipAddress"), &wire.ip_address)?;
        if hosts.insert(wire.hostname.clone(), wire.ip_address.clone()).is_some() {
            return Err(at.field("hostname").invalid(&wire.hostname, "each host name once"));
        }
    }
    Ok(hosts)
}

fn dns_servers(at: &At<'_>, wire: &[String]) -> Result<Vec<String>, Error> {
    at_most(at, wire.len(), DNS_SERVERS_MAX, "servers")?;
    for (index, server) in wire.iter().enumerate() {
        address(&at.index(index), server)?;
    }
    Ok(wire.to_vec())
}

fn address(at: &At<'_>, wire: &str) -> Result<(), Error> {
    match wire.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(at.invalid(wire, "an IP address")),
    }
}
