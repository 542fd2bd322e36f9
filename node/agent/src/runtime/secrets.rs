//! What containers are given of secrets: asked for when a task is begun, held in memory until each
//! container is made, and then in its bundle on a tmpfs until the container ends.
//!
//! What a container's directory keeps names no value: the bundle that the runtime reads is the
//! configuration of that directory with the variables and the mounts of files added; files are in
//! the bundle too, and the container sees them read-only. Invariant: no value is written to a
//! disk, and none is asked for twice while it is held. (Memory, a tmpfs's too, may be swapped out:
//! docs/decisions/0017.)

use super::Runtime;
use super::delete::blocking;
use super::shared::{is_mounted, unmount};
use crate::error::{Context, Error, Name, Result};
use crate::image::Credentials;
use crate::journal::ContainerKey;
use crate::metadata::is_ours;
use muster_identity::SecretText;
use muster_model::dispatch::Assignment;
use muster_model::spec::{ContainerDefinition, ContainerFile};
use muster_model::{TaskId, limits};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// Of the tmpfs of a task: for each container of ECS's most its configuration and the last page of
/// each of its files, and all values, escaped. Only what is written takes memory.
const SIZE_MIB: usize = (2 + limits::CONTAINER_FILES_MAX * PAGE_BYTES / (1 << 20) + 1)
    * limits::CONTAINERS_PER_DEFINITION_MAX
    + limits::TASK_SECRETS_BYTES_MAX * JSON_ESCAPE_BYTES / (1 << 20);
const PAGE_BYTES: usize = 4096;
/// The longest form of one byte in JSON: `\u0001`.
const JSON_ESCAPE_BYTES: usize = 6;

/// What one container is given.
#[derive(Clone, Debug, Default)]
pub struct ContainerSecrets {
    pub environment: Vec<(String, SecretText)>,
    /// By path.
    pub files: BTreeMap<String, SecretText>,
    /// For its image's registry.
    pub credentials: Option<Credentials>,
}

/// By name of the container; those that are given nothing may be missing.
pub type TaskSecrets = HashMap<Arc<str>, ContainerSecrets>;

/// Who knows them.
#[tonic::async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// # Errors
    /// ECS's ResourceInitializationError: what is missing, or that nobody answered in time.
    async fn of_task(&self, task: TaskId) -> Result<TaskSecrets>;
}

impl Runtime {
    /// Asks for what the containers of a task are given, and holds it until they are made.
    pub(super) async fn ask_secrets(&self, assignment: &Assignment) -> Result<()> {
        if assignment.spec.secret_references().next().is_none() {
            return Ok(());
        }
        let task = assignment.task;
        let given = self.managers().of_task(task).await?;
        let keyed = given.into_iter().map(|(name, given)| (ContainerKey { task, name }, given));
        self.given().extend(keyed);
        Ok(())
    }

    /// What a container is given, which is not held any longer; asked for if it is not held: an
    /// agent before this one asked, or the container ran before.
    pub(super) async fn take_secrets(
        &self,
        assignment: &Assignment,
        key: &ContainerKey,
    ) -> Result<ContainerSecrets> {
        if let Some(given) = self.given().remove(key) {
            return Ok(given);
        }
        let containers = &assignment.spec.containers;
        let container = containers.iter().find(|c| *c.name == *key.name);
        if container.is_none_or(|c| c.secret_references().next().is_none()) {
            return Ok(ContainerSecrets::default());
        }
        let mut given = self.managers().of_task(key.task).await?;
        Ok(given.remove(&key.name).unwrap_or_default())
    }

    /// The bundle that the runtime is to read: the container's directory, or one in memory if it is
    /// given variables or files.
    pub(super) async fn bundle(
        &self,
        key: &ContainerKey,
        definition: Option<&ContainerDefinition>,
        given: ContainerSecrets,
    ) -> Result<PathBuf> {
        let dir = self.journal().container_dir(key);
        let ContainerSecrets { environment, files: mut values, .. } = given;
        let wanted = definition.into_iter().flat_map(|container| &container.files);
        let files: Result<Vec<_>> = wanted
            .map(|file| match values.remove(&file.path) {
                Some(value) => Ok((file.clone(), value)),
                None => Err(untold(&key.name, &file.path)),
            })
            .collect();
        let files = files?;
        if environment.is_empty() && files.is_empty() {
            return Ok(dir);
        }
        let task_dir = self.secrets_dir(key);
        let bundle = task_dir.join(&*key.name);
        let (made, what) = (bundle.clone(), format!("secrets of container {:?}", key.name));
        let this = self.clone();
        blocking(move || {
            this.mounted(&task_dir)
                .and_then(|()| write(&dir, &made, &environment, &files))
                .context(Name::ResourceInitialization, what)
        })
        .await?;
        Ok(bundle)
    }

