//! A Muster cluster on a lab, run and asked with the `muster` binary, as by hand; how machines come
//! into it is in `joining`.

mod joining;

use crate::image::Registry;
use crate::lab::Lab;
use crate::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// How long forming may take on a busy machine.
const FORM_WAIT: Duration = Duration::from_secs(60);

/// A running cluster; everything of it is gone when it is dropped.
pub struct Cluster {
    // Dropped in this order: processes, registry, hosts, files.
    processes: BTreeMap<String, Child>,
    pub registry: Registry,
    pub lab: Lab,
    pub dir: tempfile::TempDir,
    pub managers: u32,
    pub workers: u32,
    log_mib: u64,
    manager_token: String,
    worker_token: String,
}

/// How many of what a cluster is formed of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub managers: u32,
    /// Hosts for managers that join later.
    pub spare: u32,
    /// Workers with real containers: w1, w2, ...
    pub workers: u32,
    /// Workers that pretend to run containers: the numbers after those.
    pub simulated: u32,
    /// MiB of log that managers keep for those that lag behind; 0: the default.
    pub log_mib: u64,
}

/// The binary under test: in the directory that `MUSTER_BIN` names, else beside this program (tests
/// are one directory further down).
pub fn muster() -> PathBuf {
    if let Some(dir) = std::env::var_os("MUSTER_BIN") {
        return PathBuf::from(dir).join("muster");
    }
    let this = std::env::current_exe().unwrap_or_default();
    let beside = this.parent().unwrap_or(Path::new("."));
    let test = beside.ends_with("deps") || beside.ends_with("examples");
    if test { beside.with_file_name("muster") } else { beside.join("muster") }
}

/// An example program of this crate, built beside the tests.
pub fn example(name: &str) -> PathBuf {
    muster().with_file_name("examples").join(name)
}

/// Zone of the n-th manager or worker.
pub fn zone(number: u32) -> &'static str {
    ["az-a", "az-b", "az-c"][((number - 1) % 3) as usize]
}

