//! What is mounted into a container beside its root: the kernel's own file systems, the files of
//! /etc, shared memory, tmpfs and volumes. Pure.
//!
//! What is mounted later lies over what was mounted before it; Docker's options are the defaults.

use super::bundle::Surroundings;
use super::volumes::mount_points;
use crate::error::{Context, Error, Name, Result};
use muster_model::spec::{ContainerDefinition, IpcMode, TaskDefinition, Tmpfs};
use oci_spec::runtime::{Mount, MountBuilder};
use std::path::Path;

/// Docker's size of /dev/shm.
const SHARED_MEMORY_MIB: u32 = 64;
/// Docker's path of its own init process; images expect nothing there.
pub const INIT: &str = "/sbin/docker-init";

fn mount(target: &str, kind: &str, source: &Path, options: &[&str]) -> Result<Mount> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
        .context(Name::CannotCreateContainer, target)
}

pub fn mounts(
    task: &TaskDefinition,
    container: &ContainerDefinition,
    around: &Surroundings<'_>,
) -> Result<Vec<Mount>> {
    let mode = if container.privileged { "rw" } else { "ro" };
    let system: [(&str, &str, &[&str]); 5] = [
        ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        ("/sys", "sysfs", &["nosuid", "noexec", "nodev", mode]),
        ("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", mode]),
    ];
    let mut all = Vec::new();
    for (target, kind, options) in system {
        all.push(mount(target, kind, Path::new(kind), options)?);
    }
    all.extend(memory_mounts(task, container, around)?);
    if let Some(init) = around.init {
        all.push(mount(INIT, "bind", init, &["bind", "rprivate", "ro"])?);
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        let options = ["rbind", "rprivate", "rw"];
        all.push(mount(&format!("/etc/{name}"), "bind", &around.dir.join(name), &options)?);
    }
    for tmpfs in &container.tmpfs {
        all.push(tmpfs_mount(tmpfs)?);
    }
    for point in &mount_points(task, container) {
        let source = around.volumes.get(&point.source_volume).ok_or_else(|| {
            let name = &container.name;
            let text = format!("container {name:?}: volume {:?} is unknown", point.source_volume);
            Error::new(Name::CannotCreateVolume, text)
        })?;
        let mode = if point.read_only { "ro" } else { "rw" };
        all.push(mount(&point.container_path, "bind", source, &["rbind", "rprivate", mode])?);
    }
    Ok(all)
}

/// Shared memory and message queues of the container, of the task, or of the instance.
fn memory_mounts(
    task: &TaskDefinition,
    container: &ContainerDefinition,
    around: &Surroundings<'_>,
) -> Result<Vec<Mount>> {
    const SHM: &str = "/dev/shm";
    const SAFE: [&str; 3] = ["nosuid", "noexec", "nodev"];
    let bind = |target, source| mount(target, "bind", source, &["rbind", "rprivate", "rw"]);
    // The queues are those of the IPC namespace, whoever's that is.
    let mut all = vec![mount("/dev/mqueue", "mqueue", Path::new("mqueue"), &SAFE)?];
    match (task.ipc_mode, &around.shared.shm) {
        (Some(IpcMode::None), _) => {}
        (Some(IpcMode::Host), _) => all.push(bind(SHM, Path::new(SHM))?),
        (_, Some(shared)) => all.push(bind(SHM, shared)?),
        (_, None) => {
            let mib = container.shared_memory_mib.unwrap_or(SHARED_MEMORY_MIB);
            let size = format!("size={mib}m");
            let [suid, exec, dev] = SAFE;
            all.push(mount(
                SHM,
                "tmpfs",
                Path::new("tmpfs"),
                &[suid, exec, dev, "mode=1777", &size],
            )?);
        }
    }
    Ok(all)
}

fn tmpfs_mount(tmpfs: &Tmpfs) -> Result<Mount> {
    let size = format!("size={}m", tmpfs.size_mib);
    let mut options = vec!["nosuid", "nodev", "noexec", "mode=1777", &size];
    for option in &tmpfs.mount_options {
        // What the user asks for stands in for our default.
        let opposite = match option.as_str() {
            "suid" => "nosuid",
            "dev" => "nodev",
            "exec" => "noexec",
            text if text.starts_with("mode=") => "mode=1777",
            _ => "",
        };
        options.retain(|o| *o != opposite);
        options.push(option);
    }
    mount(&tmpfs.container_path, "tmpfs", Path::new("tmpfs"), &options)
}
