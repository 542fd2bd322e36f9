//! From what the user and the image say to the runtime's `config.json`. Pure.
//!
//! Everything here follows Docker and ECS: what an image runs, which capabilities and system calls
//! it gets, how limits are counted. It opens no file and knows no clock; `user` was resolved and
//! namespaces, volumes and cgroups were named by the caller.

use super::devices::Node;
use super::mounts::{INIT, mounts};
use super::seccomp;
use super::shared::Shared;
use super::user::User;
use crate::error::{Context, Error, Name, Result};
use crate::image::manifest::Config;
use crate::metadata::is_ours;
use muster_model::spec::{
    ContainerDefinition, IpcMode, NetworkMode, PidMode, TaskDefinition, Ulimit,
};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxDeviceCgroupBuilder,
    LinuxMemoryBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Processes and threads of one container: stops fork bombs; no ordinary program comes near.
pub const PIDS_MAX: i64 = 4096;
/// ECS turns 0 and 1 CPU units into the kernel's minimum.
const CPU_SHARES_MIN: u64 = 2;
/// The kernel's maximum.
const CPU_SHARES_MAX: u64 = 262_144;
/// As systemd gives services: enough for servers, few enough for programs that close all.
const NOFILE: (u64, u64) = (1024, 524_288);
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's default capabilities, which ECS keeps.
pub const CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What surrounds a container on this instance.
pub struct Surroundings<'a> {
    pub user: User,
    /// The container's directory: `rootfs`, `hosts`, `hostname` and `resolv.conf` are in it.
    pub dir: &'a Path,
    /// Namespace to join with network mode `bridge`.
    pub netns: Option<&'a Path>,
    /// Absolute in the cgroup tree.
    pub cgroup: &'a str,
    pub cgroup_v2: bool,
    /// Where each volume of the task is on this instance.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// Namespaces that the containers of the task share.
    pub shared: &'a Shared,
    pub devices: &'a [Node],
    /// Process 1, which runs the container's command.
    pub init: Option<&'a Path>,
    /// Where it asks about itself and acts as its role, and its fencing token: variables of its
    /// environment.
    pub told: Vec<(&'static str, String)>,
    pub hostname: &'a str,
    /// Capabilities that the agent itself could pass on, a bit each: what root of the instance has.
    pub bounding: u64,
    /// The agent's own hard limit of open files, which a container's default must not exceed.
    pub nofile_max: u64,
}

/// The runtime's configuration for one container of a task.
pub fn spec(
    task: &TaskDefinition,
    container: &ContainerDefinition,
    image: &Config,
    around: &Surroundings<'_>,
) -> Result<Spec> {
    let capabilities = match container.privileged {
        true => within(around.bounding),
        false => capabilities(&container.capabilities_add, &container.capabilities_drop)?,
    };
    let what = || format!("container {:?}", container.name);
    let mut linux = LinuxBuilder::default()
        .resources(resources(container, around).context(Name::CannotCreateContainer, what())?)
        .devices(around.devices.iter().map(|node| node.device.clone()).collect::<Vec<_>>())
        .cgroups_path(around.cgroup)
        .namespaces(namespaces(task, around).context(Name::CannotCreateContainer, what())?)
        .sysctl(sysctls(task.network_mode, container));
    if !container.privileged {
        let filter =
            seccomp::profile(&capabilities).context(Name::CannotCreateContainer, what())?;
        linux = linux
            .seccomp(filter)
            .masked_paths(MASKED.map(str::to_owned).to_vec())
            .readonly_paths(READ_ONLY.map(str::to_owned).to_vec());
    }
    let mut linux = linux.build().context(Name::CannotCreateContainer, what())?;
    if container.privileged {
        // The builder has paths of its own.
        linux.set_masked_paths(None).set_readonly_paths(None);
    }
    let root = RootBuilder::default()
        .path(around.dir.join("rootfs"))
        .readonly(container.readonly_root_filesystem)
        .build()
        .context(Name::CannotCreateContainer, what())?;
    SpecBuilder::default()
        .version("1.0.2")
        .process(process(task, container, image, around, capabilities)?)
        .root(root)
        .hostname(around.hostname)
        .mounts(mounts(task, container, around)?)
        .linux(linux)
        .build()
        .context(Name::CannotCreateContainer, what())
}

