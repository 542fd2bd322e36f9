//! A network namespace that is held by a file, made in a thread of its own.
//!
//! A namespace belongs to a thread, so a tokio worker must never enter one: whatever ran on it next
//! would be in the wrong network. The thread here ends as soon as the namespace has its name and a
//! netlink socket that stays in it.

use super::links::Handle;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A namespace with the means to set it up from outside.
pub struct Inside {
    pub file: File,
    pub handle: Handle,
}

/// Makes a namespace and binds it to `path`, which must not exist.
pub async fn create(path: &Path) -> io::Result<Inside> {
    let (path, runtime) = (path.to_owned(), tokio::runtime::Handle::current());
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("netns".into()).spawn(move || {
        // Sockets register with the runtime, but stay in the namespace of this thread.
        let _runtime = runtime.enter();
        let made = create_here(&path);
        if made.is_err() {
            let _ = remove(&path);
        }
        let _ = done.send(made);
    })?;
    result.await.map_err(|_| io::Error::other("the namespace thread died"))?
}

fn create_here(path: &Path) -> io::Result<Inside> {
    File::create_new(path)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = "/proc/thread-self/ns/net";
    mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(Inside { file: File::open(path)?, handle: Handle::open()? })
}

/// Removes the file and with it the namespace, once no process is in it.
pub fn remove(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Not mounted, or not there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(e) => return Err(e.into()),
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// All namespaces in `dir`, whoever made them.
pub fn names(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    names.sort();
    names
}
