//! Unmodified ECS clients drive a real cluster with real containers through the wire door: the
//! `aws` command line, boto3 and Amazon's SDK for Rust, at the leader and at a follower.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::{Cluster, Shape, example, muster};
use muster_chaos::lab::{Lab, root};
use muster_chaos::local;
use muster_chaos::python::{Environment, done, ecs_clients};
use muster_chaos::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Checks that `lab.py` has.
const CHECKS: usize = 12;
/// Tasks that the SDK asks for, and how many it has when the leader is killed.
const RUNS: usize = 200;
const BEFORE_THE_KILL: usize = 60;
/// Port of the ECS wire protocol beside a manager's 7400.
const PORT: u16 = 8400;
/// The region of a cluster that `muster init` was not told one.
const REGION: &str = "local";

/// How long anything here may take that takes a second or two.
const SOON: Duration = Duration::from_secs(60);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a tool signs with.
struct Key {
    id: String,
    secret: String,
}

impl Key {
    fn of(cluster: &Cluster, user: &str) -> Self {
        let made = cluster.json(&["access-key", "create", "--user", user]);
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self { id: text("accessKeyId"), secret: text("secretAccessKey") }
    }
}

/// A program in the lab's network, pointed at a manager as its owner would do it.
fn tool(cluster: &Cluster, key: &Key, manager: &str, program: &Path) -> Command {
    let mut command = cluster.lab.hub_command(&program.to_string_lossy());
    let endpoint = format!("https://{}:{PORT}", cluster.lab.address(manager));
    local::region(local::alone(&mut command), REGION);
    command.env("AWS_ENDPOINT_URL_ECS", &endpoint).env("AWS_ENDPOINT_URL_STS", &endpoint);
    command.env("AWS_CA_BUNDLE", cluster.admin().join("ca.pem"));
    command.env("AWS_ACCESS_KEY_ID", &key.id).env("AWS_SECRET_ACCESS_KEY", &key.secret);
    command
}

fn follower(cluster: &Cluster, leader: &str) -> String {
    let mut all = (1..=cluster.managers).map(|number| format!("m{number}"));
    all.find(|manager| manager != leader).unwrap()
}

/// What the README says to type at a cluster that has a definition of `web`.
fn readme(cluster: &Cluster, clients: &Environment, manager: &str) {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let block = readme.split("Run at a real cluster by chaos/tests/ecs.rs. -->\n```sh\n").nth(1);
    let script = block.unwrap().split("```").next().unwrap();
    let script = script.replace("10.0.1.10", &cluster.lab.address(manager));
    let script = script.replace("~/.muster", &cluster.admin().to_string_lossy());
    let mut shell = cluster.lab.hub_command("bash");
    shell.args(["-euc", &script]).env("MUSTER_MANAGERS", cluster.manager_addresses());
    local::alone(shell.env("MUSTER_IDENTITY", cluster.admin()));
    clients.enter(&mut shell, muster().parent());
    let said = done(&mut shell);
    assert!(said.contains("\"runningCount\": 2"), "{said}");
    cluster.run(&["service", "delete", "web", "--force"]);
}

/// A service of AWS's moves over: what ECS answers of it runs here, but for what is named; and what
/// this cluster answers of it is the same service again.
fn moving(cluster: &Cluster, clients: &Environment, key: &Key, manager: &str) {
    let dir = cluster.dir.path();
    let document = |name: &str| {
        let text = std::fs::read_to_string(root().join("chaos/tests/ecs").join(name)).unwrap();
        let file = dir.join(name).to_string_lossy().into_owned();
        std::fs::write(&file, text.replace("IMAGE", &cluster.registry.busybox())).unwrap();
        file
    };
    let (definition, service) = (document("shop.json"), document("shop-service.json"));
    assert_eq!(cluster.run(&["import", &definition]), "task definition shop:1\n");
    let refused = cluster.ask(&["import", &service]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("loadBalancers is not supported"), "{said}");
    cluster.run(&["import", &service, "--leave-out", "loadBalancers"]);
    cluster.run(&["service", "wait", "shop", "--timeout", "60"]);
    let tasks = cluster.tasks("shop");
    let task = tasks[0]["taskArn"].as_str().unwrap();
    assert_eq!(cluster.run(&["task", "logs", task]).trim(), "web | open for business");

    let mut aws = tool(cluster, key, manager, &clients.program("aws"));
    let answered = done(aws.args(["ecs", "describe-services", "--services", "shop"]));
    let again = dir.join("again.json").to_string_lossy().into_owned();
    std::fs::write(&again, answered).unwrap();
    let asked = cluster.json(&["import", &again, "--dry-run"]);
    assert_eq!((&asked[0]["serviceName"], &asked[0]["desiredCount"]), (&json!("shop"), &json!(2)));
    assert_eq!(asked[0]["placementStrategy"].as_array().map(Vec::len), Some(2), "{asked}");
    cluster.run(&["service", "delete", "shop", "--force"]);
}

