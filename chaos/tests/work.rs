//! Jobs and schedules of real containers while the leading manager is killed: as many tasks succeed
//! as were asked for, a due time comes to one run, and what was done is in a file of the host.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::cluster::Cluster;
use muster_chaos::wait;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// How far ahead a schedule is due: time enough to create it and to kill the leader.
const AHEAD: &str = "+8 seconds";

fn lines(record: &Path, file: &str) -> usize {
    fs::read_to_string(record.join(file)).unwrap_or_default().lines().count()
}

fn kill_leader(cluster: &mut Cluster) {
    let leader = cluster.wait_leader();
    cluster.kill(&leader);
    wait::until("another manager leads", SOON, || match cluster.leader() {
        Some(next) if next != leader => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.start(&leader);
    cluster.wait_voters(3);
}

fn job(cluster: &Cluster, name: &str) -> Value {
    cluster.json(&["job", "describe", name])
}

#[test]
fn work_is_done_as_often_as_it_was_asked_for_whoever_leads() {
    let mut cluster = Cluster::form(3, 2);
    let record = tempfile::tempdir().unwrap();
    cluster.register_recording("import", "sleep 2; echo done >> /record/import", record.path());
    cluster.register_recording("broken", "exit 3", record.path());
    cluster.register_recording("load", "echo done >> /record/load", record.path());
    cluster.register_recording("tick", "echo done >> /record/tick", record.path());

    let words = ["job", "run", "import", "import", "--completions", "5", "--parallelism", "2"];
    cluster.run(&words);
    wait::until("the first one is done", SOON, || match lines(record.path(), "import") {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    });
    kill_leader(&mut cluster);
    cluster.run(&["job", "wait", "import", "--timeout", "60"]);
    let import = job(&cluster, "import");
    assert_eq!((&import["status"], &import["succeeded"]), (&json!("SUCCEEDED"), &json!(5)));
    assert_eq!(lines(record.path(), "import"), 5, "{import}");

    cluster.run(&["job", "run", "broken", "broken", "--retries", "1"]);
    let waited = cluster.ask(&["job", "wait", "broken", "--timeout", "60"]);
    assert!(!waited.status.success());
    let broken = job(&cluster, "broken");
    assert_eq!((&broken["status"], &broken["failed"]), (&json!("FAILED"), &json!(2)), "{broken}");

    let due = Command::new("date").args(["-u", "-d", AHEAD, "+%Y-%m-%dT%H:%M:%S"]).output();
    let due = format!("at({})", String::from_utf8(due.unwrap().stdout).unwrap().trim());
    cluster.run(&["schedule", "create", "once", "tick", "--expression", &due]);
    let of_jobs = ["--job", "--completions", "3", "--parallelism", "2"];
    let words = ["schedule", "create", "batch", "load", "--expression", &due];
    cluster.run(&[&words[..], &of_jobs].concat());
    kill_leader(&mut cluster);
    wait::until("its run is over", SOON, || match lines(record.path(), "tick") {
        0 => Err(cluster.json(&["schedule", "describe", "once"]).to_string()),
        _ => Ok(()),
    });
    kill_leader(&mut cluster);
    let once = cluster.json(&["schedule", "describe", "once"]);
    let runs = once["runs"].as_array().cloned().unwrap_or_default();
    assert_eq!(runs.len(), 1, "{once}");
    assert_eq!(runs[0]["outcome"], "STARTED", "{once}");
    assert_eq!(lines(record.path(), "tick"), 1, "{once}");

    let batch = cluster.json(&["schedule", "describe", "batch"]);
    let runs = batch["runs"].as_array().cloned().unwrap_or_default();
    assert_eq!(runs.len(), 1, "{batch}");
    let id = runs[0]["jobId"].as_str().unwrap();
    cluster.run(&["job", "wait", id, "--timeout", "60"]);
    let load = job(&cluster, id);
    assert!(load["spec"]["name"].as_str().unwrap().starts_with("batch-"), "{load}");
    assert_eq!((&load["status"], &load["succeeded"]), (&json!("SUCCEEDED"), &json!(3)), "{load}");
    assert_eq!(lines(record.path(), "load"), 3, "{load}");
}
