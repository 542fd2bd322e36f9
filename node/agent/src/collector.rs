//! What a new agent does first: takes over what still runs, learns what ended meanwhile, and clears
//! what nobody owns any more — also after a crash of the whole machine.
//!
//! It looks at what is there (processes, mounts, namespaces, cgroups, cables, the runtime's
//! records), not at what should have happened. A process counts as ours only by id, start time and
//! boot. Invariant: a container that runs and is journalled is never touched.

use crate::error::{Context, Name, Result};
use crate::journal::{ContainerKey, ContainerRecord, StoredTask};
use crate::network::{self, Attachment};
use crate::runtime::shared::PAUSE;
use crate::runtime::shim::{Exit, Process, Watch, read_exit, read_watch, write_exit};
use crate::runtime::{Runtime, lost_exit, now_ms, restarts, rootfs};
use muster_control::io::{Found, FoundContainer};
use muster_model::task::{ContainerStatus, NetworkBinding};
use muster_model::{Phase, Time};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a shim may take to leave the record of a container that has just ended.
const RECORD_WITHIN: Duration = Duration::from_secs(5);

/// What was found at the start of an agent.
#[derive(Debug, Default)]
pub struct Booted {
    pub tasks: Vec<Found>,
    /// What was cleared or set aside, one line each, for the log.
    pub notes: Vec<String>,
}

/// What has become of one journalled container.
enum Fate {
    Running(Watch),
    Ended(Exit),
    /// It never ran: whatever there is of it is taken back.
    Never,
}

impl Runtime {
    /// Takes over and clears. Called once, before anything else; ends of adopted containers are
    /// told from here on.
    pub async fn boot(&self) -> Result<Booted> {
        let stored = self.journal().load();
        let mut booted = Booted { notes: stored.quarantined, ..Default::default() };
        let mut known = Known::default();
        let adoptions = stored.tasks.into_iter().map(|task| self.adopt_task(task));
        for (found, owned) in futures::future::join_all(adoptions).await {
            booted.tasks.push(found);
            known.add(owned);
        }
        self.sweep(&known, &mut booted.notes).await?;
        self.serve_metadata().context(Name::ResourceInitialization, "metadata endpoint")?;
        self.expire_logs();
        self.forward_old_logs();
        Ok(booted)
    }

    async fn adopt_task(&self, stored: StoredTask) -> (Found, Vec<Owned>) {
        let StoredTask { record, containers } = stored;
        let mut found = Found {
            stopping: record.stopping,
            containers: Vec::new(),
            assignment: record.assignment,
        };
        let mut owned = Vec::new();
        for definition in &found.assignment.spec.containers {
            let name: Arc<str> = definition.name.as_str().into();
            let entry = containers.iter().find(|(key, _)| key.name == name);
            let fate = match entry {
                Some((key, Some(record))) => {
                    let fate = self.fate_of(key, record).await;
                    self.adopt(key, record, fate, &mut owned).await
                }
                // A directory without a record: the agent died while it began.
                Some((key, None)) => self.adopt_nothing(key).await,
                None => FoundContainer::Missing,
            };
            found.containers.push((name, fate));
        }
        (found, owned)
    }

    async fn adopt_nothing(&self, key: &ContainerKey) -> FoundContainer {
        if let Err(e) = self.free(key).await {
            tracing::warn!(task = %key.task, container = %key.name, error = %e, "cannot clear");
        }
        FoundContainer::Missing
    }

    async fn adopt(
        &self,
        key: &ContainerKey,
        record: &ContainerRecord,
        fate: Fate,
        owned: &mut Vec<Owned>,
    ) -> FoundContainer {
        let dir = self.journal().container_dir(key);
        let started_at = started_at(&dir);
        match fate {
            Fate::Never => return self.adopt_nothing(key).await,
            Fate::Running(watch) => {
                if let Some(attachment) = &record.attachment {
                    self.network().adopt(attachment);
                }
                self.answer_for(key, record);
                if record.attachment.is_none() && record.endpoint.is_some() {
                    self.network().lead_to_metadata().await;
                }
                let pid = watch.pid;
                self.watch(key.clone(), record, watch);
                owned.push(Owned::new(key, record));
                let started_at = started_at.unwrap_or(Time(now_ms()));
                let status = ContainerStatus {
                    restarts: restarts(&dir),
                    ..status(key, record, u32::try_from(pid).ok(), None)
                };
                FoundContainer::Running { status, started_at }
            }
            Fate::Ended(exit) => {
                // Its address stays taken until it is deleted; its ports are free.
                if let Some(attachment) = &record.attachment {
                    self.network().adopt(attachment);
                    self.network().withdraw(attachment);
                }
                self.answer_for(key, record);
                self.forward(key);
                self.wipe_secrets(key);
                owned.push(Owned::new(key, record));
                let finished_at = Time(exit.finished_at);
                let status = ContainerStatus {
                    restarts: restarts(&dir),
                    ..status(key, record, None, Some(&exit))
                };
                FoundContainer::Exited { status, started_at, finished_at }
            }
        }
    }

