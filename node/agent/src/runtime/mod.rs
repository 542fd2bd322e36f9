//! Containers on this machine: made, started, signalled, watched and removed.
//!
//! It carries out one action at a time per container and says what came of it; in which order
//! actions come, and why, is the worker's. Everything that is taken for a container is journalled
//! before it is made, so that a new agent can take it back.
//! Invariant: a container outlives the agent; only `signal` and `delete` end one.

pub mod bundle;
mod check;
mod clean_up;
mod create;
mod delete;
pub mod devices;
pub mod engine;
pub mod exec;
pub mod hollow;
mod mounts;
mod ready;
mod restart;
pub mod rootfs;
pub mod runc;
pub mod seccomp;
pub mod secrets;
pub mod shared;
pub mod shim;
mod storage;
mod task_logs;
mod task_stats;
pub mod user;
mod volumes;

use crate::cgroup::{Cgroups, Usage};
use crate::error::{Error, Name, PullFailed, Result};
use crate::forward::Forwards;
use crate::image::{Credentials, LayerLimits, PullBehavior, Pulled, Registries, Store};
use crate::journal::{ContainerKey, ContainerRecord, Journal};
use crate::logs;
use crate::metadata::Metadata;
use crate::metadata::role::TaskRoles;
use crate::network::{BridgeConfig, Network};
use muster_model::TaskId;
use muster_model::dispatch::Assignment;
use runc::Runc;
use secrets::{ContainerSecrets, Secrets};
use shim::{Exit, LogLimits, Process, Watch};

pub use clean_up::DiskMarks;
pub use create::Created;
pub use restart::Restarted;
pub(crate) use restart::restarts;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a shim may take to write the exit record after the container's end.
const RECORD_WITHIN: Duration = Duration::from_secs(15);

/// What a runtime is made with; nothing here has a default, the agent's configuration has.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Images, tasks and logs; on a disk or tmpfs that can carry overlayfs.
    pub data_dir: PathBuf,
    /// The OCI runtime's records and network namespaces; best on tmpfs.
    pub run_dir: PathBuf,
    /// `runc` or `crun`.
    pub runc: PathBuf,
    /// `muster-shim`.
    pub shim: PathBuf,
    /// The machine's program for mounts; NFS only.
    pub mount: PathBuf,
    /// Servers of EFS volumes by `fileSystemId`: a host, or `host:/export`.
    pub efs: BTreeMap<String, String>,
    /// Process 1 of containers that ask for one; runs in any image, so it is linked statically.
    pub init: PathBuf,
    /// The availability zone, for metadata.
    pub zone: String,
    /// Absolute in the cgroup tree; one agent each.
    pub cgroup_prefix: String,
    pub bridge: BridgeConfig,
    pub registries: Registries,
    pub pull_behavior: PullBehavior,
    pub layer_limits: LayerLimits,
    pub log: LogLimits,
    /// The socket of the machine's journal.
    pub journal_socket: PathBuf,
    /// How long logs of deleted tasks are kept.
    pub logs_kept: Duration,
    /// How long images are kept that no container uses.
    pub images_kept: Duration,
    pub disk: DiskMarks,
}

/// Who knows what tasks are given: the managers, however they are asked.
pub trait Managers: Secrets + TaskRoles {}

impl<T: Secrets + TaskRoles> Managers for T {}

/// A container that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub key: ContainerKey,
    pub exit: Exit,
}

/// A living container, as this agent knows it.
#[derive(Clone, Debug)]
struct Live {
    watch: Watch,
    stop_signal: Option<String>,
}

