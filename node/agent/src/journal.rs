//! What this agent began, on disk before it is done, so that a new agent can go on from it.
//!
//! ```text
//! tasks/<task>/task.json                     the assignment, and whether it is to stop
//! tasks/<task>/volumes/<n>/                  fresh volumes, dropped with the task
//! tasks/<task>/containers/<name>/            bundle, log, shim.json, exit.json, and
//!                          container.json    what was taken for it: layers, address, ports
//! logs/<task>/<name>/                        logs of deleted tasks, until they age out, and what
//!                                            is to be sent on of them
//! quarantine/                                files that could not be read
//! ```
//! Files are replaced in one step and not synced: they describe processes, and those do not survive
//! what would lose the files. A file that cannot be read is set aside and reported, never guessed.

use crate::error::{Context, Error, Name, Result};
use crate::forward::{ORDER_FILE, POSITION_FILE};
use crate::image::sweep::InUse;
use crate::network::Attachment;
use muster_model::TaskId;
use muster_model::dispatch::Assignment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the files below; another one is set aside.
const FORMAT: u32 = 1;
/// ECS: characters of a container's name.
const NAME_BYTES_MAX: usize = 255;
/// A container's id for the runtime; longer names are replaced by their hash.
const ID_BYTES_MAX: usize = 128;
/// Docker's.
const SHORT_ID_CHARS: usize = 12;

/// Names one container of this agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerKey {
    pub task: TaskId,
    pub name: Arc<str>,
}

impl ContainerKey {
    pub fn new(task: TaskId, name: &Arc<str>) -> Self {
        Self { task, name: name.clone() }
    }

    /// The id for the runtime, for namespaces and cables: `<task>-<name>`.
    pub fn id(&self) -> String {
        let id = format!("{}-{}", self.task, self.name);
        if id.len() <= ID_BYTES_MAX {
            return id;
        }
        let hash = crate::image::manifest::digest_of(self.name.as_bytes());
        format!("{}-{}", self.task, &hash["sha256:".len()..][..16])
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskRecord {
    format: u32,
    pub assignment: Assignment,
    /// An order to stop it was obeyed.
    pub stopping: bool,
}

/// What was taken for a container. Written before any of it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    format: u32,
    pub id: String,
    pub image_digest: String,
    /// What its root is mounted from, names in the image store. Empty in records of agents that did
    /// not write them down: no image is without layers.
    #[serde(default)]
    pub layers: Vec<String>,
    pub stop_signal: Option<String>,
    pub attachment: Option<Attachment>,
    /// The id of its metadata endpoint; none without a network.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The id under which it acts as its task role, if it has one.
    #[serde(default)]
    pub role_endpoint: Option<String>,
}

/// Under which ids a container asks.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub metadata: String,
    pub role: Option<String>,
}

impl ContainerRecord {
    pub fn new(
        key: &ContainerKey,
        image: &crate::image::Image,
        attachment: Option<Attachment>,
        endpoints: Option<Endpoints>,
    ) -> Self {
        let (endpoint, role_endpoint) = match endpoints {
            Some(Endpoints { metadata, role }) => (Some(metadata), role),
            None => (None, None),
        };
        Self {
            format: FORMAT,
            id: key.id(),
            image_digest: image.digest.clone(),
            layers: image.layers.clone(),
            stop_signal: image.config.stop_signal.clone(),
            attachment,
            endpoint,
            role_endpoint,
        }
    }

    /// Short and unique, as Docker's short id: the host name of a container that is given none.
    pub fn short_id(&self) -> String {
        let digest = crate::image::manifest::digest_of(self.id.as_bytes());
        digest["sha256:".len()..].chars().take(SHORT_ID_CHARS).collect()
    }
}

/// A task as found on disk: containers that have a directory, with their record if it is whole.
#[derive(Debug)]
pub struct StoredTask {
    pub record: TaskRecord,
    pub containers: Vec<(ContainerKey, Option<ContainerRecord>)>,
}

/// What [`Journal::load`] found.
#[derive(Debug, Default)]
pub struct Stored {
    pub tasks: Vec<StoredTask>,
    /// What could not be read and where it was put, for the operator.
    pub quarantined: Vec<String>,
}

