//! Agents that are killed, machines that crash, journals that are damaged: what runs, runs on; what
//! ended is learnt; what nobody owns goes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod lab;

use lab::{Lab, Told, assign, image, isolated, key, lab, script, sh, shim, task, until};
use muster_agent::cgroup::Cgroups;
use muster_agent::collector::Booted;
use muster_agent::journal::ContainerKey;
use muster_agent::runtime::{Ended, Runtime, RuntimeConfig};
use muster_control::io::FoundContainer;
use muster_model::spec::{MountPoint, NetworkMode, PortMapping, Protocol, TaskDefinition, Volume};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where the agent in the child process works.
const AGENT_DIR: &str = "MUSTER_TEST_AGENT_DIR";
const AGENT_PREFIX: &str = "MUSTER_TEST_AGENT_PREFIX";

/// Containers that end when their file appears in the shared directory.
fn definition(shared: &Path) -> TaskDefinition {
    let waits = |name: &str, code: u32, port: u16| {
        let text =
            format!("echo up; until [ -e /shared/{name} ]; do usleep 20000; done; exit {code}");
        let mut container = script(name, &text);
        container.mount_points = vec![MountPoint {
            source_volume: "shared".into(),
            container_path: "/shared".into(),
            read_only: false,
        }];
        container.port_mappings = vec![PortMapping {
            name: None,
            container_port: 80,
            host_port: port,
            protocol: Protocol::Tcp,
            app_protocol: None,
        }];
        container
    };
    let containers = vec![waits("early", 11, 32901), waits("late", 12, 32902)];
    let mut definition = task(NetworkMode::Bridge, containers);
    let host_path = Some(shared.display().to_string());
    definition.volumes = vec![Volume { name: "shared".into(), host_path, ..Volume::default() }];
    definition
}

/// Not a test by itself: the agent that the tests below start and kill.
#[test]
fn agent_in_a_process_of_its_own() {
    let Ok(dir) = std::env::var(AGENT_DIR) else { return };
    let mut config = lab::config(Path::new(&dir));
    config.cgroup_prefix = std::env::var(AGENT_PREFIX).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (sender, _ended) = mpsc::channel(64);
        let agent = Runtime::open(config, Arc::new(Told::default()), sender).unwrap();
        agent.boot().await.unwrap();
        let assignment = assign(definition(&Path::new(&dir).join("shared")));
        agent.begin(&assignment).await.unwrap();
        agent.pull(&assignment).await.unwrap();
        for name in ["early", "late"] {
            agent.create(&assignment, &name.into()).await.unwrap();
            agent.start(&key(&assignment, name)).await.unwrap();
        }
        println!("\nrunning {}", assignment.task);
        // Until it is killed.
        std::future::pending::<()>().await;
    });
}

struct Agent {
    process: Child,
    task: muster_model::TaskId,
}

/// Starts the agent above and waits until its containers run.
fn start_agent(config: &RuntimeConfig, dir: &Path, wrapper: &[&str]) -> Agent {
    fs::create_dir_all(dir.join("shared")).unwrap();
    let exe = std::env::current_exe().unwrap().display().to_string();
    let mut words = wrapper.to_vec();
    words.extend([&exe, "--exact", "agent_in_a_process_of_its_own", "--nocapture"]);
    let mut process = Command::new(words[0])
        .args(&words[1..])
        .env(AGENT_DIR, dir)
        .env(AGENT_PREFIX, &config.cgroup_prefix)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let task = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("running ").and_then(|id| id.trim().parse().ok()));
    Agent { process, task: task.expect("the agent did not get its containers to run") }
}

/// A machine whose agent is a process, and after it one in this test.
fn machine<F: Future<Output = ()>>(
    test: impl FnOnce(RuntimeConfig, std::path::PathBuf) -> F + Send,
) {
    shim();
    image();
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let config = lab::config(dir.path());
        let prefix = config.cgroup_prefix.clone();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(test(config, dir.path().to_owned()));
        }));
        let cgroups = Cgroups::detect(&prefix).unwrap();
        cgroups.kill_all(&prefix).unwrap();
        cgroups.remove(&prefix).unwrap();
        for mount in muster_agent::runtime::rootfs::mounts_below(dir.path()) {
            muster_agent::runtime::rootfs::unmount(&mount).unwrap();
        }
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn boot(config: &RuntimeConfig) -> (Runtime, Booted, mpsc::Receiver<Ended>) {
    let (sender, ended) = mpsc::channel(64);
    let runtime = Runtime::open(config.clone(), Arc::new(Told::default()), sender).unwrap();
    let booted = runtime.boot().await.unwrap();
    (runtime, booted, ended)
}

