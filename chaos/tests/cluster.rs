//! A real cluster in network namespaces: what a user is promised, one promise per test.
//!
//! Each test forms a cluster of its own. They run one after another, because two cores cannot
//! carry two clusters and still keep time.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::{Cluster, Shape};
use muster_chaos::lab::Lab;
use muster_chaos::wait;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long anything may take that the cluster does by itself.
const SOON: Duration = Duration::from_secs(60);

fn sleeper() -> Value {
    json!({ "command": ["/bin/busybox", "sleep", "100000"] })
}

fn wait_running(cluster: &Cluster, service: &str, count: usize) -> Vec<(String, u64)> {
    wait::until(&format!("{count} tasks of {service} run"), SOON, || {
        let running = cluster.running(service);
        if running.len() == count { Ok(running) } else { Err(format!("{running:?}")) }
    })
}

#[test]
fn a_service_survives_its_leader_and_its_workers() {
    let _alone = alone();
    let mut cluster = Cluster::form(3, 6);
    cluster.register("web", sleeper());
    cluster.run(&["service", "create", "web", "--task-definition", "web", "--desired-count", "6"]);
    let before = wait_running(&cluster, "web", 6);
    let hosts: std::collections::BTreeSet<_> = before.iter().map(|(host, _)| host).collect();
    assert_eq!(hosts.len(), 6, "six tasks spread over six workers: {before:?}");

    let leader = cluster.wait_leader();
    cluster.kill(&leader);
    cluster.run(&["service", "create", "next", "--task-definition", "web", "--desired-count", "6"]);
    // Whoever runs something for the next leader has told it of everything else it runs.
    let next = wait_running(&cluster, "next", 6);
    let workers: std::collections::BTreeSet<_> = next.iter().map(|(host, _)| host).collect();
    assert_eq!(workers, hosts, "the next leader has heard every worker: {next:?}");
    assert_eq!(cluster.running("web"), before, "every container kept its pid");
    cluster.start(&leader);

    let lost = before[0].0.clone();
    cluster.crash(&lost);
    wait::until("its task runs elsewhere", SOON, || {
        let running = cluster.running("web");
        match running.len() == 6 && running.iter().all(|(host, _)| *host != lost) {
            true => Ok(()),
            false => Err(format!("{running:?}")),
        }
    });
    cluster.start(&lost);
    cluster.wait_connected(6);
}

#[test]
fn an_isolated_leader_is_replaced_and_comes_back_as_a_follower() {
    let _alone = alone();
    let cluster = Cluster::form(3, 1);
    let old = cluster.wait_leader();
    cluster.lab.done(&["isolate", &old]);
    let new = cluster.wait_next_leader(&old);
    cluster.run(&["cluster", "create", "while-apart"]);
    cluster.lab.done(&["rejoin", &old]);
    let number: u32 = old[1..].parse().unwrap();
    let address = cluster.manager_address(number);
    wait::until("the old leader has what it missed", SOON, || {
        let words = [
            "cluster",
            "describe",
            "while-apart",
            "--managers",
            &address,
            "--stale",
            "--timeout",
            "2",
        ];
        let output = cluster.ask(&words);
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    });
    assert_ne!(new, old);
}

