//! Makes a container: what can be made beside each other is, because this is what a user waits for.
//!
//! Journal first; then the network and the root at the same time; then the shim creates while host
//! ports are opened. Whatever fails, all of it is taken back before the error is told.

use super::bundle::{self, Surroundings};
use super::devices;
use super::rootfs::{self, Etc};
use super::secrets::ContainerSecrets;
use super::shim::{self, Launch, LogLimits};
use super::{Runtime, user};
use crate::cgroup::{TaskLimits, Version};
use crate::contact;
use crate::error::{Context, Error, Name, Result};
use crate::image::Image;
use crate::journal::{ContainerKey, ContainerRecord, Endpoints};
use crate::metadata::{self, Kind, role};
use crate::network::{Attachment, check_port_free};
use muster_model::dispatch::Assignment;
use muster_model::log_driver::LOG_DRIVERS;
use muster_model::spec::{ContainerDefinition, NetworkMode, Protocol};
use muster_model::task::NetworkBinding;
use muster_model::{Millis, strict};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A container that waits to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub id: String,
    pub pid: i32,
    pub image_digest: String,
    pub address: Option<Ipv4Addr>,
    pub bindings: Vec<NetworkBinding>,
}

impl Runtime {
    /// Creates one container of a task; it waits for [`Runtime::start`].
    pub async fn create(&self, assignment: &Arc<Assignment>, name: &Arc<str>) -> Result<Created> {
        let key = ContainerKey::new(assignment.task, name);
        let container = assignment.spec.containers.iter().find(|c| c.name == **name);
        let container = container.ok_or_else(|| {
            let text = format!("container {name:?} is not in the task definition");
            Error::new(Name::CannotCreateContainer, text)
        })?;
        let given = self.take_secrets(assignment, &key).await?;
        let known = self.pulled().remove(&key);
        // Kept until the end, so that no sweep comes before the record.
        let pulled = match known {
            Some(pulled) => pulled,
            // Pulled by an agent before this one.
            None => {
                let digest = assignment.digests.get(name).map(|digest| &**digest);
                self.pull_image(&container.image, digest, given.credentials.as_ref()).await?
            }
        };
        let bindings = bindings(assignment, container);
        let attachment = self.attachment(&key, assignment, &bindings)?;
        let networked = assignment.spec.network_mode != NetworkMode::None;
        let endpoints = networked.then(|| Endpoints {
            metadata: metadata::new_id(),
            role: assignment.spec.task_role_arn.as_ref().map(|_| role::new_id()),
        });
        let record = ContainerRecord::new(&key, &pulled.image, attachment, endpoints);
        self.journal().write_container(&key, &record)?;
        self.answer_for(&key, &record);
        let made = self.make(&key, assignment, pulled.image, &record, given).await;
        match made {
            Ok(pid) => Ok(Created {
                id: record.id,
                pid,
                image_digest: record.image_digest,
                address: record.attachment.map(|a| a.address),
                bindings,
            }),
            Err(error) => {
                if let Err(e) = self.free(&key).await {
                    tracing::warn!(task = %key.task, container = %key.name, error = %e,
                        "cannot take back a container that could not be made");
                }
                Err(error)
            }
        }
    }

    /// From here on its metadata endpoint answers.
    pub(crate) fn answer_for(&self, key: &ContainerKey, record: &ContainerRecord) {
        let address = record.attachment.as_ref().map(|a| a.address);
        for (kind, id) in [(Kind::Metadata, &record.endpoint), (Kind::Role, &record.role_endpoint)]
        {
            if let Some(id) = id {
                self.metadata().add(id, kind, key, address);
            }
        }
    }

    fn attachment(
        &self,
        key: &ContainerKey,
        assignment: &Assignment,
        bindings: &[NetworkBinding],
    ) -> Result<Option<Attachment>> {
        let ports: Vec<(u16, u16, Protocol)> =
            bindings.iter().map(|b| (b.container_port, b.host_port, b.protocol)).collect();
        match assignment.spec.network_mode {
            NetworkMode::Bridge => {
                let plan = self.network().plan(&key.id(), &ports)?;
                let instance_metadata = assignment.instance_metadata;
                Ok(Some(Attachment { instance_metadata, ..plan }))
            }
            NetworkMode::Host => {
                ports.iter().try_for_each(|(_, host, p)| check_port_free(*host, *p))?;
                Ok(None)
            }
            NetworkMode::None => Ok(None),
        }
    }

