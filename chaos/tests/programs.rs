//! Programs that use a cluster over gRPC: a Rust and a Python client create services while the
//! leader is killed under them, a scheduler in Python places tasks itself, and a stranger with no
//! files learns what there is to call.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::{Cluster, example};
use muster_chaos::lab::root;
use muster_chaos::python::{Environment, done};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Services each program creates: enough that it is still at it when the leader is dead.
const SERVICES: usize = 150;
/// Services it has created when the leader is killed.
const BEFORE_THE_KILL: usize = 5;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a program that prints one line per service, kills the leader under it, and checks that
/// exactly its services are there.
fn survives_a_leader_kill(cluster: &mut Cluster, prefix: &str, mut program: Command) {
    let leader = cluster.wait_leader();
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut printed: Vec<String> =
        lines.by_ref().take(BEFORE_THE_KILL).map_while(Result::ok).collect();
    cluster.kill(&leader);
    let busy = child.try_wait().unwrap().is_none();
    printed.extend(lines.map_while(Result::ok));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the {prefix} program failed: {said}");
    assert!(busy, "the {prefix} program had ended before the leader was dead");

    let list = cluster.json(&["service", "list"]);
    let arns = list["services"].as_array().unwrap().iter();
    let arns = arns.map(|service| service["serviceArn"].as_str().unwrap().to_owned());
    let there: Vec<String> = arns.filter(|arn| arn.contains(&format!("/{prefix}-"))).collect();
    let different: BTreeSet<&String> = there.iter().collect();
    assert_eq!(there.len(), different.len(), "no service twice");
    assert_eq!(different, printed.iter().collect(), "what was answered is what is there");
    assert_eq!(there.len(), SERVICES);
    cluster.start(&leader);
    cluster.wait_voters(3);
}

#[test]
fn programs_in_rust_and_python_outlive_their_leader() {
    let _alone = alone();
    let python = Python::install();
    let mut cluster = Cluster::form(3, 0);
    cluster.register("web", json!({ "command": ["/bin/busybox", "sleep", "100000"] }));
    let (admin, managers) = (cluster.admin(), cluster.manager_addresses());

    let mut rust = cluster.lab.hub_command(&example("client").to_string_lossy());
    rust.arg(&admin).arg(&managers).args(["web", "rust", &SERVICES.to_string()]);
    survives_a_leader_kill(&mut cluster, "rust", rust);

    let mut command = cluster.lab.hub_command(&python.interpreter().to_string_lossy());
    command.arg(example_of_python("create_service.py")).env("PYTHONPATH", python.stubs());
    command.arg("--identity").arg(&admin).args(["--managers", &managers]);
    command.args(["--task-definition", "web", "--prefix", "python"]);
    command.args(["--count", &SERVICES.to_string()]);
    survives_a_leader_kill(&mut cluster, "python", command);
}

/// Jobs that want a GPU, and a scheduler that does not know what a GPU is: the cluster refuses it
/// what is not there, and it chooses again, also under another leader.
#[test]
fn a_scheduler_of_ones_own_is_held_to_the_rules() {
    let _alone = alone();
    let python = Python::install();
    let mut cluster = Cluster::form(3, 2);
    let config = cluster.config("w2");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("[resources]"), "{text}");
    std::fs::write(&config, text.replace("[resources]", "[resources]\nGPU = 2")).unwrap();
    cluster.kill("w2");
    cluster.start("w2");
    let sleep = json!(["/bin/busybox", "sleep", "100000"]);
    let gpu = json!([{ "type": "GPU", "value": "1" }]);
    cluster.register("train", json!({ "command": sleep, "resourceRequirements": gpu }));

    let mut command = cluster.lab.hub_command(&python.interpreter().to_string_lossy());
    command.arg(example_of_python("scheduler.py")).env("PYTHONPATH", python.stubs());
    command.arg("--identity").arg(cluster.admin());
    command.args(["--managers", &cluster.manager_addresses(), "--task-definition", "train"]);
    command.args(["--cpu", "64", "--jobs", "a,b,c"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut started, mut refused) = (Vec::new(), 0);
    for line in lines.map_while(Result::ok) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match (words[0].as_str(), words[1].as_str()) {
            ("c", "refused") => {
                assert_eq!(words[3], "RESOURCE:GPU", "{line}");
                refused += 1;
                if refused == 1 {
                    let leader = cluster.wait_leader();
                    cluster.kill(&leader);
                    cluster.wait_leader();
                    let first: &Vec<String> = &started[0];
                    cluster.run(&["task", "stop", &first[3]]);
                }
            }
            (_, "started") => started.push(words),
            _ => {}
        }
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let jobs: Vec<&str> = started.iter().map(|words| words[0].as_str()).collect();
    assert_eq!(jobs, ["a", "b", "c"]);
    let places: BTreeSet<&String> = started.iter().map(|words| &words[2]).collect();
    assert_eq!(places.len(), 1, "only one instance has GPUs");
    assert!(refused > 0, "the third found none left");
}

#[test]
fn a_stranger_with_a_certificate_learns_what_to_call() {
    let _alone = alone();
    let cluster = Cluster::form(1, 0);
    let reflect = |manager: &str| {
        let mut command = cluster.lab.hub_command(&example("reflect").to_string_lossy());
        command.arg(cluster.admin()).arg(manager);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = reflect(&cluster.manager_address(1));
    for line in [
        "service muster.v1.Ecs",
        "service muster.v1.Live",
        "service muster.v1.Operator",
        "service grpc.health.v1.Health",
        "health Serving",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    assert!(said.contains("\nfiles "), "a method's description comes with it: {said}");
}

fn example_of_python(file: &str) -> PathBuf {
    root().join("docs/examples/python").join(file)
}

/// An interpreter with the packages of the example, and the stubs made for it.
struct Python {
    environment: Environment,
}

impl Python {
    fn install() -> Self {
        let environment = Environment::install(&example_of_python("requirements.txt"));
        let python = Self { environment };
        std::fs::create_dir(python.stubs()).unwrap();
        let mut protoc = Command::new(python.interpreter());
        protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(root().join("proto/api"));
        protoc.arg("--python_out").arg(python.stubs()).arg("--grpc_python_out").arg(python.stubs());
        done(protoc.args(["ecs.proto", "options.proto"]));
        python
    }

    fn interpreter(&self) -> PathBuf {
        self.environment.program("python")
    }

    fn stubs(&self) -> PathBuf {
        self.environment.dir().join("stubs")
    }
}