impl Cluster {
    /// Managers and workers, all joined, all connected.
    ///
    /// # Panics
    /// It does not form in time.
    pub fn form(managers: u32, workers: u32) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("muster-test-")
            .tempdir()
            .unwrap_or_else(|error| panic!("temporary directory: {error}"));
        Self::form_on(Lab::new(), Shape { managers, workers, ..Shape::default() }, dir)
    }

    /// As [`Cluster::form`], on a lab that has no hosts yet, with all its files in `dir`.
    ///
    /// # Panics
    /// It does not form in time.
    pub fn form_on(lab: Lab, shape: Shape, dir: tempfile::TempDir) -> Self {
        let Shape { managers, spare, workers, simulated, log_mib } = shape;
        let workers = workers + simulated;
        lab.make(managers + spare, workers);
        let registry = Registry::start(&lab, dir.path());
        let mut cluster = Self {
            processes: BTreeMap::new(),
            registry,
            lab,
            dir,
            managers,
            workers,
            log_mib,
            manager_token: String::new(),
            worker_token: String::new(),
        };
        cluster.found();
        for number in 2..=managers {
            cluster.join_manager(number);
        }
        cluster.wait_voters(managers as usize);
        for number in 1..=workers {
            if number <= shape.workers {
                cluster.join_worker(number, &[]);
            } else {
                cluster.join_simulated(number);
            }
        }
        cluster.wait_connected(workers as usize);
        cluster
    }

    /// Starts a host's daemon, booting the host first if it has crashed.
    pub fn start(&mut self, host: &str) {
        self.start_with(host, &[]);
    }

    /// Starts a host's daemon with additions to its environment, each `NAME=value`.
    pub fn start_with(&mut self, host: &str, environment: &[String]) {
        self.lab.done(&["boot", host]);
        self.launch(host, host, environment);
    }

    /// Starts the daemon of this name on a host that is up.
    fn launch(&mut self, host: &str, on: &str, environment: &[String]) {
        let role = if host.starts_with('m') { "manager" } else { "agent" };
        let (binary, config) = (muster(), self.config(host));
        // The shell's pid becomes the daemon's: what `kill` needs, as the host counts.
        let pid = self.path(host).join("pid");
        let script = format!("echo $$ >{}; exec \"$0\" \"$@\"", pid.display());
        let binary = binary.to_string_lossy();
        // `env` becomes the daemon: the pid stays.
        let mut words = vec!["sh", "-c", &script, "env"];
        words.extend(environment.iter().map(String::as_str));
        words.extend([&*binary, role, "--config", &config]);
        let log = self.path(host).join("log");
        std::fs::write(self.path(host).join("on"), on).ok();
        let child = self.lab.start(on, &words, &log);
        self.processes.insert(host.to_owned(), child);
    }

    /// The daemon's pid as this machine counts: what can be signalled without delay.
    pub fn pid(&self, host: &str) -> Option<i32> {
        let outer = self.processes.get(host)?.id();
        // `nsenter` stays as the parent of what it runs in another PID namespace.
        let path = format!("/proc/{outer}/task/{outer}/children");
        std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
    }

    /// Pid of the process that waits for a host's daemon, and stops with it when that is stopped.
    pub fn waiting_pid(&self, host: &str) -> Option<i32> {
        i32::try_from(self.processes.get(host)?.id()).ok()
    }

    /// Sends a signal to a host's daemon.
    pub fn signal(&self, host: &str, signal: &str) {
        let pid = std::fs::read_to_string(self.path(host).join("pid")).unwrap_or_default();
        self.lab.done(&["run", host, "kill", signal, pid.trim()]);
    }

    /// `kill -9` of a host's daemon; returns once it is gone.
    pub fn kill(&mut self, host: &str) {
        self.signal(host, "-9");
        self.reap(host);
    }

    /// Waits for a host's daemon to end.
    pub fn reap(&mut self, host: &str) {
        if let Some(mut child) = self.processes.remove(host) {
            child.wait().ok();
        }
    }

    /// The whole host: every process at once.
    pub fn crash(&mut self, host: &str) {
        self.lab.done(&["crash", host]);
        self.reap(host);
    }

    /// The tokens that managers and workers join with.
    pub fn tokens(&self) -> [&str; 2] {
        [&self.manager_token, &self.worker_token]
    }

    /// Files of a host.
    pub fn path(&self, host: &str) -> PathBuf {
        let path = self.dir.path().join(host);
        std::fs::create_dir_all(&path).ok();
        path
    }

    fn data(&self, host: &str) -> String {
        self.path(host).join("data").to_string_lossy().into_owned()
    }

    /// A host's configuration file.
    pub fn config(&self, host: &str) -> String {
        let role = if host.starts_with('m') { "manager.toml" } else { "agent.toml" };
        self.path(host).join(role).to_string_lossy().into_owned()
    }

    pub fn manager_address(&self, number: u32) -> String {
        format!("{}:7400", self.lab.address(&format!("m{number}")))
    }

    /// Addresses of all managers, as a client wants them.
    pub fn manager_addresses(&self) -> String {
        let all: Vec<_> = (1..=self.managers).map(|n| self.manager_address(n)).collect();
        all.join(",")
    }

    fn any_manager(&self) -> String {
        self.manager_address(1)
    }

    /// The directory of the administrator's certificate.
    pub fn admin(&self) -> PathBuf {
        self.dir.path().join("admin")
    }

    /// A `muster` command as the administrator, from the hub; not started yet.
    pub fn client(&self, words: &[&str]) -> Command {
        let mut command = self.lab.hub_command(&muster().to_string_lossy());
        command
            .args(words)
            .env("MUSTER_MANAGERS", self.manager_addresses())
            .env("MUSTER_IDENTITY", self.admin())
            .stdin(Stdio::null());
        command
    }

    /// Runs a `muster` command.
    pub fn ask(&self, words: &[&str]) -> Output {
        let output = self.client(words).output();
        output.unwrap_or_else(|error| panic!("starting muster {}: {error}", words.join(" ")))
    }

    /// Runs a `muster` command that must succeed.
    ///
    /// # Panics
    /// It fails; with what it said.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.ask(words);
        assert!(
            output.status.success(),
            "muster {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a `muster` command with JSON output.
    ///
    /// # Panics
    /// It fails or answers something else.
    pub fn json(&self, words: &[&str]) -> Value {
        let mut words = words.to_vec();
        if !words.contains(&"--output") {
            words.extend(["--output", "json"]);
        }
        let text = self.run(&words);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs `muster` on a host.
    fn on(&self, host: &str, words: &[&str]) {
        let binary = muster();
        let mut all = vec!["run", host];
        let binary = binary.to_string_lossy();
        all.push(&binary);
        all.extend(words);
        self.lab.done(&all);
    }

    /// Host name of the leader, if the managers know one.
    pub fn leader(&self) -> Option<String> {
        let words = ["operator", "raft", "status", "--timeout", "2", "--output", "json"];
        let output = self.ask(&words);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let leader = status["leader"].as_u64()?;
        let members = status["members"].as_array()?;
        let member = members.iter().find(|m| m["id"].as_u64() == Some(leader))?;
        Some(member["name"].as_str()?.to_owned())
    }

    pub fn wait_leader(&self) -> String {
        wait::until("a manager leads", FORM_WAIT, || self.leader().ok_or("none".into()))
    }

    /// The next leader, when the one that led is gone.
    pub fn wait_next_leader(&self, gone: &str) -> String {
        wait::until("another manager leads", FORM_WAIT, || match self.leader() {
            Some(leader) if leader != gone => Ok(leader),
            other => Err(format!("{other:?}")),
        })
    }

    /// Kills the leader, and starts it again once another one leads.
    pub fn depose(&mut self) {
        let leader = self.wait_leader();
        self.kill(&leader);
        self.wait_next_leader(&leader);
        self.start(&leader);
        self.wait_voters(self.managers as usize);
    }

    pub fn wait_voters(&self, count: usize) {
        wait::until("all managers vote", FORM_WAIT, || {
            let words = ["operator", "raft", "status", "--timeout", "2", "--output", "json"];
            let text = self.ask(&words).stdout;
            let status: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
            let members = status["members"].as_array().cloned().unwrap_or_default();
            let voters = members.iter().filter(|m| m["role"] != "learner").count();
            if voters == count { Ok(()) } else { Err(format!("{voters} voters")) }
        });
    }

    pub fn wait_connected(&self, count: usize) {
        wait::until("all workers are connected", FORM_WAIT, || {
            let text = self.ask(&["instance", "list", "--timeout", "2", "--output", "json"]).stdout;
            let list: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
            let instances = list["containerInstances"].as_array().cloned().unwrap_or_default();
            let connected = instances.iter().filter(|i| i["agentConnected"] == true).count();
            if connected == count { Ok(()) } else { Err(format!("{connected} connected")) }
        });
    }

    /// Registers a definition of one busybox container.
    pub fn register(&self, family: &str, container: Value) {
        self.register_with(family, container, &serde_json::json!([]));
    }

    /// Registers one whose task runs a line of a shell, with a directory of this machine as
    /// `/record`.
    pub fn register_recording(&self, family: &str, line: &str, record: &Path) {
        let container = serde_json::json!({
            "command": ["/bin/busybox", "sh", "-c", line],
            "mountPoints": [{ "sourceVolume": "record", "containerPath": "/record" }],
        });
        let volume = serde_json::json!({ "name": "record", "host": { "sourcePath": record } });
        self.register_with(family, container, &serde_json::json!([volume]));
    }

    /// Registers one with volumes.
    pub fn register_with(&self, family: &str, container: Value, volumes: &Value) {
        let mut container = container;
        let defaults = serde_json::json!({
            "name": "main", "image": self.registry.busybox(), "cpu": 64, "memory": 32,
            "stopTimeout": 2,
        });
        for (key, value) in defaults.as_object().into_iter().flatten() {
            if container.get(key).is_none() {
                container[key] = value.clone();
            }
        }
        let definition = serde_json::json!({
            "family": family, "containerDefinitions": [container], "volumes": volumes,
        });
        let path = self.dir.path().join(format!("{family}.json"));
        std::fs::write(&path, definition.to_string()).unwrap_or_else(|e| panic!("{family}: {e}"));
        self.run(&["taskdef", "register", &path.to_string_lossy()]);
    }

    /// Tasks of a service, as `task list` shows them.
    pub fn tasks(&self, service: &str) -> Vec<Value> {
        let list = self.json(&["task", "list", "--service", service]);
        list["tasks"].as_array().cloned().unwrap_or_default()
    }

    /// Running tasks of a service: instance name and pid of the first container, sorted.
    pub fn running(&self, service: &str) -> Vec<(String, u64)> {
        let tasks = self.tasks(service);
        let running = tasks.iter().filter(|t| t["lastStatus"] == "RUNNING");
        let mut pids: Vec<_> = running
            .map(|t| {
                let name = t["instanceName"].as_str().unwrap_or_default().to_owned();
                (name, t["containers"][0]["pid"].as_u64().unwrap_or(0))
            })
            .collect();
        pids.sort();
        pids
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in self.processes.keys() {
                let log = self.path(host).join("log");
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<_> = text.lines().rev().take(40).collect();
                eprintln!("---- the end of {host}'s log ----");
                lines.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        // Nobody holds its standard input: it clears away at once.
        self.lab.janitor(self.dir.path()).stdin(Stdio::null()).status().ok();
        for (_, mut child) in std::mem::take(&mut self.processes) {
            child.wait().ok();
        }
    }
}