fn tutorial(cluster: &Cluster, clients: &Environment, key: &Key, manager: &str) {
    let home = tempfile::tempdir().unwrap();
    let script = root().join("chaos/tests/ecs/tutorial.sh");
    let mut command = tool(cluster, key, manager, &script);
    clients.enter(&mut command, None);
    command.env("HOME", home.path()).env("IMAGE", cluster.registry.busybox());
    done(&mut command);
}

/// With so many containers at once for lists to have pages of.
fn suite(cluster: &Cluster, clients: &Environment, key: &Key, manager: &str, crowd: usize) {
    let mut command = tool(cluster, key, manager, &clients.program("python"));
    command.arg(root().join("chaos/tests/ecs/lab.py")).arg(format!("at-{manager}"));
    command.env("IMAGE", cluster.registry.busybox()).env("CROWD", crowd.to_string());
    let viewer = Key::of(cluster, "eve");
    command.env("VIEWER_KEY_ID", viewer.id).env("VIEWER_SECRET", viewer.secret);
    let door = |n| format!("https://{}:{PORT}", cluster.lab.address(&format!("m{n}")));
    let doors: Vec<_> = (1..=cluster.managers).map(door).collect();
    command.env("MANAGERS", doors.join(" "));
    command.env("MUSTER", muster()).env("MUSTER_MANAGERS", cluster.manager_addresses());
    let said = done(command.env("MUSTER_IDENTITY", cluster.admin()));
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), CHECKS, "{said}");
}

#[test]
fn aws_and_boto3_drive_real_containers_at_any_manager() {
    let _alone = alone();
    let clients = ecs_clients();
    let cluster = Cluster::form(3, 2);
    cluster.register("web", json!({ "command": ["/bin/busybox", "sleep", "100000"] }));
    let key = Key::of(&cluster, "admin");
    let out = cluster.dir.path().join("eve").to_string_lossy().into_owned();
    cluster.run(&["user", "create", "eve", "--role", "read-only", "--out", &out]);
    let leader = cluster.wait_leader();
    let follower = follower(&cluster, &leader);
    readme(&cluster, &clients, &follower);
    moving(&cluster, &clients, &key, &follower);
    tutorial(&cluster, &clients, &key, &follower);
    suite(&cluster, &clients, &key, &leader, 20);
    suite(&cluster, &clients, &key, &follower, 250);
}

