//! A machine for one test: its own network and mounts, its own cgroup and directories, real runc.
//!
//! Each test runs in a thread that left the network and mount namespaces of the others, with a
//! tokio runtime whose threads inherit that. What a test leaves behind is removed when it ends,
//! also when it fails.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod agent;
pub mod layout;
pub mod registry;

use muster_agent::cgroup::Cgroups;
use muster_agent::error::{Error, Name};
use muster_agent::image::{LayerLimits, PullBehavior, Registries};
use muster_agent::journal::ContainerKey;
use muster_agent::logs::Query;
use muster_agent::metadata::role::{Credentials, Identity, TaskRoles};
use muster_agent::network::BridgeConfig;
use muster_agent::runtime::secrets::{Secrets, TaskSecrets, credentials};
use muster_agent::runtime::shim::{Exit, LogLimits};
use muster_agent::runtime::{Created, DiskMarks, Ended, Runtime, RuntimeConfig};
use muster_identity::SecretText;
use muster_model::dispatch::Assignment;
use muster_model::spec::{ContainerDefinition, NetworkMode, TaskDefinition};
use muster_model::{Revision, TaskId, Time};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Far more than anything here takes, even beside seven compilers.
pub const SOON: Duration = Duration::from_secs(60);

/// Where the shim and the image are on a machine without the sources.
pub const SHIM_GIVEN: &str = "MUSTER_TEST_SHIM";
pub const IMAGE_GIVEN: &str = "MUSTER_TEST_IMAGE";

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Managers that know secrets: variables by container.
#[derive(Default)]
pub struct Told {
    pub variables: Mutex<BTreeMap<String, Vec<(String, String)>>>,
    /// Paths and values of files by container.
    pub files: Mutex<BTreeMap<String, Vec<(String, String)>>>,
    /// Values of `repositoryCredentials` by container.
    pub credentials: Mutex<BTreeMap<String, String>>,
    /// How often somebody asked.
    pub asked: AtomicU32,
    /// Tasks that credentials were asked for, and audiences.
    pub acted: Mutex<Vec<String>>,
    /// Nobody answers any more.
    pub gone: AtomicBool,
    /// Whether what is given has expired already.
    pub short: AtomicBool,
}

#[tonic::async_trait]
impl Secrets for Told {
    async fn of_task(&self, _: TaskId) -> muster_agent::error::Result<TaskSecrets> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut task = TaskSecrets::new();
        for (container, variables) in &*self.variables.lock().unwrap() {
            let secret =
                |(name, value): &(String, String)| (name.clone(), SecretText::new(value.clone()));
            let given = task.entry(container.as_str().into()).or_default();
            given.environment = variables.iter().map(secret).collect();
        }
        for (container, files) in &*self.files.lock().unwrap() {
            let file =
                |(path, value): &(String, String)| (path.clone(), SecretText::new(value.clone()));
            let given = task.entry(container.as_str().into()).or_default();
            given.files = files.iter().map(file).collect();
        }
        for (container, value) in &*self.credentials.lock().unwrap() {
            let given = task.entry(container.as_str().into()).or_default();
            given.credentials = Some(credentials(container, value)?);
        }
        if task.is_empty() {
            let text = "unable to pull secrets or registry auth: secret \"db\" not found";
            return Err(Error::new(Name::ResourceInitialization, text));
        }
        Ok(task)
    }
}

/// Managers that know one role: whatever task asks has it.
#[tonic::async_trait]
impl TaskRoles for Told {
    async fn credentials(&self, task: TaskId) -> Result<Credentials, muster_model::Error> {
        self.acted(&format!("{task}"))?;
        Ok(Credentials {
            role_arn: "arn:aws:iam::000000000000:role/web".into(),
            access_key_id: "ASIAAAAAAAAAAAAAAAAA".into(),
            secret_access_key: SecretText::new("hush".to_owned()),
            token: SecretText::new(format!("token of {task}")),
            expires_at: self.until(),
        })
    }

    async fn identity(&self, task: TaskId, to: &str) -> Result<Identity, muster_model::Error> {
        self.acted(to)?;
        let token = SecretText::new(format!("identity of {task} for {to}"));
        Ok(Identity { token, expires_at: self.until() })
    }
}

impl Told {
    fn acted(&self, what: &str) -> Result<(), muster_model::Error> {
        self.acted.lock().unwrap().push(what.to_owned());
        match self.gone.load(Ordering::Relaxed) {
            true => Err(muster_model::Error::Unavailable { why: "they are gone".into() }),
            false => Ok(()),
        }
    }

    /// In six hours, or at once: what is asked for then is asked for every time.
    fn until(&self) -> Time {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let hours = if self.short.load(Ordering::Relaxed) { 0 } else { 6 };
        Time(now.as_millis() as u64 + hours * 3_600_000)
    }
}

