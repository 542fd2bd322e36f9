//! What a container has of others and of the kernel: another container's volumes and address,
//! processes and memory shared with others, kernel settings, names that resolvers complete, the
//! size of /dev/shm.
//!
//! It does not know where a volume is. Invariant: no kernel setting reaches beyond the namespaces
//! of the task.

use crate::convert::{At, amount, at_most};
use crate::pb;
use muster_model::Error;
use muster_model::limits::{CONTAINERS_PER_DEFINITION_MAX, MEMORY_MIB_MAX};
use muster_model::spec::{
    ContainerDefinition, IpcMode, Link, NetworkMode, PidMode, TaskDefinition, VolumeFrom,
};
use std::collections::BTreeMap;

/// More than resolvers of any libc have ever searched.
const SEARCH_DOMAINS_MAX: usize = 32;
const SYSTEM_CONTROLS_MAX: usize = 100;
/// Some names for each of the other containers of a task.
const LINKS_MAX: usize = 50;
/// A setting is a number or a few.
const VALUE_CHARS_MAX: usize = 256;
/// The kernel's settings that each namespace has for itself, as Docker and ECS allow them.
const OWN_SETTINGS: [&str; 8] = [
    "fs.mqueue.",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm",
    "kernel.shm_rmid_forced",
    NETWORK,
];
const NETWORK: &str = "net.";

pub fn volumes_from(at: &At<'_>, wire: &[pb::VolumeFrom]) -> Result<Vec<VolumeFrom>, Error> {
    at_most(at, wire.len(), CONTAINERS_PER_DEFINITION_MAX, "containers")?;
    let from = |wire: &pb::VolumeFrom| VolumeFrom {
        container: wire.source_container.clone(),
        read_only: wire.read_only,
    };
    Ok(wire.iter().map(from).collect())
}

/// `NAME` or `NAME:ALIAS`, as Docker's.
pub fn links(
    at: &At<'_>,
    wire: &[String],
    is_hostname: impl Fn(&str) -> bool,
) -> Result<Vec<Link>, Error> {
    at_most(at, wire.len(), LINKS_MAX, "links")?;
    let mut links: Vec<Link> = Vec::with_capacity(wire.len());
    for (index, text) in wire.iter().enumerate() {
        let at = at.index(index);
        let (container, alias) = text.split_once(':').unwrap_or((text, text));
        if !is_hostname(alias) {
            return Err(at.invalid(text, "NAME or NAME:ALIAS, the alias a host name"));
        }
        if links.iter().any(|other| other.alias == alias) {
            return Err(at.invalid(text, "each alias once"));
        }
        links.push(Link { container: container.to_owned(), alias: alias.to_owned() });
    }
    Ok(links)
}

pub fn pid_mode(wire: &str) -> Result<Option<PidMode>, Error> {
    match wire {
        "" => Ok(None),
        "host" => Ok(Some(PidMode::Host)),
        "task" => Ok(Some(PidMode::Task)),
        other => Err(At::Field("pidMode").invalid(other, "host, task, or none at all")),
    }
}

pub fn ipc_mode(wire: &str) -> Result<Option<IpcMode>, Error> {
    match wire {
        "" => Ok(None),
        "host" => Ok(Some(IpcMode::Host)),
        "task" => Ok(Some(IpcMode::Task)),
        "none" => Ok(Some(IpcMode::None)),
        other => Err(At::Field("ipcMode").invalid(other, "host, task, none, or nothing at all")),
    }
}

pub fn search_domains(
    at: &At<'_>,
    wire: &[String],
    is_hostname: impl Fn(&str) -> bool,
) -> Result<Vec<String>, Error> {
    at_most(at, wire.len(), SEARCH_DOMAINS_MAX, "domains")?;
    for (index, domain) in wire.iter().enumerate() {
        if !is_hostname(domain) {
            return Err(at.index(index).invalid(domain, "a domain name, as example.org"));
        }
    }
    Ok(wire.to_vec())
}