/// The agent's records. All methods do blocking IO on small files.
#[derive(Clone, Debug)]
pub struct Journal {
    root: PathBuf,
}

impl Journal {
    pub fn open(root: &Path) -> Result<Self> {
        for dir in ["tasks", "logs", "quarantine"] {
            let dir = root.join(dir);
            let what = format!("cannot make {}", dir.display());
            fs::create_dir_all(dir).context(Name::ResourceInitialization, what)?;
        }
        Ok(Self { root: root.to_owned() })
    }

    pub fn tasks_dir(&self) -> PathBuf {
        self.root.join("tasks")
    }

    pub fn logs_dir(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub fn task_dir(&self, task: TaskId) -> PathBuf {
        self.tasks_dir().join(task.to_string())
    }

    pub fn container_dir(&self, key: &ContainerKey) -> PathBuf {
        self.task_dir(key.task).join("containers").join(&*key.name)
    }

    /// Where logs go when the rest of the container is deleted.
    pub fn old_logs_dir(&self, key: &ContainerKey) -> PathBuf {
        self.logs_dir().join(key.task.to_string()).join(&*key.name)
    }

    /// Remembers a task that begins, or whether it is to stop.
    pub fn write_task(&self, assignment: &Assignment, stopping: bool) -> Result<()> {
        let dir = self.task_dir(assignment.task);
        let record = TaskRecord { format: FORMAT, assignment: assignment.clone(), stopping };
        let what = || format!("cannot journal task {}", assignment.task);
        for container in &assignment.spec.containers {
            check_name(&container.name)?;
        }
        fs::create_dir_all(&dir).context(Name::ResourceInitialization, what())?;
        replace(&dir.join("task.json"), &record).context(Name::ResourceInitialization, what())
    }

    pub fn read_task(&self, task: TaskId) -> Option<TaskRecord> {
        read(&self.task_dir(task).join("task.json"), |r: &TaskRecord| r.format).ok()
    }

    pub fn write_container(&self, key: &ContainerKey, record: &ContainerRecord) -> Result<()> {
        check_name(&key.name)?;
        let dir = self.container_dir(key);
        let what = || format!("cannot journal container {} of task {}", key.name, key.task);
        fs::create_dir_all(&dir).context(Name::ResourceInitialization, what())?;
        replace(&dir.join("container.json"), record).context(Name::ResourceInitialization, what())
    }

    pub fn read_container(&self, key: &ContainerKey) -> Option<ContainerRecord> {
        let path = self.container_dir(key).join("container.json");
        read(&path, |r: &ContainerRecord| r.format).ok()
    }

    /// Containers of a task that have a directory.
    pub fn containers(&self, task: TaskId) -> Vec<ContainerKey> {
        let names = names_in(&self.task_dir(task).join("containers"));
        names.iter().map(|name| ContainerKey { task, name: name.as_str().into() }).collect()
    }

    /// Everything that was ever begun and not deleted.
    pub fn load(&self) -> Stored {
        let mut stored = Stored::default();
        for name in names_in(&self.tasks_dir()) {
            let dir = self.tasks_dir().join(&name);
            let record = name.parse::<TaskId>().map_err(|e| e.to_string()).and_then(|task| {
                let record = read(&dir.join("task.json"), |r: &TaskRecord| r.format)?;
                match record.assignment.task == task {
                    true => Ok(record),
                    false => Err(format!("it belongs to task {}", record.assignment.task)),
                }
            });
            match record {
                Ok(record) => stored.tasks.push(self.load_containers(record)),
                Err(why) => stored.quarantined.push(self.set_aside(&name, &why)),
            }
        }
        stored
    }

    /// What every journalled container has of the image store.
    ///
    /// # Errors
    /// Something cannot be read, so that it is not known what runs on it.
    pub fn images_in_use(&self) -> io::Result<InUse> {
        let mut in_use = InUse::default();
        for task in fs::read_dir(self.tasks_dir())? {
            let containers = task?.path().join("containers");
            for container in some(fs::read_dir(&containers))?.into_iter().flatten() {
                let path = container?.path().join("container.json");
                let Some(bytes) = some(fs::read(&path))? else { continue };
                let record = parse(&bytes, |r: &ContainerRecord| r.format).map_err(|why| {
                    io::Error::other(format!("{} cannot be read: {why}", path.display()))
                })?;
                if record.layers.is_empty() {
                    in_use.unresolved.insert(record.image_digest.clone());
                }
                in_use.images.insert(record.image_digest);
                in_use.layers.extend(record.layers);
            }
        }
        Ok(in_use)
    }

    fn load_containers(&self, record: TaskRecord) -> StoredTask {
        let keys = self.containers(record.assignment.task);
        let containers = keys
            .into_iter()
            .map(|key| {
                let record = self.read_container(&key);
                (key, record)
            })
            .collect();
        StoredTask { record, containers }
    }

    /// Keeps the evidence. Only the record: the rest of the directory is mounts and logs.
    fn set_aside(&self, task: &str, why: &str) -> String {
        let from = self.tasks_dir().join(task).join("task.json");
        let to = self.root.join("quarantine").join(format!("{task}.json"));
        let kept = match fs::rename(&from, &to) {
            Ok(()) => format!("kept as {}", to.display()),
            Err(e) => format!("not kept: {e}"),
        };
        format!("task record {} cannot be read: {why}; {kept}", from.display())
    }

    /// Keeps a container's log files, with what is to be sent on of them, and removes the rest of
    /// its directory.
    pub fn remove_container(&self, key: &ContainerKey) -> io::Result<()> {
        let (dir, logs) = (self.container_dir(key), self.old_logs_dir(key));
        let names = names_in(&dir);
        let stays = |name: &str| name == "log" || name.starts_with("log.") || is_forwarding(name);
        for name in names.iter().filter(|name| stays(name)) {
            fs::create_dir_all(&logs)?;
            fs::rename(dir.join(name), logs.join(name))?;
        }
        remove_all(&dir)
    }

    pub fn remove_task(&self, task: TaskId) -> io::Result<()> {
        remove_all(&self.task_dir(task))
    }
}

/// What is to be sent on of a log, and how far it has been.
fn is_forwarding(name: &str) -> bool {
    name == ORDER_FILE || name == POSITION_FILE
}

/// File names are made of container names: nothing that the edge let through may be a path.
fn check_name(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(good) {
        return Ok(());
    }
    Err(Error::new(
        Name::CannotCreateContainer,
        format!("container name {name:?}: allowed are 1 to 255 letters, digits, - and _"),
    ))
}

/// Names in a directory, sorted; none if it cannot be read.
pub fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Nothing where there is nothing: it is being deleted, or was not begun.
fn some<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn replace(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    fs::write(&tmp, serde_json::to_vec(value)?)?;
    fs::rename(tmp, path)
}

fn read<T: DeserializeOwned>(
    path: &Path,
    format: impl Fn(&T) -> u32,
) -> std::result::Result<T, String> {
    parse(&fs::read(path).map_err(|e| e.to_string())?, format)
}

fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    format: impl Fn(&T) -> u32,
) -> std::result::Result<T, String> {
    let value: T = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    match format(&value) {
        FORMAT => Ok(value),
        other => Err(format!("format {other} is unknown; this agent reads {FORMAT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::spec::{ContainerDefinition, TaskDefinition};

    fn assignment(bits: u128) -> Assignment {
        let container = ContainerDefinition { name: "web".into(), ..Default::default() };
        let spec = TaskDefinition { containers: vec![container], ..Default::default() };
        Assignment {
            task: TaskId::from_bits(bits),
            account: "000000000000".into(),
            region: "local".into(),
            cluster: "default".into(),
            family: "f".into(),
            revision: muster_model::Revision(3),
            group: "family:f".into(),
            spec: Arc::new(spec),
            ports: vec![32768],
            trace: None,
            fencing_token: None,
            instance_metadata: false,
            digests: Default::default(),
        }
    }

    #[test]
    fn a_task_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        // More bits than a JSON number holds elsewhere.
        let assignment = assignment(u128::MAX - 5);
        journal.write_task(&assignment, true).unwrap();
        let stored = journal.load();
        assert!(stored.quarantined.is_empty(), "{:?}", stored.quarantined);
        let record = &stored.tasks[0].record;
        assert_eq!((&record.assignment, record.stopping), (&assignment, true));
    }

    #[test]
    fn records_that_cannot_be_read_are_set_aside_and_the_rest_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        journal.write_task(&assignment(1), false).unwrap();
        journal.write_task(&assignment(2), false).unwrap();
        journal.write_task(&assignment(3), false).unwrap();
        let file = |bits| journal.task_dir(TaskId::from_bits(bits)).join("task.json");
        fs::write(file(1), b"{\"format\":1,").unwrap();
        let text = fs::read_to_string(file(2)).unwrap();
        fs::write(file(2), text.replace("\"format\":1", "\"format\":9")).unwrap();
        fs::create_dir(journal.tasks_dir().join("not-a-task")).unwrap();
        let stored = journal.load();
        assert_eq!(stored.tasks.len(), 1);
        assert_eq!(stored.quarantined.len(), 3, "{:?}", stored.quarantined);
        assert!(stored.quarantined.iter().any(|q| q.contains("format 9")));
        assert_eq!(names_in(&dir.path().join("quarantine")).len(), 2);
    }

    #[test]
    fn what_containers_have_of_images_is_known_for_all_of_them_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let image = crate::image::Image {
            reference: "a".into(),
            digest: "sha256:1".into(),
            layers: vec!["base".into(), "top".into()],
            config: Default::default(),
        };
        let key = |bits| ContainerKey { task: TaskId::from_bits(bits), name: "web".into() };
        let write = |bits: u128| {
            journal.write_task(&assignment(bits), false).unwrap();
            let record = ContainerRecord::new(&key(bits), &image, None, None);
            journal.write_container(&key(bits), &record).unwrap();
        };
        write(1);
        // Begun, without a container or with one that was not journalled yet.
        journal.write_task(&assignment(2), false).unwrap();
        fs::create_dir_all(journal.container_dir(&key(3))).unwrap();
        let mut expected = InUse {
            layers: ["base".into(), "top".into()].into(),
            images: ["sha256:1".into()].into(),
            unresolved: Default::default(),
        };
        assert_eq!(journal.images_in_use().unwrap(), expected);
        // As an agent wrote it that knew no layers.
        write(4);
        let path = journal.container_dir(&key(4)).join("container.json");
        let mut old: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        old.as_object_mut().unwrap().remove("layers").unwrap();
        fs::write(&path, old.to_string()).unwrap();
        expected.unresolved.insert("sha256:1".into());
        assert_eq!(journal.images_in_use().unwrap(), expected);
        fs::write(&path, "{").unwrap();
        let told = journal.images_in_use().unwrap_err().to_string();
        assert!(told.contains("container.json cannot be read"), "{told}");
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        for bad in ["", "..", "a/b", "a\0", &"x".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        check_name("web-1_a").unwrap();
    }

    #[test]
    fn ids_stay_short_and_distinct() {
        let key = |name: String| ContainerKey { task: TaskId::from_bits(7), name: name.into() };
        assert_eq!(key("web".into()).id(), format!("{:032x}-web", 7));
        let (a, b) = (key("a".repeat(255)).id(), key("a".repeat(254)).id());
        assert!(a.len() <= ID_BYTES_MAX && a != b);
    }

    #[test]
    fn logs_outlive_their_container() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let key = ContainerKey { task: TaskId::from_bits(7), name: "web".into() };
        let from = journal.container_dir(&key);
        fs::create_dir_all(from.join("rootfs")).unwrap();
        for name in ["log", "log.1", "exit.json"] {
            fs::write(from.join(name), name).unwrap();
        }
        journal.remove_container(&key).unwrap();
        assert!(!from.exists());
        assert_eq!(names_in(&journal.old_logs_dir(&key)), ["log", "log.1"]);
    }
}