fn fate<'a>(booted: &'a Booted, name: &str) -> &'a FoundContainer {
    let containers = booted.tasks.iter().flat_map(|task| &task.containers);
    let mut of_name = containers.filter(|(n, _)| **n == *name);
    &of_name.next().unwrap().1
}

/// Nothing of this machine is left: no process, mount, namespace, cable, port, cgroup or record.
fn assert_clean(config: &RuntimeConfig, dir: &Path) {
    let dir = dir.display().to_string();
    let mounts = sh("cat /proc/self/mountinfo");
    assert!(!mounts.lines().any(|l| l.contains(&dir)), "{mounts}");
    assert_eq!(
        sh(&format!("find {dir}/run/netns {dir}/run/runc {dir}/data/tasks -mindepth 1")),
        ""
    );
    assert_eq!(Cgroups::detect(&config.cgroup_prefix).unwrap().tasks(), [""; 0]);
    let links = sh("ip -o link");
    assert!(!links.contains('@'), "a cable is left: {links}");
    let table = sh("nft list table ip muster-mutest0 2>/dev/null || true");
    assert!(!table.contains("elements"), "{table}");
}

#[test]
fn containers_outlive_a_killed_agent_and_the_next_one_learns_how_they_ended() {
    machine(|config, dir| async move {
        let mut agent = start_agent(&config, &dir, &["env"]);
        let task = agent.task;
        agent.process.kill().unwrap();
        agent.process.wait().unwrap();
        let name_of = |name: &str| ContainerKey { task, name: name.into() };
        // One ends while nobody is there.
        fs::write(dir.join("shared/early"), "").unwrap();
        let records = dir.join("data/tasks").join(task.to_string()).join("containers");
        let exit = records.join("early/exit.json");
        until("the shim records the exit", async || exit.exists().then_some(())).await;
        let (runtime, booted, mut ended) = boot(&config).await;
        assert_eq!(booted.notes, [""; 0]);
        let FoundContainer::Exited { status, started_at, .. } = fate(&booted, "early") else {
            panic!("{booted:?}");
        };
        assert_eq!((status.exit_code, started_at.is_some()), (Some(11), true));
        let FoundContainer::Running { status, .. } = fate(&booted, "late") else {
            panic!("{booted:?}");
        };
        assert_eq!(status.bindings[0].host_port, 32902);
        assert_eq!(status.address.as_deref(), Some("10.91.0.3"));
        // Its port still leads there, the other's is free again.
        let table = sh("nft list table ip muster-mutest0");
        assert!(table.contains("32902 : 10.91.0.3") && !table.contains("32901"), "{table}");
        fs::write(dir.join("shared/late"), "").unwrap();
        let end = tokio::time::timeout(lab::SOON, ended.recv()).await.unwrap().unwrap();
        assert_eq!((end.key, end.exit.exit_code), (name_of("late"), Some(12)));
        runtime.delete(task).await.unwrap();
        assert_clean(&config, &dir);
        runtime.close().await;
    });
}

#[test]
fn a_crash_of_the_machine_leaves_lost_exits_and_nothing_else() {
    machine(|config, dir| async move {
        // A process namespace of its own: killing its first process kills everything in it.
        let wrapper = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
        let mut agent = start_agent(&config, &dir, &wrapper);
        agent.process.kill().unwrap();
        agent.process.wait().unwrap();
        let (runtime, booted, _ended) = boot(&config).await;
        for name in ["early", "late"] {
            let FoundContainer::Exited { status, .. } = fate(&booted, name) else {
                panic!("{booted:?}");
            };
            assert_eq!(status.exit_code, None);
            let reason = status.reason.as_deref().unwrap();
            assert!(reason.starts_with("ContainerVanishedError"), "{reason}");
        }
        runtime.delete(agent.task).await.unwrap();
        assert_clean(&config, &dir);
        runtime.close().await;
    });
}

