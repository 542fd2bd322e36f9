//! What of Linux a container may have: resource limits, tmpfs mounts, capabilities, devices.
//!
//! It does not know what the runtime's default set of capabilities is.

use super::container::absolute;
use crate::convert::{At, amount, at_most, one_of};
use crate::{pb, spelled};
use muster_model::Error;
use muster_model::limits::MEMORY_MIB_MAX;
use muster_model::spec::{Device, DevicePermission, Tmpfs, Ulimit};
use std::collections::BTreeSet;

/// A tmpfs is memory of the task: more than a few are a mistake.
const TMPFS_MAX: usize = 50;
/// Accelerators of a large machine, several nodes each.
const DEVICES_MAX: usize = 100;

/// ECS's names of resource limits.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// ECS's names of capabilities, and those of newer kernels.
const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

/// Mount options of a tmpfs that the kernel takes and that cannot widen what a container may do.
const TMPFS_OPTIONS: [&str; 20] = [
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
];
const TMPFS_SETTINGS: [&str; 5] = ["mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks="];

pub fn ulimits(at: &At<'_>, wire: &[pb::Ulimit]) -> Result<Vec<Ulimit>, Error> {
    let mut names = BTreeSet::new();
    let mut ulimits = Vec::with_capacity(wire.len().min(ULIMITS.len()));
    for (index, wire) in wire.iter().enumerate() {
        let at = at.index(index);
        if !ULIMITS.contains(&wire.name.as_str()) {
            return Err(at.field("name").invalid(&wire.name, ULIMITS.join(", ")));
        }
        if !names.insert(wire.name.as_str()) {
            return Err(at.field("name").invalid(&wire.name, "each limit once"));
        }
        let value = |field, wire: i64| match wire {
            -1 => Ok(u64::MAX),
            wire => u64::try_from(wire)
                .map_err(|_| at.field(field).invalid(wire, "0 or more, or -1 for unlimited")),
        };
        let soft = value("softLimit", wire.soft_limit)?;
        let hard = value("hardLimit", wire.hard_limit)?;
        if soft > hard {
            let allowed = format!("at most hardLimit, {}", wire.hard_limit);
            return Err(at.field("softLimit").invalid(wire.soft_limit, allowed));
        }
        ulimits.push(Ulimit { name: wire.name.clone(), soft, hard });
    }
    Ok(ulimits)
}

pub fn tmpfs(at: &At<'_>, wire: &[pb::Tmpfs]) -> Result<Vec<Tmpfs>, Error> {
    at_most(at, wire.len(), TMPFS_MAX, "tmpfs mounts")?;
    let mount = |(index, wire): (usize, &pb::Tmpfs)| {
        let at = at.index(index);
        absolute(&at.field("containerPath"), &wire.container_path)?;
        let options = at.field("mountOptions");
        for (index, option) in wire.mount_options.iter().enumerate() {
            let set = TMPFS_SETTINGS.iter().any(|start| {
                option.strip_prefix(start).is_some_and(|value| {
                    !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit())
                })
            });
            if !set && !TMPFS_OPTIONS.contains(&option.as_str()) {
                let allowed =
                    format!("{}, {}N", TMPFS_OPTIONS.join(", "), TMPFS_SETTINGS.join("N, "));
                return Err(options.index(index).invalid(option, allowed));
            }
        }
        Ok(Tmpfs {
            container_path: wire.container_path.clone(),
            size_mib: amount(&at.field("size"), wire.size, 1..=MEMORY_MIB_MAX, "MiB")?,
            mount_options: wire.mount_options.clone(),
        })
    };
    wire.iter().enumerate().map(mount).collect()
}

pub fn devices(at: &At<'_>, wire: &[pb::Device]) -> Result<Vec<Device>, Error> {
    at_most(at, wire.len(), DEVICES_MAX, "devices")?;
    let mut devices: Vec<Device> = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let at = at.index(index);
        absolute(&at.field("hostPath"), &wire.host_path)?;
        // As in ECS: where it is on the instance, unless given.
        let container_path = match wire.container_path.as_str() {
            "" => &wire.host_path,
            given => given,
        };
        let path = at.field("containerPath");
        absolute(&path, container_path)?;
        if devices.iter().any(|other| other.container_path == *container_path) {
            return Err(path.invalid(container_path, "each path once"));
        }
        devices.push(Device {
            host_path: wire.host_path.clone(),
            container_path: container_path.to_owned(),
            permissions: permissions(&at.field("permissions"), &wire.permissions)?,
        });
    }
    Ok(devices)
}

fn permissions(at: &At<'_>, wire: &[String]) -> Result<Vec<DevicePermission>, Error> {
    let mut permissions = Vec::new();
    for (index, word) in wire.iter().enumerate() {
        let permission = match word.as_str() {
            "read" => DevicePermission::Read,
            "write" => DevicePermission::Write,
            "mknod" => DevicePermission::Mknod,
            other => {
                return Err(at
                    .index(index)
                    .invalid(other, one_of(spelled::DEVICE_CGROUP_PERMISSION)));
            }
        };
        if permissions.contains(&permission) {
            return Err(at.index(index).invalid(word, "each permission once"));
        }
        permissions.push(permission);
    }
    Ok(permissions)
}

pub fn capability_names(at: &At<'_>, wire: &[String]) -> Result<Vec<String>, Error> {
    let mut names = Vec::with_capacity(wire.len().min(CAPABILITIES.len()));
    for (index, name) in wire.iter().enumerate() {
        if !CAPABILITIES.contains(&name.as_str()) {
            let allowed = format!("one of {}", CAPABILITIES.join(", "));
            return Err(at.index(index).invalid(name, allowed));
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}