#[test]
fn the_rust_sdk_runs_each_task_once_across_a_leader_kill() {
    let _alone = alone();
    let shape = Shape { managers: 3, simulated: 2, ..Shape::default() };
    let dir = tempfile::Builder::new().prefix("muster-test-").tempdir().unwrap();
    let mut cluster = Cluster::form_on(Lab::new(), shape, dir);
    cluster.register("once", json!({ "cpu": 2, "memory": 6 }));
    let key = Key::of(&cluster, "admin");
    let leader = cluster.wait_leader();
    let mut sdk = tool(&cluster, &key, &follower(&cluster, &leader), &example("ecs_sdk"));
    sdk.args(["once", &RUNS.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = sdk.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answered: Vec<String> =
        lines.by_ref().take(BEFORE_THE_KILL).map_while(Result::ok).collect();
    // Without a program in between: all calls together take a few seconds.
    let pid = Pid::from_raw(cluster.pid(&leader).unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    let busy = child.try_wait().unwrap().is_none();
    cluster.reap(&leader);
    answered.extend(lines.map_while(Result::ok));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the SDK gave up: {said}");
    assert!(busy, "the SDK had ended before the leader was dead");

    let there = tasks(&cluster);
    assert_eq!(answered.len(), RUNS, "one task for each call: {answered:?}");
    assert_eq!(there, answered.into_iter().collect(), "what was answered is what is there");
}

/// A task of a role, and the credentials that its container was answered with.
fn acting(cluster: &Cluster) -> (String, Value) {
    let url = "http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    let script = format!("/bin/busybox wget -qO- {url}; echo; exec /bin/busybox sleep 1000");
    let main = json!({
        "name": "main", "image": cluster.registry.busybox(), "cpu": 64, "memory": 32,
        "stopTimeout": 2, "command": ["/bin/busybox", "sh", "-c", script],
    });
    let role = "arn:aws:iam::111122223333:role/app/lister";
    let acts = json!({
        "family": "acts", "networkMode": "bridge", "taskRoleArn": role,
        "containerDefinitions": [main],
    });
    let path = cluster.dir.path().join("acts.json").to_string_lossy().into_owned();
    std::fs::write(&path, acts.to_string()).unwrap();
    cluster.run(&["taskdef", "register", &path]);
    let ran = cluster.json(&["task", "run", "acts"]);
    let task = ran["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    let answered = wait::until("its container was answered", SOON, || {
        // Refused as long as its agent has not heard of it.
        let log =
            String::from_utf8_lossy(&cluster.ask(&["task", "logs", &task]).stdout).into_owned();
        let answer = log.split_once('{').map(|(_, rest)| format!("{{{}", rest.trim_end()));
        answer.and_then(|text| serde_json::from_str(&text).ok()).ok_or(log)
    });
    (task, answered)
}

#[test]
fn a_task_asks_the_cluster_with_the_credentials_of_its_role() {
    let _alone = alone();
    let clients = ecs_clients();
    let cluster = Cluster::form(3, 1);
    let (task, answered) = acting(&cluster);
    let text = |name: &str| answered[name].as_str().unwrap().to_owned();
    assert!(text("RoleArn").ends_with(":role/lister"), "{answered}");
    let key = Key { id: text("AccessKeyId"), secret: text("SecretAccessKey") };
    let follower = follower(&cluster, &cluster.wait_leader());
    let asks = |words: &[&str]| {
        let mut aws = tool(&cluster, &key, &follower, &clients.program("aws"));
        clients.enter(&mut aws, None);
        aws.env("AWS_SESSION_TOKEN", text("Token")).args(words).output().unwrap()
    };
    let refused = |words: &[&str]| {
        let output = asks(words);
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let id = task.rsplit('/').next().unwrap();
    let told = refused(&["ecs", "list-tasks"]);
    assert!(told.contains("AccessDeniedException"), "{told}");
    let policy = cluster.dir.path().join("lists.json").to_string_lossy().into_owned();
    let lists = json!({ "Effect": "Allow", "Action": "ecs:ListTasks", "Resource": "*" });
    std::fs::write(&policy, json!({ "Statement": lists }).to_string()).unwrap();
    cluster.run(&["policy", "put", "lists", "--task-role", "lister", "--file", &policy]);
    wait::until("what the policy allows", SOON, || {
        let output = asks(&["ecs", "list-tasks"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains(id) { Ok(()) } else { Err(format!("{output:?}")) }
    });
    let told = refused(&["ecs", "describe-clusters"]);
    assert!(told.contains(&format!("assumed-role/lister/{id} is not authorized")), "{told}");
    let who = asks(&["sts", "get-caller-identity"]).stdout;
    let who = String::from_utf8_lossy(&who).into_owned();
    assert!(who.contains(&format!(":assumed-role/lister/{id}")), "{who}");

    cluster.run(&["task", "stop", &task]);
    wait::until("the end of its credentials", SOON, || {
        let output = asks(&["ecs", "list-tasks"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("ExpiredTokenException") { Ok(()) } else { Err(said) }
    });
}

/// 1,000 idle peers, and some that are slow, at a process with the limits that it gives itself.
#[test]
fn a_crowd_of_idle_and_slow_peers_neither_stops_a_manager_nor_stays() {
    let _alone = alone();
    let clients = ecs_clients();
    let cluster = Cluster::form(1, 0);
    let key = Key::of(&cluster, "admin");
    let mut command = tool(&cluster, &key, "m1", &clients.program("python"));
    command.arg(root().join("chaos/tests/ecs/crowd.py"));
    let said = done(command.arg(cluster.pid("m1").unwrap().to_string()));
    println!("{said}");
}

/// A certificate that its owner has from elsewhere, in place of one of the cluster's authority.
#[test]
fn the_door_shows_the_certificate_that_it_was_given() {
    let _alone = alone();
    let clients = ecs_clients();
    let mut cluster = Cluster::form(1, 0);
    let key = Key::of(&cluster, "admin");
    let own = rcgen::generate_simple_self_signed([cluster.lab.address("m1")]).unwrap();
    let (certificate, secret) =
        (cluster.path("m1").join("own.pem"), cluster.path("m1").join("own.key"));
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(&secret, own.signing_key.serialize_pem()).unwrap();
    let config = std::fs::read_to_string(cluster.config("m1")).unwrap();
    let shown = format!("[ecs]\ncertificate = {certificate:?}\nkey = {secret:?}\n");
    assert!(config.contains("[ecs]\n"), "{config}");
    std::fs::write(cluster.config("m1"), config.replace("[ecs]\n", &shown)).unwrap();
    cluster.kill("m1");
    cluster.start("m1");
    cluster.wait_leader();

    let identity = |bundle: &Path| {
        let mut aws = tool(&cluster, &key, "m1", &clients.program("aws"));
        aws.args(["sts", "get-caller-identity"]).env("AWS_CA_BUNDLE", bundle).output().unwrap()
    };
    let known = identity(&certificate);
    assert!(known.status.success(), "{known:?}");
    let unknown = identity(&cluster.admin().join("ca.pem"));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("SSL validation failed"), "{said}");
}

/// ARNs of all tasks, of whatever status.
fn tasks(cluster: &Cluster) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for status in ["RUNNING", "STOPPED"] {
        let list = cluster.json(&["task", "list", "--status", status]);
        let rows = list["tasks"].as_array().cloned().unwrap_or_default();
        let arn = |row: &Value| row["taskArn"].as_str().unwrap().to_owned();
        found.extend(rows.iter().map(arn));
    }
    found
}

/// Amazon's tutorials: `chaos/tests/ecs/amazon.sh` says which part is whose.
fn amazon(cluster: &Cluster, clients: &Environment, key: &Key, home: &Path, words: &[&str]) {
    let script = root().join("chaos/tests/ecs/amazon.sh");
    let mut command = tool(cluster, key, "m1", &script);
    clients.enter(&mut command, None);
    done(command.args(words).env("HOME", home));
}

#[test]
fn amazons_tutorials_run_word_for_word_where_no_public_registry_is_reached() {
    let _alone = alone();
    let clients = ecs_clients();
    let mut cluster = Cluster::form(1, 2);
    let (lab, dir) = (&cluster.lab, cluster.dir.path());
    cluster.registry.push_as(lab, dir, "library/busybox:latest");
    let page = "Welcome to nginx!";
    cluster.registry.push_server(lab, dir, "docker/library/nginx:latest", page);
    let key = Key::of(&cluster, "admin");
    let home = tempfile::tempdir().unwrap();
    let home = home.path();

    amazon(&cluster, &clients, &key, home, &["sleep360"]);
    amazon(&cluster, &clients, &key, home, &["create"]);
    // Where the tutorial launches an instance that joins MyCluster.
    cluster.rejoin_worker(2, &["--cluster", "MyCluster"]);
    let of = ["--cluster", "MyCluster"];
    let machine = wait::until("the machine is in MyCluster", Duration::from_secs(60), || {
        let list = cluster.json(&["instance", "list", of[0], of[1]]);
        let first = &list["containerInstances"][0];
        let arn =
            first["containerInstanceArn"].as_str().filter(|_| first["agentConnected"] == true);
        arn.map(str::to_owned).ok_or_else(|| list.to_string())
    });
    let address = cluster.lab.address("w2");
    amazon(&cluster, &clients, &key, home, &["service", &address, page]);
    // Where it terminates the instance.
    cluster.crash("w2");
    cluster.run(&["instance", "deregister", &machine, "--force", of[0], of[1]]);
    amazon(&cluster, &clients, &key, home, &["clean"]);
    amazon(&cluster, &clients, &key, home, &["fargate"]);
}