pub struct Lab {
    pub dir: TempDir,
    pub config: RuntimeConfig,
    pub told: Arc<Told>,
    pub runtime: Runtime,
    ended: mpsc::Receiver<Ended>,
    /// Ends that came while another was waited for.
    early: Vec<Ended>,
}

/// Runs a test on a machine of its own.
pub fn lab<F: Future<Output = Lab>>(test: impl FnOnce(Lab) -> F + Send) {
    lab_with(|_| {}, test);
}

/// The same, with a changed configuration.
pub fn lab_with<F: Future<Output = Lab>>(
    change: impl FnOnce(&mut RuntimeConfig) + Send,
    test: impl FnOnce(Lab) -> F + Send,
) {
    machine(change, async |dir, config| {
        let lab = test(Lab::open(dir, config).await).await;
        for name in std::fs::read_dir(lab.config.data_dir.join("tasks")).unwrap() {
            let task = name.unwrap().file_name().into_string().unwrap().parse().unwrap();
            lab.runtime.delete(task).await.unwrap();
        }
        lab.runtime.close().await;
    });
}

/// A machine on which nothing runs yet, for whoever opens its runtime itself.
pub fn machine(
    change: impl FnOnce(&mut RuntimeConfig) + Send,
    test: impl AsyncFnOnce(TempDir, RuntimeConfig) + Send,
) {
    shim();
    image();
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut config = config(&path);
        change(&mut config);
        let prefix = config.cgroup_prefix.clone();
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(test(dir, config));
        }));
        // A failed test leaves containers behind: their cgroups know them.
        let cgroups = Cgroups::detect(&prefix).unwrap();
        cgroups.kill_all(&prefix).unwrap();
        cgroups.remove(&prefix).unwrap();
        let mounts = muster_agent::runtime::rootfs::mounts_below(&path);
        mounts.iter().for_each(|mount| muster_agent::runtime::rootfs::unmount(mount).unwrap());
        let _ = std::fs::remove_dir_all(&path);
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    });
}

/// Runs `work` in a thread with its own network (loopback up) and mounts.
pub fn isolated<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        sh("ip link set lo up");
        work()
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    })
}

pub fn config(dir: &Path) -> RuntimeConfig {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    RuntimeConfig {
        data_dir: dir.join("data"),
        run_dir: dir.join("run"),
        runc: "runc".into(),
        shim: shim(),
        mount: "mount".into(),
        efs: BTreeMap::new(),
        init: "/usr/bin/tini-static".into(),
        zone: "az-1".into(),
        cgroup_prefix: format!("/muster-test-{}-{n}", std::process::id()),
        bridge: BridgeConfig { name: "mutest0".into(), subnet: "10.91.0.0/24".parse().unwrap() },
        registries: Registries::default(),
        pull_behavior: PullBehavior::Default,
        layer_limits: LayerLimits::STANDARD,
        log: LogLimits::STANDARD,
        journal_socket: dir.join("journal"),
        logs_kept: Duration::from_secs(3600),
        images_kept: Duration::from_secs(3600),
        // What else is on this machine's disk is not the tests' matter.
        disk: DiskMarks { high_percent: 100, low_percent: 100 },
    }
}

/// The shim's program, built like this test.
pub fn shim() -> PathBuf {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        if let Ok(shim) = std::env::var(SHIM_GIVEN) {
            return shim.into();
        }
        // <target>/debug/deps/<this test>
        let exe = std::env::current_exe().unwrap();
        let shim = exe.parent().and_then(Path::parent).unwrap().join("muster-shim");
        if !is_newer(&shim, &repository().join("node/shim/src")) {
            let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
            let built = Command::new(cargo).args(["build", "-q", "-p", "muster-shim"]).status();
            assert!(built.unwrap().success());
        }
        shim
    })
    .clone()
}

/// Whether `file` was made after everything in `sources` (asking cargo may wait for other builds).
fn is_newer(file: &Path, sources: &Path) -> bool {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let newest = std::fs::read_dir(sources).unwrap().flatten().map(|e| modified(&e.path())).max();
    modified(file) > newest.unwrap()
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A layout folder with a busybox image, tag `bb`.
pub fn image_dir() -> PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE
        .get_or_init(|| {
            if let Ok(dir) = std::env::var(IMAGE_GIVEN) {
                return dir.into();
            }
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox-image");
            let made = Command::new(repository().join("deploy/lib/mkimage")).arg(&dir).output();
            let made = made.unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            dir
        })
        .clone()
}

pub fn image() -> String {
    format!("oci-layout:{}:bb", image_dir().display())
}