/// Docker's rule: a new entry point drops the image's command too.
pub fn arguments(container: &ContainerDefinition, image: &Config) -> Result<Vec<String>> {
    let image_command = image.cmd.clone().unwrap_or_default();
    let (entry, command) = if container.entry_point.is_empty() {
        let entry = image.entrypoint.clone().unwrap_or_default();
        let own = !container.command.is_empty();
        (entry, if own { container.command.clone() } else { image_command })
    } else {
        (container.entry_point.clone(), container.command.clone())
    };
    let all: Vec<String> = entry.into_iter().chain(command).collect();
    if all.is_empty() {
        let text = format!(
            "container {:?} has no command: neither the image nor the definition names one; set \
             \"command\" or \"entryPoint\"",
            container.name
        );
        return Err(Error::new(Name::CannotCreateContainer, text));
    }
    Ok(all)
}

/// The image's variables under the definition's, after Docker's defaults.
pub fn environment(container: &ContainerDefinition, image: &Config, hostname: &str) -> Vec<String> {
    let mut merged: BTreeMap<&str, &str> = BTreeMap::new();
    merged.extend(PATH.split_once('='));
    merged.insert("HOSTNAME", hostname);
    if container.pseudo_terminal {
        merged.insert("TERM", "xterm");
    }
    let from_image = image.env.iter().flatten();
    merged.extend(from_image.map(|v| v.split_once('=').unwrap_or((v, ""))));
    merged.extend(container.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    merged.into_iter().map(|(k, v)| format!("{k}={v}")).collect()
}

/// Docker's default set, with `add` and `drop` (names with or without `CAP_`, or `ALL`).
pub fn capabilities(add: &[String], drop: &[String]) -> Result<HashSet<Capability>> {
    let is_all = |text: &String| text.eq_ignore_ascii_case("ALL");
    let mut set: HashSet<Capability> = CAPABILITIES.into();
    if drop.iter().any(is_all) {
        set.clear();
    }
    if add.iter().any(is_all) {
        set.extend(every_capability());
    }
    for text in add.iter().filter(|t| !is_all(t)) {
        set.insert(capability(text)?);
    }
    for text in drop.iter().filter(|t| !is_all(t)) {
        set.remove(&capability(text)?);
    }
    Ok(set)
}

fn capability(text: &str) -> Result<Capability> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Capability::from_str(bare).map_err(|_| {
        let text = format!("capability {text:?} is unknown; allowed are names such as NET_ADMIN");
        Error::new(Name::CannotCreateContainer, text)
    })
}

/// Those this kernel may not know yet are left out: the runtime refuses them.
fn every_capability() -> Vec<Capability> {
    "AUDIT_CONTROL AUDIT_WRITE BLOCK_SUSPEND CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID \
     IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN \
     NET_BIND_SERVICE NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT \
     SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME \
     SYS_TTY_CONFIG SYSLOG WAKE_ALARM"
        .split_whitespace()
        .filter_map(|name| Capability::from_str(name).ok())
        .collect()
}

/// Linux's capabilities in the order of their bits.
const KERNEL_ORDER: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
     NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO \
     SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME \
     SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG \
     WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// Those of a bounding set, a bit each.
fn within(bounding: u64) -> HashSet<Capability> {
    let all = KERNEL_ORDER.split_whitespace().enumerate();
    let there = all.filter(|(bit, _)| bounding >> bit & 1 == 1);
    there.filter_map(|(_, name)| Capability::from_str(name).ok()).collect()
}

fn process(
    task: &TaskDefinition,
    container: &ContainerDefinition,
    image: &Config,
    around: &Surroundings<'_>,
    capabilities: HashSet<Capability>,
) -> Result<Process> {
    let what = || format!("container {:?}", container.name);
    let image_dir = image.working_dir.as_deref().filter(|d| !d.is_empty());
    let cwd = container.working_directory.as_deref().or(image_dir).unwrap_or("/");
    if !cwd.starts_with('/') {
        let text = format!("{}: workingDirectory {cwd:?} is not an absolute path", what());
        return Err(Error::new(Name::CannotCreateContainer, text));
    }
    let user = UserBuilder::default()
        .uid(around.user.uid)
        .gid(around.user.gid)
        .additional_gids(around.user.groups.clone())
        .build()
        .context(Name::CannotCreateContainer, what())?;
    let sets = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities.clone())
        .effective(capabilities.clone())
        .permitted(capabilities)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .context(Name::CannotCreateContainer, what())?;
    let mut process = ProcessBuilder::default()
        .terminal(container.pseudo_terminal)
        .user(user)
        .args(with_init(task, around, arguments(container, image)?))
        .env(with_told(environment(container, image, around.hostname), around))
        .cwd(cwd)
        .capabilities(sets)
        .rlimits(rlimits(&container.ulimits, around.nofile_max)?)
        .no_new_privileges(!container.privileged)
        .build()
        .context(Name::CannotCreateContainer, what())?;
    // The builder's defaults name profiles that this machine may not have.
    process.set_apparmor_profile(None).set_selinux_label(None);
    process.set_io_priority(None).set_scheduler(None);
    Ok(process)
}