    /// Forgets the values that a container was given: it has ended.
    pub(crate) fn wipe_secrets(&self, key: &ContainerKey) {
        let bundle = self.secrets_dir(key).join(&*key.name);
        match fs::remove_dir_all(&bundle) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let (task, container) = (key.task, &key.name);
                tracing::warn!(%task, %container, %error, "secrets not wiped");
            }
            _ => {}
        }
    }

    fn mounted(&self, dir: &Path) -> io::Result<()> {
        let _alone = self.inner.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        in_memory(dir)
    }

    fn secrets_dir(&self, key: &ContainerKey) -> PathBuf {
        secrets_dir(&self.shared_dir(&key.task.to_string()))
    }
}

/// Where the bundles of a task are that have secrets in them, below what its containers share.
fn secrets_dir(shared: &Path) -> PathBuf {
    shared.join("secrets")
}

/// Beside a bundle's configuration; each file is called by its place in the definition.
const FILES: &str = "files";

/// Ends what `in_memory` made; nothing there is fine.
pub(super) fn forget(shared: &Path) -> io::Result<()> {
    unmount(&secrets_dir(shared))
}

/// A tmpfs that only root reads; not swapped out where the kernel can do that (6.4 and newer).
fn in_memory(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if is_mounted(dir)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let tmpfs = |options: &str| mount(Some("secrets"), dir, Some("tmpfs"), flags, Some(options));
    let options = format!("mode=0700,size={SIZE_MIB}m");
    let made = tmpfs(&format!("{options},noswap")).or_else(|_| tmpfs(&options));
    Ok(made?)
}

/// The configuration in `dir` with the variables and the files, in `bundle`.
fn write(
    dir: &Path,
    bundle: &Path,
    environment: &[(String, SecretText)],
    files: &[(ContainerFile, SecretText)],
) -> io::Result<()> {
    let mut config: Value = serde_json::from_slice(&fs::read(dir.join("config.json"))?)?;
    add_variables(list(&mut config, "/process/env")?, environment);
    fs::create_dir_all(bundle.join(FILES))?;
    for (n, (file, value)) in files.iter().enumerate() {
        let path = bundle.join(FILES).join(n.to_string());
        let uid = file.uid.map_or_else(|| runs_as(&config, "uid"), Ok)?;
        let gid = file.gid.map_or_else(|| runs_as(&config, "gid"), Ok)?;
        let made = fresh(&path, value.reveal().as_bytes())?;
        fchown(&made, Some(uid), Some(gid))?;
        made.set_permissions(Permissions::from_mode(file.mode))?;
        list(&mut config, "/mounts")?.push(json!({
            "destination": file.path,
            "type": "bind",
            "source": path,
            "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
        }));
    }
    fresh(&bundle.join("config.json"), &serde_json::to_vec(&config)?).map(drop)
}

/// The id of the user, or of the group, that the container runs as.
fn runs_as(config: &Value, id: &str) -> io::Result<u32> {
    let found = config["process"]["user"][id].as_u64().and_then(|id| u32::try_from(id).ok());
    found.ok_or_else(|| io::Error::other(format!("config.json has no {id} of its process")))
}

fn list<'a>(config: &'a mut Value, pointer: &str) -> io::Result<&'a mut Vec<Value>> {
    let found = config.pointer_mut(pointer).and_then(Value::as_array_mut);
    found.ok_or_else(|| io::Error::other(format!("config.json has no {pointer}")))
}

/// In place of those of their names.
fn add_variables(variables: &mut Vec<Value>, environment: &[(String, SecretText)]) {
    let named = |text: &Value| {
        let name = text.as_str().and_then(|text| text.split_once('=')).map(|(name, _)| name);
        environment.iter().any(|(given, _)| Some(given.as_str()) == name && !is_ours(given))
    };
    variables.retain(|text| !named(text));
    // A container cannot be told of another's endpoint.
    let given = environment.iter().filter(|(name, _)| !is_ours(name));
    variables.extend(given.map(|(name, value)| format!("{name}={}", value.reveal()).into()));
}

