//! Secrets and configs on a real cluster: a task has its values, as environment and as files, and
//! nothing that stays has a secret's in the clear.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::wait;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const VALUE: &str = "hush-31b7c0de99aa";

/// Runs `muster` with this on its standard input.
fn typed(cluster: &Cluster, words: &[&str], input: &str) -> String {
    let mut command = cluster.client(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut muster = command.spawn().unwrap();
    muster.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = muster.wait_with_output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must fail says.
fn refused(cluster: &Cluster, words: &[&str]) -> String {
    let output = cluster.ask(words);
    assert!(!output.status.success(), "{words:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn run(cluster: &Cluster, family: &str) -> String {
    let ran = cluster.json(&["task", "run", family]);
    ran["tasks"][0]["taskArn"].as_str().unwrap().to_owned()
}

/// The task, once its status is this.
fn waited(cluster: &Cluster, task: &str, status: &str) -> Value {
    wait::until(&format!("the task is {status}"), SOON, || {
        let described = cluster.json(&["task", "describe", task])["tasks"][0].clone();
        match described["lastStatus"] == status {
            true => Ok(described),
            false => Err(described.to_string()),
        }
    })
}

/// Files of the cluster, logs included, that hold the value.
fn files_with(cluster: &Cluster, host: &str, value: &str) -> String {
    let found = Command::new("grep").args(["-rlaF", value]).arg(cluster.path(host)).output();
    String::from_utf8(found.unwrap().stdout).unwrap()
}

#[test]
fn a_task_is_given_its_secret_and_nothing_that_stays_has_it() {
    let mut cluster = Cluster::form(3, 2);
    assert_eq!(typed(&cluster, &["secret", "create", "prod/db"], VALUE), "prod/db:1\n");
    assert_eq!(typed(&cluster, &["config", "create", "app.conf"], "level=info\n"), "app.conf:1\n");
    let variables = "# of ours\nLEVEL=debug\nPASSWORD=no\n";
    typed(&cluster, &["config", "create", "app.conf.env"], variables);
    let script = format!(
        "[ \"$PASSWORD\" = {VALUE} ] && echo given || echo other; trap 'exit 0' TERM; sleep 1000 & \
         wait"
    );
    // The script has the value in it, so it is told apart in the definition by its two halves.
    let script = script.replace(VALUE, &format!("{}\"\"{}", &VALUE[..9], &VALUE[9..]));
    let from = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbC12f";
    cluster.register(
        "given",
        json!({ "command": ["/bin/busybox", "sh", "-c", script],
            "secrets": [{ "name": "PASSWORD", "valueFrom": from }],
            "environmentFiles": [{ "value": "arn:aws:s3:::settings/app.conf.env", "type": "s3" }],
            "files": [
                { "path": "/run/db", "valueFrom": "prod/db", "mode": "0440", "uid": 5, "gid": 6 },
                { "path": "/etc/app.conf", "valueFrom": "config:app.conf:1" },
            ] }),
    );
    let task = run(&cluster, "given");
    let described = waited(&cluster, &task, "RUNNING").to_string();
    wait::until("it has the value", SOON, || {
        let log = cluster.run(&["task", "logs", &task]);
        if log.contains("given") { Ok(()) } else { Err(log) }
    });
    let shown = [
        described,
        cluster.run(&["secret", "list"]),
        cluster.run(&["secret", "describe", "prod/db"]),
        cluster.run(&["taskdef", "describe", "given"]),
    ];
    assert!(!shown.join("").contains(VALUE), "{shown:?}");

    // The agent of the instance dies, and the next one goes on without asking.
    let hosts = ["m1", "m2", "m3", "w1", "w2"];
    for host in ["w1", "w2"] {
        cluster.kill(host);
        cluster.start(host);
    }
    cluster.wait_connected(2);
    let line = "cd /bin; ./busybox echo $PASSWORD $LEVEL; ./busybox cat /run/db /etc/app.conf; \
                ./busybox stat -c '%a %u:%g' /run/db";
    let print = ["/bin/busybox", "sh", "-c", line];
    let again = cluster.run(&[&["task", "exec", &task, "--"][..], &print].concat());
    assert_eq!(again.trim(), format!("{VALUE} debug\n{VALUE}level=info\n440 5:6"));
    for host in hosts {
        assert_eq!(files_with(&cluster, host, VALUE), "", "{host}");
    }
    // What is searched is where things would be.
    assert!(files_with(&cluster, "m1", "prod/db").contains("data"), "the name is in the log");

    cluster.run(&["task", "stop", &task]);
    waited(&cluster, &task, "STOPPED");
    for host in hosts {
        assert_eq!(files_with(&cluster, host, VALUE), "", "{host}");
    }
}

#[test]
fn a_config_is_read_again_by_version_and_stays_while_a_service_names_it() {
    let cluster = Cluster::form(1, 1);
    assert_eq!(typed(&cluster, &["config", "create", "app.conf"], "level=info\n"), "app.conf:1\n");
    assert_eq!(typed(&cluster, &["config", "update", "app.conf"], "level=warn\n"), "app.conf:2\n");
    assert_eq!(cluster.run(&["config", "get", "app.conf"]), "level=warn\n");
    assert_eq!(cluster.run(&["config", "get", "app.conf:1"]), "level=info\n");
    let listed = cluster.json(&["config", "list"])["configs"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["name"], "app.conf");
    assert!(!cluster.run(&["secret", "list"]).contains("app.conf"), "it is no secret");

    let sleeps = json!(["/bin/busybox", "sleep", "1000"]);
    let files = json!([{ "path": "/etc/app.conf", "valueFrom": "config:app.conf" }]);
    cluster.register("reads", json!({ "command": sleeps, "files": files }));
    cluster.run(&["service", "create", "reads", "--task-definition", "reads"]);
    let told = refused(&cluster, &["config", "delete", "app.conf"]);
    assert!(told.contains("service reads starts tasks with it"), "{told}");
    cluster.run(&["service", "delete", "reads", "--force"]);
    cluster.run(&["config", "delete", "app.conf"]);
    let gone = refused(&cluster, &["config", "get", "app.conf"]);
    assert!(gone.contains("Config \"app.conf\" not found"), "{gone}");
}

#[test]
fn a_task_whose_secret_is_missing_stops_and_says_so() {
    let cluster = Cluster::form(1, 1);
    let sleeps = json!(["/bin/busybox", "sleep", "1000"]);
    let secrets = json!([{ "name": "PASSWORD", "valueFrom": "prod/api" }]);
    cluster.register("lost", json!({ "command": sleeps, "secrets": secrets }));
    let task = run(&cluster, "lost");
    let stopped = waited(&cluster, &task, "STOPPED").to_string();
    assert!(stopped.contains("\"stopCode\":\"TaskFailedToStart\""), "{stopped}");
    let reason = "ResourceInitializationError: unable to pull secrets or registry auth: Secret \
                  \\\"prod/api\\\" not found";
    assert!(stopped.contains(reason), "{stopped}");
}
