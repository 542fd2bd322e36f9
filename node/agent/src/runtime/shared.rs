//! What containers of one task share beside volumes, if its definition says so: process ids
//! (`pidMode` task), and System V IPC with /dev/shm (`ipcMode` task).
//!
//! A namespace is held by a file below the run directory; that of process ids also by its first
//! process, the shim with nothing to watch, because the kernel ends one with the other. All of it
//! is made before the first container and goes after the last. Invariant: what is made twice is
//! there once, so an agent that starts anew finds it or makes it.

use super::{Runtime, secrets};
use crate::error::{Context, Name, Result};
use muster_model::dispatch::Assignment;
use muster_model::spec::{IpcMode, PidMode};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Beside the groups of containers, whose names have no dot.
pub(crate) const PAUSE: &str = ".pause";
/// Docker's size of /dev/shm, where no container asks for more.
const SHARED_MEMORY_MIB: u32 = 64;

/// Where the shared namespaces of a task are, as far as it has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    pub pid: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    /// What is mounted at /dev/shm.
    pub shm: Option<PathBuf>,
}

impl Runtime {
    pub(super) fn shared_dir(&self, task: &str) -> PathBuf {
        self.shared_root().join(task)
    }

    /// A directory for each task that shares something.
    pub(crate) fn shared_root(&self) -> PathBuf {
        self.config().run_dir.join("shared")
    }

    pub(super) fn shared(&self, assignment: &Assignment) -> Shared {
        let dir = self.shared_dir(&assignment.task.to_string());
        let pids = assignment.spec.pid_mode == Some(PidMode::Task);
        let ipc = assignment.spec.ipc_mode == Some(IpcMode::Task);
        Shared {
            pid: pids.then(|| dir.join("pid")),
            ipc: ipc.then(|| dir.join("ipc")),
            shm: ipc.then(|| dir.join("shm")),
        }
    }

    /// Makes what the containers of the task share, as far as it is not there.
    pub(super) async fn share(&self, assignment: &Assignment) -> Result<()> {
        let shared = self.shared(assignment);
        if shared == Shared::default() {
            return Ok(());
        }
        let task = assignment.task.to_string();
        let what = |kind: &str| format!("{kind} that the containers of task {task} share");
        let name = Name::ResourceInitialization;
        fs::create_dir_all(self.shared_dir(&task)).context(name, what("directory of what"))?;
        if let Some(path) = &shared.pid {
            self.share_pids(&task, path).await.context(name, what("process ids"))?;
        }
        if let Some(path) = &shared.ipc {
            share_ipc(path).context(name, what("IPC"))?;
        }
        if let Some(path) = &shared.shm {
            let sizes = assignment.spec.containers.iter().filter_map(|c| c.shared_memory_mib);
            let mib = sizes.max().unwrap_or(SHARED_MEMORY_MIB);
            share_memory(path, mib).context(name, what("/dev/shm"))?;
        }
        Ok(())
    }

    async fn share_pids(&self, task: &str, path: &Path) -> io::Result<()> {
        let group = self.cgroups().container_path(task, PAUSE);
        if is_held(path) && self.cgroups().has_members(&group) {
            return Ok(());
        }
        self.cgroups().kill_all(&group)?;
        release(path)?;
        let (shim, runtime) = (self.config().shim.clone(), tokio::runtime::Handle::current());
        // It ends with its standard input until it is told to stay: an agent that dies before its
        // group is known leaves nothing behind.
        let mut child = in_a_thread(move || {
            let _runtime = runtime.enter();
            unshare(CloneFlags::CLONE_NEWPID)?;
            Command::new(shim)
                .arg("--pause")
                .current_dir("/")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        })?;
        let pid = child.id().ok_or_else(|| io::Error::other("the pause process has ended"))?;
        self.cgroups().join(&group, pid)?;
        hold(Path::new(&format!("/proc/{pid}/ns/pid")), path)?;
        let stdin = child.stdin.as_mut();
        stdin
            .ok_or_else(|| io::Error::other("the pause process has no input"))?
            .write_all(b"\n")
            .await
    }

    /// Ends what the containers of a task shared; they are gone.
    pub(crate) fn unshare(&self, task: &str) -> io::Result<()> {
        self.cgroups().kill_all(&self.cgroups().container_path(task, PAUSE))?;
        let dir = self.shared_dir(task);
        for name in ["pid", "ipc", "shm"] {
            unmount(&dir.join(name))?;
        }
        secrets::forget(&dir)?;
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

fn share_ipc(path: &Path) -> io::Result<()> {
    if is_held(path) {
        return Ok(());
    }
    release(path)?;
    let path = path.to_owned();
    in_a_thread(move || {
        unshare(CloneFlags::CLONE_NEWIPC)?;
        hold(Path::new("/proc/thread-self/ns/ipc"), &path)
    })
}

fn share_memory(path: &Path, mib: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if is_mounted(path)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=1777,size={mib}m");
    Ok(mount(Some("shm"), path, Some("tmpfs"), flags, Some(options.as_str()))?)
}

/// Whether something is mounted at this directory.
pub(super) fn is_mounted(path: &Path) -> io::Result<bool> {
    let parent = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

/// A namespace belongs to a thread: one of ours that entered another must not be used again.
fn in_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("shared".into()).spawn(work)?;
    thread.join().map_err(|_| io::Error::other("the namespace thread died"))?
}

fn hold(namespace: &Path, path: &Path) -> io::Result<()> {
    File::create_new(path)?;
    Ok(mount(Some(namespace), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

fn is_held(path: &Path) -> bool {
    statfs(path).is_ok_and(|seen| seen.filesystem_type() == NSFS_MAGIC)
}

fn release(path: &Path) -> io::Result<()> {
    unmount(path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Not mounted, or not there, is fine.
pub(super) fn unmount(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
