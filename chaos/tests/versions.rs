//! Tags that come to mean other bits while services run: what takes the place of a task runs what
//! the task ran, a forced deployment runs the new bits, and one that is rolled back to what it ran
//! before; whoever leads.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::service::{Service, text};
use muster_chaos::wait;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const TAG: &str = "test/moving:latest";

fn push(cluster: &Cluster, number: u32) {
    cluster.registry.push_version(&cluster.lab, cluster.dir.path(), TAG, number);
}

fn container(cluster: &Cluster) -> Value {
    let script = "echo version $VERSION; trap 'exit 0' TERM; sleep 100000 & wait";
    let image = format!("{}/{TAG}", cluster.registry.address);
    json!({ "image": image, "command": ["/bin/busybox", "sh", "-c", script] })
}

/// What its running tasks run, by digest, and what they say they are.
fn run_by(cluster: &Cluster, service: &str) -> BTreeSet<(String, String)> {
    let tasks = cluster.tasks(service);
    let running = tasks.iter().filter(|task| task["lastStatus"] == "RUNNING");
    let version = |task: &Value| {
        let arn = text(&task["taskArn"]);
        wait::until(&format!("{arn} has said its version"), SOON, || {
            let log = cluster.run(&["task", "logs", &arn]);
            let number = log.lines().find_map(|line| line.split_once("version "));
            number.map(|(_, number)| number.to_owned()).ok_or(log)
        })
    };
    running.map(|task| (text(&task["containers"][0]["imageDigest"]), version(task))).collect()
}

/// Stops one of its tasks, and waits until another runs in its place.
fn replace_one(cluster: &Cluster, service: &str) {
    let running = |cluster: &Cluster| {
        let tasks = cluster.tasks(service);
        let running = tasks.iter().filter(|task| task["lastStatus"] == "RUNNING");
        running.map(|task| text(&task["taskArn"])).collect::<BTreeSet<String>>()
    };
    let before = running(cluster);
    let gone = before.first().unwrap();
    cluster.run(&["task", "stop", gone]);
    wait::until(&format!("another task of {service} runs"), SOON, || {
        let now = running(cluster);
        match now.len() == before.len() && !now.contains(gone) {
            true => Ok(()),
            false => Err(format!("{now:?}")),
        }
    });
}

#[test]
fn a_deployment_runs_what_its_tag_meant_when_it_began() {
    let mut cluster = Cluster::form(3, 2);
    push(&cluster, 1);
    cluster.register("pinned", container(&cluster));
    let mut loose = container(&cluster);
    loose["versionConsistency"] = json!("disabled");
    cluster.register("loose", loose);
    let words = ["--desired-count", "3", "--minimum-healthy-percent", "0", "--maximum-percent"];
    let stop_first = [&words[..], &["100", "--circuit-breaker", "1", "--rollback"]].concat();
    for name in ["pinned", "loose"] {
        Service::create(&cluster, name, name, &stop_first).completed(&format!("{name}:1"));
    }
    let first = run_by(&cluster, "pinned");
    let versions = |run: &BTreeSet<(String, String)>| {
        run.iter().map(|(_, version)| version.clone()).collect::<Vec<_>>()
    };
    assert_eq!((versions(&first), &first), (vec!["1".to_owned()], &run_by(&cluster, "loose")));

    // The tag moves; and who knows what it meant is no leader any more.
    push(&cluster, 2);
    cluster.depose();
    for name in ["pinned", "loose"] {
        replace_one(&cluster, name);
    }
    assert_eq!(run_by(&cluster, "pinned"), first);
    assert_eq!(versions(&run_by(&cluster, "loose")).len(), 2, "each instance asks the registry");

    let service = Service { cluster: &cluster, name: "pinned" };
    let settled = service.completed("pinned:1");
    cluster.run(&["service", "update", "pinned", "--force-new-deployment"]);
    wait::until("the forced deployment is the newest", SOON, || match service.shown() {
        shown if shown["deployments"][0]["id"] != settled["id"] => Ok(()),
        shown => Err(shown["deployments"].to_string()),
    });
    service.completed("pinned:1");
    let second = run_by(&cluster, "pinned");
    assert_eq!(versions(&second), ["2"]);
    let revisions = cluster.json(&["service", "revisions", "pinned"]);
    let digest = |number: usize| {
        text(&revisions["serviceRevisions"][number]["containerImages"][0]["imageDigest"])
    };
    let of = |run: &BTreeSet<(String, String)>| run.first().unwrap().0.clone();
    assert_eq!((digest(0), digest(1)), (of(&second), of(&first)), "{revisions}");

    // All of them make room for a version that is not there, and come back as what they were.
    push(&cluster, 3);
    let mut absent = container(&cluster);
    absent["image"] = json!(format!("{}/test/absent:1", cluster.registry.address));
    cluster.register("pinned", absent);
    service.update("pinned:2", &[]);
    service.reached("ROLLBACK_SUCCESSFUL");
    service.completed("pinned:1");
    assert_eq!(run_by(&cluster, "pinned"), second);
}