    async fn fate_of(&self, key: &ContainerKey, record: &ContainerRecord) -> Fate {
        let dir = self.journal().container_dir(key);
        self.settle(&dir).await;
        if let Some(exit) = read_exit(&dir) {
            return Fate::Ended(exit);
        }
        let watch = read_watch(&dir).filter(|w| w.pid != 0);
        if let Some(watch) = watch {
            if Process::open(watch.pid, watch.start).is_some() {
                let pipe = self.runc().root().join(&record.id).join("exec.fifo");
                // Created, but the order to start it went with the agent.
                let waits = pipe.exists() && (started_at(&dir).is_none() || is_runtime(watch.pid));
                return if waits { Fate::Never } else { Fate::Running(watch) };
            }
            if let Some(shim) = Process::open(watch.shim_pid, watch.shim_start) {
                let _ = tokio::time::timeout(RECORD_WITHIN, shim.ended()).await;
            }
        }
        if let Some(exit) = read_exit(&dir) {
            return Fate::Ended(exit);
        }
        if started_at(&dir).is_none() {
            return Fate::Never;
        }
        let lost = lost_exit();
        if let Err(e) = write_exit(&dir, &lost) {
            tracing::warn!(dir = %dir.display(), error = %e, "cannot record a lost exit");
        }
        Fate::Ended(lost)
    }

    /// Clears everything that belongs to none of `known`.
    async fn sweep(&self, known: &Known, notes: &mut Vec<String>) -> Result<()> {
        for id in self.runc().ids() {
            if !known.ids.contains(&id) {
                self.runc().delete_force(&id).await?;
                notes.push(format!("removed runtime record {id}"));
            }
        }
        let (this, owned) = (self.clone(), known.clone());
        let cleared = tokio::task::spawn_blocking(move || this.sweep_files(&owned)).await;
        notes.extend(cleared.unwrap_or_default());
        let cables = self.network().sweep(&known.attachments).await?;
        notes.extend(cables.into_iter().map(|cable| format!("removed cable {cable}")));
        Ok(())
    }

    fn sweep_files(&self, known: &Known) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |what: String, result: std::io::Result<()>| {
            notes.push(match result {
                Ok(()) => format!("removed {what}"),
                Err(e) => format!("cannot remove {what}: {e}"),
            });
        };
        let groups = self.cgroups();
        for task in groups.tasks() {
            for container in groups.containers(&task) {
                let paused = container == PAUSE && known.tasks.contains(&task);
                if !paused && !known.has(&task, &container) {
                    let path = groups.container_path(&task, &container);
                    let gone = groups.kill_all(&path).and_then(|()| groups.remove(&path));
                    note(format!("cgroup {path}"), gone);
                }
            }
        }
        for mount in rootfs::mounts_below(&self.journal().tasks_dir()) {
            if !known.owns_path(&mount, &self.journal().tasks_dir()) {
                note(format!("mount {}", mount.display()), rootfs::unmount(&mount));
            }
        }
        for netns in network::namespace_names(&self.config().run_dir.join("netns")) {
            if !known.attachments.iter().any(|a| a.netns == netns) {
                let gone = network::remove_namespace(&netns);
                note(format!("network namespace {}", netns.display()), gone);
            }
        }
        for task in crate::journal::names_in(&self.shared_root()) {
            if !known.tasks.contains(&task) {
                note(format!("namespaces of task {task}"), self.unshare(&task));
            }
        }
        for task in crate::journal::names_in(&self.efs_root()) {
            if !known.tasks.contains(&task) {
                note(format!("EFS volumes of task {task}"), self.unmount_efs(&task));
            }
        }
        for name in crate::journal::names_in(&self.journal().tasks_dir()) {
            let dir = self.journal().tasks_dir().join(&name);
            if !dir.join("task.json").exists() {
                note(format!("directory {}", dir.display()), remove_written(&dir));
            }
        }
        for task in groups.tasks() {
            if !known.tasks.contains(&task) && !self.journal().tasks_dir().join(&task).exists() {
                let path = groups.task_path(&task);
                note(format!("cgroup {path}"), groups.remove(&path));
            }
        }
        notes
    }
}