/// A file for root only; one that is there gives way.
fn fresh(path: &Path, bytes: &[u8]) -> io::Result<fs::File> {
    let mut file =
        fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn untold(container: &str, path: &str) -> Error {
    let text = format!(
        "unable to pull secrets or registry auth: container {container:?}: no manager told what is \
         in file {path:?}; a manager of an older version answered"
    );
    Error::new(Name::ResourceInitialization, text)
}

/// ECS `credentialsParameter`: the value of its secret.
///
/// # Errors
/// Never quotes it.
pub fn credentials(container: &str, value: &str) -> Result<Credentials> {
    let member = |json: &Value, name: &str| json.get(name)?.as_str().map(str::to_owned);
    let json: Option<Value> = serde_json::from_str(value).ok();
    let read = json.and_then(|json| {
        let (username, password) = (member(&json, "username")?, member(&json, "password")?);
        Some(Credentials::Basic { username, password })
    });
    read.ok_or_else(|| {
        let text = format!(
            "unable to pull secrets or registry auth: container {container:?}: \
             repositoryCredentials: the secret's value is not {{\"username\": TEXT, \"password\": \
             TEXT}}"
        );
        Error::new(Name::ResourceInitialization, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::VARIABLE;
    use std::os::unix::fs::MetadataExt;

    const CONFIG: &str = r#"{
        "process": {"env": ["PATH=/bin", "A=plain", "B=1"], "user": {"uid": 5, "gid": 6}},
        "mounts": [{"destination": "/proc"}]
    }"#;

    fn text(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    /// The configuration that is written, in a directory that stays.
    fn written(
        environment: &[(&str, &str)],
        files: &[(ContainerFile, SecretText)],
    ) -> (tempfile::TempDir, Value) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), CONFIG).unwrap();
        let secret = |(name, value): &(&str, &str)| ((*name).to_owned(), text(value));
        let environment: Vec<_> = environment.iter().map(secret).collect();
        let bundle = dir.path().join("bundle");
        write(dir.path(), &bundle, &environment, files).unwrap();
        let config = fs::read(bundle.join("config.json")).unwrap();
        (dir, serde_json::from_slice(&config).unwrap())
    }

    #[test]
    fn the_bundle_is_the_configuration_with_the_variables_in_place_of_those_of_their_names() {
        let environment = [("A", "hush \"x\"=1\n"), (VARIABLE, "http://elsewhere")];
        let (_dir, config) = written(&environment, &[]);
        let mut expected: Value = serde_json::from_str(CONFIG).unwrap();
        expected["process"]["env"] = json!(["PATH=/bin", "B=1", "A=hush \"x\"=1\n"]);
        assert_eq!(config, expected);
    }

    #[test]
    fn a_file_has_its_mode_and_owner_and_is_mounted_read_only() {
        let file = |path: &str, mode, uid| {
            let (path, value_from) = (path.to_owned(), "db".to_owned());
            ContainerFile { path, value_from, mode, uid, gid: uid }
        };
        let files = [
            (file("/run/key", 0o444, Some(70_000)), text("hush")),
            (file("/etc/app.conf", 0o640, None), text("")),
        ];
        let (dir, config) = written(&[], &files);
        let bundle = dir.path().join("bundle");
        for (n, (value, mode, owner)) in
            [("hush", 0o444, (70_000, 70_000)), ("", 0o640, (5, 6))].into_iter().enumerate()
        {
            let path = bundle.join("files").join(n.to_string());
            let found = fs::metadata(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), value);
            assert_eq!((found.mode() & 0o7777, (found.uid(), found.gid())), (mode, owner));
        }
        let mounts = config["mounts"].as_array().unwrap();
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[1]["destination"], "/run/key");
        assert!(mounts[1]["options"].as_array().unwrap().contains(&json!("ro")), "{mounts:?}");
    }

    #[test]
    fn credentials_are_read_as_ecs_has_them_and_never_quoted() {
        let read = credentials("web", r#"{"username": "u", "password": "p", "email": 1}"#);
        let basic = Credentials::Basic { username: "u".into(), password: "p".into() };
        assert_eq!(read.unwrap(), basic);
        for value in ["", "hush", "{}", r#"{"username": "u", "password": 1}"#, r#"["hush"]"#] {
            let error = credentials("web", value).unwrap_err().to_string();
            assert!(error.starts_with("ResourceInitializationError: unable to pull"), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