    async fn make(
        &self,
        key: &ContainerKey,
        assignment: &Arc<Assignment>,
        image: Image,
        record: &ContainerRecord,
        given: ContainerSecrets,
    ) -> Result<i32> {
        let attach = async {
            match &record.attachment {
                Some(attachment) => self.network().attach(attachment).await,
                None if record.endpoint.is_some() => {
                    self.network().lead_to_metadata().await;
                    Ok(())
                }
                None => Ok(()),
            }
        };
        let prepare = async {
            let (this, key, record) = (self.clone(), key.clone(), record.clone());
            let assignment = assignment.clone();
            let work = move || this.prepare(&key, &assignment, &image, &record);
            tokio::task::spawn_blocking(work)
                .await
                .context(Name::CannotCreateContainer, "preparing was interrupted")?
        };
        let (attached, log) = tokio::join!(attach, prepare);
        attached?;
        let log = log?;
        let publish = async {
            match &record.attachment {
                Some(attachment) => self.network().publish(attachment).await,
                None => Ok(()),
            }
        };
        let group = self.cgroups().container_path(&key.task.to_string(), &key.name);
        let definition = assignment.spec.containers.iter().find(|c| *c.name == *key.name);
        let bundle = self.bundle(key, definition, given).await?;
        let dir = self.journal().container_dir(key);
        let launch = shim::launch(Launch {
            program: &self.config().shim,
            runc: self.runc(),
            id: &record.id,
            dir: &dir,
            bundle: &bundle,
            oom_file: self.cgroups().oom_file(&group),
            log,
            stdin: definition.is_some_and(|container| container.interactive),
            terminal: definition.is_some_and(|container| container.pseudo_terminal),
            leash: self.leash(assignment),
        });
        let (published, watch) = tokio::join!(publish, launch);
        let watch = watch?;
        let pid = watch.pid;
        self.watch(key.clone(), record, watch);
        published.map(|()| pid)
    }

    /// Everything on disk: root, files of /etc, limits of the task, `config.json`.
    fn prepare(
        &self,
        key: &ContainerKey,
        assignment: &Assignment,
        image: &Image,
        record: &ContainerRecord,
    ) -> Result<LogLimits> {
        let spec = &assignment.spec;
        let what = || format!("container {:?}", key.name);
        let container = spec.containers.iter().find(|c| c.name == *key.name);
        let container = container.ok_or_else(|| Error::new(Name::CannotCreateContainer, what()))?;
        let log = log_limits(container, self.config().log)?;
        let dir = self.journal().container_dir(key);
        rootfs::mount_image(&dir, &self.inner.images.layers_dir(), image)
            .context(Name::CannotCreateContainer, format!("{}: cannot mount the image", what()))?;
        let hostname = self.hostname(container, spec.network_mode, record);
        let address = record.attachment.as_ref().map(|a| a.address);
        let etc = Etc { container, mode: spec.network_mode, address, hostname: &hostname };
        rootfs::write_etc(&dir, &etc).context(Name::CannotCreateContainer, what())?;
        let task = key.task.to_string();
        let limits = TaskLimits { cpu_units: spec.cpu, memory_mib: spec.memory_mib };
        self.cgroups().limit_task(&task, limits)?;
        let who = container.user.as_deref().or(image.config.user.as_deref()).unwrap_or_default();
        let user = user::resolve(who, &dir.join("rootfs"))
            .map_err(|e| Error::new(Name::CannotCreateContainer, format!("{}: {e}", what())))?;
        let group = self.cgroups().container_path(&task, &key.name);
        let config = bundle::spec(
            spec,
            container,
            &image.config,
            &Surroundings {
                user,
                dir: &dir,
                netns: record.attachment.as_ref().map(|a| a.netns.as_path()),
                cgroup: &group,
                cgroup_v2: self.cgroups().version() == Version::V2,
                volumes: &self.volumes(assignment)?,
                shared: &self.shared(assignment),
                devices: &devices::of(container)?,
                init: self.init_of(container)?,
                told: told(record, assignment),
                hostname: &hostname,
                bounding: bounding_set(),
                nofile_max: rustix::process::getrlimit(rustix::process::Resource::Nofile)
                    .maximum
                    .unwrap_or(u64::MAX),
            },
        )?;
        let config = serde_json::to_vec(&config).context(Name::CannotCreateContainer, what())?;
        fs::write(dir.join("config.json"), config).context(Name::CannotCreateContainer, what())?;
        let command = bundle::arguments(container, &image.config)?;
        self.order_forwarding(key, record, container, &command)?;
        Ok(log)
    }

