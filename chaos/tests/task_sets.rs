//! A service that something else deploys, on real containers: each task set has its share, whoever
//! leads, and one that is deleted goes with its last container.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::service::{short, text};
use muster_chaos::wait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Takes three seconds to end: long enough for a leader to die meanwhile.
fn slow(version: &str) -> Value {
    let script = format!("echo {version}; trap '' TERM; while :; do sleep 1; done");
    json!({ "command": ["/bin/busybox", "sh", "-c", script], "stopTimeout": 3 })
}

fn sets(cluster: &Cluster) -> Vec<Value> {
    let list = cluster.json(&["task-set", "list", "shop"]);
    list["taskSets"].as_array().cloned().unwrap_or_default()
}

/// The id of a new set.
fn create(cluster: &Cluster, definition: &str, scale: &str) -> String {
    let words = ["task-set", "create", "shop", "--task-definition", definition, "--scale", scale];
    let made = cluster.json(&words);
    text(&made["taskSets"][0]["id"])
}

/// Running containers of each definition, when every set is steady.
fn steady(cluster: &Cluster, what: &str) -> BTreeMap<String, u64> {
    wait::until(what, SOON, || {
        let sets = sets(cluster);
        let unsteady = sets.iter().find(|set| set["stabilityStatus"] != "STEADY_STATE");
        match unsteady {
            Some(set) => Err(set.to_string()),
            None => Ok(sets
                .iter()
                .map(|set| (short(&set["taskDefinition"]), set["runningCount"].as_u64().unwrap()))
                .collect()),
        }
    })
}

#[test]
fn an_external_deployment_goes_from_one_set_to_the_next_over_dead_leaders() {
    let mut cluster = Cluster::form(3, 2);
    cluster.run(&["cluster", "update", "default", "--setting", "taskHealthyAfterSeconds=2"]);
    cluster.register("shop", slow("one"));
    cluster.register("shop", slow("two"));
    cluster.run(&["service", "create", "shop", "--external", "--desired-count", "4"]);
    let blue = create(&cluster, "shop:1", "100");
    assert_eq!(steady(&cluster, "blue is whole"), [("shop:1".into(), 4)].into());
    cluster.run(&["task-set", "set-primary", "shop", &blue]);
    let shown = cluster.json(&["service", "describe", "shop"])["services"][0].clone();
    assert_eq!(short(&shown["taskDefinition"]), "shop:1");
    assert_eq!(shown["deployments"], json!([]));

    // A third of four is two tasks, started while the leader dies.
    let green = create(&cluster, "shop:2", "33.4");
    cluster.depose();
    let both = steady(&cluster, "green has its share");
    assert_eq!(both, [("shop:1".into(), 4), ("shop:2".into(), 2)].into());

    cluster.run(&["task-set", "scale", "shop", &green, "100"]);
    cluster.run(&["task-set", "set-primary", "shop", &green]);
    steady(&cluster, "green is whole");
    let refused = cluster.ask(&["task-set", "delete", "shop", &blue]);
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && says.contains("force"), "{says}");

    // Its containers take seconds to end: the leader that began it does not see their end.
    cluster.run(&["task-set", "delete", "shop", &blue, "--force"]);
    let draining = sets(&cluster).into_iter().find(|set| set["id"] == json!(blue)).unwrap();
    assert_eq!(draining["status"], "DRAINING");
    cluster.depose();
    wait::until("blue is gone", SOON, || match sets(&cluster).as_slice() {
        [one] if one["id"] == json!(green) && one["status"] == "PRIMARY" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(steady(&cluster, "green alone"), [("shop:2".into(), 4)].into());
    let tasks = cluster.tasks("shop");
    let of_green = |task: &&Value| text(&task["startedBy"]) == green;
    let up = tasks.iter().filter(|task| task["lastStatus"] == "RUNNING");
    assert_eq!(up.clone().count(), up.filter(of_green).count());
    cluster.run(&["service", "wait", "shop"]);

    let refused = cluster.ask(&["service", "delete", "shop"]);
    assert!(!refused.status.success());
    cluster.run(&["service", "delete", "shop", "--force"]);
    wait::until("nothing runs", SOON, || match cluster.running("shop").len() {
        0 => Ok(()),
        left => Err(left.to_string()),
    });
}