#[test]
fn what_no_journal_knows_is_swept_and_named() {
    machine(|config, dir| async move {
        let mut agent = start_agent(&config, &dir, &["env"]);
        agent.process.kill().unwrap();
        agent.process.wait().unwrap();
        let file = dir.join("data/tasks").join(agent.task.to_string()).join("task.json");
        fs::write(file, "damaged").unwrap();
        let (runtime, booted, _ended) = boot(&config).await;
        assert!(booted.tasks.is_empty());
        let notes = booted.notes.join("\n");
        for what in ["cannot be read", "runtime record", "mount", "network namespace"] {
            assert!(notes.contains(what), "{what}: {notes}");
        }
        assert_clean(&config, &dir);
        assert_eq!(fs::read_dir(dir.join("data/quarantine")).unwrap().count(), 1);
        // Doing it again finds nothing to do.
        runtime.close().await;
        let (runtime, booted, _ended) = boot(&config).await;
        assert_eq!(booted.notes, [""; 0]);
        runtime.close().await;
    });
}

#[test]
fn a_container_that_was_created_and_not_started_is_taken_back() {
    lab(|lab| async {
        let assignment = assign(task(NetworkMode::Bridge, vec![script("main", "true")]));
        lab.runtime.begin(&assignment).await.unwrap();
        lab.runtime.create(&assignment, &"main".into()).await.unwrap();
        let (lab, booted) = lab.restart().await;
        assert!(matches!(fate(&booted, "main"), FoundContainer::Missing), "{booted:?}");
        // And can be made again.
        lab.runtime.create(&assignment, &"main".into()).await.unwrap();
        lab
    });
}

#[test]
fn an_agent_that_died_in_the_middle_of_a_start_leaves_a_running_container() {
    lab(|lab| async {
        let assignment = assign(task(NetworkMode::None, vec![script("main", "echo up; sleep 60")]));
        lab.run(&assignment).await;
        let key = key(&assignment, "main");
        lab.printed(&key, "up").await;
        // The pipe is removed last.
        let record = lab.config.run_dir.join("runc").join(key.id());
        sh(&format!("mkfifo {}/exec.fifo", record.display()));
        let (lab, booted) = lab.restart().await;
        assert!(matches!(fate(&booted, "main"), FoundContainer::Running { .. }), "{booted:?}");
        lab
    });
}

#[test]
fn an_order_to_stop_is_remembered() {
    lab(|lab| async {
        let assignment = assign(task(NetworkMode::None, vec![script("main", "sleep 60")]));
        lab.run(&assignment).await;
        lab.runtime.stopping(assignment.task).unwrap();
        let (lab, booted) = lab.restart().await;
        assert!(booted.tasks[0].stopping);
        assert_eq!(booted.tasks[0].assignment, *assignment);
        assert!(matches!(fate(&booted, "main"), FoundContainer::Running { .. }));
        lab
    });
}

fn shim_pid(lab: &Lab, key: &ContainerKey) -> Pid {
    let task = lab.config.data_dir.join("tasks").join(key.task.to_string());
    let text = fs::read(task.join("containers").join(&*key.name).join("shim.json")).unwrap();
    let watch: serde_json::Value = serde_json::from_slice(&text).unwrap();
    Pid::from_raw(watch["shim_pid"].as_i64().unwrap() as i32)
}

#[test]
fn a_killed_shim_costs_the_exit_code_and_not_the_container() {
    lab(|mut lab| async {
        let text = "until [ -e /go ]; do usleep 20000; done; exit 4";
        let assignment = assign(task(NetworkMode::None, vec![script("main", text)]));
        let pid = lab.run(&assignment).await[0].pid;
        let key = key(&assignment, "main");
        let shim = shim_pid(&lab, &key);
        kill(shim, Signal::SIGKILL).unwrap();
        until("the shim is gone", async || kill(shim, None).is_err().then_some(())).await;
        kill(Pid::from_raw(pid), None).unwrap();
        let (mut lab2, booted) = lab.restart().await;
        assert!(matches!(fate(&booted, "main"), FoundContainer::Running { .. }), "{booted:?}");
        lab2.runtime.kill(&key);
        assert_eq!(lab2.exit(&key).await.exit_code, None);
        lab = lab2;
        lab
    });
}

#[test]
fn polite_signals_do_not_end_a_shim() {
    lab(|mut lab| async {
        let text = "echo up; until [ -e /tmp/go ]; do usleep 20000; done; exit 6";
        let assignment = assign(task(NetworkMode::None, vec![script("main", text)]));
        lab.run(&assignment).await;
        let key = key(&assignment, "main");
        lab.printed(&key, "up").await;
        let shim = shim_pid(&lab, &key);
        for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
            kill(shim, signal).unwrap();
        }
        let go = ["touch", "/tmp/go"].map(str::to_owned).to_vec();
        let _run = lab.runtime.exec(&key, &go, None).unwrap();
        assert_eq!(lab.exit(&key).await.exit_code, Some(6));
        lab
    });
}
