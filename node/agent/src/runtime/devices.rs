//! Devices of the instance that a container gets: those that its definition names, and all of them
//! if it is privileged.
//!
//! It looks at nodes and opens none. What a container may do with one, the runtime enforces by the
//! container's cgroup.

use crate::error::{Context, Error, Name, Result};
use muster_model::spec::{ContainerDefinition, Device, DevicePermission};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use rustix::fs::{FileType, Mode, major, minor, stat};
use std::fs;
use std::path::Path;

/// A node of the instance, where the container sees it, and what it may do there: `rwm`.
#[derive(Clone, Debug)]
pub struct Node {
    pub device: LinuxDevice,
    pub access: String,
}

/// What is below /dev and each container has for itself.
const OWN: [&str; 5] = ["pts", "shm", "fd", "mqueue", "console"];
/// Directories in each other: /dev has two or three.
const DEPTH_MAX: usize = 8;

/// # Errors
/// A path of the instance that the definition names is not there, or is no device.
pub fn of(container: &ContainerDefinition) -> Result<Vec<Node>> {
    let mut nodes = named(&container.devices)?;
    if container.privileged {
        collect(Path::new("/dev"), DEPTH_MAX, &mut nodes);
    }
    Ok(nodes)
}

/// As Docker: what cannot be looked at is left out. What the definition names at a path is there.
fn collect(dir: &Path, depth: usize, nodes: &mut Vec<Node>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        if kind.is_dir() && depth > 0 {
            collect(&path, depth - 1, nodes);
        } else if !kind.is_symlink()
            && !nodes.iter().any(|node| *node.device.path() == path)
            && let Ok(Some(device)) = look(&path, &path)
        {
            nodes.push(Node { device, access: access(&[]) });
        }
    }
}

fn named(devices: &[Device]) -> Result<Vec<Node>> {
    devices.iter().map(node).collect()
}

fn node(wanted: &Device) -> Result<Node> {
    let what = || format!("device {:?} of this instance", wanted.host_path);
    let device = look(Path::new(&wanted.host_path), Path::new(&wanted.container_path));
    let device = device.context(Name::CannotCreateContainer, what())?;
    let device = device.ok_or_else(|| {
        let text = format!("{} is neither a character nor a block device", what());
        Error::new(Name::CannotCreateContainer, text)
    })?;
    Ok(Node { device, access: access(&wanted.permissions) })
}

/// The device at `host`, as the node `inside`; `None` if something else is there.
fn look(host: &Path, inside: &Path) -> std::io::Result<Option<LinuxDevice>> {
    let seen = stat(host)?;
    let typ = match FileType::from_raw_mode(seen.st_mode) {
        FileType::CharacterDevice => LinuxDeviceType::C,
        FileType::BlockDevice => LinuxDeviceType::B,
        _ => return Ok(None),
    };
    let device = LinuxDeviceBuilder::default()
        .path(inside)
        .typ(typ)
        .major(major(seen.st_rdev))
        .minor(minor(seen.st_rdev))
        .file_mode(Mode::from_raw_mode(seen.st_mode).as_raw_mode())
        .uid(seen.st_uid)
        .gid(seen.st_gid)
        .build();
    device.map(Some).map_err(std::io::Error::other)
}

/// Without any, as ECS: all three.
fn access(permissions: &[DevicePermission]) -> String {
    if permissions.is_empty() {
        return "rwm".to_owned();
    }
    let letter = |permission: &DevicePermission| match permission {
        DevicePermission::Read => 'r',
        DevicePermission::Write => 'w',
        DevicePermission::Mknod => 'm',
    };
    permissions.iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, permissions: Vec<DevicePermission>) -> Device {
        Device { host_path: path.into(), container_path: "/dev/own".into(), permissions }
    }

    #[test]
    fn a_device_is_known_by_its_numbers() {
        let nodes = named(&[device("/dev/zero", vec![DevicePermission::Read])]).unwrap();
        assert_eq!((nodes[0].device.major(), nodes[0].device.minor()), (1, 5));
        assert_eq!((nodes[0].device.typ(), nodes[0].access.as_str()), (LinuxDeviceType::C, "r"));
        assert_eq!(named(&[device("/dev/zero", vec![])]).unwrap()[0].access, "rwm");
    }

    #[test]
    fn what_is_no_device_is_named() {
        let error = |path| named(&[device(path, vec![])]).unwrap_err().to_string();
        assert!(error("/etc").contains("\"/etc\" of this instance is neither"));
        assert!(error("/dev/nothing").contains("device \"/dev/nothing\" of this instance"));
    }
}
