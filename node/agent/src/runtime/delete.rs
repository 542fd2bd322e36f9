//! Takes back everything that was taken for a container or a task. Each step may find that it has
//! been done already, so that a deletion that was interrupted is simply repeated.

use super::shim::{CREATE_TIMEOUT, Process, read_watch};
use super::{Runtime, rootfs};
use crate::error::{Context, Error, Name, Result};
use crate::journal::ContainerKey;
use muster_model::TaskId;
use std::path::Path;
use std::time::Duration;

/// How long a shim may take after its container was killed.
const SHIM_WITHIN: Duration = Duration::from_secs(20);
const SETTLE_POLL: Duration = Duration::from_millis(20);

impl Runtime {
    /// Kills and removes every container of the task, its volumes and its journal. Logs stay.
    pub async fn delete(&self, task: TaskId) -> Result<()> {
        let keys = self.journal().containers(task);
        let freed = futures::future::join_all(keys.iter().map(|key| self.free(key))).await;
        freed.into_iter().collect::<Result<()>>()?;
        self.pulled().retain(|key, _| key.task != task);
        self.given().retain(|key, _| key.task != task);
        let this = self.clone();
        blocking(move || {
            let name = task.to_string();
            this.unshare(&name)
                .context(Name::CannotStopContainer, format!("namespaces of task {name}"))?;
            this.unmount_efs(&name)
                .context(Name::CannotStopContainer, format!("EFS volumes of task {name}"))?;
            this.cgroups()
                .remove(&this.cgroups().task_path(&name))
                .context(Name::CannotStopContainer, format!("cgroup of task {name}"))?;
            this.journal()
                .remove_task(task)
                .context(Name::CannotStopContainer, format!("files of task {name}"))
        })
        .await
    }

    /// Ends what runs of a container, its shim included, and makes the runtime forget it.
    pub(super) async fn end_process(&self, key: &ContainerKey) -> Result<()> {
        let dir = self.journal().container_dir(key);
        let id = key.id();
        let group = self.cgroups().container_path(&key.task.to_string(), &key.name);
        self.settle(&dir).await;
        self.kill(key);
        let this = self.clone();
        blocking(move || {
            this.cgroups().kill_all(&group).context(Name::CannotStopContainer, &group)
        })
        .await?;
        if let Some(watch) = read_watch(&dir)
            && let Some(shim) = Process::open(watch.shim_pid, watch.shim_start)
            && tokio::time::timeout(SHIM_WITHIN, shim.ended()).await.is_err()
        {
            // It holds the log open and could still write into the directory.
            shim.kill();
        }
        self.live().remove(key);
        if self.runc().root().join(&id).exists() {
            let deleted = self.runc().delete(&id).await;
            if deleted.is_err() {
                self.runc().delete_force(&id).await?;
            }
        }
        Ok(())
    }

    /// Takes back one container, in whatever state it is.
    pub(crate) async fn free(&self, key: &ContainerKey) -> Result<()> {
        self.metadata().remove(key);
        self.end_process(key).await?;
        self.wipe_secrets(key);
        let dir = self.journal().container_dir(key);
        let group = self.cgroups().container_path(&key.task.to_string(), &key.name);
        if let Some(attachment) = self.journal().read_container(key).and_then(|r| r.attachment) {
            self.network().detach(&attachment).await?;
        }
        let (this, key) = (self.clone(), key.clone());
        blocking(move || {
            let failed = |what: &str| format!("{what} of {}", key.id());
            rootfs::unmount(&dir.join("rootfs"))
                .context(Name::CannotStopContainer, failed("root filesystem"))?;
            this.cgroups().remove(&group).context(Name::CannotStopContainer, failed("cgroup"))?;
            let kept = this.journal().old_logs_dir(&key);
            this.forwards()
                .moving(&key, kept, || this.journal().remove_container(&key))
                .context(Name::CannotStopContainer, failed("files"))?;
            // What it wrote before it was watched.
            this.forward(&key);
            Ok(())
        })
        .await
    }

    /// Waits while a shim is still creating: only afterwards is there something to kill. It gives
    /// up by itself after a time.
    pub(crate) async fn settle(&self, dir: &Path) {
        let deadline = tokio::time::Instant::now() + CREATE_TIMEOUT;
        while let Some(watch) = read_watch(dir).filter(|w| w.pid == 0) {
            let alive = Process::open(watch.shim_pid, watch.shim_start).is_some();
            if !alive || tokio::time::Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep(SETTLE_POLL).await;
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(Name::CannotStopContainer, format!("interrupted: {e}"))),
    }
}