/// A container cannot be told of another's endpoint.
fn with_told(mut variables: Vec<String>, around: &Surroundings<'_>) -> Vec<String> {
    variables.retain(|text| text.split_once('=').is_none_or(|(name, _)| !is_ours(name)));
    variables.extend(around.told.iter().map(|(name, value)| format!("{name}={value}")));
    variables
}

/// The init process first, if there is one. Where it is not process 1, it asks for orphans.
fn with_init(task: &TaskDefinition, around: &Surroundings<'_>, words: Vec<String>) -> Vec<String> {
    if around.init.is_none() {
        return words;
    }
    let adopts = task.pid_mode.is_some().then_some("-s");
    let own = [INIT].into_iter().chain(adopts).chain(["--"]).map(str::to_owned);
    own.chain(words).collect()
}

fn rlimits(ulimits: &[Ulimit], nofile_max: u64) -> Result<Vec<PosixRlimit>> {
    let mut limits: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    limits.insert("RLIMIT_NOFILE".into(), (NOFILE.0.min(nofile_max), NOFILE.1.min(nofile_max)));
    for ulimit in ulimits {
        let name = format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase());
        limits.insert(name, (ulimit.soft, ulimit.hard));
    }
    let build = |(name, (soft, hard)): (String, (u64, u64))| {
        let typ = PosixRlimitType::from_str(&name).map_err(|_| {
            let text = format!("ulimit {name:?} is unknown; allowed are names such as nofile");
            Error::new(Name::CannotCreateContainer, text)
        })?;
        let limit = PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard);
        limit.build().context(Name::CannotCreateContainer, "ulimits")
    };
    limits.into_iter().map(build).collect()
}

fn resources(
    container: &ContainerDefinition,
    around: &Surroundings<'_>,
) -> std::result::Result<LinuxResources, OciSpecError> {
    let shares = u64::from(container.cpu).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX);
    let bytes = |mib: u32| i64::from(mib) << 20;
    let mut memory = LinuxMemoryBuilder::default();
    if let Some(mib) = container.memory_mib {
        // Memory and swap together: a container gets no swap beyond its limit.
        memory = memory.limit(bytes(mib)).swap(bytes(mib));
    }
    if let Some(mib) = container.memory_reservation_mib {
        memory = memory.reservation(bytes(mib));
    }
    // All or none, then those that it was given.
    let first = LinuxDeviceCgroupBuilder::default().allow(container.privileged).access("rwm");
    let mut rules = vec![first.build()?];
    for Node { device, access } in around.devices {
        let rule = LinuxDeviceCgroupBuilder::default().allow(true).typ(device.typ());
        let rule = rule.major(device.major()).minor(device.minor()).access(access);
        rules.push(rule.build()?);
    }
    LinuxResourcesBuilder::default()
        .devices(rules)
        .cpu(LinuxCpuBuilder::default().shares(shares).build()?)
        .memory(memory.build()?)
        .pids(LinuxPidsBuilder::default().limit(PIDS_MAX).build()?)
        .build()
}

fn namespaces(
    task: &TaskDefinition,
    around: &Surroundings<'_>,
) -> std::result::Result<Vec<LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType as Kind;
    let mut kinds = vec![Kind::Uts, Kind::Mount];
    if around.cgroup_v2 {
        kinds.push(Kind::Cgroup);
    }
    let plain = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
    let mut all = kinds.into_iter().map(plain).collect::<std::result::Result<Vec<_>, _>>()?;
    let joined = |kind, path: Option<&Path>| match path {
        Some(path) => LinuxNamespaceBuilder::default().typ(kind).path(path).build(),
        None => plain(kind),
    };
    if task.network_mode != NetworkMode::Host {
        all.push(joined(Kind::Network, around.netns)?);
    }
    if task.pid_mode != Some(PidMode::Host) {
        all.push(joined(Kind::Pid, around.shared.pid.as_deref())?);
    }
    if task.ipc_mode != Some(IpcMode::Host) {
        all.push(joined(Kind::Ipc, around.shared.ipc.as_deref())?);
    }
    Ok(all)
}

/// As Docker: low ports and ping need no capability in a network of one's own.
fn sysctls(mode: NetworkMode, container: &ContainerDefinition) -> HashMap<String, String> {
    let own = [
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
    ];
    let mut all: HashMap<String, String> = match mode {
        NetworkMode::Host => HashMap::new(),
        _ => own.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    };
    all.extend(container.system_controls.clone());
    all
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