pub fn shared_memory(at: &At<'_>, wire: Option<i32>) -> Result<Option<u32>, Error> {
    wire.map(|mib| amount(at, mib, 1..=MEMORY_MIB_MAX, "MiB")).transpose()
}

pub fn system_controls(
    at: &At<'_>,
    wire: &[pb::SystemControl],
) -> Result<BTreeMap<String, String>, Error> {
    at_most(at, wire.len(), SYSTEM_CONTROLS_MAX, "settings")?;
    let mut settings = BTreeMap::new();
    for (index, wire) in wire.iter().enumerate() {
        let at = at.index(index);
        let name = at.field("namespace");
        let charset = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let own = OWN_SETTINGS.iter().any(|start| wire.namespace.starts_with(start));
        if !own || !wire.namespace.bytes().all(charset) {
            let allowed = "a setting that each container has for itself: net.*, fs.mqueue.*, \
                           kernel.msg*, kernel.sem, kernel.shm*";
            return Err(name.invalid(&wire.namespace, allowed));
        }
        let printable = wire.value.bytes().all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t');
        if wire.value.is_empty() || wire.value.len() > VALUE_CHARS_MAX || !printable {
            let allowed = format!("1 to {VALUE_CHARS_MAX} printable characters");
            return Err(at.field("value").invalid(wire.value.escape_default(), allowed));
        }
        if settings.insert(wire.namespace.clone(), wire.value.clone()).is_some() {
            return Err(name.invalid(&wire.namespace, "each setting once"));
        }
    }
    Ok(settings)
}

/// What only the whole task shows: whose volumes there are, and whose network.
pub fn check(
    list: &At<'_>,
    containers: &[ContainerDefinition],
    network: NetworkMode,
) -> Result<(), Error> {
    for (index, container) in containers.iter().enumerate() {
        let at = list.index(index);
        let from = at.field("volumesFrom");
        for (index, source) in container.volumes_from.iter().enumerate() {
            let mut others = containers.iter().filter(|c| c.name != container.name);
            if !others.any(|c| c.name == source.container) {
                let at = from.index(index);
                let allowed = "the name of another container of the task";
                return Err(at.field("sourceContainer").invalid(&source.container, allowed));
            }
        }
        let shared = |name: &&String| network == NetworkMode::Host && name.starts_with(NETWORK);
        if let Some(name) = container.system_controls.keys().find(shared) {
            let allowed = "no net.* with networkMode host: the instance's own network has them";
            return Err(at.field("systemControls").invalid(name, allowed));
        }
        check_links(&at.field("links"), container, containers, network)?;
    }
    Ok(())
}

fn check_links(
    at: &At<'_>,
    container: &ContainerDefinition,
    containers: &[ContainerDefinition],
    network: NetworkMode,
) -> Result<(), Error> {
    for (index, link) in container.links.iter().enumerate() {
        let at = at.index(index);
        if network != NetworkMode::Bridge {
            let allowed = "links with networkMode bridge only: else containers share an address";
            return Err(at.invalid(&link.container, allowed));
        }
        let mut others = containers.iter().filter(|c| c.name != container.name);
        if !others.any(|c| c.name == link.container) {
            let allowed = "the name of another container of the task";
            return Err(at.invalid(&link.container, allowed));
        }
    }
    Ok(())
}

/// Settings of the IPC namespace are nobody's own where it is the instance's.
pub fn check_ipc(list: &At<'_>, task: &TaskDefinition) -> Result<(), Error> {
    if task.ipc_mode != Some(IpcMode::Host) {
        return Ok(());
    }
    for (index, container) in task.containers.iter().enumerate() {
        let own = |name: &&String| !name.starts_with(NETWORK);
        if let Some(name) = container.system_controls.keys().find(own) {
            let at = list.index(index);
            let allowed = "net.* only with ipcMode host: the instance's own IPC has the others";
            return Err(at.field("systemControls").invalid(name, allowed));
        }
    }
    Ok(())
}
