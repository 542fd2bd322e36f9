//! Where the volumes of a task are on this instance, and how they come there.
//!
//! ```text
//! <data_dir>/tasks/<task>/volumes/<n>/   of the task alone, dropped with it
//! <data_dir>/volumes/<name>/data/        shared by all tasks that name it, never dropped
//!                           labels.json
//! <run_dir>/efs/<task>/<n>/              what a server has, mounted for the task
//! ```
//! What a server has is mounted outside of what is removed with a task, and goes by unmounting and
//! by removing an empty directory: nothing that deletes files ever looks into it.

use super::rootfs::{mounts_below, unmount};
use super::{Runtime, delete::blocking};
use crate::error::{Context, Error, Name, Result};
use muster_model::dispatch::Assignment;
use muster_model::spec::Volume;
use muster_model::volume::{DockerVolume, EfsVolume, VolumeScope};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long a server may take.
const MOUNT_WITHIN: Duration = Duration::from_secs(60);
/// What a program says that is kept.
const WORDS_MAX: usize = 400;
/// As Amazon recommends them for EFS: NFS 4.1, a megabyte at once, and a server that is away is
/// waited for, as a disk would be. The first failure to mount is the last.
const NFS_OPTIONS: &str =
    "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,retry=0";

impl Runtime {
    /// Makes the volumes of a task, as far as they are not there.
    pub(super) async fn make_volumes(&self, assignment: &Assignment) -> Result<()> {
        let paths = self.volumes(assignment)?;
        for volume in &assignment.spec.volumes {
            let path = &paths[&volume.name];
            match (&volume.docker, &volume.efs) {
                (_, Some(efs)) => self.mount_efs(&volume.name, efs, path).await?,
                (Some(docker), None) if docker.scope == VolumeScope::Shared => {
                    let (docker, dir) = (docker.clone(), self.shared_volume(&volume.name));
                    let name = volume.name.clone();
                    blocking(move || provision(&name, &docker, &dir)).await?;
                }
                _ => {
                    // Missing directories are made, as ECS does.
                    let what =
                        || format!("volume {:?}: cannot make {}", volume.name, path.display());
                    if !path.exists() {
                        fs::create_dir_all(path).context(Name::CannotCreateVolume, what())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Where each volume of the task is.
    pub(super) fn volumes(&self, assignment: &Assignment) -> Result<BTreeMap<String, PathBuf>> {
        let task = assignment.task;
        let own = self.journal().task_dir(task).join("volumes");
        let mounted = self.efs_root().join(task.to_string());
        let place = |(n, volume): (usize, &Volume)| {
            let shared = volume.docker.as_ref().is_some_and(|d| d.scope == VolumeScope::Shared);
            let path = match &volume.host_path {
                Some(path) if path.starts_with('/') => PathBuf::from(path),
                Some(path) => {
                    let text =
                        format!("volume {:?}: {path:?} is not an absolute path", volume.name);
                    return Err(Error::new(Name::CannotCreateVolume, text));
                }
                // By number: a volume's name may be no file name.
                None if volume.efs.is_some() => mounted.join(n.to_string()),
                None if shared => self.shared_volume(&volume.name).join("data"),
                None => own.join(n.to_string()),
            };
            Ok((volume.name.clone(), path))
        };
        assignment.spec.volumes.iter().enumerate().map(place).collect()
    }

    /// Names of volumes are file names: letters, digits, hyphens and underscores.
    fn shared_volume(&self, name: &str) -> PathBuf {
        self.config().data_dir.join("volumes").join(name)
    }

    /// A directory for each task that has something mounted from a server.
    pub(crate) fn efs_root(&self) -> PathBuf {
        self.config().run_dir.join("efs")
    }

    async fn mount_efs(&self, name: &str, efs: &EfsVolume, path: &Path) -> Result<()> {
        let failed = |why: &dyn std::fmt::Display| {
            // ECS's words; what an operator looks for.
            let text = format!(
                "failed to invoke EFS utils commands to set up EFS volumes: volume {name:?}: {why}"
            );
            Error::new(Name::ResourceInitialization, text)
        };
        // Asked of the kernel, not of the directory: a server that is away would not answer.
        if mounts_below(path).iter().any(|mount| mount == path) {
            return Ok(());
        }
        fs::create_dir_all(path).map_err(|e| failed(&e))?;
        let words = mount_words(&self.config().efs, efs, path);
        let mut mount = Command::new(&self.config().mount);
        mount.args(&words).stdin(Stdio::null()).kill_on_drop(true);
        let done = tokio::time::timeout(MOUNT_WITHIN, mount.output()).await;
        let output = done
            .map_err(|_| failed(&format!("no answer within {} s", MOUNT_WITHIN.as_secs())))?
            .map_err(|e| failed(&format!("cannot run mount: {e}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(WORDS_MAX).collect();
        Err(failed(&format!("mount: {said} (NFS needs the package nfs-common)")))
    }

    /// Lets go of what servers have that was mounted for a task; its containers are gone.
    pub(crate) fn unmount_efs(&self, task: &str) -> io::Result<()> {
        let dir = self.efs_root().join(task);
        for name in crate::journal::names_in(&dir) {
            unmount(&dir.join(&name))?;
            fs::remove_dir(dir.join(name))?;
        }
        match fs::remove_dir(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// `servers` are the agent's names of them; another name is the server's own.
fn mount_words(servers: &BTreeMap<String, String>, efs: &EfsVolume, path: &Path) -> Vec<OsString> {
    let known = servers.get(&efs.file_system_id).unwrap_or(&efs.file_system_id);
    let (host, export) = match known.find(":/") {
        Some(at) => (&known[..at], known[at + 1..].trim_end_matches('/')),
        None => (known.as_str(), ""),
    };
    let root = match (export, efs.root_directory.as_str()) {
        ("", root) => root.to_owned(),
        (export, "/") => export.to_owned(),
        (export, root) => format!("{export}{root}"),
    };
    let words = ["-t", "nfs4", "-o", NFS_OPTIONS, "--", &format!("{host}:{root}")];
    words.map(OsString::from).into_iter().chain([path.into()]).collect()
}

/// Makes a shared volume that is missing if it may, and looks whether it is the one that is meant.
fn provision(name: &str, docker: &DockerVolume, dir: &Path) -> Result<()> {
    let what = || format!("volume {name:?}");
    let labels = dir.join("labels.json");
    let stored = match fs::read(&labels) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound && docker.autoprovision => {
            make(docker, dir).context(Name::CannotCreateVolume, what())?;
            fs::read(&labels).context(Name::CannotCreateVolume, what())?
        }
        // Made by hand.
        Err(e) if e.kind() == io::ErrorKind::NotFound && dir.join("data").is_dir() => {
            return Ok(());
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = format!(
                "{}: this instance has no shared volume of this name; set autoprovision, or make \
                 the directory {}",
                what(),
                dir.join("data").display()
            );
            return Err(Error::new(Name::CannotCreateVolume, text));
        }
        Err(e) => return Err(Error::new(Name::CannotCreateVolume, format!("{}: {e}", what()))),
    };
    let stored: BTreeMap<String, String> = serde_json::from_slice(&stored)
        .context(Name::CannotCreateVolume, format!("{}: {}", what(), labels.display()))?;
    // ECS: who finds a volume that is made already takes it as it is, or not at all.
    if docker.autoprovision && stored != docker.labels {
        let text = format!("{}: intended volume already exists with different labels", what());
        return Err(Error::new(Name::CannotCreateVolume, text));
    }
    Ok(())
}

/// In one step, as two tasks may do so at once. What is there, made by hand, is kept.
fn make(docker: &DockerVolume, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir.join("data"))?;
    let unique = format!("labels.{:016x}", rand::random::<u64>());
    fs::write(dir.join(&unique), serde_json::to_vec(&docker.labels)?)?;
    // Not a rename: the first one to say it says it for good.
    let linked = fs::hard_link(dir.join(&unique), dir.join("labels.json"));
    fs::remove_file(dir.join(unique))?;
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_the_agent_s_name_or_by_its_own() {
        let servers = BTreeMap::from([
            ("fs-1".to_owned(), "10.0.0.7:/exports/shop/".to_owned()),
            ("fs-2".to_owned(), "[2001:db8::7]".to_owned()),
        ]);
        let source = |id: &str, root: &str| {
            let efs = EfsVolume { file_system_id: id.into(), root_directory: root.into() };
            let words = mount_words(&servers, &efs, Path::new("/run/t/0"));
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            let [.., source, target] = words[..] else { panic!("{words:?}") };
            assert_eq!(words[..4], ["-t", "nfs4", "-o", NFS_OPTIONS]);
            assert_eq!(target, "/run/t/0");
            source.to_owned()
        };
        assert_eq!(source("fs-1", "/"), "10.0.0.7:/exports/shop");
        assert_eq!(source("fs-1", "/web"), "10.0.0.7:/exports/shop/web");
        assert_eq!(source("fs-2", "/web"), "[2001:db8::7]:/web");
        assert_eq!(source("nas.example.org", "/"), "nas.example.org:/");
    }

    #[test]
    fn a_shared_volume_is_made_once_and_taken_by_who_means_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let volume = |autoprovision, label: &str| DockerVolume {
            scope: VolumeScope::Shared,
            autoprovision,
            labels: BTreeMap::from([("team".to_owned(), label.to_owned())]),
        };
        let path = dir.path().join("cache");
        let error = |docker| provision("cache", &docker, &path).unwrap_err().to_string();
        assert!(error(volume(false, "a")).contains("set autoprovision"));
        provision("cache", &volume(true, "a"), &path).unwrap();
        fs::write(path.join("data/kept"), "").unwrap();
        provision("cache", &volume(true, "a"), &path).unwrap();
        assert!(error(volume(true, "b")).contains("already exists with different labels"));
        // Who makes none takes what there is.
        provision("cache", &volume(false, "b"), &path).unwrap();
        assert_eq!(crate::journal::names_in(&path), ["data", "labels.json"]);
        assert!(path.join("data/kept").exists());
        let by_hand = dir.path().join("hand");
        fs::create_dir_all(by_hand.join("data")).unwrap();
        provision("hand", &volume(false, "a"), &by_hand).unwrap();
    }
}