/// Removes a directory that shims may still write to: one whose container was ended just now writes
/// down how, in two files at most.
fn remove_written(dir: &Path) -> std::io::Result<()> {
    for _ in 0..10 {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            done => return done,
        }
    }
    fs::remove_dir_all(dir)
}

/// When the container was started, if it ever was.
pub(crate) fn started_at(dir: &Path) -> Option<Time> {
    let text = fs::read_to_string(dir.join("started")).ok()?;
    text.trim().parse().ok().map(Time)
}

/// Whether a process is still the runtime's own, which becomes the container's when it is started.
/// An agent may have died between starting a container and removing the pipe it waited at.
fn is_runtime(pid: i32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.starts_with("runc") || name.starts_with("crun")
}

fn status(
    key: &ContainerKey,
    record: &ContainerRecord,
    pid: Option<u32>,
    exit: Option<&Exit>,
) -> ContainerStatus {
    let attachment = record.attachment.as_ref();
    let bindings = attachment.iter().flat_map(|a| &a.bindings).map(|b| NetworkBinding {
        container_port: b.container_port,
        host_port: b.host_port,
        protocol: b.protocol,
    });
    ContainerStatus {
        name: key.name.clone(),
        phase: if exit.is_some() { Phase::Stopped } else { Phase::Running },
        exit_code: exit.and_then(|e| e.exit_code),
        reason: exit.and_then(reason_of).map(Into::into),
        runtime_id: Some(record.id.as_str().into()),
        image_digest: Some(record.image_digest.as_str().into()),
        bindings: bindings.collect(),
        address: attachment.map(|a| a.address.to_string().into()),
        pid,
        ..ContainerStatus::default()
    }
}

/// ECS's words for an end that needs some.
pub fn reason_of(exit: &Exit) -> Option<&'static str> {
    if exit.exit_code.is_none() {
        return Some(
            "ContainerVanishedError: the machine or the shim stopped before the exit code \
                     could be read",
        );
    }
    killed_for_memory(exit).then_some("OutOfMemoryError: Container killed due to memory usage")
}

/// Whether running out of memory ended it: a container may survive the loss of a child.
pub fn killed_for_memory(exit: &Exit) -> bool {
    exit.oom_kills > 0 && exit.exit_code != Some(0)
}

/// What one journalled container owns on this machine.
struct Owned {
    key: ContainerKey,
    id: String,
    attachment: Option<Attachment>,
}

impl Owned {
    fn new(key: &ContainerKey, record: &ContainerRecord) -> Self {
        Self { key: key.clone(), id: record.id.clone(), attachment: record.attachment.clone() }
    }
}

#[derive(Clone, Default)]
struct Known {
    ids: BTreeSet<String>,
    tasks: BTreeSet<String>,
    containers: BTreeSet<(String, String)>,
    attachments: Vec<Attachment>,
}

impl Known {
    fn add(&mut self, owned: Vec<Owned>) {
        for Owned { key, id, attachment } in owned {
            let task = key.task.to_string();
            self.ids.insert(id);
            self.tasks.insert(task.clone());
            self.containers.insert((task, key.name.to_string()));
            self.attachments.extend(attachment);
        }
    }

    fn has(&self, task: &str, container: &str) -> bool {
        self.containers.contains(&(task.to_owned(), container.to_owned()))
    }

    /// Whether `path` lies in the directory of a container that is kept.
    fn owns_path(&self, path: &Path, tasks_dir: &Path) -> bool {
        self.containers.iter().any(|(task, name)| {
            path.starts_with(tasks_dir.join(task).join("containers").join(name))
        })
    }
}