#[test]
fn containers_outlive_their_agent_and_their_managers() {
    let _alone = alone();
    let mut cluster = Cluster::form(3, 1);
    cluster.register("long", sleeper());
    cluster
        .register("short", json!({ "command": ["/bin/busybox", "sh", "-c", "sleep 3; exit 7"] }));
    cluster.run(&[
        "service",
        "create",
        "long",
        "--task-definition",
        "long",
        "--desired-count",
        "2",
    ]);
    let before = wait_running(&cluster, "long", 2);
    let ran = cluster.json(&["task", "run", "short"]);
    let short = ran["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    let pid = wait::until("the short task runs", SOON, || {
        let task = &cluster.json(&["task", "describe", &short])["tasks"][0];
        match &task["lastStatus"] {
            status if status == "RUNNING" => Ok(task["containers"][0]["pid"].as_u64().unwrap()),
            status => Err(status.to_string()),
        }
    });

    cluster.kill("w1");
    for number in 1..=3 {
        cluster.kill(&format!("m{number}"));
    }
    for number in 1..=3 {
        cluster.start(&format!("m{number}"));
    }
    cluster.wait_leader();
    wait::until("the short task has ended", SOON, || {
        let there = cluster.lab.try_done(&["run", "w1", "kill", "-0", &pid.to_string()]);
        if there.status.success() { Err(format!("{pid} runs")) } else { Ok(()) }
    });
    cluster.start("w1");
    cluster.wait_connected(1);
    assert_eq!(wait_running(&cluster, "long", 2), before, "the same containers as before");
    let exit = wait::until("the exit code of the short task is known", SOON, || {
        let task = &cluster.json(&["task", "describe", &short])["tasks"][0];
        match task["lastStatus"].as_str() {
            Some("STOPPED") => Ok(task["containers"][0]["exitCode"].as_i64()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(exit, Some(7), "it ended while its agent was away");
    // Again, now that the agent has certainly told what it found.
    assert_eq!(cluster.running("long"), before, "the same containers as before");
}

/// A log so short that a manager who begins anew cannot be told everything out of it.
const LOG_MIB: u64 = 1;

/// Writes more than these managers keep of their logs, and waits until what came first is gone.
fn outgrow_the_log(cluster: &Cluster, managers: &[u32]) {
    let big = "x".repeat(48 * 1024);
    for number in 0..=LOG_MIB * 1024 / 48 {
        let environment = json!([{ "name": "BIG", "value": big }]);
        cluster.register(&format!("big-{number}"), json!({ "environment": environment }));
    }
    for number in managers {
        let address = cluster.manager_address(*number);
        wait::until("its log begins later", SOON, || {
            let status = cluster.json(&["operator", "raft", "status", "--managers", &address]);
            let covered = status["snapshotIndex"].as_u64().is_some_and(|index| index > 0);
            match covered && status["logBytes"].as_u64().unwrap() < LOG_MIB << 20 {
                true => Ok(()),
                false => Err(status.to_string()),
            }
        });
    }
}

#[test]
fn a_wiped_manager_is_replaced_by_one_that_catches_up_from_a_snapshot() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { managers: 3, log_mib: LOG_MIB, ..Shape::default() };
    let mut cluster = Cluster::form_on(Lab::new(), shape, dir);
    cluster.run(&["cluster", "create", "kept"]);
    cluster.crash("m3");
    std::fs::remove_dir_all(cluster.path("m3")).unwrap();
    let status = cluster.json(&["operator", "raft", "status"]);
    let members = status["members"].as_array().unwrap();
    let lost = members.iter().find(|m| m["name"] == "m3").unwrap()["id"].to_string();
    cluster.run(&["operator", "raft", "remove", &lost]);
    outgrow_the_log(&cluster, &[1, 2]);
    cluster.join_manager(3);
    cluster.wait_voters(3);
    let address = cluster.manager_address(3);
    let kept = cluster.json(&["cluster", "describe", "kept", "--managers", &address, "--stale"]);
    assert_eq!(kept["clusters"][0]["clusterName"], "kept");
}

#[test]
fn a_cluster_never_runs_tasks_on_another_clusters_instances() {
    let _alone = alone();
    let cluster = Cluster::form(1, 1);
    cluster.run(&["cluster", "create", "other"]);
    cluster.register("web", sleeper());
    let create = ["service", "create", "web", "--task-definition", "web", "--cluster", "other"];
    cluster.run(&create);
    wait::until("the service says why nothing runs", SOON, || {
        let services = cluster.json(&["service", "describe", "web", "--cluster", "other"]);
        let events = services["services"][0]["events"].to_string();
        match events.contains("No Container Instances were found in your cluster") {
            true => Ok(()),
            false => Err(events),
        }
    });
}