/// The busybox image with a program of ours at /bin/probe, as tag `probe`.
pub fn probe_image(name: &str, source: &str) -> String {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("probe.c"), source).unwrap();
    let (shown, make) = (dir.display(), repository().join("deploy/lib/mkimage"));
    sh(&format!("cc -static -o {shown}/probe {shown}/probe.c"));
    sh(&format!("{} {shown}/image probe -f bin/probe={shown}/probe", make.display()));
    format!("oci-layout:{shown}/image:probe")
}

/// Runs a shell command that must succeed; returns what it printed.
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A container that runs a shell script.
pub fn script(name: &str, text: &str) -> ContainerDefinition {
    ContainerDefinition {
        name: name.into(),
        image: image(),
        essential: true,
        command: vec!["/bin/sh".into(), "-c".into(), text.into()],
        ..Default::default()
    }
}

pub fn task(mode: NetworkMode, containers: Vec<ContainerDefinition>) -> TaskDefinition {
    TaskDefinition { family: "test".into(), containers, network_mode: mode, ..Default::default() }
}

/// An assignment; host ports are those that the definition names.
pub fn assign(definition: TaskDefinition) -> Arc<Assignment> {
    static IDS: AtomicU32 = AtomicU32::new(1);
    let bits = u128::from(IDS.fetch_add(1, Ordering::Relaxed));
    let ports = definition.port_mappings().map(|(_, p)| p.host_port).collect();
    Arc::new(Assignment {
        task: TaskId::from_bits(u128::from(std::process::id()) << 64 | bits),
        account: "000000000000".into(),
        region: "local".into(),
        cluster: "default".into(),
        family: "test".into(),
        revision: Revision(1),
        group: "family:test".into(),
        spec: Arc::new(definition),
        ports,
        trace: None,
        fencing_token: None,
        instance_metadata: false,
        digests: Default::default(),
    })
}

pub fn key(assignment: &Assignment, name: &str) -> ContainerKey {
    ContainerKey { task: assignment.task, name: name.into() }
}

/// Waits until `look` gives something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Lab {
    pub async fn open(dir: TempDir, config: RuntimeConfig) -> Self {
        let (sender, ended) = mpsc::channel(64);
        let told = Arc::new(Told::default());
        let runtime = Runtime::open(config.clone(), told.clone(), sender).unwrap();
        let booted = runtime.boot().await.unwrap();
        assert!(booted.tasks.is_empty() && booted.notes.is_empty(), "{booted:?}");
        Self { dir, config, told, runtime, ended, early: Vec::new() }
    }

    /// A new agent on the same machine. Says what it found.
    pub async fn restart(self) -> (Self, muster_agent::collector::Booted) {
        self.runtime.close().await;
        let (sender, ended) = mpsc::channel(64);
        let runtime = Runtime::open(self.config.clone(), self.told.clone(), sender).unwrap();
        let booted = runtime.boot().await.unwrap();
        (Self { runtime, ended, early: Vec::new(), ..self }, booted)
    }

    /// Pulls, creates and starts every container of the task.
    pub async fn run(&self, assignment: &Arc<Assignment>) -> Vec<Created> {
        self.runtime.begin(assignment).await.unwrap();
        self.runtime.pull(assignment).await.unwrap();
        let mut created = Vec::new();
        for container in &assignment.spec.containers {
            let name: Arc<str> = container.name.as_str().into();
            created.push(self.runtime.create(assignment, &name).await.unwrap());
            self.runtime.start(&key(assignment, &name)).await.unwrap();
        }
        created
    }

    /// Waits for the end of a container.
    pub async fn exit(&mut self, key: &ContainerKey) -> Exit {
        loop {
            if let Some(at) = self.early.iter().position(|e| e.key == *key) {
                return self.early.swap_remove(at).exit;
            }
            let next = tokio::time::timeout(SOON, self.ended.recv()).await;
            self.early.push(next.expect("the container never ended").unwrap());
        }
    }

    /// Runs one container to its end: its exit and what it printed.
    pub async fn finish(&mut self, definition: TaskDefinition) -> (Exit, String) {
        let assignment = assign(definition);
        self.run(&assignment).await;
        let key = key(&assignment, &assignment.spec.containers[0].name);
        (self.exit(&key).await, self.log(&key).await)
    }

    pub async fn log(&self, key: &ContainerKey) -> String {
        let mut frames = self.runtime.logs(key, Query::default());
        let mut text = String::new();
        while let Some(frame) = frames.recv().await {
            text.push_str(&frame.unwrap().text);
        }
        text
    }

    /// Waits until the container has printed `wanted`.
    pub async fn printed(&self, key: &ContainerKey, wanted: &str) {
        until(wanted, async || self.log(key).await.contains(wanted).then_some(())).await;
    }
}