    /// What holds a strict task's containers, whatever becomes of this agent.
    pub(super) fn leash(&self, assignment: &Assignment) -> Option<(PathBuf, Millis)> {
        let strict = assignment.fencing_token.is_some();
        let over_after = strict::over_after(&assignment.spec);
        strict.then(|| (contact::file(&self.config().data_dir), over_after))
    }

    /// The init process to begin with, if the container asks for one.
    fn init_of(&self, container: &ContainerDefinition) -> Result<Option<&Path>> {
        let init = self.config().init.as_path();
        if !container.init_process {
            return Ok(None);
        }
        if init.is_file() {
            return Ok(Some(init));
        }
        let text = format!(
            "container {:?}: initProcessEnabled: {} is not on this instance; install the package \
             tini, or name another with `init` in the agent's configuration",
            container.name,
            init.display()
        );
        Err(Error::new(Name::CannotCreateContainer, text))
    }

    /// Puts the names of the containers that this one is linked to into its /etc/hosts. They have
    /// been started, as it depends on them; one that is started in place keeps its address.
    pub(super) fn write_links(&self, key: &ContainerKey) -> Result<()> {
        let Some(task) = self.journal().read_task(key.task) else { return Ok(()) };
        let containers = &task.assignment.spec.containers;
        let Some(container) = containers.iter().find(|c| *c.name == *key.name) else {
            return Ok(());
        };
        let mut hosts = Vec::new();
        for link in &container.links {
            let linked = ContainerKey::new(key.task, &link.container.as_str().into());
            let address = self.journal().read_container(&linked).and_then(|r| r.attachment);
            let address = address.map(|attachment| attachment.address).ok_or_else(|| {
                let text = format!("links: container {:?} has no address", link.container);
                Error::new(Name::CannotStartContainer, text)
            })?;
            let definition = containers.iter().find(|c| c.name == link.container);
            let hostname = definition.and_then(|c| c.hostname.clone());
            hosts.push((address, rootfs::names_of(link, hostname)));
        }
        rootfs::add_hosts(&self.journal().container_dir(key), &hosts)
            .context(Name::CannotStartContainer, format!("container {:?}: links", key.name))
    }

    /// As Docker: the user's, the instance's on its own network, else something short and unique.
    fn hostname(
        &self,
        container: &ContainerDefinition,
        mode: NetworkMode,
        record: &ContainerRecord,
    ) -> String {
        if let Some(hostname) = &container.hostname {
            return hostname.clone();
        }
        if mode == NetworkMode::Host
            && let Ok(name) = nix::unistd::gethostname()
        {
            return name.to_string_lossy().into_owned();
        }
        record.short_id()
    }
}

/// What the container is told of its endpoints, and its fencing token if it is strict.
fn told(record: &ContainerRecord, assignment: &Assignment) -> Vec<(&'static str, String)> {
    let metadata = record.endpoint.iter().map(|id| (metadata::VARIABLE, metadata::uri(id)));
    let role = record.role_endpoint.iter().flat_map(|id| role::variables(id));
    let token = assignment.fencing_token.map(|token| (contact::TOKEN_VARIABLE, token.to_string()));
    metadata.chain(role).chain(token).collect()
}