/// The machine's containers. Cheap to clone; all clones are the same runtime.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    config: RuntimeConfig,
    journal: Journal,
    images: Arc<Store>,
    network: Network,
    metadata: Metadata,
    forwards: Forwards,
    cgroups: Cgroups,
    runc: Runc,
    live: Mutex<HashMap<ContainerKey, Live>>,
    /// Images pulled for containers that are not made yet.
    pulled: Mutex<HashMap<ContainerKey, Pulled>>,
    managers: Arc<dyn Managers>,
    /// What containers that are not made yet will be given.
    given: Mutex<HashMap<ContainerKey, ContainerSecrets>>,
    /// Held while a tmpfs is mounted: two containers of one task must not both mount it.
    mounting: Mutex<()>,
    ended: mpsc::Sender<Ended>,
    watchers: TaskTracker,
    stop: CancellationToken,
}

impl Runtime {
    /// Opens the directories and checks the configuration; starts nothing. Ends of containers go to
    /// `ended`. Needs a tokio runtime. Call [`Runtime::boot`](crate::collector) next.
    pub fn open(
        config: RuntimeConfig,
        managers: Arc<dyn Managers>,
        ended: mpsc::Sender<Ended>,
    ) -> Result<Self> {
        let runc_root = config.run_dir.join("runc");
        std::fs::create_dir_all(&runc_root).map_err(|e| {
            let text = format!("cannot make {}: {e}", runc_root.display());
            Error::new(Name::ResourceInitialization, text)
        })?;
        let images = Store::open(
            &config.data_dir.join("images"),
            config.registries.clone(),
            config.pull_behavior,
            config.layer_limits,
        )?;
        let metadata = Metadata::open(&config.zone).map_err(|e| {
            let text = format!("cannot listen on loopback for the metadata endpoint: {e}");
            Error::new(Name::ResourceInitialization, text)
        })?;
        let netns_dir = config.run_dir.join("netns");
        let inner = Inner {
            journal: Journal::open(&config.data_dir)?,
            images: Arc::new(images),
            network: Network::new(config.bridge.clone(), &netns_dir, metadata.port())?,
            metadata,
            forwards: Forwards::new(&config.journal_socket),
            cgroups: Cgroups::detect(&config.cgroup_prefix)?,
            runc: Runc::new(&config.runc, &runc_root),
            live: Mutex::new(HashMap::new()),
            pulled: Mutex::new(HashMap::new()),
            managers,
            given: Mutex::new(HashMap::new()),
            mounting: Mutex::new(()),
            ended,
            watchers: TaskTracker::new(),
            stop: CancellationToken::new(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.inner.journal
    }

    pub(crate) fn network(&self) -> &Network {
        &self.inner.network
    }

    pub(crate) fn managers(&self) -> &dyn Managers {
        &*self.inner.managers
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    pub(crate) fn forwards(&self) -> &Forwards {
        &self.inner.forwards
    }

    /// Runs until the agent ends.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.stop.clone();
        self.inner.watchers.spawn(stop.run_until_cancelled_owned(work));
    }

    /// Whether the container lives.
    pub(crate) fn runs(&self, key: &ContainerKey) -> bool {
        self.live().contains_key(key)
    }

    pub(crate) fn cgroups(&self) -> &Cgroups {
        &self.inner.cgroups
    }

    pub(crate) fn runc(&self) -> &Runc {
        &self.inner.runc
    }

    pub(crate) fn config(&self) -> &RuntimeConfig {
        &self.inner.config
    }

    fn live(&self) -> MutexGuard<'_, HashMap<ContainerKey, Live>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pulled(&self) -> MutexGuard<'_, HashMap<ContainerKey, Pulled>> {
        self.inner.pulled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn given(&self) -> MutexGuard<'_, HashMap<ContainerKey, ContainerSecrets>> {
        self.inner.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Journals that a task begins, and makes what its containers have together.
    pub async fn begin(&self, assignment: &Assignment) -> Result<()> {
        self.journal().write_task(assignment, false)?;
        self.make_volumes(assignment).await?;
        self.share(assignment).await
    }

    /// Journals that a task is to stop.
    pub fn stopping(&self, task: TaskId) -> Result<()> {
        match self.journal().read_task(task) {
            Some(record) => self.journal().write_task(&record.assignment, true),
            // Nothing of it is here, so nothing can be forgotten.
            None => Ok(()),
        }
    }

    /// Asks for the task's secrets, then pulls every image of it, beside each other.
    pub async fn pull(&self, assignment: &Assignment) -> std::result::Result<(), PullFailed> {
        self.ask_secrets(assignment).await?;
        let pulls = assignment.spec.containers.iter().map(|container| async move {
            let name = container.name.as_str().into();
            let key = ContainerKey { task: assignment.task, name };
            let credentials = self.given().get(&key).and_then(|given| given.credentials.clone());
            let digest = assignment.digests.get(&key.name).map(|digest| &**digest);
            let pulled = self.pull_image(&container.image, digest, credentials.as_ref()).await;
            let failed = |error| PullFailed { container: Some(key.name.clone()), error };
            let pulled = pulled.map_err(failed)?;
            self.pulled().insert(key, pulled);
            Ok(())
        });
        futures::future::try_join_all(pulls).await.map(drop)
    }

    /// Pulls one image, of this digest if there is one.
    pub async fn pull_image(
        &self,
        image: &str,
        digest: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<Pulled> {
        match digest {
            Some(digest) => self.inner.images.pull_pinned(image, digest, credentials).await,
            None => self.inner.images.pull(image, credentials).await,
        }
    }

    /// Lets a created container run. Returns when, in milliseconds since 1970.
    pub async fn start(&self, key: &ContainerKey) -> Result<u64> {
        let now = now_ms();
        let file = self.journal().container_dir(key).join("started");
        // Before the start: the shim may need it at any moment afterwards.
        std::fs::write(&file, now.to_string()).map_err(|e| {
            let text = format!("cannot write {}: {e}", file.display());
            Error::new(Name::CannotStartContainer, text)
        })?;
        self.write_links(key)?;
        let live = self.live().get(key).cloned();
        let init = live.and_then(|live| Process::open(live.watch.pid, live.watch.start));
        self.runc().start(&key.id(), init.as_ref()).await?;
        Ok(now)
    }

    /// Sends the image's stop signal (SIGTERM by default). A container that has ended is fine.
    pub fn stop(&self, key: &ContainerKey) -> Result<()> {
        let Some(live) = self.live().get(key).cloned() else { return Ok(()) };
        let signal = signal_number(live.stop_signal.as_deref().unwrap_or("SIGTERM"))?;
        if let Some(process) = Process::open(live.watch.pid, live.watch.start) {
            process.signal(signal);
        }
        Ok(())
    }

    /// Kills the container. One that has ended is fine.
    pub fn kill(&self, key: &ContainerKey) {
        let Some(live) = self.live().get(key).cloned() else { return };
        if let Some(process) = Process::open(live.watch.pid, live.watch.start) {
            process.kill();
        }
    }

    /// What a container used so far.
    pub fn usage(&self, key: &ContainerKey) -> Usage {
        let path = self.cgroups().container_path(&key.task.to_string(), &key.name);
        self.cgroups().usage(&path)
    }

    /// The log of a container, also of one that was deleted not too long ago.
    pub fn logs(
        &self,
        key: &ContainerKey,
        query: logs::Query,
    ) -> mpsc::Receiver<std::io::Result<logs::Frame>> {
        logs::read(self.journal().container_dir(key), self.journal().old_logs_dir(key), query)
    }

    /// Containers of a task that have a log, living or deleted.
    pub fn logged(&self, task: TaskId) -> Vec<ContainerKey> {
        // In this order: while a task is deleted its containers go from the first to the second.
        let live = self.journal().containers(task);
        let old = self.journal().logs_dir().join(task.to_string());
        let names = crate::journal::names_in(&old).into_iter();
        let old = names.map(|name| ContainerKey { task, name: name.into() });
        let all: BTreeSet<ContainerKey> = live.into_iter().chain(old).collect();
        all.into_iter().collect()
    }

    /// Watches a container until it ends, and tells.
    pub(crate) fn watch(&self, key: ContainerKey, record: &ContainerRecord, watch: Watch) {
        let live = Live { watch: watch.clone(), stop_signal: record.stop_signal.clone() };
        self.live().insert(key.clone(), live);
        self.forward(&key);
        let (this, dir) = (self.clone(), self.journal().container_dir(&key));
        let (stop, attachment) = (self.inner.stop.clone(), record.attachment.clone());
        self.inner.watchers.spawn(async move {
            let Some(exit) = stop.run_until_cancelled(exit_of(&dir, &watch)).await else { return };
            this.live().remove(&key);
            this.end_companions(&key).await;
            this.wipe_secrets(&key);
            if let Some(attachment) = attachment {
                this.network().withdraw(&attachment);
            }
            // The queue is closed when the agent ends: the next one finds the record.
            let _ = this.inner.ended.send(Ended { key, exit }).await;
        });
    }

    /// Ends what the first process of a container leaves behind where the kernel does not, because
    /// its process ids are not its own. Docker does the same.
    async fn end_companions(&self, key: &ContainerKey) {
        let shares = |task: crate::journal::TaskRecord| task.assignment.spec.pid_mode.is_some();
        if !self.journal().read_task(key.task).is_some_and(shares) {
            return;
        }
        let group = self.cgroups().container_path(&key.task.to_string(), &key.name);
        let cgroups = self.cgroups().clone();
        let killed = tokio::task::spawn_blocking(move || cgroups.kill_all(&group)).await;
        if let Ok(Err(error)) = killed {
            tracing::warn!(task = %key.task, container = %key.name, %error, "processes left");
        }
    }

    /// Ends what this value runs itself. Containers run on.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.inner.watchers.close();
        self.inner.watchers.wait().await;
    }
}

/// Waits for the end of a container and reads its record. If the shim is lost, so is the code.
async fn exit_of(dir: &std::path::Path, watch: &Watch) -> Exit {
    let shim = Process::open(watch.shim_pid, watch.shim_start);
    let init = Process::open(watch.pid, watch.start);
    let init_ended = async {
        if let Some(init) = &init {
            init.ended().await;
        }
    };
    match &shim {
        None => init_ended.await,
        Some(shim) => {
            let late = async {
                init_ended.await;
                tokio::time::sleep(RECORD_WITHIN).await;
            };
            tokio::select! {
                () = shim.ended() => {
                    // A shim that was killed leaves its container alone.
                    if shim::read_exit(dir).is_none() && let Some(init) = &init {
                        init.ended().await;
                    }
                }
                () = late => {}
            }
        }
    }
    shim::read_exit(dir).unwrap_or_else(|| {
        let lost = lost_exit();
        if let Err(e) = shim::write_exit(dir, &lost) {
            tracing::warn!(dir = %dir.display(), error = %e, "cannot record a lost exit");
        }
        lost
    })
}

/// The record of a container whose exit code nobody saw.
pub(crate) fn lost_exit() -> Exit {
    Exit {
        exit_code: None,
        signal: None,
        oom_kills: 0,
        started_at: None,
        finished_at: now_ms(),
        log_lines_dropped: 0,
    }
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// `SIGTERM`, `TERM` or a number, as images write it.
fn signal_number(text: &str) -> Result<rustix::process::Signal> {
    let named = || {
        let upper = text.to_ascii_uppercase();
        let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        full.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
    };
    let number = text.parse::<i32>().ok().or_else(named);
    number.and_then(rustix::process::Signal::from_named_raw).ok_or_else(|| {
        let text = format!("stop signal {text:?} is unknown; allowed are names such as SIGTERM");
        Error::new(Name::CannotStopContainer, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_are_read_in_every_spelling() {
        for text in ["SIGQUIT", "QUIT", "quit", "3"] {
            assert_eq!(signal_number(text).unwrap(), rustix::process::Signal::QUIT);
        }
        assert!(signal_number("SIGNONE").unwrap_err().to_string().contains("SIGNONE"));
        assert!(signal_number("-1").is_err());
    }
}