/// The agent's own bounding set of capabilities; none where the kernel does not say.
fn bounding_set() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or_default()
}

/// The container's share of the host ports that the leader chose for the task.
fn bindings(assignment: &Assignment, container: &ContainerDefinition) -> Vec<NetworkBinding> {
    let mappings = assignment.spec.port_mappings().zip(&assignment.ports);
    let own = mappings.filter(|((c, _), _)| c.name == container.name);
    own.map(|((_, mapping), host_port)| NetworkBinding {
        container_port: mapping.container_port,
        host_port: *host_port,
        protocol: mapping.protocol,
    })
    .collect()
}

/// Limits of the files that every driver's output is kept in: Docker's `max-size` (`10m`) and
/// `max-file`, with `cache-` before them for a driver that sends output on.
pub(super) fn log_limits(
    container: &ContainerDefinition,
    standard: LogLimits,
) -> Result<LogLimits> {
    let Some(config) = &container.log_configuration else { return Ok(standard) };
    let bad = |what: String| {
        let text = format!("container {:?}: logConfiguration {what}", container.name);
        Error::new(Name::CannotCreateContainer, text)
    };
    if !LOG_DRIVERS.contains(&config.driver.as_str()) {
        let (driver, allowed) = (&config.driver, LOG_DRIVERS.join(", "));
        return Err(bad(format!("logDriver {driver:?} is not built in; allowed: {allowed}")));
    }
    let option = |name: &str| {
        let cache = || config.options.get(&format!("cache-{name}"));
        config.options.get(name).or_else(cache)
    };
    let mut limits = standard;
    if let Some(text) = option("max-size") {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let scale = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1 << 10,
            "m" | "mb" => 1 << 20,
            "g" | "gb" => 1 << 30,
            _ => 0,
        };
        let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
        limits.bytes_max = bytes.filter(|n| *n >= LOG_BYTES_MIN).ok_or_else(|| {
            bad(format!("max-size {text:?}: allowed are 128k and more, such as 10m"))
        })?;
    }
    if let Some(text) = option("max-file") {
        let files = text.parse().ok().filter(|n| (1..=LOG_FILES_MAX).contains(n));
        limits.files = files
            .ok_or_else(|| bad(format!("max-file {text:?}: allowed are 1 to {LOG_FILES_MAX}")))?;
    }
    Ok(limits)
}

/// The shim's bounds.
const LOG_BYTES_MIN: u64 = 128 * 1024;
const LOG_FILES_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use muster_model::spec::LogConfiguration;

    fn limits(driver: &str, options: &[(&str, &str)]) -> Result<LogLimits> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let log = LogConfiguration { driver: driver.into(), options };
        let container =
            ContainerDefinition { log_configuration: Some(log), ..ContainerDefinition::default() };
        log_limits(&container, LogLimits::STANDARD)
    }

    #[test]
    fn log_options_are_read_as_docker_reads_them() {
        let got = limits("json-file", &[("max-size", "1m"), ("max-file", "2")]).unwrap();
        assert_eq!(got, LogLimits { bytes_max: 1 << 20, files: 2 });
        assert_eq!(limits("json-file", &[]).unwrap(), LogLimits::STANDARD);
        let error = |options: &[_]| limits("json-file", options).unwrap_err().to_string();
        assert!(error(&[("max-size", "1k")]).contains("128k"));
        assert!(error(&[("max-size", "10x")]).contains("max-size \"10x\""));
        assert!(error(&[("max-file", "0")]).contains("1 to 100"));
        let group = [("awslogs-group", "/ecs/web"), ("max-buffer-size", "25m")];
        assert_eq!(limits("awslogs", &group).unwrap(), LogLimits::STANDARD);
        let cache = limits("syslog", &[("cache-max-size", "1m")]).unwrap();
        assert_eq!(cache.bytes_max, 1 << 20);
        assert!(limits("splunk", &[]).unwrap_err().to_string().contains("awslogs, fluentd"));
    }
}
